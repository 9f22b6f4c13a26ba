"""Messages of peers: how fast a run takes signals, what a flood does to others, and ten thousand in order."""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from itertools import count as count_from
from statistics import median
from typing import Any

import httpx
from sqlalchemy import func, select
from temporalio import workflow
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.peers import PeerMessage, PeerRun
from coafi.deliveries import delivery
from coafi.federation.messages import SystemUpdateNotification, new_message
from coafi.federation.peers import PeerStore
from coafi.federation.signatures import sign_request
from coafi.names import EntryType, SignalName, TaskQueue, WorkflowName, peer_workflow_id
from tests.bench.floor import floor_workers, run_floor
from tests.bench.measure import Bench
from tests.coafi.federation.making import peer_of, signer
from tests.harness import Stack, running_stack, worker_process
from tests.starters.federation_support import Partner, partner, update
from workers.wiring import RUNNER
from workflows.peer import PeerWorkflow

QUEUE = "bench-signals"
IN_FLIGHT = 16
"""Signals that are sent at a time, by both."""

PEER = "bench.example"

HANG = 120
"""Seconds after which a message will not be handled any more."""

SAID = SystemUpdateNotification(component="portal", version="2", summary="Two hours off.")


@workflow.defn
class EmptyWorkflow:
    """Counts signals, and does nothing with them."""

    def __init__(self) -> None:
        self._count = 0

    @workflow.run
    async def run(self, wanted: int) -> None:
        """Wait for so many."""
        await workflow.wait_condition(lambda: self._count >= wanted)

    @workflow.signal
    def message(self, _signal: Any) -> None:
        """Count it."""
        self._count += 1


async def measure(bench: Bench) -> None:
    """Signals, and whole messages, through the run of one peer."""
    count = bench.amount(200, 20)
    # Workers in a process of their own, as in a cluster: this one sends.
    async with running_stack(bench.directory / "home", workers=False) as stack:
        resources = stack.resources
        peers = PeerStore(resources.database, resources.ledger, stack.settings.ledger_namespace)
        peers.put(peer_of(signer(PEER)), by="bench")
        sender = _Sender(stack, count)
        with worker_process(stack):
            worker = Worker(stack.client, task_queue=QUEUE, workflows=[EmptyWorkflow], workflow_runner=RUNNER)
            async with worker, floor_workers(stack.client):
                await sender.through_peer()
                await bench.compare_all(
                    "signals through a peer's run, taken",
                    sender.through_peer,
                    {"signals to an empty run": sender.bare},
                    (count, "signals"),
                    rounds=3,
                    prepare=sender.settle,
                    aims={"signals to an empty run": "≥ 0.5"},
                )
                await bench.compare_all(
                    "messages through a peer's run, handled to their end",
                    sender.to_the_end,
                    {"runs that do nothing": sender.floor},
                    (count, "messages"),
                    rounds=1,
                    warm_up=False,
                    prepare=sender.settle,
                )


async def measure_flood(bench: Bench) -> None:
    """How long a message takes to its receipt, alone and while another peer sends far more than it may."""
    count = bench.amount(20, 2)
    async with running_stack(bench.directory / "home", workers=False) as stack:
        calm, flood = partner(stack, "calm.example", 1), partner(stack, "flood.example", 2)
        with worker_process(stack):
            await _to_receipt(calm, "warm-up")
            bench.progress(f"{bench.area}: messages alone")
            alone = [await _to_receipt(calm, f"alone-{number}") for number in range(count)]
            bench.progress(f"{bench.area}: messages beside a flood")
            answers: Counter[int] = Counter()
            flooding = asyncio.create_task(_flood(flood, answers))
            await asyncio.sleep(bench.amount(5, 1))
            start, before = time.perf_counter(), answers.total()
            beside = [await _to_receipt(calm, f"beside-{number}") for number in range(count)]
            rate = (answers.total() - before) / (time.perf_counter() - start)
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
    bench.report("a message to its receipt, alone, median", 1000 * median(alone), "ms")
    bench.report("a message to its receipt, beside a flood of another peer, median", 1000 * median(beside), "ms")
    bench.report("the flood: requests", rate, "requests/s")
    bench.report("the flood: taken", answers[202], "messages")
    bench.report("the flood: held back (429)", answers[429], "requests")


async def _to_receipt(peer: Partner, message_id: str) -> float:
    start = time.perf_counter()
    answer = await peer.send(update(message_id, peer=peer.key.peer))
    assert answer.status_code == 202, answer.text
    await peer.concluded(message_id, seconds=HANG)
    return time.perf_counter() - start


async def _flood(peer: Partner, answers: Counter[int]) -> None:
    """Send without end, many at a time."""
    url, numbers = f"{peer.stack.gateway}/federation/inbox", count_from()

    async def sender(http: httpx.AsyncClient) -> None:
        for number in numbers:
            message = update(f"flood-{number}", peer=peer.key.peer)
            headers = sign_request(peer.key, "POST", url, message.headers(), message.body)
            answers[(await http.post(url, content=message.body, headers=headers)).status_code] += 1

    async with httpx.AsyncClient(timeout=HANG) as http:
        await asyncio.gather(*(sender(http) for _ in range(IN_FLIGHT)))


