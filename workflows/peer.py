"""What a peer sends: one long-lived run per peer takes its messages and starts a run for each, in order.

It waits for each of those to be started, and for none of them to end: a message that parks does not block the next.
Each is started once: ids that were seen are carried along, and those that were forgotten are found by the claim of
their delivery, which decides in the end.

However many wait, the run goes on as a new one before its history grows too long: what is too much to be carried along
is put into the object store, piece by piece, and fetched when its turn comes.

Signals:
    message: a message of the peer; the gateway has verified it, or whoever may write to the namespace vouches for it.

Queries:
    state: what was taken and started, and what waits.
    knows: whether a message waits or was started, as far as it is remembered.

Updates:
    pause: start nothing until ``resume``; what comes waits, in order.
    resume: go on.
"""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from temporalio import workflow
from temporalio.common import (
    Priority,
    RawValue,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import (
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from workflows.federated_message import FederatedMessageWorkflow
from workflows.lifecycle import light

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.dispatch import MEMO_BODY
    from activities.peers import BEHIND, MAX_WAITING, PeerActivities, PeerMessage, PeerRun, Shelved, Waiting
    from coafi.canonical import MAX_DEPTH, is_deeper, sha256
    from coafi.errors import CoafiError, Refused
    from coafi.events import Event, Wire
    from coafi.federation.messages import ReceivedMessage, Via, event_of, require_size
    from coafi.names import (
        PRIORITY_APPLICATION,
        Phase,
        SearchAttribute,
        SignalName,
        WorkflowName,
        fairness_key,
        parse_peer_workflow_id,
    )
    from coafi.payloads import subject_of
    from coafi.recording import Decision

IDLE = timedelta(hours=1)
"""A run that no message came to for so long ends; the next message starts another."""

MAX_SEEN = 2_000
"""Messages that are remembered; those before are found in the table of deliveries."""

AT_ONCE, WEIGHT_AT_ONCE = 500, 20_000
"""Signals that one workflow task reads at most, and their weight (:func:`_weight`), but one in any case. All those that
came while no worker ran would take longer than the two seconds that the SDK lets a task take; these take a tenth."""

PUTS_ASIDE = "peer-puts-aside"
"""Patch: runs that began before it do not continue as new while they are paused or too much waits."""

REFUSES_DEPTH = "peer-refuses-depth"
"""Patch: runs before it took messages that are so deep that the next run, which gets them within its input, cannot read
them."""

MOST_PIECES = 8
"""Pieces of what waits that one workflow task puts aside at most: signals that come meanwhile are held back."""

BREATH = timedelta(milliseconds=1)
AGAIN = timedelta(minutes=1)
"""After which it is tried again to put messages into a store that refuses them."""

MAX_REFUSALS = 10
"""Signals that were no messages and are shown."""


class _Read(NamedTuple):
    """What a workflow task has read: the task by the length of its history, signals, and the weight of these."""

    task: int = 0
    signals: int = 0
    weight: int = 0


class PeerStanding(Wire):
    """Where the run of a peer stands; its result. See :class:`PeerRun`; ``waiting`` is a number here."""

    peer: str
    waiting: int
    taken: int
    started: int
    duplicates: int
    refused: int
    paused: Decision | None
    refusals: tuple[str, ...]
    last: str | None


@workflow.defn(name=WorkflowName.PEER)
class PeerWorkflow:
    """Takes what one peer sends."""

    @workflow.init
    def __init__(self, start: PeerRun) -> None:
        self._peer = parse_peer_workflow_id(workflow.info().workflow_id)  # whatever the input says
        self._puts_aside = workflow.patched(PUTS_ASIDE)
        self._start = start
        self._waiting = [one if one.size else _waiting(one.event, conflict=one.conflict) for one in start.waiting]
        self._shelves = list(start.shelves)
        self._later = list(start.later)
        self._unread: deque[RawValue] = deque()
        self._read = _Read()
        self._seen = dict(start.seen)
        self._taken, self._started = start.taken, start.started
        self._duplicates, self._refused = start.duplicates, start.refused
        self._paused = start.paused
        self._refusals = list(start.refusals)
        self._last = start.last
        self._ending = start.ending

    @workflow.run
    async def run(self, _start: PeerRun) -> PeerStanding:
        """Start what comes, in order, until nothing comes any more."""
        try:
            await self._work()
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            self._ending, self._paused = True, None
            await self._work()  # what was taken is not lost, also when somebody cancels the run
            raise
        return self.state()

    @workflow.signal(name=SignalName.MESSAGE, description="A message of the peer")
    def message(self, signal: RawValue) -> None:
        """Take a message, once. It is not decoded before its turn: some JSON takes long, and much may have come."""
        if self._unread or not self._may_read(signal):
            self._unread.append(signal)
        else:
            self._take(signal)

    @workflow.query(description="What was taken and started, and what waits")
    def state(self) -> PeerStanding:
        """Where the run stands."""
        return PeerStanding(
            peer=self._peer,
            waiting=self._count() + len(self._unread),
            taken=self._taken,
            started=self._started,
            duplicates=self._duplicates,
            refused=self._refused,
            paused=self._paused,
            refusals=tuple(self._refusals),
            last=self._last,
        )

    @workflow.query(description="Whether a message waits or was started")
    def knows(self, message_id: str) -> bool:
        """Whether a message is remembered, or may be among those that wait and are too many to be."""
        return bool(self._unread) or self._count() > MAX_SEEN or _short(message_id) in self._seen

    @workflow.update(description="Start nothing until resume; what comes waits")
    def pause(self, decision: Decision) -> PeerStanding:
        """Start nothing until it is resumed."""
        self._paused = decision
        self._show()
        return self.state()

    @pause.validator
    def _validate_pause(self, decision: Decision) -> None:
        if self._paused is not None:
            raise ApplicationError(f"the peer was paused by {self._paused.by}: {self._paused.reason}", type="Paused")

    @workflow.update(description="Go on")
    def resume(self, decision: Decision) -> PeerStanding:
        """Start what waits."""
        self._paused = None
        self._show()
        return self.state()

    @resume.validator
    def _validate_resume(self, decision: Decision) -> None:
        if self._paused is None:
            raise ApplicationError("the peer is not paused: there is nothing to resume", type="NotPaused")

    async def _work(self) -> None:
        """Start what comes until nothing does, or, when the run shall end, until nothing waits."""
        while await self._is_asked():
            await self._read_on()
            if self._paused is None and self._count():
                await self._start_next()
            if self._is_long() and await self._is_carriable():
                await workflow.wait_condition(workflow.all_handlers_finished)
                marks = {BEHIND: True} if self._is_marked() else {}
                workflow.continue_as_new(self._carried(), memo=marks if self._puts_aside else None)

    async def _is_asked(self) -> bool:
        """Wait until there is something to do."""

        def asked() -> bool:
            startable = self._paused is None and bool(self._count())
            return startable or bool(self._unread) or (self._puts_aside and self._is_long())

        while not asked():
            if self._ending and self._paused is None:
                return False
            limit = None if self._paused is not None else IDLE
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(asked, timeout=limit, timeout_summary="Wait for a message")
                continue
            if self._paused is None and not asked():
                return False
        return True

    def _may_read(self, signal: RawValue) -> bool:
        """Whether this workflow task may read another signal."""
        if not self._puts_aside:
            return True
        task, weight = workflow.info().get_current_history_length(), _weight(signal.payload.data)
        before = self._read if self._read.task == task else _Read(task)
        if before.signals and (before.signals >= AT_ONCE or before.weight + weight > WEIGHT_AT_ONCE):
            return False
        self._read = _Read(task, before.signals + 1, before.weight + weight)
        return True

    async def _read_on(self) -> None:
        """Read the signals that were too many for one workflow task."""
        while self._unread:
            if self._may_read(self._unread[0]):
                self._take(self._unread.popleft())
            else:
                await workflow.sleep(BREATH, summary="Go on in another workflow task")

    def _take(self, signal: RawValue) -> None:
        try:
            said = workflow.payload_converter().from_payload(signal.payload)
            event = self._event(PeerMessage.model_validate(said))
        except (ValidationError, CoafiError) as error:
            self._refuse(_why(error))
            return
        except Exception:  # bytes that are no JSON, or of another encoding
            self._refuse("the signal cannot be decoded")
            return
        key, body = _short(event.id), event.bodydigest[:24]
        known = self._seen.get(key)
        if known == body:
            self._duplicates += 1
            return
        if known is None:
            self._seen[key] = body
            if len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
        self._taken += 1
        one = _waiting(event, conflict=known is not None)
        (self._later if self._shelves or self._later else self._waiting).append(one)
        self._mark()

    def _is_marked(self) -> bool:
        return bool(workflow.memo_value(BEHIND, default=False))

    def _mark(self) -> None:
        """Let gateways see whether so many wait that they had better take no more."""
        marked = self._is_marked()
        if self._puts_aside and marked != (self._count() > (MAX_WAITING // 2 if marked else MAX_WAITING)):
            workflow.upsert_memo({BEHIND: None if marked else True})

    def _count(self) -> int:
        """How many messages wait."""
        return len(self._waiting) + sum(one.count for one in self._shelves) + len(self._later)

    async def _start_next(self) -> None:
        """Start the run of the first message that waits, and only then take it from the queue."""
        if not self._waiting and not await self._fetch():
            return
        first = self._waiting[0]
        event = first.event
        # Another body under a known id goes on the record as well: its run finds the delivery claimed, and is rejected.
        workflow_id = f"{event.workflow_id}~{event.bodydigest[:24]}" if first.conflict else event.workflow_id
        try:
            await self._start_child(event, workflow_id)
            self._last = workflow_id
            self._started += 1
        except WorkflowAlreadyStartedError:
            self._duplicates += 1
        self._waiting.pop(0)
        self._mark()
        self._show()

    async def _fetch(self) -> bool:
        """Get the messages that are started next; whether they are there. If not, the run waits for somebody."""
        if not self._shelves:
            self._waiting, self._later = self._later, []
            return True
        try:
            shelved = await light(PeerActivities.unshelve, self._shelves[0], "Fetch messages that wait")
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            cause = error.cause or error
            reason = f"messages that wait cannot be read: {cause}"[:500]
            self._paused = Decision(by=WorkflowName.PEER, reason=f"{reason}; resume when that is mended")
            workflow.logger.error("the run of a peer waits: %s", reason)
            self._show()
            return False
        self._waiting = list(shelved.waiting)
        del self._shelves[0]
        return True

    async def _start_child(self, event: Event, workflow_id: str) -> None:
        await workflow.start_child_workflow(
            FederatedMessageWorkflow.run,
            event,
            id=workflow_id,
            # A run that was terminated has concluded nothing.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            search_attributes=_search_attributes(event),
            priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(event.source)),
            memo={MEMO_BODY: event.bodydigest},
            static_summary=subject_of(event)[:200],
        )

    def _event(self, signal: PeerMessage) -> Event:
        via = Via.HTTPS if signal.keyid else Via.TEMPORAL
        received = ReceivedMessage(peer=self._peer, via=via, keyid=signal.keyid, message=signal.message)
        require_size(signal.message)
        # Asked only of what is too deep: all other histories stay as they are.
        if is_deeper(signal.message.data) and workflow.patched(REFUSES_DEPTH):
            raise Refused(
                f"the message is nested more than {MAX_DEPTH} levels deep", remedy="nest fewer objects and arrays"
            )
        digest = signal.body_digest if via is Via.HTTPS and signal.body_digest else sha256(signal.message.body)
        return event_of(received, body_digest=digest, time=signal.received or workflow.now())

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self._refusals = [*self._refusals, f"{workflow.now():%Y-%m-%dT%H:%M:%SZ} {reason}"][-MAX_REFUSALS:]
        workflow.logger.warning("a signal of the peer %s was no message, and is lost: %s", self._peer, reason)
        self._show()

    def _is_long(self) -> bool:
        here = self._started - self._start.started
        return here >= self._start.max_started or workflow.info().is_continue_as_new_suggested()

    async def _is_carriable(self) -> bool:
        """Whether what waits can be carried along as it is; if not, some of it is put into the store."""
        if not self._puts_aside:
            carried = sum(
                len(Waiting(event=one.event, conflict=one.conflict).model_dump_json()) for one in self._waiting
            )
            return not self._ending and carried <= self._start.max_carried
        if self._unread:
            return False
        for _ in range(MOST_PIECES):
            if self._fits():
                break
            if not await self._put_aside():
                await workflow.sleep(AGAIN, summary="Wait for the object store")
                return False
        # All is recorded before the run ends: a signal in the same moment would undo what this task did. And if the
        # task were repeated with another result, a timer that is not in the history shows it.
        await workflow.sleep(BREATH, summary="Go on in another workflow task")
        return not self._unread and self._fits()

    def _fits(self) -> bool:
        return _size(self._waiting) + _size(self._later) <= self._start.max_carried

    async def _put_aside(self) -> bool:
        """Put some of the messages that are not the next into the store; whether it took them."""
        if not self._shelves and not self._later:
            kept = self._fitting(self._waiting)
            self._waiting, self._later = self._waiting[:kept], self._waiting[kept:]
        piece = self._later[: self._fitting(self._later)]
        try:
            shelf = await light(
                PeerActivities.shelve, Shelved(waiting=tuple(piece)), f"Put {len(piece)} messages aside"
            )
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("messages that wait cannot be put aside", exc_info=error)
            return False
        self._shelves.append(shelf)
        del self._later[: len(piece)]
        return True

    def _fitting(self, messages: Sequence[Waiting]) -> int:
        """How many of the first messages are one piece, at least one; small, as it comes back through the history."""
        size = 0
        for number, one in enumerate(messages):
            size += one.size
            if size > self._start.max_carried // 2:
                return max(number, 1)
        return len(messages)

    def _carried(self) -> PeerRun:
        return self._start.model_copy(
            update={
                "waiting": tuple(self._waiting),
                "shelves": tuple(self._shelves),
                "later": tuple(self._later),
                "seen": self._seen,
                "taken": self._taken,
                "started": self._started,
                "duplicates": self._duplicates,
                "refused": self._refused,
                "paused": self._paused,
                "refusals": tuple(self._refusals),
                "last": self._last,
                "ending": self._ending,
            }
        )

    def _show(self) -> None:
        how = f"**Paused** by {self._paused.by}: {self._paused.reason}\n\n" if self._paused else ""
        refused = f"\n\nThe last signal that was no message: {self._refusals[-1]}" if self._refusals else ""
        waiting = self._count() + len(self._unread)
        workflow.set_current_details(
            f"{how}{self._started} messages started, {waiting} wait, {self._duplicates} came again{refused}"
        )


def _weight(data: bytes) -> int:
    """How long some JSON takes to be read: a point for each value, a few microseconds, and for each hundred bytes."""
    return data.count(b",") + data.count(b"[") + data.count(b"{") + len(data) // 100


def _waiting(event: Event, *, conflict: bool) -> Waiting:
    return Waiting(event=event, conflict=conflict, size=len(event.model_dump_json().encode()))


def _size(messages: Sequence[Waiting]) -> int:
    """Bytes of messages, as they are carried."""
    return sum(one.size for one in messages)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def _why(error: ValidationError | CoafiError) -> str:
    """What is wrong with a signal, without quoting it."""
    if isinstance(error, CoafiError):
        return error.message[:300]
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'/'.join(str(part) for part in first['loc'])[:100]}: {first['msg'][:200]}"


def _search_attributes(event: Event) -> TypedSearchAttributes:
    values = {
        SearchAttribute.PHASE: Phase.RECEIVED,
        SearchAttribute.EVENT_ID: event.id,
        SearchAttribute.EVENT_TYPE: event.type,
        SearchAttribute.SOURCE: event.source,
        SearchAttribute.UTIDS: event.utids,
    }
    return TypedSearchAttributes(
        [SearchAttributePair(SearchAttributeKey.for_keyword(name), str(value)) for name, value in values.items()]
    )
