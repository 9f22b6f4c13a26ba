"""What a receipt states, and that tools which we did not write read it: securesystemslib, in-toto's own bindings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # it has no __all__

from coafi.artifacts.model import GENERATOR_VERSION
from coafi.canonical import sha256
from coafi.ledger.keys import VerifierKey
from coafi.names import EntryType
from coafi.receipts.dsse import key_id
from coafi.receipts.statement import BUILD_TYPE
from tests.coafi.receipts.making import COMMIT, MANIFEST, OTHER, SIGNER, Service, service, statement
from tests.harness import document


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as one:
        yield one


def theirs(key: VerifierKey) -> SSlibKey:
    """A key of ours as securesystemslib has it."""
    return SSlibKey(key_id(key), "ed25519", "ed25519", {"public": key.public.hex()})


def test_the_envelope_is_verified_by_securesystemslib(running: Service) -> None:
    receipt = running.receipt(running.processed())
    envelope = Envelope.from_dict(json.loads(receipt)["envelope"])
    assert envelope.payload_type == "application/vnd.in-toto+json"
    assert set(envelope.verify([theirs(SIGNER.key)], 1)) == {key_id(SIGNER.key)}
    assert json.loads(envelope.payload) == statement(receipt)
    for key in (theirs(OTHER.key), SSlibKey(key_id(SIGNER.key), "ed25519", "ed25519", {"public": "00" * 32})):
        with pytest.raises(VerificationError):
            envelope.verify([key], 1)


@pytest.mark.parametrize("kind", ["processed", "rejected", "parked", "dead_lettered"])
def test_the_statement_is_one_by_the_published_definitions(running: Service, kind: str) -> None:
    said = statement(running.receipt(getattr(running, kind)()))
    parsed = json_format.Parse(json.dumps(said), statement_pb2.Statement())  # refuses fields that it does not know
    Statement.copy_from_pb(parsed).validate()
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    provenance = json_format.ParseDict(said["predicate"], provenance_pb2.Provenance())
    assert provenance.build_definition.build_type == BUILD_TYPE
    assert provenance.run_details.builder.id == "urn:coafi:builder:receipts.example/log"
    for one in (*provenance.build_definition.resolved_dependencies, *provenance.run_details.byproducts):
        ResourceDescriptor.copy_from_pb(one).validate()
    assert json_format.MessageToDict(parsed) == {**said, "predicate": said["predicate"]}


def names(items: list[Any]) -> list[str]:
    return [one.get("name") or one["uri"] for one in items]


def test_a_processed_event_is_stated_with_all_that_went_in_and_came_out(running: Service) -> None:
    ref = running.processed()
    entries = running.entries(ref)
    said = statement(running.receipt(ref))
    made = [one for one in entries if one.entry.type == EntryType.ARTIFACT_GENERATED]
    assert made, "the sample must have artifacts"
    *artifacts, commit = said["subject"]
    assert [one["digest"]["sha256"] for one in artifacts] == [one.data["digest"] for one in made]
    assert {one["name"] for one in artifacts} == {"docs/a.md"}
    assert [one["annotations"] for one in artifacts] == [
        {"artifact": one.data["artifact"], "entry": one.index} for one in made
    ]
    assert commit == {"name": "https://git.example/acme/docs.git", "digest": {"gitCommit": COMMIT}}

    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "event": "d1",
        "source": "https://git.example/acme/docs",
        "type": "git.commit",
        "utids": ref.utids,
        "parameters": {
            "repositoryUrl": "https://git.example/acme/docs.git",
            "commitSha": COMMIT,
            "branch": "main",
        },
    }
    assert definition["internalParameters"] == {"namespace": "default", "principal": "github-webhook"}
    dependencies = {one.get("name") or one["uri"]: one for one in definition["resolvedDependencies"]}
    assert list(dependencies) == [
        "body",
        "payload",
        "git+https://git.example/acme/docs.git@refs/heads/main",
        "schema GitCommitEventPayload",
        *[name for name in dependencies if name.startswith("schema front")],
        "docs/a.md",
        "docs/ü.md",
    ]
    assert dependencies["body"]["digest"] == {"sha256": "0" * 64}
    content = document(1).encode()
    assert dependencies["docs/a.md"]["digest"]["sha256"] == sha256(content)
    assert len(dependencies["docs/a.md"]["digest"]["gitBlob"]) == 40
    assert dependencies["docs/ü.md"]["annotations"]["verdict"] == "invalid"
    schema = running.recorder.registry.schema("GitCommitEventPayload")
    assert dependencies["schema GitCommitEventPayload"] == {
        "name": "schema GitCommitEventPayload",
        "digest": {"sha256": schema.digest},
        "annotations": {"version": schema.version},
    }

    details = said["predicate"]["runDetails"]
    assert details["builder"]["version"] == {
        "coafi-event-handlers": "1.2.3",
        "artifact-generator": GENERATOR_VERSION,
    }
    assert details["metadata"] == {
        "invocationId": f"{ref.workflow_id}/run-1",
        "startedOn": entries[0].entry.time,
        "finishedOn": entries[-1].entry.time,
    }
    assert names(details["byproducts"]) == ["manifest", "conclusion", "reports", "checkpoint"]
    assert details["byproducts"][0]["digest"] == {"sha256": MANIFEST}
    assert details["byproducts"][1]["digest"] == {"sha256": sha256(entries[-1].body)}
    checkpoint = running.ledger.checkpoint()
    assert details["byproducts"][3]["digest"] == {"sha256": sha256(checkpoint.note.encode())}
    assert details["byproducts"][3]["annotations"]["entries"] == [[entries[0].index, entries[-1].index]]


def test_nothing_about_people_is_stated(running: Service) -> None:
    text = running.receipt(running.processed()).decode()
    assert "Zuzanna" not in text
    assert "Zuzanna" not in json.dumps(statement(text.encode()))
    assert "of no concern" not in text


def test_an_event_without_artifacts_is_about_its_body(running: Service) -> None:
    for ref in (running.rejected(), running.parked(), running.dead_lettered()):
        assert statement(running.receipt(ref))["subject"] == [{"name": "body", "digest": {"sha256": "0" * 64}}]


def test_a_branch_that_is_gone_has_no_commit(running: Service) -> None:
    ref = running.receive(
        data={
            "repositoryUrl": "https://git.example/r",
            "commitSha": "0" * 40,
            "branch": "x",
            "author": "a",
            "deleted": True,
        }
    )
    running.conclude(ref, "PROCESSED", counts={"files": 0})  # type: ignore[arg-type]  # the value of a Phase
    said = statement(running.receipt(ref))
    assert said["subject"][0]["name"] == "body"
    assert said["predicate"]["buildDefinition"]["externalParameters"]["parameters"]["deleted"] is True


def test_a_commit_without_changed_files_was_fetched(running: Service) -> None:
    said = statement(running.receipt(running.processed(files={})))
    assert said["subject"] == [{"name": "https://git.example/acme/docs.git", "digest": {"gitCommit": COMMIT}}]
