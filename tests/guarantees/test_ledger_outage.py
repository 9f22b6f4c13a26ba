"""The ledger out of reach: runs wait cheaply, others go on, and everything ends on the record."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

from coafi.database import Database
from coafi.names import ActivityName, EntryType, Phase, TaskQueue
from tests.guarantees.support import activities, finished
from tests.harness import Repository, Stack, documents, history_of, running_stack, until
from workers import wiring
from workflows.lifecycle import Receipt

LIMIT = 200
"""Most history events that a run may have after an outage of minutes."""

FEW = 2
"""Slots of a worker that is easy to fill."""


@workflow.defn
class Unrelated:
    """A run that needs workflow-task slots of ``coafi-events``, and not the ledger."""

    @workflow.run
    async def run(self) -> str:
        """Two workflow tasks."""
        await workflow.sleep(0.1)
        return "done"


@pytest.fixture(autouse=True)
def _unrelated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "WORKFLOWS", (*wiring.WORKFLOWS, Unrelated))


@contextmanager
def refusing(stack: Stack) -> Iterator[None]:
    """A disk that refuses every write of the database at once."""
    lock = stack.settings.database_file.with_name("coafi.db.lock")
    while not lock.is_dir():
        lock.unlink(missing_ok=True)
        with suppress(FileExistsError):  # a writer was quicker, and made the file again
            lock.mkdir()
    try:
        yield
    finally:
        lock.rmdir()


@contextmanager
def locked(stack: Stack) -> Iterator[None]:
    """Another writer's transaction that does not end: every write waits for its turn in vain."""
    other = Database(stack.settings.database_file, write_lock_timeout=30)
    try:
        with other.write():
            yield
    finally:
        other.close()


async def unrelated(stack: Stack, name: str) -> str:
    return await stack.client.execute_workflow(Unrelated.run, id=name, task_queue=TaskQueue.EVENTS)


async def waits_for_the_ledger(handle: WorkflowHandle[Any, Receipt]) -> bool:
    """Whether a run has given its workflow-task slot back and waits in a regular activity."""
    history = await history_of(handle)
    ends = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert history.events[-1].event_type not in ends, "it ended, while nothing can be recorded"
    return bool(activities(history, ActivityName.RECEIVE))


async def assert_all_ended_on_the_record(stack: Stack, waiting: list[WorkflowHandle[Any, Receipt]], more: int) -> int:
    """Each run is processed and recorded; the length of the longest history."""
    receipts = await asyncio.gather(*(finished(handle, seconds=400) for handle in waiting))
    assert {receipt.phase for receipt in receipts} == {Phase.PROCESSED}
    for entry_type in (EntryType.EVENT_RECEIVED, EntryType.EVENT_PROCESSED):
        assert len(stack.entries(entry_type)) == len(waiting) + more
    assert not stack.entries(EntryType.EVENT_PROCESSING_FAILED)
    stack.verify()
    lengths = [len((await history_of(handle)).events) for handle in waiting]
    assert max(lengths) < LIMIT
    return max(lengths)


@pytest.mark.parametrize(
    ("outage", "runs", "many"),
    [
        (refusing, 3 * FEW, 200),
        pytest.param(refusing, 20, 600, marks=pytest.mark.soak),
        pytest.param(locked, 3 * FEW, 600, marks=pytest.mark.soak),
    ],
)
async def test_runs_wait_for_the_ledger_without_holding_up_an_unrelated_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outage: Callable[[Stack], AbstractContextManager[None]],
    runs: int,
    many: int,
) -> None:
    monkeypatch.setattr(wiring, "Worker", partial(Worker, max_concurrent_workflow_tasks=FEW))
    async with running_stack(tmp_path, events_slots=FEW) as stack:
        repository = Repository.create(tmp_path / "repo")
        large = await stack.accepted(repository.push(documents(many)))
        await until(lambda: bool(stack.entries(EntryType.FILE_PROCESSED)))
        with outage(stack):
            payload = repository.push({"notes.txt": "a note"})
            waiting = [await stack.accepted(payload) for _ in range(runs)]
            assert await asyncio.wait_for(unrelated(stack, "unrelated"), 60) == "done"
            for handle in waiting:
                await until(partial(waits_for_the_ledger, handle))
            assert (await stack.state(waiting[-1])).phase is Phase.RECEIVED
            assert len(stack.entries(EntryType.EVENT_RECEIVED)) == 1
        assert (await finished(large)).counts["valid"] == many
        await assert_all_ended_on_the_record(stack, waiting, more=1)
        assert len(stack.entries(EntryType.FILE_PROCESSED)) == many + runs


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_two_hundred_runs_wait_three_minutes_for_the_ledger(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        payload = Repository.create(tmp_path / "repo").push({"notes.txt": "a note"})
        with locked(stack):
            waiting = [await stack.accepted(payload) for _ in range(200)]
            started = asyncio.get_running_loop().time()
            number = 0
            while asyncio.get_running_loop().time() < started + 180:
                number += 1
                assert await asyncio.wait_for(unrelated(stack, f"unrelated-{number}"), 60) == "done"
                await asyncio.sleep(5)
            for handle in waiting:
                assert await waits_for_the_ledger(handle)
            assert not stack.entries()
        longest = await assert_all_ended_on_the_record(stack, waiting, more=0)
        print(f"{number} unrelated runs finished meanwhile; the longest history of a waiting one: {longest} events")  # noqa: T201  # a figure
