"""What one peer is told: a long-lived run that follows the own ledger for it.

Nothing is queued here. The run has a position in the ledger; what lies beyond it and concerns the peer becomes
messages, which are delivered in order, a few at a time. A peer that is away is waited for by one activity, whose
retries cost no history. What the peer has taken it concludes in its own time; its receipts are fetched meanwhile, and
what is confirmed moves the position that the database keeps, from which another run would go on.

Signals:
    wake: the ledger has something for the peer.
    pause: stop delivering; nothing is lost.
    resume: go on; what waits for another try is tried at once.

Queries:
    state: how far the peer was told, and what is in the way.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as RunOutOfTime

from workflows.lifecycle import light

with workflow.unsafe.imports_passed_through():
    from activities.outbox import (
        REFUSED,
        Collected,
        CollectTask,
        Delivered,
        DeliverTask,
        HoldTask,
        Order,
        OutboxActivities,
        OutboxState,
        Sent,
        Settled,
        SettleTask,
    )
    from coafi.events import Wire
    from coafi.federation.outbox import NOBODY, OutgoingRef
    from coafi.names import PRIORITY_APPLICATION, SignalName, TaskQueue, WorkflowName

IDLE = timedelta(hours=1)
"""A run that has had nothing to do for so long ends; the next entry that concerns the peer starts another."""

FIRST_STAGE = timedelta(minutes=1)
STAGE = timedelta(hours=6)
"""How long one activity tries to deliver before it says how things stand: the first time, and afterwards."""

TRIES = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=1.5, maximum_interval=timedelta(minutes=10)
)
"""Where an error does not say when to try again. As a rule it does: with jitter, and as the peer asks for."""

DELIVERY_GRACE = timedelta(seconds=30)
"""What a request may take beyond its own limit before its worker counts as lost."""

LONGEST_DELIVERY = timedelta(minutes=5)
"""One try to deliver a batch; it looks at the clock itself, long before."""

SETTLE_TIMEOUT = timedelta(minutes=1)
SETTLE_TRIES = RetryPolicy(initial_interval=timedelta(milliseconds=300), backoff_coefficient=2.0, maximum_attempts=6)
"""A peer concludes most messages within seconds; for those ten the server tries again, which costs no history."""

FIRST_QUESTION = timedelta(seconds=20)
LONGEST_QUESTION = timedelta(hours=1)
QUESTION_COEFFICIENT = 1.5
"""How long a peer is left alone that has concluded nothing: at first, at most, and how that grows."""

MAX_UNSETTLED = 500
"""Messages that a peer has taken and not concluded. Beyond them the oldest are recorded as unconfirmed, so that a peer
without receipts is told of the news all the same."""

SETTLED_AT_ONCE = 50
"""Receipts that are asked for by one activity."""


class OutboxStanding(Wire):
    """How far a peer was told; the result of its run.

    Attributes:
        position: index of the first entry that was not dealt with; ``None`` before the first look.
        size: of the ledger, at the last look.
        waiting: messages of the last look that were not delivered.
        unsettled: messages that the peer has taken, and for which there is no receipt yet; ``oldest`` says since when.
        delivered: messages that the peer has taken, over all runs since the first.
        paused: why nothing is delivered; empty if it is.
        problem: why the last try failed, ``failing`` since when.
        ended: why the run ended, if it has.
    """

    peer: str
    position: int | None
    size: int
    waiting: int
    unsettled: int
    oldest: datetime | None
    delivered: int
    paused: str
    problem: str
    failing: datetime | None
    ended: str


@workflow.defn(name=WorkflowName.PEER_OUTBOX)
class PeerOutboxWorkflow:
    """Delivers to one peer."""

    @workflow.init
    def __init__(self, start: OutboxState) -> None:
        self._start = start
        self._policy = start.policy
        self._position = start.position
        self._unsettled = list(start.unsettled)
        self._delivered = start.delivered
        self._woken = True
        self._orders = list(start.orders)
        self._paused = start.paused
        self._problem = start.problem
        self._failing = start.failing
        self._announced = start.announced
        self._news = start.news
        self._look_at = start.look_at
        self._size = 0
        self._waiting: list[OutgoingRef] = []
        self._not_before: datetime | None = None
        self._ended = ""
        self._closing = False
        self._sent_here = 0
        self._delivery: workflow.ActivityHandle[Delivered] | None = None
        self._question: workflow.ActivityHandle[Settled] | None = None

    @workflow.run
    async def run(self, _start: OutboxState) -> OutboxStanding:
        """Tell the peer what happens here, for as long as there is something to tell."""
        settling = asyncio.create_task(self._settle())
        while await self._is_wanted():
            await self._obey()
            if not self._paused:
                await self._tell()
            if self._ended or self._is_long():
                break
        await self._close(settling)
        if not self._ended:
            workflow.continue_as_new(self._carried())
        return self.state()

    # ----------------------------------------------------------------- signals and query

    @workflow.signal(name=SignalName.WAKE, description="The ledger has something for the peer")
    def wake(self) -> None:
        """Look at the ledger."""
        self._woken = True

    @workflow.signal(name=SignalName.PAUSE, description="Stop delivering; nothing is lost")
    def pause(self, order: Order) -> None:
        """Deliver nothing until ``resume``."""
        self._orders.append(order.model_copy(update={"pauses": True}))
        if self._delivery is not None:
            self._delivery.cancel()

    @workflow.signal(name=SignalName.RESUME, description="Go on; what waits for another try is tried at once")
    def resume(self, order: Order) -> None:
        """Deliver again, and at once."""
        self._orders.append(order.model_copy(update={"pauses": False}))
        if self._delivery is not None:
            self._delivery.cancel()

    @workflow.query(description="How far the peer was told, and what is in the way")
    def state(self) -> OutboxStanding:
        """Where the run stands."""
        return OutboxStanding(
            peer=self._start.peer,
            position=self._position,
            size=self._size,
            waiting=len(self._waiting),
            unsettled=len(self._unsettled),
            oldest=min((one.at for one in self._unsettled), default=None),
            delivered=self._delivered,
            paused=self._paused,
            problem=self._problem,
            failing=self._failing,
            ended=self._ended,
        )

    # -------------------------------------------------------------------------- delivering

    async def _tell(self) -> None:
        """Look at the ledger once, and deliver what was found."""
        self._woken = False
        task = CollectTask(
            peer=self._start.peer, position=self._position, news=self._news, checkpoint=self._may_announce()
        )
        found = await light(OutboxActivities.collect, task, "Look for what concerns the peer")
        self._policy, self._size, self._paused, self._ended = found.policy, found.size, found.paused, found.ended
        if self._paused or self._ended:
            self._show()
            return
        self._position, self._news = found.start, found.news
        if await self._deliver(found):
            self._position = found.position
            self._woken = self._woken or found.more
        self._look_at = self._announced + self._interval if self._announced and self._news else self._look_at
        self._show()

    async def _deliver(self, found: Collected) -> bool:
        """Deliver messages in order; whether all of them were."""
        self._waiting = list(found.messages)
        try:
            while self._waiting:
                await self._be_patient()
                if self._orders or self._ended:
                    return False
                began = workflow.now()
                try:
                    delivered = await self._try(found.fairness_key)
                except ActivityError as error:
                    if not is_cancelled_exception(error):
                        self._failed(error, began)
                    elif not self._orders:
                        raise
                else:
                    self._take(delivered)
            return True
        finally:
            self._waiting = []

    async def _be_patient(self) -> None:
        """Wait for as long as the peer, or the last failure, asks for."""
        if self._not_before is not None and not self._orders:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: bool(self._orders),
                    timeout=max(self._not_before - workflow.now(), timedelta()),
                    timeout_summary="Wait before the next try",
                )
        self._not_before = None

    async def _try(self, fairness_key: str) -> Delivered:
        """Try for a while to deliver what waits."""
        policy = self._policy
        patience = timedelta(seconds=policy.patience)
        stage = min(FIRST_STAGE, patience)
        if self._failing is not None:
            stage = min(STAGE, self._failing + patience - workflow.now())
        stage = max(stage, 2 * timedelta(seconds=policy.timeout))  # or a peer that answers slowly would not be heard
        self._delivery = workflow.start_activity_method(
            OutboxActivities.deliver,
            DeliverTask(peer=self._start.peer, messages=tuple(self._waiting), budget=stage.total_seconds() / 2),
            task_queue=TaskQueue.DELIVERY,
            schedule_to_close_timeout=stage,
            start_to_close_timeout=LONGEST_DELIVERY,
            heartbeat_timeout=timedelta(seconds=policy.timeout) + DELIVERY_GRACE,
            retry_policy=TRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key),
            summary=f"Deliver {_messages(self._waiting)} from {self._waiting[0].id}"[:200],
        )
        try:
            return await self._delivery
        finally:
            self._delivery = None

    def _take(self, delivered: Delivered) -> None:
        """Note what the peer has taken."""
        now = workflow.now()
        taken, self._waiting = self._waiting[: delivered.taken], self._waiting[delivered.taken :]
        for message in taken:
            self._position = message.after
            self._unsettled.append(Sent(message=message, at=now))
            if message.is_checkpoint:
                self._announced, self._news = now, False
                self._look_at = now + self._interval
        self._delivered += len(taken)
        self._sent_here += len(taken)
        if taken:
            self._failing, self._problem = None, ""
        if delivered.gone:
            self._ended = "the peer answered that it wants no messages any more (410)"
        elif delivered.stopped:
            self._ended = delivered.stopped

    def _failed(self, error: ActivityError, began: datetime) -> None:
        """Note that the peer took nothing for a while; at the end of all patience, pause."""
        cause = error.cause
        # When there is no time for another try, that is said, and within it what the last try came to.
        last = (cause.cause or cause) if isinstance(cause, RunOutOfTime) else cause
        self._problem = (last.message if isinstance(last, ApplicationError) else str(last))[:2000]
        self._failing = self._failing or began
        if isinstance(cause, ApplicationError) and cause.next_retry_delay is not None:
            self._not_before = workflow.now() + cause.next_retry_delay
        if isinstance(cause, ApplicationError) and cause.type in REFUSED:
            self._orders.append(Order(by=NOBODY, reason=self._problem[:500]))
        elif workflow.now() - self._failing >= timedelta(seconds=self._policy.patience):
            waited = (workflow.now() - self._failing).total_seconds() / 86_400
            self._orders.append(Order(by=NOBODY, reason=f"for {waited:.1f} days: {self._problem}"[:500]))
        self._show()

    async def _obey(self) -> None:
        """Do as the orders say, and keep the last one where another run finds it."""
        if not self._orders:
            return
        order, self._orders = self._orders[-1], []
        paused = f"{order.by}: {order.reason}" if order.pauses else ""
        await light(
            OutboxActivities.hold,
            HoldTask(peer=self._start.peer, paused=paused),
            "Keep that the outbox is paused" if paused else "Keep that the outbox goes on",
        )
        self._paused = paused
        if not paused:
            self._failing, self._problem, self._woken = None, "", True
        self._show()

    # ---------------------------------------------------------------------------- receipts

    async def _settle(self) -> None:
        """Ask for the receipts of what the peer has taken, beside everything else, until the run closes."""
        wait = FIRST_QUESTION
        while True:
            await workflow.wait_condition(lambda: self._closing or bool(self._unsettled))
            if self._closing:
                return
            sent = self._sent_here
            if await self._ask():
                wait = FIRST_QUESTION
            else:
                await self._leave_alone(wait, sent)
                wait = min(wait * QUESTION_COEFFICIENT, LONGEST_QUESTION)

    async def _leave_alone(self, wait: timedelta, sent: int) -> None:
        """Give the peer time to conclude what it has taken, unless it has taken more meanwhile."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._closing or self._sent_here != sent, timeout=wait, timeout_summary="Wait for receipts"
            )

    async def _ask(self) -> bool:
        """Ask for some receipts; whether there were any. What has none goes to the end of those to be asked for."""
        asked, others = self._unsettled[:SETTLED_AT_ONCE], self._unsettled[SETTLED_AT_ONCE:]
        assert self._position is not None  # noqa: S101  # or nothing would have been sent
        task = SettleTask(
            peer=self._start.peer,
            messages=tuple(asked),
            others=min([self._position, *(one.message.after - 1 for one in others)]),
            late=self._late(asked),
        )
        self._question = workflow.start_activity_method(
            OutboxActivities.settle,
            task,
            task_queue=TaskQueue.DELIVERY,
            start_to_close_timeout=SETTLE_TIMEOUT,
            retry_policy=SETTLE_TRIES,
            priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=self._start.peer[-64:]),
            summary=f"Ask for the receipts of {_messages(asked)}",
        )
        try:
            settled = frozenset((await self._question).settled)
        except ActivityError as error:
            if is_cancelled_exception(error) and not self._closing:
                raise
            settled = frozenset()
        finally:
            self._question = None
        known = {one.message.id for one in asked}
        kept = [one for one in self._unsettled if one.message.id not in known]
        self._unsettled = kept + [one for one in asked if one.message.id not in settled]
        return bool(settled)

    def _late(self, asked: list[Sent]) -> tuple[str, ...]:
        """Which of these messages shall be recorded without a receipt, if there is still none."""
        oldest = workflow.now() - timedelta(seconds=self._policy.patience)
        surplus = len(self._unsettled) - MAX_UNSETTLED
        return tuple(one.message.id for number, one in enumerate(asked) if number < surplus or one.at <= oldest)

    # ------------------------------------------------------------------------------- ends

    def _is_asked(self) -> bool:
        return bool(self._orders) or (self._woken and not self._paused)

    async def _is_wanted(self) -> bool:
        """Wait for something to do; whether there is, or the run has been idle for long enough."""
        while not self._is_asked():
            wait, summary = IDLE, "Wait for something to tell"
            if self._look_at is not None and not self._paused:
                wait, summary = max(self._look_at - workflow.now(), timedelta()), "Wait until a checkpoint is due"
            try:
                await workflow.wait_condition(
                    self._is_asked, timeout=None if self._paused else wait, timeout_summary=summary
                )
            except TimeoutError:
                if self._look_at is not None:
                    self._look_at, self._woken = None, True
                elif not self._unsettled and not self._is_asked():
                    self._ended = "there was nothing to do"
                    return False
        return True

    async def _close(self, settling: "asyncio.Task[None]") -> None:
        """Come to an end with everything that runs beside the story."""
        self._closing = True
        if self._question is not None:
            self._question.cancel()
        await settling
        await workflow.wait_condition(workflow.all_handlers_finished)

    def _may_announce(self) -> bool:
        return self._announced is None or workflow.now() >= self._announced + self._interval

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._policy.checkpoint)

    def _is_long(self) -> bool:
        return self._sent_here >= self._start.max_sent or workflow.info().is_continue_as_new_suggested()

    def _carried(self) -> OutboxState:
        return self._start.model_copy(
            update={
                "policy": self._policy,
                "position": self._position,
                "unsettled": tuple(self._unsettled),
                "delivered": self._delivered,
                "orders": tuple(self._orders),
                "paused": self._paused,
                "problem": self._problem,
                "failing": self._failing,
                "announced": self._announced,
                "news": self._news,
                "look_at": self._look_at,
            }
        )

    def _show(self) -> None:
        """Say on the run's page in the Web UI how things stand."""
        said = f"{self._delivered} delivered, {len(self._unsettled)} of them without a receipt yet"
        if self._paused:
            said = f"**Paused** by {self._paused}\n\n{said}"
        elif self._problem:
            said = f"**Waits** since {self._failing}: {self._problem}\n\n{said}"
        workflow.set_current_details(said)


def _messages(some: Sequence[object]) -> str:
    return f"{len(some)} message{'' if len(some) == 1 else 's'}"
