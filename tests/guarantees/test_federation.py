"""Messages of peers, exactly once: whatever is killed between any two steps, and over many runs of the peer."""

import asyncio
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from activities.peers import PeerMessage, PeerRun
from coafi.errors import IntegrityError
from coafi.federation.inbox import Applied, ApplyTask, PeerInbox
from coafi.federation.messages import Message
from coafi.federation.signatures import sign_request
from coafi.names import EntryType, SignalName, TaskQueue, WorkflowName, peer_workflow_id
from coafi.recording import Decision
from tests.guarantees.support import HANG, side_by_side
from tests.guarantees.test_remote_ledger import free_port
from tests.harness import Stack, running_stack, until, worker_process
from tests.starters.federation_support import Partner, entry, partner, update
from tests.strength import size, some
from workers.wiring import running_workers
from workflows.peer import PeerStanding, PeerWorkflow

EACH = (EntryType.EVENT_RECEIVED, EntryType.PEER_MESSAGE_APPLIED, EntryType.EVENT_PROCESSED)
PEER = "a.example"


def assert_each_once(stack: Stack, ids: list[str]) -> None:
    """Every message has its three entries, once, and nothing else was recorded of any."""
    found = Counter((one.entry.event_id, one.entry.type) for one in stack.entries() if one.entry.event_id in ids)
    assert found == {(message_id, kind): 1 for message_id in ids for kind in EACH}
    stack.verify()


def concluded(stack: Stack) -> int:
    return len(stack.entries(EntryType.EVENT_PROCESSED))


def run_of(stack: Stack, run_id: str | None = None) -> WorkflowHandle[PeerWorkflow, PeerStanding]:
    return stack.client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(PEER), run_id=run_id)


async def _worker_killed(home: Path, *, entry_type: EntryType) -> None:
    async with running_stack(home, workers=False) as stack, AsyncExitStack() as later:
        acme = partner(stack)
        marker = stack.settings.home / "died"
        command = (sys.executable, "-m", "tests.guarantees.crashing_worker", entry_type, str(marker))
        with worker_process(stack, *command) as process:
            for number in range(3):
                assert (await acme.send(entry(f"k-{number}", number + 1))).status_code == 202
            await until(lambda: process.poll() is not None, seconds=HANG)
            assert process.returncode == -signal.SIGKILL
        await later.enter_async_context(running_workers(stack.client, stack.resources))
        for number in range(3):  # a sender that heard nothing sends again
            await acme.send(entry(f"k-{number}", number + 1))
        await until(lambda: concluded(stack) == 3, seconds=HANG)
        assert_each_once(stack, [f"k-{number}" for number in range(3)])


@pytest.mark.also_in_soak
async def test_a_worker_killed_after_any_entry_loses_and_doubles_nothing(tmp_path: Path) -> None:
    cases = {entry_type.value: partial(_worker_killed, entry_type=entry_type) for entry_type in EACH}
    await side_by_side(tmp_path, some(cases, EntryType.PEER_MESSAGE_APPLIED))


async def _gateway_killed(home: Path, *, moment: str) -> None:
    async with running_stack(home) as stack:
        acme = partner(stack)
        marker = stack.settings.home / "died"
        port = str(free_port())
        command = (sys.executable, "-m", "tests.guarantees.crashing_gateway", moment, str(marker))
        url = f"http://127.0.0.1:{port}/federation/inbox"
        with worker_process(stack, *command, COAFI_GATEWAY_PORT=port) as process:
            await until(lambda: _listens(port), seconds=HANG)
            with pytest.raises(httpx.TransportError):
                await _send(acme, url, update("g-1"))
            await until(lambda: process.poll() is not None)
            assert process.returncode == -signal.SIGKILL
            assert marker.exists()
        assert (await acme.send(update("g-1"))).status_code == 202  # the sender heard nothing, and tries again
        await acme.concluded("g-1")
        assert_each_once(stack, ["g-1"])


async def _listens(port: str) -> bool:
    try:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"http://127.0.0.1:{port}/health")).is_success
    except httpx.TransportError:
        return False


async def _send(who: Partner, url: str, message: Message) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        headers = sign_request(who.key, "POST", url, message.headers(), message.body)
        return await http.post(url, content=message.body, headers=headers)


@pytest.mark.also_in_soak
async def test_a_gateway_killed_while_it_takes_a_message_loses_and_doubles_nothing(tmp_path: Path) -> None:
    cases = {moment: partial(_gateway_killed, moment=moment) for moment in ("nonce", "body", "signal")}
    await side_by_side(tmp_path, some(cases, "body"))


