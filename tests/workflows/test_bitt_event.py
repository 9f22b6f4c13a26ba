"""An event of a ledger, from the door or from our own entries, to what its subscriptions ask for."""

import json
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook
from temporalio.client import WorkflowExecutionStatus

from coafi.canonical import JsonObject
from coafi.compliance.findings import EntityFinding, FindingQuery, FindingReader
from coafi.names import EntryType, Phase
from tests.harness import Repository, Stack, documents, history_of, running_stack, until
from tests.starters.ledger_events import SECRETS, accepted, caught_up, failure, listening, post, subscriptions
from tests.workflows.support import (
    assert_receipt_names_every_entry,
    details_of,
    entries_of,
    names_of,
    parked,
    retried,
    types_of,
)
from tests.workflows.test_notification import KEY, receiver
from workflows.lifecycle import Receipt

INVALID = "docs/COAFI-ENG-0009-SPEC-A.md"


def findings(stack: Stack, **asked: object) -> list[EntityFinding]:
    return FindingReader(stack.resources.database).find(FindingQuery.model_validate(asked))


def subscribers_file(tmp_path: Path, *wanted: dict[str, object]) -> Path:
    path = tmp_path / "subscribers.json"
    path.write_text(json.dumps([{"secret": KEY, **one} for one in wanted]))
    path.chmod(0o600)
    return path


async def test_a_failure_opens_findings_once_and_its_receipt_names_every_entry(tmp_path: Path) -> None:
    async with running_stack(tmp_path, events_secrets=SECRETS) as stack:
        event = failure("e-1")
        run = await accepted(stack, event)
        receipt = await run.result()
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts == {"subscriptions": 2, "opened": 2, "known": 0, "closed": 0, "notified": 0}
        assert_receipt_names_every_entry(stack, receipt)
        assert names_of(await history_of(run)) == ["event.receive", "bitt.react", "event.finish"]
        assert {(one.kind, one.entity, one.rule, one.severity) for one in findings(stack)} == {
            ("registry", "AERO/wing-12", "CHECK-7", "critical"),
            ("document", "COAFI-ENG-0001-SPEC-A", "CHECK-7", "critical"),
        }
        opened = stack.entries(EntryType.COMPLIANCE_FINDING_OPENED)
        assert {one.index for one in opened} == {one.opened_entry for one in findings(stack)}
        assert {one.data["peers"] for one in opened} == {"subscribed"}
        assert {one.data["causationDepth"] for one in opened} == {0}
        # The same delivery again is the same run; the same failure in another event opens nothing while it is open.
        again = await post(stack, event)
        assert (again.status_code, again.json()["redelivery"], again.json()["workflowId"]) == (202, True, run.id)
        second = await (await accepted(stack, failure("e-2"))).result()
        assert (second.counts["opened"], second.counts["known"]) == (0, 2)
        assert len(findings(stack)) == 2
        stack.verify()


async def test_a_subscription_can_close_what_another_event_has_opened(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml",
        {"name": "failures", "events": ["GAIA:COMPLIANCE:FAILURE"], "open-findings": True, "severity": "info"},
        {"name": "resolved", "events": ["GAIA:COMPLIANCE:RESOLVED"], "close-findings": True},
    )
    async with running_stack(tmp_path, events_secrets=SECRETS, bitt_subscriptions=file) as stack:
        await (await accepted(stack, failure("e-1"))).result()
        resolved = failure("e-2", affectedEntities=["AERO/wing-12"])
        assert isinstance(resolved["data"], dict)
        resolved["data"]["eventType"] = "GAIA:COMPLIANCE:RESOLVED"
        run = await accepted(stack, resolved)
        receipt = await run.result()
        assert receipt.counts["closed"] == 1
        assert_receipt_names_every_entry(stack, receipt)
        assert [one.entity for one in findings(stack)] == ["COAFI-ENG-0001-SPEC-A"]
        (closed,) = [one for one in findings(stack, closed=True) if one.closed]
        assert (closed.entity, closed.closed_by, closed.severity) == ("AERO/wing-12", run.id, "info")
        # A failure after that is a new finding.
        third = await (await accepted(stack, failure("e-3"))).result()
        assert (third.counts["opened"], third.counts["known"]) == (1, 1)
        stack.verify()


async def test_subscribers_are_told_each_on_its_own_with_a_cloud_event(tmp_path: Path) -> None:
    with receiver() as one, receiver() as other, receiver() as stranger:
        one.answers = [(503, {}, 0.0), (204, {}, 0.0)]
        file = subscribers_file(
            tmp_path,
            {"name": "one", "url": one.url, "topics": ["compliance"]},
            {"name": "other", "url": other.url, "topics": ["compliance"]},
            {"name": "stranger", "url": stranger.url},
        )
        async with running_stack(
            tmp_path, events_secrets=SECRETS, subscribers=file, notify_allow_private=True
        ) as stack:
            run = await accepted(stack, failure("e-1"))
            receipt = await run.result()
            assert receipt.counts["notified"] == 2
            telling = stack.client.get_workflow_handle(f"notify-event:{run.id}")
            told = await telling.result()
            assert {name: result["outcome"] for name, result in told["results"].items()} == {
                "one": "delivered",
                "other": "delivered",
            }
        assert len(one.seen) == 2
        assert not stranger.seen
        ((_, headers, sent),) = other.seen
        body, named = json.loads(sent), {name.lower(): value for name, value in headers.items()}
        assert named["content-type"] == "application/cloudevents+json"
        assert Webhook(KEY).verify(sent, named) == body
        assert body["id"] == named["webhook-id"]
        assert (body["type"], body["source"]) == ("GAIA:COMPLIANCE:FAILURE", "bitt:coafi.local/bitt/default")
        assert (body["causationid"], body["causationdepth"]) == (run.id, 1)
        assert body["data"]["affectedEntities"] == ["AERO/wing-12", "COAFI-ENG-0001-SPEC-A"]
        assert one.seen[0][2] == one.seen[1][2]
        assert json.loads(one.seen[0][2])["id"] != body["id"]


