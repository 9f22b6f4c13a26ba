"""The ways through a run that need nobody: processed, rejected, duplicate, nothing to do."""

import json
import re
import uuid

import pytest
from temporalio.common import SearchAttributeKey

from coafi.deliveries import DeliveryReader
from coafi.errors import AuthorizationError, PolicyDenied, ResourceNotFoundError, ValidationError
from coafi.findings import Finding, Severity
from coafi.git.fetch import GitFetcher
from coafi.names import EntryType, Phase, SearchAttribute
from coafi.processing import BatchProcessor
from coafi.recording import EventRecorder, Range
from tests.harness import Repository, Stack, documents, history_of, push_payload
from tests.workflows.support import (
    Scheduled,
    assert_receipt_names_every_entry,
    broken,
    details_of,
    entries_of,
    held,
    names_of,
    phases_of,
    scheduled,
    types_of,
)

THREE_BATCHES = 5
"""Files of a commit."""


async def test_a_push_goes_through_every_step_once_and_its_receipt_names_all_that_was_recorded(
    stack: Stack, repository: Repository
) -> None:
    payload = repository.push({**documents(3), "docs/broken.json": "{", "notes.txt": "x"})
    run = await stack.accepted(payload)
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts == {"files": 5, "valid": 4, "invalid": 1, "skipped": 0, "deleted": 0, "artifacts": 6}
    assert receipt.failure is None
    assert receipt.decisions == ()
    assert receipt.workflow_id == run.id
    entries = entries_of(stack, run.id)
    assert types_of(entries) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.FILE_PROCESSED: 5,
        EntryType.ARTIFACT_GENERATED: 6,
        EntryType.EVENT_PROCESSED: 1,
    }
    assert {one.entry.utids for one in entries} == {receipt.utids}
    assert entries[-1].data["counts"] == receipt.counts
    assert entries[-1].data["digests"] == receipt.digests
    assert stack.resources.objects.has(receipt.digests["manifest"])
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.usefixtures("batches_of_two")
async def test_people_read_in_the_web_ui_what_every_step_does(stack: Stack, repository: Repository) -> None:
    payload = repository.push(documents(THREE_BATCHES), branch="feature/x")
    run = await stack.accepted(payload)
    receipt = await run.result()
    commit = repository.head[:10]
    assert scheduled(await history_of(run)) == [
        Scheduled("event.receive", "Claim the delivery, check the payload, record the receipt", local=True),
        Scheduled("git.fetch", f"Fetch what changed on feature/x at {commit}", local=False),
        Scheduled("files.process", "Check 2 files (batch 1 of 3)", local=False),
        Scheduled("files.process", "Check 2 files (batch 2 of 3)", local=False),
        Scheduled("files.process", "Check 1 file (batch 3 of 3)", local=False),
        Scheduled("artifacts.generate", "Generate pages and data of 2 valid files (batch 1 of 3)", local=False),
        Scheduled("artifacts.generate", "Generate pages and data of 2 valid files (batch 2 of 3)", local=False),
        Scheduled("artifacts.generate", "Generate pages and data of 1 valid file (batch 3 of 3)", local=False),
        Scheduled("event.finish", "Record that the event is processed", local=True),
        Scheduled("index.request", "Ask for the index of feature/x", local=True),
    ]
    description = await run.describe()
    source = receipt.source.partition("://")[2]
    assert await description.static_summary() == f"{source} · feature/x @ {commit}"
    assert (await details_of(run)).startswith("**Processed**: 5 files, 10 artifacts")
    assert_receipt_names_every_entry(stack, receipt)


async def test_search_attributes_follow_the_phases(stack: Stack, repository: Repository) -> None:
    run = await stack.accepted(repository.push(documents(1)))
    receipt = await run.result()
    assert phases_of(await history_of(run)) == [Phase.RECEIVED, Phase.VALIDATED, Phase.PROCESSED]
    attributes = (await run.describe()).typed_search_attributes
    values = {name: attributes.get(SearchAttributeKey.for_keyword(name)) for name in SearchAttribute}
    assert values == {
        SearchAttribute.PHASE: Phase.PROCESSED,
        SearchAttribute.EVENT_ID: receipt.event_id,
        SearchAttribute.EVENT_TYPE: "git.commit",
        SearchAttribute.SOURCE: receipt.source,
        SearchAttribute.UTIDS: receipt.utids,
    }
    assert receipt.utids.startswith("UTIDS-P-")


