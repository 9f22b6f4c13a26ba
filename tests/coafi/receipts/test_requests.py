"""The receipts of requests to the API: what was asked for, by whom, and what an entry was set to."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coafi.api.operations import ApiOperator, OperateTask
from coafi.api.requests import ApiRequest
from coafi.auth.principal import Principal
from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.errors import IntegrityError, PreconditionFailed
from coafi.events import new_event
from coafi.findings import Finding, Severity
from coafi.names import EntryType, EventType, Phase
from coafi.receipts.story import Story
from coafi.receipts.verify import VerifiedReceipt, verify_artifact, verify_receipt
from coafi.recording import Refusal
from coafi.registry.local import LocalRegistry
from tests.coafi.receipts.making import SIGNER, Service, service, statement

DATA: JsonObject = {"name": "wing", "größe": [1.5, 2, None], "a": {"b": True}}
ADA = Principal(name="key:ada", roles=("editor",), permissions=("api:registry/*:POST",))
BOB = Principal(name="key:bob", roles=("reader",), permissions=("api:registry/*:GET",))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as one:
        yield one


class Asked:
    """A request that went through the steps of its run."""

    def __init__(self, running: Service, name: str, body: JsonObject, *, by: Principal = ADA, **more: int) -> None:
        update = "data" in body
        self.request = ApiRequest(
            endpoint="registry/update" if update else "registry/status",
            method="POST",
            request_id=name,
            principal=by,
            body={"registryId": "AERO", "entryId": "E-1", **body},
            **more,
        )
        self.digest = sha256(self.request.document())
        event = new_event(
            event_type=EventType.API_REQUEST,
            source=self.request.source,
            delivery_id=name,
            time=datetime(2026, 11, 23, tzinfo=UTC),
            body_digest=self.digest,
            principal=by.name,
            data=self.request.payload(),
        )
        received = running.recorder.receive(event, "run-1")
        ref = event.ref(received.utids)
        if received.phase.goes_on:
            database = running.processor.artifacts.database
            operator = ApiOperator(
                running.recorder, LocalRegistry(database, running.recorder.ledger), database, running.objects
            )
            try:
                operated = operator.operate(OperateTask(event=ref, request=self.request))
            except PreconditionFailed as error:
                refused = Refusal(step="api.operate", error=error.kind, message=error.message)
                wrong = Finding(severity=Severity.ERROR, rule="registry/version", message="it is not", remedy="")
                running.conclude(ref, Phase.REJECTED, refused=refused, findings=(wrong,))
            else:
                running.conclude(ref, Phase.PROCESSED, operated.entries, counts=operated.counts)
        self.entries = running.entries(ref)
        self.receipt = running.receipt(ref)

    def verified(self) -> VerifiedReceipt:
        """The receipt, which must be sound."""
        return verify_receipt(io.BytesIO(self.receipt), [SIGNER.key])


def test_the_data_of_an_entry_is_proved_in_every_spelling_and_nothing_else_is(running: Service) -> None:
    receipt = Asked(running, "one", {"data": DATA}).verified()
    spellings = [canonical_json(DATA), json.dumps(DATA, indent=2).encode(), json.dumps(DATA, sort_keys=True).encode()]
    for content in spellings:
        proved = verify_artifact(receipt, content)
        assert proved.digest == sha256(canonical_json(DATA))
        assert [(one.data.path, one.data.artifact) for one in proved.subjects] == [("AERO/E-1, version 1", "data")]
    for wrong in (
        {**DATA, "name": "flap"},
        {"data": DATA},
        canonical_json(DATA).replace(b'"name":"wing"', b'"name":"flap","name":"wing"'),
        b"[" * 100_000,
        b"\xff",
        b'{"a": NaN}',
        b" " * 2**21 + canonical_json(DATA),
    ):
        with pytest.raises(IntegrityError, match="no artifact of this event"):
            verify_artifact(receipt, wrong if isinstance(wrong, bytes) else json.dumps(wrong).encode())


def test_a_statement_names_the_request_who_asked_and_what_the_entry_became(running: Service) -> None:
    first = Asked(running, "one", {"data": DATA})
    second = Asked(running, "two", {"data": {"name": "flap"}}, if_match=1)
    moved = Asked(running, "three", {"status": "Review"})
    said = statement(second.receipt)
    changed = next(one for one in second.entries if one.entry.type == EntryType.REGISTRY_ENTRY_CHANGED)
    assert said["subject"] == [
        {
            "name": "AERO/E-1",
            "digest": {"sha256": sha256(canonical_json({"name": "flap"}))},
            "mediaType": "application/json",
            "annotations": {"version": 2, "status": "Submission", "entry": changed.index},
        }
    ]
    definition = said["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["principal"] == "key:ada"
    assert definition["externalParameters"]["parameters"] == {
        "endpoint": "registry/update", "method": "POST", "ifMatch": 1, "registryId": "AERO", "entryId": "E-1",
    }  # fmt: skip
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert dependencies["body"]["digest"] == {"sha256": second.digest}
    assert dependencies["AERO/E-1"] == {
        "name": "AERO/E-1", "digest": {"sha256": sha256(canonical_json(DATA))}, "annotations": {"version": 1},
    }  # fmt: skip
    assert "schema APIRequest.registry.update.POST" in dependencies
    assert statement(moved.receipt)["subject"][0]["annotations"]["status"] == "Review"
    for one, version in ((first, 1), (second, 2), (moved, 3)):
        story = one.verified().story
        assert [change.version for _, change in story.changes] == [version]
        assert {change.by for _, change in story.changes} == {"key:ada"}


def test_a_request_that_was_refused_has_a_receipt_that_says_why(running: Service) -> None:
    Asked(running, "one", {"data": DATA})
    late = Asked(running, "two", {"data": DATA}, if_match=7)
    denied = Asked(running, "three", {"data": DATA}, by=BOB)
    wrong = Asked(running, "four", {"data": 7})
    for one in (late, denied, wrong):
        assert statement(one.receipt)["subject"] == [{"name": "body", "digest": {"sha256": one.digest}}]
        story = one.verified().story
        assert (story.phase, story.changes) == ("REJECTED", [])
        assert story.received.data.principal == one.request.principal.name
        assert story.received.data.subject == "POST registry/update AERO E-1"
        with pytest.raises(IntegrityError):
            verify_artifact(one.verified(), canonical_json(DATA))
    ends = [one.verified().story.conclusion for one in (late, denied, wrong)]
    refused = [end.data.refused if end else None for end in ends]
    assert refused[0] is not None
    assert refused[0].step == "api.operate"
    assert "version 7" in refused[0].message
    assert refused[1:] == [None, None]
    assert [end.data.findings[0].rule if end else None for end in ends[1:]] == [
        "event/AuthorizationError",
        "payload/type",
    ]


def test_a_change_that_is_left_out_of_a_receipt_is_missed(running: Service) -> None:
    story = Story()
    for one in Asked(running, "one", {"data": DATA}).entries:
        if one.entry.type != EntryType.REGISTRY_ENTRY_CHANGED:
            story.add(one.index, one.body)
    with pytest.raises(IntegrityError, match="is left out"):
        story.end()
