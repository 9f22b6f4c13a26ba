"""The steps around every handler while the ledger is away, or refuses: runs wait, and nothing goes on unrecorded."""

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from coafi.errors import LedgerUnavailable, ValidationError
from coafi.git.fetch import GitFetcher
from coafi.names import EntryType, Phase
from coafi.recording import EventRecorder
from tests.harness import Repository, Stack, documents, history_of, until
from tests.workflows.support import (
    ADA,
    BOB,
    GIVES_UP,
    Run,
    Scheduled,
    assert_receipt_names_every_entry,
    broken,
    discarded,
    entries_of,
    names_of,
    parked,
    phases_of,
    refused,
    retried,
    scheduled,
    types_of,
    waits_for_the_ledger,
)
from workflows.lifecycle import EventWorkflow, Receipt

AWAY = LedgerUnavailable("the ledger is away", remedy="wait")
ONE_FILE = {
    EntryType.EVENT_RECEIVED: 1,
    EntryType.FILE_PROCESSED: 1,
    EntryType.ARTIFACT_GENERATED: 2,
    EntryType.EVENT_PROCESSED: 1,
}


async def test_a_run_waits_for_the_ledger_before_it_does_anything(stack: Stack, repository: Repository) -> None:
    with broken(EventRecorder, "receive", AWAY):
        run = await stack.accepted(repository.push(documents(1)))
        await waits_for_the_ledger(run)
        state = await stack.state(run)
        assert (state.phase, state.utids, state.steps_done) == (Phase.RECEIVED, None, ())
        assert (await refused(run, EventWorkflow.retry)).message.startswith("this run is RECEIVED")
        assert entries_of(stack, run.id) == []
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert scheduled(await history_of(run))[:3] == [
        Scheduled("event.receive", "Claim the delivery, check the payload, record the receipt", local=True),
        Scheduled(
            "event.receive",
            "Claim the delivery, check the payload, record the receipt (until it works)",
            local=False,
        ),
        Scheduled("git.fetch", f"Fetch what changed on main at {repository.head[:10]}", local=False),
    ]
    assert types_of(entries_of(stack, run.id)) == ONE_FILE
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_run_whose_work_is_done_waits_for_the_ledger_with_its_conclusion(
    stack: Stack, repository: Repository
) -> None:
    with broken(EventRecorder, "conclude", AWAY):
        run = await stack.accepted(repository.push(documents(1)))
        await waits_for_the_ledger(run)
        assert (await stack.state(run)).phase is Phase.VALIDATED
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert types_of(entries_of(stack, run.id)) == ONE_FILE
    assert names_of(await history_of(run))[-3:] == ["event.finish", "event.finish", "index.request"]
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_park_that_waits_for_the_ledger_is_recorded_before_its_decision_is_acted_on(
    stack: Stack, repository: Repository
) -> None:
    with broken(EventRecorder, "park", AWAY), broken(GitFetcher, "fetch", GIVES_UP, times=1):
        run = await stack.accepted(repository.push(documents(1)))
        await waits_for_the_ledger(run)
        answer = await retried(run)
        assert answer.phase is Phase.VALIDATED
        assert (await refused(run, EventWorkflow.discard)).type == "NotParked"
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert types_of(entries_of(stack, run.id)) == {**ONE_FILE, EntryType.EVENT_PROCESSING_FAILED: 1}
    assert names_of(await history_of(run))[2:5] == ["event.park", "event.park", "git.fetch"]
    assert_receipt_names_every_entry(stack, receipt)


