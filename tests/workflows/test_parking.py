"""A step gave up: the run waits with all it has done, and goes on or ends by a person's decision."""

from collections import Counter

import pytest
from temporalio.common import SearchAttributeKey

from coafi.errors import CoafiError, IntegrityError, Unavailable
from coafi.git.failures import AccessRefused
from coafi.git.fetch import GitFetcher
from coafi.names import EntryType, Phase, SearchAttribute
from coafi.processing import BatchProcessor
from coafi.recording import Decision, Failure
from tests.harness import Repository, Stack, documents, history_of, until
from tests.workflows.support import (
    ADA,
    BOB,
    GIVES_UP,
    assert_receipt_names_every_entry,
    broken,
    details_of,
    discarded,
    entries_of,
    held,
    names_of,
    parked,
    phases_of,
    refused,
    retried,
    scheduled,
    types_of,
)
from workflows.lifecycle import EventWorkflow

FAILED = EntryType.EVENT_PROCESSING_FAILED
THREE_BATCHES = 5


async def test_a_parked_run_goes_on_at_the_step_that_failed_and_repeats_nothing(
    stack: Stack, repository: Repository
) -> None:
    with broken(BatchProcessor, "generate", GIVES_UP):
        run = await stack.accepted(repository.push(documents(3)))
        state = await parked(stack, run)
        before = entries_of(stack, run.id)
    assert state.steps_done == ("event.receive", "git.fetch", "files.process/0")
    answer = await retried(run)
    assert (answer.phase, answer.failure, answer.decisions) == (Phase.VALIDATED, None, (ADA,))
    assert answer.steps_done == state.steps_done
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts["artifacts"] == 6
    assert (receipt.decisions, receipt.failure) == ((ADA,), None)
    history = await history_of(run)
    assert Counter(names_of(history)) == {
        "event.receive": 1,
        "git.fetch": 1,
        "files.process": 1,
        "artifacts.generate": 2,
        "event.park": 1,
        "event.finish": 1,
        "index.request": 1,
    }
    assert phases_of(history) == [Phase.RECEIVED, Phase.VALIDATED, Phase.PARKED, Phase.VALIDATED, Phase.PROCESSED]
    entries = entries_of(stack, run.id)
    assert entries[: len(before)] == before
    assert types_of(entries) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.FILE_PROCESSED: 3,
        FAILED: 1,
        EntryType.ARTIFACT_GENERATED: 6,
        EntryType.EVENT_PROCESSED: 1,
    }
    assert entries[-1].data["decisions"] == [ADA.model_dump()]
    assert_receipt_names_every_entry(stack, receipt)


async def test_people_see_why_a_run_is_parked_until_they_have_decided(stack: Stack, repository: Repository) -> None:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        state = await parked(stack, run)
    assert state.failure == Failure(
        step="git.fetch",
        sequence=1,
        error="IdempotencyConflict",
        message="it was done before, otherwise (look at it)",
    )
    (entry,) = [one for one in entries_of(stack, run.id) if one.entry.type == FAILED]
    assert entry.data == state.failure.model_dump(mode="json")
    assert entry.entry.step == "park/1/git.fetch"
    details = await details_of(run)
    assert details.startswith(f"**Parked at `git.fetch`** (IdempotencyConflict): {state.failure.message}")
    assert "coafi dead-letters retry" in details

    async def is_listed() -> bool:
        found = [
            one.id async for one in stack.client.list_workflows("CoafiPhase='PARKED' AND ExecutionStatus='Running'")
        ]
        return run.id in found

    await until(is_listed)
    attributes = (await run.describe()).typed_search_attributes
    assert attributes.get(SearchAttributeKey.for_keyword(SearchAttribute.UTIDS)) == state.utids
    await discarded(run)
    await run.result()
    assert (await details_of(run)).startswith("**Failed**")
    park = next(step for step in scheduled(await history_of(run)) if step.name == "event.park")
    assert (park.local, park.summary) == (True, "Record that the run parks at git.fetch")


async def test_a_discarded_run_is_dead_lettered_with_its_failure_and_who_decided(
    stack: Stack, repository: Repository
) -> None:
    with broken(BatchProcessor, "check", GIVES_UP):
        run = await stack.accepted(repository.push(documents(3)))
        state = await parked(stack, run)
        answer = await discarded(run)
        receipt = await run.result()
    assert answer.decisions == (BOB,)
    assert receipt.phase is Phase.FAILED
    assert receipt.failure == state.failure
    assert receipt.decisions == (BOB,)
    entries = entries_of(stack, run.id)
    assert types_of(entries) == {EntryType.EVENT_RECEIVED: 1, FAILED: 1, EntryType.EVENT_DEAD_LETTERED: 1}
    assert state.failure is not None
    assert entries[-1].data["failure"] == state.failure.model_dump(mode="json")
    assert entries[-1].data["decisions"] == [BOB.model_dump()]
    assert phases_of(await history_of(run)) == [Phase.RECEIVED, Phase.VALIDATED, Phase.PARKED, Phase.FAILED]
    assert (await stack.state(run)).failure == state.failure
    assert_receipt_names_every_entry(stack, receipt)


