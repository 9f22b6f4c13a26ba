"""A run that is cancelled ends on the record, wherever it stood."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import CancelledError

from coafi.deliveries import DeliveryReader
from coafi.git.fetch import GitFetcher
from coafi.ledger.entry import Recorded
from coafi.names import EntryType, Phase
from coafi.processing import BatchProcessor
from coafi.recording import Conclusion, EventRecorder, Failure
from tests.harness import Repository, Stack, documents, history_of, running_stack, until
from tests.workflows.support import (
    GIVES_UP,
    Run,
    broken,
    covered,
    details_of,
    entries_of,
    failure_of,
    held,
    names_of,
    parked,
    phases_of,
    types_of,
)
from workers.wiring import running_workers

CANCELLED = Failure(step="run", sequence=0, error="Cancelled", message="the run was cancelled")


async def ended(stack: Stack, run: Run) -> Sequence[Recorded]:
    """What the ledger holds about a run that must have ended as cancelled, with one conclusion."""
    assert isinstance(await failure_of(run), CancelledError)
    assert (await run.describe()).status is WorkflowExecutionStatus.CANCELED
    assert (await stack.state(run)).phase is Phase.FAILED
    assert phases_of(await history_of(run))[-1] == Phase.FAILED
    assert (await details_of(run)).startswith("**Failed**")
    entries = entries_of(stack, run.id)
    assert entries[-1].entry.type == EntryType.EVENT_DEAD_LETTERED
    assert named_in(entries[-1]) == [one.index for one in entries[:-1]]
    return entries


def named_in(conclusion: Recorded) -> list[int]:
    """The indices that a conclusion names."""
    return covered(Conclusion.model_validate({"phase": "FAILED", "entries": conclusion.data["entries"]}).entries)


def outcome_of(stack: Stack, run: Run) -> str | None:
    (known,) = DeliveryReader(stack.resources.database).find(run.id)
    return known.outcome


async def test_a_run_that_is_cancelled_at_work_is_dead_lettered(stack: Stack, repository: Repository) -> None:
    with held(GitFetcher, "fetch", done=False, seconds=30) as working:
        run = await stack.accepted(repository.push(documents(1)))
        await working.is_reached()
        await run.cancel()
        entries = await ended(stack, run)
    assert entries[-1].data["failure"] == CANCELLED.model_dump(mode="json")
    assert types_of(entries) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_DEAD_LETTERED: 1}
    assert outcome_of(stack, run) == Phase.FAILED


@pytest.mark.usefixtures("batches_of_two")
async def test_a_run_that_is_cancelled_between_batches_names_what_the_finished_ones_recorded(
    stack: Stack, repository: Repository
) -> None:
    with held(BatchProcessor, "generate", done=False, seconds=30) as working:
        run = await stack.accepted(repository.push(documents(5)))
        await working.is_reached()
        await run.cancel()
        assert isinstance(await failure_of(run), CancelledError)
        entries = entries_of(stack, run.id)
    (conclusion,) = [one for one in entries if one.entry.type == EntryType.EVENT_DEAD_LETTERED]
    checked = [one.index for one in entries if one.entry.type == EntryType.FILE_PROCESSED]
    assert len(checked) == 5
    assert {entries[0].index, *checked} <= set(named_in(conclusion)) <= {one.index for one in entries}


async def test_a_parked_run_that_is_cancelled_keeps_the_failure_it_parked_with(
    stack: Stack, repository: Repository
) -> None:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        state = await parked(stack, run)
    await run.cancel()
    entries = await ended(stack, run)
    assert state.failure is not None
    assert entries[-1].data["failure"] == state.failure.model_dump(mode="json")
    assert types_of(entries) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.EVENT_PROCESSING_FAILED: 1,
        EntryType.EVENT_DEAD_LETTERED: 1,
    }
    assert outcome_of(stack, run) == Phase.FAILED


async def test_a_run_that_is_cancelled_before_its_first_step_is_dead_lettered(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        run = await stack.accepted(Repository.create(tmp_path / "repository").push(documents(1)))
        await run.cancel()
        async with running_workers(stack.client, stack.resources):
            entries = await ended(stack, run)
            assert types_of(entries) == {EntryType.EVENT_DEAD_LETTERED: 1}
            assert entries[-1].data["failure"] == CANCELLED.model_dump(mode="json")


async def test_a_run_that_is_cancelled_while_it_is_received_has_one_conclusion(
    stack: Stack, repository: Repository
) -> None:
    with held(EventRecorder, "receive", done=True) as receiving:
        run = await stack.accepted(repository.push(documents(1)))
        await receiving.is_reached()
        await run.cancel()
        receiving.let_go.set()
        assert isinstance(await failure_of(run), CancelledError)
    assert types_of(entries_of(stack, run.id)) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_DEAD_LETTERED: 1}
    assert outcome_of(stack, run) == Phase.FAILED


async def test_a_run_that_is_cancelled_when_it_is_processed_has_one_conclusion(
    stack: Stack, repository: Repository
) -> None:
    with held(EventRecorder, "conclude", done=True) as concluding:
        run = await stack.accepted(repository.push(documents(1)))
        await concluding.is_reached()
        await run.cancel()
        concluding.let_go.set()
        await until(lambda: _is_closed(run))
    conclusions = {EntryType.EVENT_PROCESSED, EntryType.EVENT_DEAD_LETTERED, EntryType.EVENT_REJECTED}
    recorded = [one.entry.type for one in entries_of(stack, run.id) if one.entry.type in conclusions]
    assert recorded == [EntryType.EVENT_PROCESSED]
    assert outcome_of(stack, run) == Phase.PROCESSED
    assert (await stack.state(run)).phase is Phase.PROCESSED


async def test_a_cancelled_run_whose_conclusion_gives_up_does_not_end_unrecorded(
    stack: Stack, repository: Repository
) -> None:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
    with broken(EventRecorder, "conclude", GIVES_UP):
        await run.cancel()
        await until(lambda: _has_tried_to_finish(run))
        try:
            assert (await run.describe()).status is WorkflowExecutionStatus.RUNNING
            failed = [
                event
                for event in (await history_of(run)).events
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
            ]
            assert failed == []
        finally:
            if not await _is_closed(run):
                await run.terminate()


async def _is_closed(run: Run) -> bool:
    return (await run.describe()).status is not WorkflowExecutionStatus.RUNNING


async def _has_tried_to_finish(run: Run) -> bool:
    history = await history_of(run)
    return names_of(history).count("event.finish") >= 2 or await _is_closed(run)
