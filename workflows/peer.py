"""What a peer sends: one long-lived run per peer takes its messages and starts a run for each, in order.

It waits for each of those to be started, and for none of them to end: a message that parks does not block the next.
Each is started once: ids that were seen are carried along, and those that were forgotten are found by the claim of
their delivery, which decides in the end.

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
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from workflows.federated_message import FederatedMessageWorkflow

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.dispatch import MEMO_BODY
    from activities.peers import PeerMessage, PeerRun, Waiting
    from coafi.canonical import sha256
    from coafi.errors import CoafiError
    from coafi.events import Event, Wire
    from coafi.federation.messages import ReceivedMessage, Via, event_of
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

MAX_CARRIED = 512 * 1024
"""Bytes of waiting messages that are carried along at most: a payload is limited. With more the run goes on."""

MAX_REFUSALS = 10
"""Signals that were no messages and are shown."""


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
        self._start = start
        self._waiting = list(start.waiting)
        self._seen = dict(start.seen)
        self._taken, self._started = start.taken, start.started
        self._duplicates, self._refused = start.duplicates, start.refused
        self._paused = start.paused
        self._refusals = list(start.refusals)
        self._last = start.last

    @workflow.run
    async def run(self, _start: PeerRun) -> PeerStanding:
        """Start what comes, in order, until nothing comes any more."""
        try:
            while await self._is_asked():
                await self._start_next()
                if self._is_long():
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(self._carried())
        except asyncio.CancelledError:
            while self._waiting:  # what was taken is not lost, also when somebody cancels the run
                await self._start_next()
            raise
        return self.state()

    @workflow.signal(name=SignalName.MESSAGE, description="A message of the peer")
    def message(self, signal: Any) -> None:  # noqa: ANN401  # what does not fit a type would be dropped unseen
        """Take a message, once."""
        try:
            event = self._event(PeerMessage.model_validate(signal))
        except (ValidationError, CoafiError) as error:
            self._refuse(_why(error))
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
        self._waiting.append(Waiting(event=event, conflict=known is not None))

    @workflow.query(description="What was taken and started, and what waits")
    def state(self) -> PeerStanding:
        """Where the run stands."""
        return PeerStanding(
            peer=self._peer,
            waiting=len(self._waiting),
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
        """Whether a message is remembered."""
        return _short(message_id) in self._seen

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

    async def _is_asked(self) -> bool:
        """Wait for a message that may be started."""
        while self._paused is not None or not self._waiting:
            limit = None if self._paused is not None or self._waiting else IDLE
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._paused is None and bool(self._waiting),
                    timeout=limit,
                    timeout_summary="Wait for a message",
                )
                continue
            if self._paused is None and not self._waiting:
                return False
        return True

    async def _start_next(self) -> None:
        """Start the run of the first message that waits, and only then take it from the queue."""
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
        self._show()

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
        digest = signal.body_digest if via is Via.HTTPS and signal.body_digest else sha256(signal.message.body)
        return event_of(received, body_digest=digest, time=signal.received or workflow.now())

    def _refuse(self, reason: str) -> None:
        self._refused += 1
        self._refusals = [*self._refusals, f"{workflow.now():%Y-%m-%dT%H:%M:%SZ} {reason}"][-MAX_REFUSALS:]
        workflow.logger.warning("a signal was no message: %s", reason)
        self._show()

    def _is_long(self) -> bool:
        here = self._started - self._start.started
        if here < self._start.max_started and not workflow.info().is_continue_as_new_suggested():
            return False
        size = 0
        for one in self._waiting:
            size += len(one.model_dump_json())
            if size > MAX_CARRIED:
                return False
        return True

    def _carried(self) -> PeerRun:
        return PeerRun(
            peer=self._peer,
            waiting=tuple(self._waiting),
            seen=self._seen,
            taken=self._taken,
            started=self._started,
            duplicates=self._duplicates,
            refused=self._refused,
            paused=self._paused,
            refusals=tuple(self._refusals),
            last=self._last,
            max_started=self._start.max_started,
        )

    def _show(self) -> None:
        how = f"**Paused** by {self._paused.by}: {self._paused.reason}\n\n" if self._paused else ""
        refused = f"\n\nThe last signal that was no message: {self._refusals[-1]}" if self._refusals else ""
        workflow.set_current_details(
            f"{how}{self._started} messages started, {len(self._waiting)} wait, {self._duplicates} came again{refused}"
        )


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
