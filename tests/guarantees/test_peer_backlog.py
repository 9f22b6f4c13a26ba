"""More messages of a peer than its run can carry along: none is lost or doubled, and gateways hold back the rest."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from activities.peers import BEHIND, PeerMessage, PeerRun
from coafi.names import ActivityName, EntryType, SignalName, TaskQueue, WorkflowName, peer_workflow_id
from coafi.objects import object_path
from coafi.recording import Decision
from tests.harness import Stack, running_stack, until, worker_process
from tests.starters.federation_support import partner, problem_of, update
from tests.strength import size
from workers.wiring import running_workers
from workflows.peer import PeerStanding, PeerWorkflow

PEER = "a.example"
BY = Decision(by="ada", reason="test")
FEW_BYTES = 8_000
"""That a run carries along: some eight of these messages."""


SHORT_HISTORIES = ("--dynamic-config-value=limit.historyCount.suggestContinueAsNew=15",)
"""Let Temporal suggest to continue as new after a dozen events, not thousands."""


async def peer_run(stack: Stack, **limits: int) -> WorkflowHandle[PeerWorkflow, PeerStanding]:
    await stack.client.start_workflow(
        WorkflowName.PEER,
        PeerRun(peer=PEER, **limits),
        id=peer_workflow_id(PEER),
        task_queue=TaskQueue.EVENTS,
    )
    return stack.client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(PEER))


async def signal(run: WorkflowHandle[PeerWorkflow, PeerStanding], ids: list[str]) -> None:
    for one in ids:
        await run.signal(SignalName.MESSAGE, PeerMessage(message=update(one)))


async def standing_of(run: WorkflowHandle[PeerWorkflow, PeerStanding], **wanted: int) -> bool:
    try:
        standing = await run.query(PeerWorkflow.state)
    except RPCError:  # a run that is busy may answer late: then it is asked again
        return False
    return all(getattr(standing, name) == value for name, value in wanted.items())


def concluded(stack: Stack) -> int:
    return len(stack.entries(EntryType.EVENT_PROCESSED))


def assert_each_once(stack: Stack, ids: list[str]) -> None:
    """Every message had its effect, once."""
    applied = Counter(one.entry.event_id for one in stack.entries(EntryType.PEER_MESSAGE_APPLIED))
    assert applied == dict.fromkeys(ids, 1)
    stack.verify()


async def histories(stack: Stack, count: int) -> tuple[list[str], Counter[str]]:
    """The messages that all runs of the peer have started, in order, and how often they did what beside.

    Args:
        count: so many messages they have started; the newest run may be missing in lists at first.
    """
    found: list[tuple[list[str], Counter[str]]] = []

    async def all_listed() -> bool:
        found[:] = [await _listed_histories(stack)]
        return len(found[0][0]) >= count

    await until(all_listed)
    return found[0]


async def _listed_histories(stack: Stack) -> tuple[list[str], Counter[str]]:
    started: list[str] = []
    did: Counter[str] = Counter()
    workflow_id = peer_workflow_id(PEER)
    runs = [one async for one in stack.client.list_workflows(f"WorkflowId = '{workflow_id}'")]
    for one in sorted(runs, key=lambda each: each.start_time):
        history = await stack.client.get_workflow_handle(workflow_id, run_id=one.run_id).fetch_history()
        for event in history.events:
            if event.HasField("child_workflow_execution_started_event_attributes"):
                child = event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
                started.append(child.rpartition(":")[2])
            elif event.HasField("workflow_execution_continued_as_new_event_attributes"):
                did["continued"] += 1
            elif event.HasField("marker_recorded_event_attributes"):
                details = event.marker_recorded_event_attributes.details
                data = b"".join(one.data for some in details.values() for one in some.payloads)
                did.update(name for name in ActivityName if f'"{name}"'.encode() in data)
    return started, did


@pytest.mark.also_in_soak
async def test_what_is_too_much_to_carry_is_put_aside_and_comes_back_in_order(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(size(32, soak=150))]
        run = await peer_run(stack, max_started=7, max_carried=FEW_BYTES)
        await signal(run, ids)
        await until(lambda: concluded(stack) == len(ids), seconds=60 + len(ids))
        await until(lambda: standing_of(run, waiting=0, taken=len(ids), started=len(ids), duplicates=0))
        started, did = await histories(stack, len(ids))
        assert started == ids
        assert did[ActivityName.SHELVE_MESSAGES] == did[ActivityName.UNSHELVE_MESSAGES] > 3
        assert did["continued"] >= len(ids) // 7 - 1
        assert_each_once(stack, ids)


@pytest.mark.also_in_soak
async def test_a_run_that_is_paused_goes_on_as_a_new_one_however_much_comes(tmp_path: Path) -> None:
    async with running_stack(tmp_path, server_options=SHORT_HISTORIES) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(size(20, soak=30))]
        run = await peer_run(stack, max_carried=FEW_BYTES)
        await run.execute_update(PeerWorkflow.pause, BY)
        await signal(run, ids)
        await until(lambda: _continued(stack))
        await until(lambda: standing_of(run, waiting=len(ids), started=0))
        assert (await run.query(PeerWorkflow.state)).paused == BY
        await run.execute_update(PeerWorkflow.resume, BY)
        await until(lambda: concluded(stack) == len(ids), seconds=120)
        assert (await histories(stack, len(ids)))[0] == ids
        assert_each_once(stack, ids)


async def test_a_run_that_is_cancelled_goes_on_run_by_run_until_nothing_waits(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(20)]
        run = await peer_run(stack, max_started=6, max_carried=FEW_BYTES)
        await signal(run, ids)
        await run.cancel()
        standing = await run.result()
        # One may have been started in the moment of the cancellation, and then is found to be there.
        assert (standing.waiting, standing.started + standing.duplicates) == (0, len(ids))
        await until(lambda: concluded(stack) == len(ids))
        started, did = await histories(stack, len(ids))
        assert started == ids
        assert did["continued"] >= 2
        assert_each_once(stack, ids)


@pytest.mark.also_in_soak
async def test_workers_that_are_killed_lose_and_double_nothing_of_what_was_put_aside(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(size(20, soak=120))]
        run = await peer_run(stack, max_started=7, max_carried=FEW_BYTES)
        await signal(run, ids)
        for share in (0.2, 0.5)[: size(1, soak=2)]:
            with worker_process(stack):  # it is killed in the midst of its work
                wanted = int(share * len(ids))
                await until(lambda wanted=wanted: concluded(stack) >= wanted, seconds=120)  # type: ignore[misc]
        with worker_process(stack):
            await until(lambda: concluded(stack) == len(ids), seconds=60 + len(ids))
            started, _ = await histories(stack, len(ids))
        assert started == ids
        assert_each_once(stack, ids)


@pytest.mark.also_in_soak
async def test_what_cannot_be_read_back_pauses_the_run_until_it_is_restored(tmp_path: Path) -> None:
    with patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1):
        async with running_stack(tmp_path, server_options=SHORT_HISTORIES) as stack:
            partner(stack)
            ids = [f"m-{number}" for number in range(size(20, soak=30))]
            run = await peer_run(stack, max_carried=FEW_BYTES)
            await run.execute_update(PeerWorkflow.pause, BY)
            await signal(run, ids)
            await until(lambda: _continued(stack))
            shelves = await _carried_shelves(run)
            lost = stack.settings.home / "objects" / object_path(shelves[0])
            aside = lost.rename(lost.with_suffix(".aside"))
            await run.execute_update(PeerWorkflow.resume, BY)

            async def stopped() -> bool:
                try:
                    paused = (await run.query(PeerWorkflow.state)).paused
                except RPCError:
                    return False
                return paused is not None and shelves[0] in paused.reason

            await until(stopped)
            assert concluded(stack) < len(ids)
            aside.rename(lost)
            await run.execute_update(PeerWorkflow.resume, BY)
            await until(lambda: concluded(stack) == len(ids), seconds=120)
            assert (await histories(stack, len(ids)))[0] == ids
            assert_each_once(stack, ids)


async def _continued(stack: Stack) -> bool:
    """Whether the run has put messages aside and then continued as new."""
    run = stack.client.get_workflow_handle(peer_workflow_id(PEER))
    return bool(await _carried_shelves(run))


async def _carried_shelves(run: WorkflowHandle[Any, Any]) -> list[str]:
    """The pieces that the last run was given by the one before it."""
    async for event in run.fetch_history_events():
        (payload,) = event.workflow_execution_started_event_attributes.input.payloads
        return [one.digest for one in PeerRun.model_validate_json(payload.data).shelves]
    raise AssertionError("a history without a beginning")


async def test_signals_that_came_while_no_worker_ran_are_read_in_several_tasks(tmp_path: Path) -> None:
    with patch("workflows.peer.AT_ONCE", 10):
        async with running_stack(tmp_path, workers=False) as stack, AsyncExitStack() as later:
            partner(stack)
            ids = [f"m-{number}" for number in range(35)]
            run = await peer_run(stack)
            await signal(run, [*ids, "m-3", "m-34"])
            await later.enter_async_context(running_workers(stack.client, stack.resources))
            await until(lambda: concluded(stack) == len(ids), seconds=120)
            await until(lambda: standing_of(run, waiting=0, taken=len(ids), started=len(ids), duplicates=2))
            assert (await histories(stack, len(ids)))[0] == ids
            assert_each_once(stack, ids)


@pytest.mark.soak
async def test_json_that_takes_long_to_read_stops_no_run(tmp_path: Path) -> None:
    dense: Any = {**update("d").model_dump(mode="json"), "data": {"list": [[]] * 21_000}}
    async with running_stack(tmp_path, workers=False) as stack:
        partner(stack)
        run = await peer_run(stack)
        for number in range(20):  # one task that read them all would never end in time
            await run.signal(SignalName.MESSAGE, {"message": {**dense, "id": f"d-{number}"}})
        async with running_workers(stack.client, stack.resources):
            await until(lambda: standing_of(run, waiting=0, started=20), seconds=150)


async def test_a_gateway_takes_no_more_of_a_peer_that_is_too_far_behind(tmp_path: Path) -> None:
    with patch("workflows.peer.MAX_WAITING", 4), patch("activities.peers.LOOK", 0.0):
        async with running_stack(tmp_path) as stack:
            acme, other = partner(stack), partner(stack, "b.example", 2)
            run = await peer_run(stack)
            await run.execute_update(PeerWorkflow.pause, BY)
            for number in range(5):
                assert (await acme.send(update(f"m-{number}"))).status_code == 202
            await until(lambda: standing_of(run, waiting=5))
            refused = await acme.send(update("m-5"))
            assert (refused.status_code, problem_of(refused), refused.headers["retry-after"]) == (
                503,
                "unavailable",
                "30",
            )
            assert "wait here already" in refused.text
            assert (await other.send(update("o-1", peer="b.example"))).status_code == 202
            await run.execute_update(PeerWorkflow.resume, BY)
            await until(lambda: concluded(stack) == 6)
            assert BEHIND not in await (await run.describe()).memo()
            assert (await acme.send(update("m-5"))).status_code == 202  # with the same nonce as little as any other
            await acme.concluded("m-5")


@pytest.mark.parametrize("limit", ["MAX_UNREAD_EVENTS", "MAX_UNREAD_BYTES"])
async def test_a_gateway_takes_no_more_than_a_history_can_hold_while_no_worker_runs(tmp_path: Path, limit: str) -> None:
    few = {"MAX_UNREAD_EVENTS": 8, "MAX_UNREAD_BYTES": 6_000}[limit]
    with patch(f"activities.peers.{limit}", few), patch("activities.peers.LOOK", 0.0):
        async with running_stack(tmp_path, workers=False) as stack:
            acme = partner(stack)
            answers: list[int] = []
            while len(answers) < 20 and (not answers or answers[-1] == 202):
                answers.append((await acme.send(update(f"m-{len(answers)}"))).status_code)
            taken = answers.count(202)
            assert 3 < taken < 15
            assert answers[-1] == 503
            async with running_workers(stack.client, stack.resources):
                await until(lambda: concluded(stack) == taken)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_more_than_a_thousand_signals_that_came_while_no_worker_ran_are_all_handled(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(1_200)]
        run = await peer_run(stack)
        await asyncio.gather(*(signal(run, ids[lane::16]) for lane in range(16)))
        with worker_process(stack):
            await until(lambda: concluded(stack) == len(ids), seconds=600)
        started, did = await histories(stack, len(ids))
        assert sorted(started) == sorted(ids)
        assert did[ActivityName.SHELVE_MESSAGES] > 0
        assert_each_once(stack, ids)