async def test_the_state_says_what_is_done_at_each_phase(stack: Stack, repository: Repository) -> None:
    with held(GitFetcher, "fetch", done=False, seconds=30) as fetching:
        run = await stack.accepted(repository.push(documents(1)))
        await fetching.is_reached()
        validated = await stack.state(run)
        fetching.let_go.set()
        receipt = await run.result()
    assert (validated.phase, validated.utids) == (Phase.VALIDATED, receipt.utids)
    assert validated.steps_done == ("event.receive",)
    processed = await stack.state(run)
    assert processed.phase is Phase.PROCESSED
    assert processed.steps_done == (
        "event.receive",
        "git.fetch",
        "files.process/0",
        "artifacts.generate/0",
        "event.finish",
    )
    assert validated.failure is processed.failure is None


async def test_no_step_generates_from_batches_without_a_valid_file(stack: Stack, repository: Repository) -> None:
    run = await stack.accepted(repository.push({"a.json": "{", "b.json": "["}))
    receipt = await run.result()
    assert receipt.counts["invalid"] == receipt.counts["files"] == 2
    assert names_of(await history_of(run)) == [
        "event.receive",
        "git.fetch",
        "files.process",
        "event.finish",
        "index.request",
    ]
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_deleted_branch_is_processed_without_fetching(stack: Stack, repository: Repository) -> None:
    payload = push_payload(repository.path.as_uri(), "0" * 40, before=repository.head)
    run = await stack.accepted(payload)
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts == {"files": 0}
    assert names_of(await history_of(run)) == ["event.receive", "event.finish", "index.request"]
    assert types_of(entries_of(stack, run.id)) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_PROCESSED: 1}
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_payload_that_breaks_its_schema_is_rejected_with_its_places(stack: Stack) -> None:
    run = await stack.accepted(
        {"ref": "refs/heads/x y", "after": "no-commit", "repository": {"clone_url": "https://h/x"}}
    )
    receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert {finding.pointer for finding in receipt.findings} >= {"/branch", "/commitSha"}
    assert all(finding.rule.startswith("payload/") and finding.remedy for finding in receipt.findings)
    assert receipt.utids.startswith("UTIDS-T-")
    assert names_of(await history_of(run)) == ["event.receive"]
    assert phases_of(await history_of(run)) == [Phase.RECEIVED, Phase.REJECTED]
    details = await details_of(run)
    assert details.startswith("**Rejected**")
    assert all(f"`{finding.pointer or '/'}` {finding.message}" in details for finding in receipt.findings)
    assert types_of(entries_of(stack, run.id)) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_REJECTED: 1}
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_commit_that_the_repository_does_not_have_is_rejected_at_the_last_try(
    stack: Stack, repository: Repository
) -> None:
    run = await stack.accepted(push_payload(repository.path.as_uri(), "a" * 40))
    receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert [finding.rule for finding in receipt.findings] == ["event/CommitNotFound"]
    assert "a" * 40 in receipt.findings[0].message
    assert phases_of(await history_of(run)) == [Phase.RECEIVED, Phase.VALIDATED, Phase.REJECTED]
    assert names_of(await history_of(run)) == ["event.receive", "git.fetch", "event.finish"]
    assert types_of(entries_of(stack, run.id)) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_REJECTED: 1}
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.parametrize("kind", [ValidationError, AuthorizationError, ResourceNotFoundError, PolicyDenied])
async def test_a_step_that_finds_the_event_wrong_rejects_it_at_the_first_try(
    stack: Stack, repository: Repository, kind: type[ValidationError]
) -> None:
    finding = Finding(severity=Severity.ERROR, rule="some/rule", message="it is wrong", remedy="mend it", pointer="/x")
    with broken(GitFetcher, "fetch", kind("no", findings=(finding,)), times=1):
        run = await stack.accepted(repository.push(documents(1)))
        receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert receipt.findings == (finding,)
    assert entries_of(stack, run.id)[-1].data["findings"] == [finding.model_dump(mode="json", exclude_none=True)]
    assert await details_of(run) == "**Rejected**\n\n- `/x` it is wrong: mend it"
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.usefixtures("batches_of_two")
async def test_what_was_recorded_before_a_rejection_is_part_of_its_receipt(
    stack: Stack, repository: Repository
) -> None:
    with broken(BatchProcessor, "generate", ValidationError("no"), when=lambda _self, task, *_rest: _batch(task) == 1):
        receipt = await (await stack.accepted(repository.push(documents(THREE_BATCHES)))).result()
    assert receipt.phase is Phase.REJECTED
    assert types_of(entries_of(stack, receipt.workflow_id)) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.FILE_PROCESSED: 5,
        EntryType.ARTIFACT_GENERATED: 2 * 3,
        EntryType.EVENT_REJECTED: 1,
    }
    assert_receipt_names_every_entry(stack, receipt)