async def test_temporal_that_forgets_a_run_is_corrected_by_the_claim(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        acme = partner(stack)
        answer = await acme.send(update("old-1"))
        await acme.concluded("old-1")
        await stack.forget(answer.json()["workflowId"])
        await run_of(stack).terminate("as if it had ended")  # and with it what it remembers
        assert (await acme.send(update("old-1"))).status_code == 202
        await until(lambda: _started_again(stack, answer.json()["workflowId"]))
        receipt = await stack.handle(answer.json()["workflowId"]).result()
        assert receipt.phase == "DUPLICATE"
        assert_each_once(stack, ["old-1"])


async def _started_again(stack: Stack, workflow_id: str) -> bool:
    try:
        await stack.handle(workflow_id).describe()
    except RPCError:
        return False
    return True


async def test_a_message_that_parks_does_not_block_the_next(tmp_path: Path) -> None:
    plain = PeerInbox.apply

    def apply(self: PeerInbox, task: ApplyTask) -> Applied:
        if task.event.id == "p-1":
            raise IntegrityError("it is damaged")
        return plain(self, task)

    with patch.object(PeerInbox, "apply", apply), patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1):
        async with running_stack(tmp_path) as stack:
            acme = partner(stack)
            for number in range(1, 4):
                answer = await acme.send(update(f"p-{number}"))
            for number in (2, 3):
                assert (await acme.concluded(f"p-{number}")).headers["coafi-phase"] == "PROCESSED"
            waiting = await acme.receipt("p-1")
            assert (waiting.status_code, waiting.json()["phase"]) == (202, "RECEIVED")
            assert answer.status_code == 202


async def _flood(stack: Stack, count: int, *, max_started: int, doubled: int) -> list[str]:
    """Send ``count`` messages, some of them twice, through short runs of the peer; the ids in order of their start."""
    await stack.client.start_workflow(
        WorkflowName.PEER,
        PeerRun(peer=PEER, max_started=max_started),
        id=peer_workflow_id(PEER),
        task_queue=TaskQueue.EVENTS,
    )
    run = run_of(stack)
    for number in range(count):
        signals = 2 if number % doubled == 0 else 1
        for _ in range(signals):
            await run.signal(SignalName.MESSAGE, PeerMessage(message=update(f"m-{number}")))

    async def done() -> bool:
        try:
            standing = await run_of(stack).query(PeerWorkflow.state)
        except RPCError:  # a run that is busy may answer late: then it is asked again
            return False
        return standing.started == count and standing.waiting == 0

    await until(done, seconds=60 + count)
    standing = await run.query(PeerWorkflow.state)
    assert (standing.taken, standing.duplicates) == (count, len(range(0, count, doubled)))
    await until(lambda: concluded(stack) == count, seconds=60 + count)
    started: list[list[str]] = []

    async def all_listed() -> bool:  # the newest run may be missing at first
        started[:] = await _started(stack)
        return sum(len(each) for each in started) >= count

    await until(all_listed)
    assert len(started) > 1, "it never continued as new"
    return [one for each in started for one in each]


async def _started(stack: Stack) -> list[list[str]]:
    """The messages that each run of the peer has started, in order, from the first run on."""
    found: list[list[str]] = []
    runs = [one async for one in stack.client.list_workflows(f"WorkflowId = '{peer_workflow_id(PEER)}'")]
    for one in sorted(runs, key=lambda each: each.start_time):
        history = await run_of(stack, one.run_id).fetch_history()
        started = [
            event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id.rpartition(":")[2]
            for event in history.events
            if event.HasField("child_workflow_execution_started_event_attributes")
        ]
        found.append(started)
    return found


async def _counted(home: Path, count: int, **more: Any) -> None:
    async with running_stack(home) as stack:
        partner(stack)
        ids = [f"m-{number}" for number in range(count)]
        assert await _flood(stack, count, **more) == ids
        assert_each_once(stack, ids)


async def test_messages_are_started_in_order_none_lost_or_doubled_over_many_runs(tmp_path: Path) -> None:
    await _counted(tmp_path, 30, max_started=8, doubled=5)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_thousands_of_messages_in_order_none_lost_or_doubled(tmp_path: Path) -> None:
    await _counted(tmp_path, 2_000, max_started=400, doubled=100)


@pytest.mark.also_in_soak
async def test_signals_that_come_while_the_run_continues_as_new_are_kept(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        partner(stack)
        run = run_of(stack)
        await stack.client.start_workflow(
            WorkflowName.PEER,
            PeerRun(peer=PEER, max_started=1),
            id=peer_workflow_id(PEER),
            task_queue=TaskQueue.EVENTS,
        )
        ids = [f"c-{number}" for number in range(size(12, soak=40))]
        await asyncio.gather(*(run.signal(SignalName.MESSAGE, PeerMessage(message=update(one))) for one in ids))
        await until(lambda: concluded(stack) == len(ids), seconds=HANG)
        started = [one for each in await _started(stack) for one in each]
        assert sorted(started) == sorted(ids)
        assert_each_once(stack, ids)


async def test_what_waits_is_started_also_when_somebody_cancels_the_run(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        acme = partner(stack)
        await acme.send(update("x-0"))
        await run_of(stack).execute_update(PeerWorkflow.pause, Decision(by="ada", reason="test"))
        for number in range(1, 5):
            await acme.send(update(f"x-{number}"))
        await run_of(stack).cancel()
        await until(lambda: concluded(stack) == 5)
        assert_each_once(stack, [f"x-{number}" for number in range(5)])
