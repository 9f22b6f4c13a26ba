"""What an outbox does about time, on a server whose clock is ours: a peer that is away for a day, and for good."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from activities.outbox import Order, OutboxState
from coafi.federation.messages import MessageType
from coafi.federation.outbox import Outbox
from coafi.federation.peers import Peer, PeerStore
from coafi.names import EntryType, SearchAttribute, TaskQueue, outbox_workflow_id
from tests.federation.partner import notice, partner
from tests.harness import history_of, settings_for, until
from tests.workflows.test_patience import TEST_SERVER
from workers.resources import Resources, open_resources
from workers.wiring import build_outbox, build_workers
from workflows.peer_outbox import OutboxStanding, PeerOutboxWorkflow

DAY = timedelta(days=1)


@dataclass
class Skipping:
    """The service's workers on a server whose clock is ours, and an outbox."""

    environment: WorkflowEnvironment
    resources: Resources

    @property
    def outbox(self) -> Outbox:
        """What is told."""
        return build_outbox(self.resources)

    def peer(self, url: str) -> None:
        """Know a peer."""
        store = PeerStore(self.resources.database, self.resources.ledger, "default")
        store.put(Peer(id="b.example", url=url), by="ada")

    def queue(self, number: int) -> str:
        """Something to tell; the id of the message."""
        queued = self.outbox.queue("b.example", MessageType.SYSTEM_UPDATE, notice(number), by="ada")
        return f"{self.outbox.projection.prefix}:{queued.index}"

    async def start(self) -> WorkflowHandle[PeerOutboxWorkflow, OutboxStanding]:
        """Start the run of the outbox."""
        return await self.environment.client.start_workflow(
            PeerOutboxWorkflow.run,
            OutboxState(peer="b.example"),
            id=outbox_workflow_id("b.example"),
            task_queue=TaskQueue.EVENTS,
        )

    def delivered(self) -> list[object]:
        """Outcomes of deliveries, in order."""
        ledger = self.resources.ledger
        entries = ledger.entries(0, ledger.size())
        return [one.entry.data["outcome"] for one in entries if one.entry.type == EntryType.MESSAGE_DELIVERED]


@asynccontextmanager
async def skipping(home: Path, **changes: Any) -> AsyncIterator[Skipping]:
    """See :class:`Skipping`."""
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(
            await WorkflowEnvironment.start_time_skipping(
                test_server_existing_path=str(TEST_SERVER), data_converter=pydantic_data_converter
            )
        )
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=environment.client.namespace,
                search_attributes=dict.fromkeys(SearchAttribute, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
            )
        )
        resources = stack.enter_context(open_resources(settings_for(home, **changes)))
        for worker in build_workers(environment.client, resources, stack):
            await stack.enter_async_context(worker)
        yield Skipping(environment, resources)


async def test_a_peer_that_is_away_for_a_day_is_told_everything_in_order_afterwards(tmp_path: Path) -> None:
    with partner() as away:
        port = away.port
    async with skipping(tmp_path) as one:
        one.peer(f"http://127.0.0.1:{port}")
        ids = [one.queue(number) for number in range(10)]
        run = await one.start()
        await one.environment.sleep(DAY)
        standing = await run.query(PeerOutboxWorkflow.state)
        assert "out of reach" in standing.problem
        assert (standing.delivered, standing.paused, standing.waiting) == (0, "", 10)
        kept = one.outbox.positions.get("b.example")
        assert kept is not None
        assert 100 <= kept.tries <= 250  # 16 that grow, then six an hour
        assert len((await history_of(run)).events) < 100
        ids += [one.queue(number) for number in range(10, 13)]
        await run.signal(PeerOutboxWorkflow.wake)
        with partner(port) as back:
            await one.environment.sleep(timedelta(minutes=20))
            await until(lambda: len(back.taken) == 13)
            assert back.taken == ids
        await run.terminate()


async def test_after_all_patience_the_outbox_pauses_and_a_person_lets_it_go_on(tmp_path: Path) -> None:
    with partner() as away:
        port = away.port
    async with skipping(tmp_path, peers_patience=DAY.total_seconds()) as one:
        one.peer(f"http://127.0.0.1:{port}")
        ids = [one.queue(number) for number in range(3)]
        run = await one.start()
        await one.environment.sleep(timedelta(days=1, hours=7))
        standing = await run.query(PeerOutboxWorkflow.state)
        assert standing.paused.startswith("the outbox: for 1.")
        assert standing.delivered == 0
        with partner(port) as back:
            await run.signal(PeerOutboxWorkflow.resume, Order(by="ada", reason="they are back"))
            await until(lambda: len(back.taken) == 3)
            assert back.taken == ids
        await run.terminate()


async def test_what_is_never_confirmed_is_recorded_as_that_and_the_position_moves_on(tmp_path: Path) -> None:
    with partner() as peer:
        async with skipping(tmp_path) as one:
            one.peer(peer.url)
            ids = [one.queue(number) for number in range(3)]
            run = await one.start()
            await until(lambda: len(peer.taken) == 3)
            await one.environment.sleep(timedelta(days=8))
            await until(lambda: len(one.delivered()) == 3)
            assert one.delivered() == ["unconfirmed"] * 3
            assert peer.taken == ids
            kept = one.outbox.positions.get("b.example")
            assert kept is not None
            assert (kept.delivered, kept.position) == (3, 4)
            assert (await run.result()).ended == "there was nothing to do"
