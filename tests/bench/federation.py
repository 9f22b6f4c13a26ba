"""Messages of a peer: how fast its run takes signals, beside a run that does nothing with them."""

import asyncio
import contextlib
import time
import uuid
from typing import Any

from sqlalchemy import func, select
from temporalio import workflow
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.peers import PeerMessage, PeerRun
from coafi.deliveries import delivery
from coafi.federation.messages import SystemUpdateNotification, new_message
from coafi.federation.peers import PeerStore
from coafi.names import SignalName, TaskQueue, WorkflowName, peer_workflow_id
from tests.bench.floor import floor_workers, run_floor
from tests.bench.measure import Bench
from tests.coafi.federation.making import peer_of, signer
from tests.harness import Stack, running_stack, worker_process
from workers.wiring import RUNNER
from workflows.peer import PeerWorkflow

QUEUE = "bench-signals"
IN_FLIGHT = 16
"""Signals that are sent at a time, by both."""

PEER = "bench.example"


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


class _Sender:
    """Sends messages, numbered on and on."""

    def __init__(self, stack: Stack, count: int) -> None:
        self._stack = stack
        self._count = count
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
            PeerRun(peer=PEER),
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
        while self._concluded() < self._sent:  # noqa: ASYNC110  # likewise
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
        while self._concluded() < self._sent:
            time.sleep(0.1)

    def _concluded(self) -> int:
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

        await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))