async def test_every_park_has_its_number_and_every_decision_is_kept(stack: Stack, repository: Repository) -> None:
    later = Decision(by="bob", reason="the disk is back")
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
        await retried(run, ADA)
        again = await parked(stack, run, times=2)
    with broken(BatchProcessor, "check", GIVES_UP):
        await retried(run, later)
        third = await parked(stack, run, times=3)
    assert again.failure is not None
    assert (again.failure.step, again.failure.sequence) == ("git.fetch", 2)
    assert third.failure is not None
    assert (third.failure.step, third.failure.sequence) == ("files.process/0", 3)
    await discarded(run, BOB)
    receipt = await run.result()
    assert receipt.decisions == (ADA, later, BOB)
    assert receipt.failure == third.failure
    parks = [one.entry.step for one in entries_of(stack, run.id) if one.entry.type == FAILED]
    assert parks == ["park/1/git.fetch", "park/2/git.fetch", "park/3/files.process/0"]
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.usefixtures("batches_of_two")
async def test_batches_that_fail_do_not_undo_their_neighbours_and_only_they_are_repeated(
    stack: Stack, repository: Repository
) -> None:
    with broken(BatchProcessor, "check", GIVES_UP, when=lambda _self, task, *_rest: task.batch.index != 1):
        run = await stack.accepted(repository.push(documents(THREE_BATCHES)))
        state = await parked(stack, run)
    assert state.failure is not None
    assert (state.failure.step, state.failure.failed_steps) == ("files.process/0", 2)
    assert state.steps_done == ("event.receive", "git.fetch", "files.process/1")
    assert types_of(entries_of(stack, run.id))[EntryType.FILE_PROCESSED] == 2
    await retried(run)
    receipt = await run.result()
    assert receipt.counts["valid"] == THREE_BATCHES
    assert Counter(names_of(await history_of(run)))["files.process"] == 3 + 2
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.usefixtures("batches_of_two")
async def test_a_run_that_is_discarded_halfway_names_what_its_finished_batches_recorded(
    stack: Stack, repository: Repository
) -> None:
    with broken(BatchProcessor, "check", GIVES_UP, when=lambda _self, task, *_rest: task.batch.index == 2):
        run = await stack.accepted(repository.push(documents(THREE_BATCHES)))
        await parked(stack, run)
        await discarded(run)
        receipt = await run.result()
    assert types_of(entries_of(stack, run.id))[EntryType.FILE_PROCESSED] == 4
    assert_receipt_names_every_entry(stack, receipt)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("the host is out of reach", remedy="wait"), "Unavailable"),
        (AccessRefused("it wants a token", remedy="give one"), "AccessRefused"),
        (IntegrityError("an archive is damaged"), "IntegrityError"),
        (RuntimeError("token=hunter2"), "Unexpected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_error_that_does_not_make_the_event_wrong_parks_it_when_its_tries_are_used_up(
    stack: Stack, repository: Repository, error: Exception, kind: str
) -> None:
    with broken(GitFetcher, "fetch", error):
        run = await stack.accepted(repository.push(documents(1)))
        state = await parked(stack, run)
    assert state.failure is not None
    assert state.failure.error == kind
    if isinstance(error, CoafiError):
        assert error.message in state.failure.message
    else:
        assert "hunter2" not in state.failure.message
    await discarded(run)
    assert (await run.result()).phase is Phase.FAILED


async def test_a_run_that_works_refuses_decisions(stack: Stack, repository: Repository) -> None:
    with held(GitFetcher, "fetch", done=False, seconds=30) as fetching:
        run = await stack.accepted(repository.push(documents(1)))
        await fetching.is_reached()
        for update in (EventWorkflow.retry, EventWorkflow.discard):
            error = await refused(run, update)
            assert error.type == "NotParked"
            assert error.message.startswith("this run is VALIDATED, not PARKED")
        fetching.let_go.set()
        receipt = await run.result()
    assert receipt.decisions == ()


async def test_a_second_decision_is_refused_while_the_first_is_acted_on(stack: Stack, repository: Repository) -> None:
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1)))
        await parked(stack, run)
    with held(GitFetcher, "fetch", done=False, seconds=30) as fetching:
        await retried(run)
        await fetching.is_reached()
        error = await refused(run, EventWorkflow.discard)
        fetching.let_go.set()
        receipt = await run.result()
    assert error.type == "NotParked"
    assert receipt.phase is Phase.PROCESSED
    assert receipt.decisions == (ADA,)