async def test_an_event_whose_receipt_gives_up_parks_and_a_retry_begins_anew(
    stack: Stack, repository: Repository
) -> None:
    with broken(EventRecorder, "receive", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        state = await parked(stack, run)
    assert (state.steps_done, state.utids) == ((), None)
    assert state.failure is not None
    assert state.failure.step == "event.receive"
    assert (await retried(run)).phase is Phase.RECEIVED
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert phases_of(await history_of(run)) == [
        Phase.RECEIVED,
        Phase.PARKED,
        Phase.RECEIVED,
        Phase.VALIDATED,
        Phase.PROCESSED,
    ]
    assert types_of(entries_of(stack, run.id)) == {**ONE_FILE, EntryType.EVENT_PROCESSING_FAILED: 1}
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.parametrize("decide", [retried, discarded])
async def test_a_run_whose_conclusion_gives_up_parks_with_all_its_work_done(
    stack: Stack, repository: Repository, decide: object
) -> None:
    with broken(EventRecorder, "conclude", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        state = await parked(stack, run)
    assert state.steps_done == ("event.receive", "git.fetch", "files.process/0", "artifacts.generate/0")
    await (retried(run) if decide is retried else discarded(run))
    receipt = await run.result()
    assert receipt.phase is (Phase.PROCESSED if decide is retried else Phase.FAILED)
    assert receipt.failure == (None if decide is retried else state.failure)
    assert types_of(entries_of(stack, run.id))[EntryType.ARTIFACT_GENERATED] == 2
    assert names_of(await history_of(run)).count("git.fetch") == 1
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_rejection_that_cannot_be_recorded_parks_and_stays_a_rejection(
    stack: Stack, repository: Repository
) -> None:
    with broken(EventRecorder, "conclude", GIVES_UP), broken(GitFetcher, "fetch", ValidationError("no"), times=1):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
    await retried(run)
    receipt = await run.result()
    assert receipt.phase is Phase.REJECTED
    assert [finding.message for finding in receipt.findings] == ["no"]
    assert receipt.decisions == (ADA,)
    assert names_of(await history_of(run)).count("git.fetch") == 1
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_park_that_the_ledger_refuses_still_waits_for_a_decision(stack: Stack, repository: Repository) -> None:
    with broken(EventRecorder, "park", GIVES_UP), broken(GitFetcher, "fetch", GIVES_UP, times=1):
        run = await stack.accepted(repository.push(documents(1)))

        async def is_parked() -> bool:
            return (await stack.state(run)).phase is Phase.PARKED

        await until(is_parked)
        await retried(run)
        receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.decisions == (ADA,)
    assert types_of(entries_of(stack, run.id)) == ONE_FILE
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_decision_is_refused_while_another_waits_for_the_ledger(stack: Stack, repository: Repository) -> None:
    error, receipt = await _retried_after_discard(stack, repository)
    assert error.type == "NotParked"
    assert (receipt.phase, receipt.decisions) == (Phase.FAILED, (BOB,))


async def test_the_refusal_of_a_second_decision_does_not_contradict_itself(
    stack: Stack, repository: Repository
) -> None:
    error, _ = await _retried_after_discard(stack, repository)
    assert "is PARKED, not PARKED" not in error.message


async def _retried_after_discard(stack: Stack, repository: Repository) -> tuple[ApplicationError, Receipt]:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
    with broken(EventRecorder, "conclude", AWAY):
        await discarded(run)
        await waits_for_the_ledger(run)
        error = await refused(run, EventWorkflow.retry)
    return error, await run.result()


async def test_a_conclusion_that_the_ledger_finds_invalid_parks_its_run(stack: Stack, repository: Repository) -> None:
    with broken(EventRecorder, "conclude", ValidationError("the entry is too long")):
        run = await stack.accepted(repository.push(documents(1)))
        try:
            await until(lambda: _is_open_and_parked(stack, run))
        except AssertionError:
            await _terminated(run)
            raise
    await retried(run)
    assert (await run.result()).phase is Phase.PROCESSED


async def test_a_decision_that_does_not_fit_into_the_ledger_is_refused(stack: Stack, repository: Repository) -> None:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
    try:
        for decision in ({"by": "ada", "reason": "x" * 70_000}, {"by": "", "reason": "why"}, {"by": "a\x00da"}, "ada"):
            with pytest.raises(WorkflowUpdateFailedError):
                await asyncio.wait_for(run.execute_update("retry", decision), 10)
        assert (await stack.state(run)).phase is Phase.PARKED
        await discarded(run)
        await asyncio.wait_for(run.result(), 10)
    finally:
        await _terminated(run)


async def _is_open_and_parked(stack: Stack, run: Run) -> bool:
    assert (await run.describe()).status is WorkflowExecutionStatus.RUNNING
    return (await stack.state(run)).phase is Phase.PARKED


async def _terminated(run: Run) -> None:
    if (await run.describe()).status is WorkflowExecutionStatus.RUNNING:
        await run.terminate()
