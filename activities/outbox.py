"""What peers are told: found (``outbox.collect``), delivered (``outbox.deliver``), confirmed (``outbox.settle``).

``outbox.hold`` keeps that an outbox is paused.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import AwareDatetime, Field
from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from activities import tries
from activities.boundary import UNEXPECTED, async_boundary, boundary
from coafi.errors import CoafiError, IntegrityError, Unavailable
from coafi.events import Wire
from coafi.federation.delivery import PeerDeliverer, PeerRefused
from coafi.federation.outbox import Outbox, OutgoingRef
from coafi.ledger.entry import Recorded
from coafi.names import (
    PRIORITY_APPLICATION,
    ActivityName,
    SignalName,
    TaskQueue,
    WorkflowName,
    fairness_key,
    outbox_workflow_id,
)
from coafi.recording import Decision

WAKE_TIMEOUT = timedelta(seconds=5)
"""For one call of Temporal."""

BUDGET = 30.0
"""Seconds after which a batch is handed back as far as it was delivered, so that no slot is held for long."""

REFUSED = frozenset({PeerRefused.__name__, IntegrityError.__name__, UNEXPECTED})
"""Error types of deliveries that no patience helps: somebody has to look at them."""


class OutboxPolicy(Wire):
    """How an outbox deals with its peer, in seconds; from the settings at the time of the last look.

    Attributes:
        timeout: for one request.
        patience: for how long a peer is tried that cannot be reached.
        checkpoint: between two checkpoints that a peer is told.
    """

    timeout: float = 10.0
    patience: float = 7 * 86_400.0
    checkpoint: float = 60.0


class Order(Decision):
    """The signals ``pause`` and ``resume``: who says so, and why."""

    pauses: bool = True


class Sent(Wire):
    """A message that the peer has taken, and when."""

    message: OutgoingRef
    at: AwareDatetime


class OutboxState(Wire):
    """All that the run of an outbox carries through continue-as-new; its input.

    Attributes:
        peer: id.
        position: index of the first entry that was not dealt with; ``None``: as the database says.
        unsettled: what the peer has taken, and not confirmed.
        delivered: how many messages it has taken, since the first run.
        orders: that were not carried out.
        paused: why nothing is delivered.
        problem, failing: why the last try failed, and since when they do.
        announced: when the last checkpoint was delivered; ``news``: whether there was something since; ``look_at``:
            when the ledger is to be looked at for that.
        max_sent: after so many messages the run continues as new, if Temporal does not suggest it before.
    """

    peer: str
    policy: OutboxPolicy = OutboxPolicy()
    position: int | None = None
    unsettled: tuple[Sent, ...] = ()
    delivered: int = 0
    orders: tuple[Order, ...] = ()
    paused: str = ""
    problem: str = ""
    failing: AwareDatetime | None = None
    announced: AwareDatetime | None = None
    news: bool = False
    look_at: AwareDatetime | None = None
    max_sent: int = Field(default=5_000, ge=1)


class CollectTask(Wire):
    """Look for what concerns a peer.

    Attributes:
        position: where to begin; ``None``: as the database says.
        news: whether there is something that no checkpoint has told.
        checkpoint: whether one may be told now.
    """

    peer: str
    position: int | None
    news: bool
    checkpoint: bool


class Collected(Wire):
    """What concerns a peer.

    Attributes:
        start: where the look began.
        position: where the next one begins, once all messages are delivered.
        size: of the ledger.
        more: whether there is more to look at.
        messages: what to deliver, in order.
        news: as in the task, for the next one.
        paused: why nothing shall be delivered.
        ended: why the run shall end.
        fairness_key: what the peer shares the queue of deliveries by.
    """

    start: int
    position: int
    size: int
    more: bool = False
    messages: tuple[OutgoingRef, ...] = ()
    news: bool = False
    paused: str = ""
    ended: str = ""
    fairness_key: str = ""
    policy: OutboxPolicy


class DeliverTask(Wire):
    """Messages to deliver, in order.

    Attributes:
        budget: seconds after which to say how far that got, rather than go on.
    """

    peer: str
    messages: tuple[OutgoingRef, ...]
    budget: float = BUDGET


class Delivered(Wire):
    """How far a batch was delivered.

    Attributes:
        taken: how many messages the peer has taken, the first ones of the batch.
        gone: whether it answered that it wants no more.
        stopped: why it is sent nothing any more.
    """

    taken: int
    gone: bool = False
    stopped: str = ""


class SettleTask(Wire):
    """Messages whose receipts are to be fetched.

    Attributes:
        others: the position in the ledger before which nothing else is unsettled.
        late: ids of those that are recorded without a receipt, if there is none.
    """

    peer: str
    messages: tuple[Sent, ...]
    others: int
    late: tuple[str, ...] = ()


class Settled(Wire):
    """Ids of the messages that are on record now."""

    settled: tuple[str, ...]


class HoldTask(Wire):
    """Keep why an outbox is paused; empty: it is not."""

    peer: str
    paused: str


class Held(Wire):
    """It is kept."""


@dataclass(frozen=True)
class OutboxActivities:
    """The steps of an outbox.

    Attributes:
        outbox: knows what concerns whom, and what was delivered.
        deliverer: talks to peers.
        policy: as the settings say.
    """

    outbox: Outbox
    deliverer: PeerDeliverer
    policy: OutboxPolicy

    @activity.defn(name=ActivityName.OUTBOX_COLLECT)
    @boundary
    def collect(self, task: CollectTask) -> Collected:
        """Look at the next part of the ledger."""
        look = self.outbox.look(task.peer, task.position, news=task.news, checkpoint=task.checkpoint)
        return Collected(
            start=look.start,
            position=look.position,
            size=look.size,
            more=look.more,
            messages=look.messages,
            news=look.news,
            paused=look.paused,
            ended=look.ended,
            fairness_key=fairness_key(look.host),
            policy=self.policy,
        )

    @activity.defn(name=ActivityName.OUTBOX_DELIVER)
    @async_boundary
    async def deliver(self, task: DeliverTask) -> Delivered:
        """Deliver a batch in order, from where a try got to whose worker was lost.

        A try that got anywhere says how far instead of failing: what the peer has taken is known at once, and it is the
        next one that waits.
        """
        first = taken = _taken_before()
        until = time.monotonic() + min(BUDGET, task.budget)
        try:
            while taken < len(task.messages) and time.monotonic() < until:
                answer = await self.deliverer.deliver(task.peer, task.messages[taken])
                if not answer.taken:
                    return Delivered(taken=taken, gone=answer.gone, stopped=answer.stopped)
                taken += 1
                tries.heartbeat(Delivered(taken=taken))
        except asyncio.CancelledError:
            if not activity.is_cancelled():  # the worker stops: another one goes on
                raise
        except CoafiError:
            if taken == first:
                raise
        return Delivered(taken=taken)

    @activity.defn(name=ActivityName.OUTBOX_SETTLE)
    @async_boundary
    async def settle(self, task: SettleTask) -> Settled:
        """Fetch receipts, and record what was delivered; at the last try, with those that there are."""
        info = activity.info()
        policy = info.retry_policy
        last = policy is None or info.attempt >= policy.maximum_attempts
        settled = await self.deliverer.settle(
            task.peer,
            [one.message for one in task.messages],
            others=task.others,
            late=frozenset(task.late) if last else frozenset(),
        )
        if len(settled) < len(task.messages) and not last:
            raise ApplicationError(  # nothing is wrong, so nobody has to be told
                "the peer has not concluded all messages yet",
                type=Unavailable.__name__,
                category=ApplicationErrorCategory.BENIGN,
            )
        return Settled(settled=tuple(settled))

    @activity.defn(name=ActivityName.OUTBOX_HOLD)
    @boundary
    def hold(self, task: HoldTask) -> Held:
        """Keep that an outbox is paused, or goes on."""
        self.outbox.positions.hold(task.peer, task.paused)
        return Held()


def _taken_before() -> int:
    """How many messages an earlier try has delivered."""
    details = tries.told()
    return Delivered.model_validate(details[0]).taken if details else 0


@dataclass
class OutboxWaker:
    """Wakes the outboxes of the peers that entries concern: a consumer of whoever follows the ledger.

    Attributes:
        client: of Temporal.
        outbox: knows what concerns whom.
        again: seconds before a peer is woken again that only a checkpoint may be told. Its outbox looks by itself
            until then, see ``OutboxPolicy.checkpoint``.
    """

    client: Client
    outbox: Outbox
    again: float = 30.0
    name: str = "outbox"
    _woken: dict[str, float] = field(default_factory=dict, init=False)

    async def take(self, entries: Sequence[Recorded]) -> None:
        """Wake whom these entries may concern. An outbox that is woken in vain finds nothing.

        Raises:
            Unavailable: Temporal or the database is out of reach.
        """
        concerned = await asyncio.to_thread(self.outbox.concerned, entries)
        for peer, is_message in concerned.items():
            now = time.monotonic()
            if is_message or now - self._woken.get(peer, float("-inf")) >= self.again:
                await self.wake(peer)
                self._woken[peer] = now

    async def wake(self, peer: str) -> str:
        """Wake the outbox of a peer; the id of its run.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        return await self._signal(peer, SignalName.WAKE)

    async def order(self, peer: str, order: Order) -> str:
        """Pause the outbox of a peer, or let it go on; the id of its run, which is started if there is none.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        return await self._signal(peer, SignalName.PAUSE if order.pauses else SignalName.RESUME, order)

    async def _signal(self, peer: str, signal: SignalName, *what: Order) -> str:
        workflow_id = outbox_workflow_id(peer)
        try:
            await self.client.start_workflow(
                WorkflowName.PEER_OUTBOX,
                OutboxState(peer=peer),
                id=workflow_id,
                task_queue=TaskQueue.EVENTS,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal=signal,
                start_signal_args=what,
                priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(peer)),
                static_summary=f"Tell {peer} what happens here",
                rpc_timeout=WAKE_TIMEOUT,
            )
        except (RPCError, RuntimeError) as error:
            raise Unavailable(
                f"Temporal did not take {signal.value} for the outbox of {peer}", remedy="nothing: it is tried again"
            ) from error
        return workflow_id