def _batch(task: object) -> int:
    index: int = task.task.batch.index  # type: ignore[attr-defined]  # a GenerateTask
    return index


async def test_an_event_that_its_receipt_finds_wrong_is_rejected_on_the_record(
    stack: Stack, repository: Repository
) -> None:
    with broken(EventRecorder, "receive", PolicyDenied("not from there", remedy="ask an operator")):
        run = await stack.accepted(repository.push(documents(1)))
        receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert [(finding.rule, finding.message) for finding in receipt.findings] == [
        ("event/PolicyDenied", "not from there")
    ]
    assert names_of(await history_of(run)) == ["event.receive", "event.finish"]
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_redelivery_that_temporal_does_not_know_ends_as_a_duplicate_and_records_nothing(
    stack: Stack, repository: Repository
) -> None:
    payload, delivery = repository.push(documents(1)), str(uuid.uuid4())
    run = await stack.accepted(payload, delivery=delivery)
    first = await run.result()
    first_run_id = (await run.describe()).run_id
    size = stack.resources.ledger.size()
    await stack.forget(run.id)
    again = await stack.accepted(payload, delivery=delivery)
    second = await again.result()
    assert second.model_dump(exclude_defaults=True) == {
        "phase": Phase.DUPLICATE,
        "event_id": delivery,
        "source": first.source,
        "workflow_id": run.id,
        "utids": first.utids,
        "duplicate_of": first_run_id,
    }
    assert stack.resources.ledger.size() == size
    assert names_of(await history_of(again)) == ["event.receive"]
    assert phases_of(await history_of(again)) == [Phase.RECEIVED, Phase.DUPLICATE]
    assert await details_of(again) == f"Duplicate of run `{first_run_id}`: nothing was done twice."
    assert (await stack.state(again)).phase is Phase.DUPLICATE


async def test_a_delivery_remembers_how_its_run_ended(stack: Stack, repository: Repository) -> None:
    processed = await (await stack.accepted(repository.push(documents(1)))).result()
    rejected = await (await stack.accepted({})).result()
    reader = DeliveryReader(stack.resources.database)
    for receipt in (processed, rejected):
        (known,) = reader.find(receipt.workflow_id)
        assert (known.outcome, known.utids) == (receipt.phase, receipt.utids)


async def test_no_file_content_enters_history(stack: Stack, repository: Repository) -> None:
    secret = "the-content-of-a-file-" + uuid.uuid4().hex
    run = await stack.accepted(repository.push(documents(3, text=secret)))
    await run.result()
    assert secret not in json.dumps((await history_of(run)).to_json_dict())


async def test_a_run_of_one_batch_costs_28_events(stack: Stack, repository: Repository) -> None:
    """Each state transition costs the server as much as all our work: more of them have to be a decision."""
    run = await stack.accepted(repository.push(documents(10)))
    receipt = await run.result()
    assert receipt.entries == (Range(first=receipt.entries[0].first, last=receipt.entries[0].first + 31),)
    assert len((await history_of(run)).events) == 28
    assert re.fullmatch(r"[0-9a-f]{64}", receipt.digests["manifest"])
