"""One delivery, one run's effects: whatever is killed, reset, repeated or forgotten."""

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from coafi.names import EntryType, Phase
from tests.harness import Repository, Stack, documents, running_stack, until, worker_process
from workers.wiring import running_workers
from workflows.lifecycle import Receipt

ENTRIES = {
    EntryType.EVENT_RECEIVED: 1,
    EntryType.FILE_PROCESSED: 3,
    EntryType.ARTIFACT_GENERATED: 6,
    EntryType.EVENT_PROCESSED: 1,
}


def assert_recorded_once(stack: Stack) -> None:
    assert Counter(one.entry.type for one in stack.entries()) == ENTRIES
    assert stack.verify() == sum(ENTRIES.values())


async def finished(handle: WorkflowHandle[Any, Receipt]) -> Receipt:
    return await asyncio.wait_for(handle.result(), 120)


@pytest.mark.parametrize("entry_type", ENTRIES)
@pytest.mark.parametrize("reset", [False, True], ids=["killed", "killed-and-reset"])
async def test_a_worker_killed_after_the_append_doubles_nothing(
    tmp_path: Path, entry_type: EntryType, reset: bool
) -> None:
    async with running_stack(tmp_path, workers=False) as stack, AsyncExitStack() as later:
        repository = Repository.create(tmp_path / "repo")
        marker = tmp_path / "died"
        command = (sys.executable, "-m", "tests.guarantees.crashing_worker", entry_type, str(marker))
        with worker_process(stack, *command) as process:
            handle = await stack.accepted(repository.push(documents(3)))
            await until(lambda: process.poll() is not None)
            assert marker.exists()
            assert any(one.entry.type == entry_type for one in stack.entries())
        if reset:
            handle = await stack.reset(handle.id)
        await later.enter_async_context(running_workers(stack.client, stack.resources))
        receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["valid"] == 3
        assert_recorded_once(stack)


async def test_a_reset_of_a_finished_run_gives_the_same_receipt(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        handle = await stack.accepted(Repository.create(tmp_path / "repo").push(documents(3)))
        first = await finished(handle)
        again = await finished(await stack.reset(handle.id))
        assert again == first
        assert_recorded_once(stack)


async def test_fifty_deliveries_at_once_and_one_after_temporal_forgot(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        payload = Repository.create(tmp_path / "repo").push(documents(3))
        responses = await asyncio.gather(*(stack.push(payload, delivery="same") for _ in range(50)))
        assert {response.status_code for response in responses} == {202}
        (workflow_id,) = {response.json()["workflowId"] for response in responses}
        first = await finished(stack.handle(workflow_id))
        assert first.phase is Phase.PROCESSED
        assert_recorded_once(stack)

        await stack.forget(workflow_id)
        response = await stack.push(payload, delivery="same")
        assert response.json()["workflowId"] == workflow_id
        second = await finished(stack.handle(workflow_id))
        assert second.phase is Phase.DUPLICATE
        assert second.duplicate_of is not None
        assert second.utids == first.utids
        assert_recorded_once(stack)


async def test_a_run_that_temporal_lost_unfinished_is_taken_up_by_the_redelivery(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        payload = Repository.create(tmp_path / "repo").push(documents(3))
        command = (
            sys.executable,
            "-m",
            "tests.guarantees.crashing_worker",
            EntryType.FILE_PROCESSED,
            str(tmp_path / "died"),
        )
        with worker_process(stack, *command) as process:
            handle = await stack.accepted(payload, delivery="same")
            await until(lambda: process.poll() is not None)
        await stack.forget(handle.id)
        async with running_workers(stack.client, stack.resources):
            receipt = await finished(await stack.accepted(payload, delivery="same"))
            assert receipt.phase is Phase.PROCESSED
            assert_recorded_once(stack)


async def test_a_reused_delivery_id_with_another_body_is_rejected(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        repository = Repository.create(tmp_path / "repo")
        handle = await stack.accepted(repository.push(documents(3)), delivery="same")
        await finished(handle)
        await stack.forget(handle.id)
        other = await stack.accepted(repository.push({"x.md": "other"}), delivery="same")
        receipt = await finished(other)
        assert receipt.phase is Phase.REJECTED
        assert receipt.findings[0].rule == "delivery/reused"
        assert_recorded_once(stack)
