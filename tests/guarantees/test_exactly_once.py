"""One delivery, one run's effects: whatever is killed, reset, repeated or forgotten."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest

from activities.dispatch import Dispatcher
from activities.tasks import Calls, StartRun
from coafi.deliveries import DeliveryReader
from coafi.names import EntryType, Phase
from coafi.tasks.reconcile import ReconcileParameters, Standing
from coafi.webhooks import github
from tests.guarantees.support import HANG, finished, side_by_side
from tests.harness import Repository, Stack, documents, running_stack, until, worker_process
from tests.processes import Process
from tests.strength import some
from workers.tasks import build_reconciler
from workers.wiring import build_fetcher, running_workers

ENTRIES = {
    EntryType.EVENT_RECEIVED: 1,
    EntryType.FILE_PROCESSED: 3,
    EntryType.ARTIFACT_GENERATED: 6,
    EntryType.EVENT_PROCESSED: 1,
}


def assert_recorded_once(stack: Stack, more: Mapping[EntryType, int] = MappingProxyType({})) -> None:
    assert Counter(one.entry.type for one in stack.entries()) == {**ENTRIES, **more}
    assert stack.verify() == sum(ENTRIES.values()) + sum(more.values())


def deadly_worker(stack: Stack, entry_type: EntryType) -> AbstractContextManager[Process]:
    marker = stack.settings.home / "died"
    return worker_process(stack, sys.executable, "-m", "tests.guarantees.crashing_worker", entry_type, str(marker))


async def _killed(home: Path, *, entry_type: EntryType, reset: bool) -> None:
    async with running_stack(home, workers=False) as stack, AsyncExitStack() as later:
        repository = Repository.create(home / "repo")
        with deadly_worker(stack, entry_type) as process:
            handle = await stack.accepted(repository.push(documents(3)))
            await until(lambda: process.poll() is not None, seconds=HANG)
            assert process.returncode == -signal.SIGKILL
            assert any(one.entry.type == entry_type for one in stack.entries())
        if reset:
            handle = await stack.reset(handle.id)
        await later.enter_async_context(running_workers(stack.client, stack.resources))
        receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["valid"] == 3
        assert_recorded_once(stack)


@pytest.mark.also_in_soak
async def test_a_worker_killed_after_the_append_doubles_nothing_also_when_the_run_is_reset(tmp_path: Path) -> None:
    cases = {
        f"{name} after {entry_type}": partial(_killed, entry_type=entry_type, reset=reset)
        for entry_type in ENTRIES
        for name, reset in (("killed", False), ("killed and reset", True))
    }
    few = some(
        cases,
        f"killed after {EntryType.FILE_PROCESSED}",
        f"killed and reset after {EntryType.EVENT_PROCESSED}",
    )
    assert len(few) >= 2
    await side_by_side(tmp_path, few)


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
        with deadly_worker(stack, EntryType.FILE_PROCESSED) as process:
            handle = await stack.accepted(payload, delivery="same")
            await until(lambda: process.poll() is not None, seconds=HANG)
        await stack.forget(handle.id)
        async with running_workers(stack.client, stack.resources):
            receipt = await finished(await stack.accepted(payload, delivery="same"))
            assert receipt.phase is Phase.PROCESSED
            assert_recorded_once(stack)


async def test_a_push_that_waits_for_a_worker_and_is_found_missing_meanwhile_is_handled_once(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        repository = Repository.create(tmp_path / "repo")
        async with running_workers(stack.client, stack.resources):
            await finished(await stack.accepted(repository.push({"README.md": "# Here\n"})))
        before = stack.resources.ledger.size()
        waiting = await stack.accepted(repository.push(documents(3)))

        start = StartRun(Dispatcher(stack.client, 10), Calls(asyncio.get_running_loop()))
        reconciler = build_reconciler(stack.resources, build_fetcher(stack.resources), start)
        (missed,), _ = await asyncio.to_thread(reconciler.look, ReconcileParameters())
        started = await asyncio.to_thread(reconciler.start_one, missed)
        assert started.standing is Standing.STARTED

        async with running_workers(stack.client, stack.resources):
            receipts = [await finished(one) for one in (waiting, stack.handle(started.workflow_id))]
        assert sorted(receipt.phase for receipt in receipts) == [Phase.DUPLICATE, Phase.PROCESSED]
        assert Counter(one.entry.type for one in stack.entries()[before:]) == ENTRIES


async def test_a_reused_delivery_id_with_another_body_is_refused_and_changes_no_outcome(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        repository = Repository.create(tmp_path / "repo")
        handle = await stack.accepted(repository.push(documents(3)), delivery="same")
        await finished(handle)
        other = repository.push({"x.md": "other"})

        refused = await stack.push(other, delivery="same")
        assert refused.status_code == 409
        assert_recorded_once(stack)

        await stack.forget(handle.id)
        body = json.dumps(other).encode()
        event = github.push_event(other, delivery="same", body=body, received=datetime.now(UTC), traceparent=None)
        await Dispatcher(stack.client, timeout=10).start(event)  # what gets past the gateway is met by the run
        receipt = await finished(stack.handle(event.workflow_id))
        assert receipt.phase is Phase.REJECTED
        assert receipt.findings[0].rule == "delivery/reused"
        assert_recorded_once(stack, {EntryType.EVENT_REJECTED: 1})
        (delivery,) = DeliveryReader(stack.resources.database).find("same")
        assert delivery.outcome == Phase.PROCESSED