async def measure_order(bench: Bench) -> None:
    """Ten thousand messages of one peer: in order, each once, over several runs that continue as new."""
    count = bench.amount(10_000, 60)
    async with running_stack(bench.directory / "home", workers=False) as stack:
        peers = PeerStore(stack.resources.database, stack.resources.ledger, stack.settings.ledger_namespace)
        peers.put(peer_of(signer(PEER)), by="bench")
        limits = {"max_started": 20} if bench.quick else {}
        sender = _Sender(stack, count, PeerRun(peer=PEER, **limits), at_once=1)  # or they would arrive in another order
        with worker_process(stack):
            start = time.perf_counter()
            sending = asyncio.create_task(sender.through_peer())
            while (done := sender.concluded()) < count:
                bench.progress(f"{bench.area}: {done:,} of {count:,} messages")
                await asyncio.sleep(bench.amount(30, 1))
            await sending
            seconds = time.perf_counter() - start
        runs = await sender.runs()
        started = [message for run in runs for message in run]
        assert started == [f"m-{number}" for number in range(count)], "in order, none lost or doubled"
        entries = stack.resources.ledger.entries(0, stack.resources.ledger.size())
        recorded = Counter(one.entry.event_id for one in entries if one.entry.type == EntryType.PEER_MESSAGE_APPLIED)
        assert recorded == dict.fromkeys(started, 1), "each had its effect once"
    name = f"{count:,} messages of one peer, in order, none lost or doubled"
    bench.report(name, count / seconds, "messages/s")
    bench.report(f"{name}: runs that continued as new", len(runs) - 1, "runs")


class _Sender:
    """Sends messages, numbered on and on."""

    def __init__(self, stack: Stack, count: int, start: PeerRun | None = None, *, at_once: int = IN_FLIGHT) -> None:
        self._stack = stack
        self._count = count
        self._start = start or PeerRun(peer=PEER)
        self._at_once = at_once
        self._sent = 0

    async def bare(self) -> None:
        """Signals to an empty workflow, until it has them all."""
        client = self._stack.client
        run = await client.start_workflow(EmptyWorkflow.run, self._count, id=f"bare-{uuid.uuid4()}", task_queue=QUEUE)
        await self._send(run.id)
        await run.result()

    async def through_peer(self) -> None:
        """Signals to the run of the peer, until it has taken them all."""
        client, workflow_id = self._stack.client, peer_workflow_id(PEER)
        await client.start_workflow(
            WorkflowName.PEER,
            self._start,
            id=workflow_id,
            task_queue=TaskQueue.EVENTS,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        run = client.get_workflow_handle_for(PeerWorkflow.run, workflow_id)
        await self._send(workflow_id)
        taken = 0
        while taken < self._sent:
            await asyncio.sleep(0.01)
            with contextlib.suppress(RPCError):  # a run that is busy may answer late: then it is asked again
                taken = (await run.query(PeerWorkflow.state)).taken

    async def to_the_end(self) -> None:
        """Signals to the run of the peer, until every message is concluded."""
        await self.through_peer()
        while self.concluded() < self._sent:  # noqa: ASYNC110  # likewise
            await asyncio.sleep(0.1)

    async def floor(self) -> None:
        """As many runs that do nothing."""
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def one() -> None:
            async with limit:
                await run_floor(self._stack.client, 0)

        await asyncio.gather(*(one() for _ in range(self._count)))

    def settle(self) -> None:
        """Wait until nothing is left of the round before; the workers are another process."""
        while self.concluded() < self._sent:
            time.sleep(0.1)

    async def runs(self) -> list[list[str]]:
        """The messages that each run of the peer has started, in order, from the first run on."""
        client, workflow_id = self._stack.client, peer_workflow_id(PEER)
        runs = [one async for one in client.list_workflows(f"WorkflowId = '{workflow_id}'")]
        found = []
        for one in sorted(runs, key=lambda run: run.start_time):
            history = await client.get_workflow_handle(workflow_id, run_id=one.run_id).fetch_history()
            events = [
                event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
                for event in history.events
                if event.HasField("child_workflow_execution_started_event_attributes")
            ]
            found.append([child.rpartition(":")[2] for child in events])
        return found

    def concluded(self) -> int:
        """How many deliveries have an outcome."""
        query = select(func.count()).select_from(delivery).where(delivery.c.outcome.is_not(None))
        with self._stack.resources.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    async def _send(self, workflow_id: str) -> None:
        run = self._stack.client.get_workflow_handle(workflow_id)
        through_peer = workflow_id == peer_workflow_id(PEER)
        numbers = iter(range(self._sent, self._sent + self._count))
        if through_peer:
            self._sent += self._count

        async def sender() -> None:
            for number in numbers:
                await run.signal(SignalName.MESSAGE, PeerMessage(message=new_message(PEER, f"m-{number}", SAID)))

        await asyncio.gather(*(sender() for _ in range(self._at_once)))