async def test_an_event_that_nobody_subscribes_to_parks_and_retry_looks_again(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml",
        {"name": "failures", "events": ["GAIA:COMPLIANCE:FAILURE"], "open-findings": True},
    )
    async with running_stack(tmp_path, events_secrets=SECRETS, bitt_subscriptions=file) as stack:
        event: JsonObject = {
            **failure("e-1"),
            "type": "org.example.odd",
            "data": {"affectedEntities": ["AERO/wing-12"]},
        }
        run = await accepted(stack, event)
        state = await parked(stack, run)
        assert state.failure is not None
        assert state.failure.error == "EventUnprocessed"
        (entry,) = stack.entries(EntryType.EVENT_UNPROCESSED)
        assert entry.data["eventType"] == "org.example.odd"
        await retried(run)
        await parked(stack, run, times=2)
        subscriptions(file, {"name": "odd", "events": ["org.example.odd"], "open-findings": True})
        await retried(run)
        receipt = await run.result()
        assert (receipt.phase, receipt.counts["opened"]) == (Phase.PROCESSED, 1)
        assert_receipt_names_every_entry(stack, receipt)
        assert types_of(entries_of(stack, run.id))["EVENT_UNPROCESSED"] == 1
        assert "org.example.odd" in await details_of(run)


async def test_a_file_of_subscriptions_that_was_spoilt_is_waited_for(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml",
        {"name": "failures", "events": ["GAIA:COMPLIANCE:FAILURE"], "open-findings": True},
    )
    async with running_stack(tmp_path, events_secrets=SECRETS, bitt_subscriptions=file) as stack:
        good = file.read_text()
        file.write_text("- name: failures\n  events: [GAIA:FAIL*]\n")
        run = await accepted(stack, failure("e-1"))

        async def waits() -> bool:
            described = await run.describe()
            assert described.status is WorkflowExecutionStatus.RUNNING
            return any(one.activity_type.name == "bitt.react" for one in described.raw_description.pending_activities)

        await until(waits)
        file.write_text(good)
        assert (await run.result()).counts["opened"] == 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"eventType": "GAIA::FAILURE"}, "/eventType"),
        ({"eventId": "another"}, "/eventId"),
        ({"source": "https://ledger.example.org/another"}, "/source"),
        ({"timestamp": "yesterday"}, "/timestamp"),
        ({"details": {"affectedEntities": [7]}}, "/details/affectedEntities/0"),
    ],
)
async def test_what_is_authentic_and_wrong_is_rejected_with_the_place(
    shared: Stack, change: dict[str, object], pointer: str
) -> None:
    event = failure()
    assert isinstance(event["data"], dict)
    event["data"] |= change  # type: ignore[arg-type]  # that is the point
    run = await accepted(shared, event)
    receipt: Receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert receipt.findings[0].pointer == pointer
    assert types_of(entries_of(shared, run.id)) == {"EVENT_RECEIVED": 1, "EVENT_REJECTED": 1}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> object:
    async with running_stack(tmp_path_factory.mktemp("shared"), events_secrets=SECRETS) as stack:
        yield stack


async def test_entries_of_the_own_ledger_start_runs_and_those_of_their_handling_do_not(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml",
        {"name": "everything", "events": ["COAFI:LEDGER:*"], "notify": ["all"]},
        {
            "name": "invalid",
            "events": ["COAFI:LEDGER:FILE_PROCESSED"],
            "where": {"data.verdict": ["invalid"]},
            "open-findings": True,
        },
    )
    async with running_stack(tmp_path, bitt_subscriptions=file) as stack, listening(stack) as follower:
        repository = Repository.create(tmp_path / "repo")
        run = await stack.accepted(repository.push({**documents(2), INVALID: "---\ntitle: [\n---\n"}))
        pushed = await run.result()
        await caught_up(stack, follower)
        about = entries_of(stack, run.id)
        source = "bitt:coafi.local/bitt/default"
        receipts = [await stack.handle(f"bitt.event:{source}:{one.index}").result() for one in about]
        assert {receipt.phase for receipt in receipts} == {Phase.PROCESSED}
        assert sum(receipt.counts["opened"] for receipt in receipts) == pushed.counts["invalid"] == 1
        (found,) = findings(stack)
        assert found.entity == f"{(tmp_path / 'repo').as_uri()}/{INVALID}"
        await caught_up(stack, follower)  # also with what those runs have written: nothing starts any more
        runs = [one async for one in stack.client.list_workflows("WorkflowType='BITTEventWorkflow'")]
        assert len(runs) == len(about)
        received = [one for one in stack.entries(EntryType.EVENT_RECEIVED) if one.data["eventType"] == "bitt.event"]
        assert {one.data["causationDepth"] for one in received} == {1}
        assert {one.data["causationId"] for one in received} == {run.id}
        stack.verify()
