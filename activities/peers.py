"""How a peer's messages come to its run, and what each of them does (``peers.apply``)."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.boundary import boundary
from activities.notifications import Audience, PeerNoticeTask
from coafi import metrics
from coafi.canonical import Sha256
from coafi.errors import Unavailable
from coafi.events import Event, Wire
from coafi.federation.inbox import Applied, ApplyTask, PeerInbox
from coafi.federation.messages import Message
from coafi.names import (
    PRIORITY_APPLICATION,
    ActivityName,
    EventType,
    SignalName,
    TaskQueue,
    WorkflowName,
    fairness_key,
    peer_source,
    peer_workflow_id,
    workflow_id,
)
from coafi.recording import Decision, Range

MAX_STARTED = 400
"""Messages that one run of a peer starts before it continues as new: children that have not ended count against a limit
of Temporal's (2,000), and those of an earlier run do not."""


MAX_CARRIED = 512 * 1024
"""Bytes of waiting messages that are carried from run to run at most: Temporal limits a payload to 2 MB."""

MAX_WAITING = 5_000
"""Messages of one peer that wait at most before the gateway takes no more of it for a while."""

BEHIND = "behind"
"""Memo of a peer's run with more than so many; it is there until half of them are started."""

MAX_UNREAD_EVENTS = 20_000
MAX_UNREAD_BYTES = 20 * 1024 * 1024
"""What the history of a peer's run may hold before the gateway takes no more: no worker reads it, or too slowly.
Temporal ends a run, and what waits in it, at 51,200 events or 50 MB."""

LOOK, LOOK_BYTES = 2.0, 1024 * 1024
"""Seconds for which a gateway believes what it saw of a run, unless it has itself sent it so much meanwhile."""


class PeerMessage(Wire):
    """The signal: a message, and how it came.

    Attributes:
        message: as the peer sent it.
        keyid: of the key whose signature the gateway verified; ``None`` for a signal by Temporal's own means.
        body_digest: of the body as it came; by default that of its canonical JSON.
        received: when it came; by default when the run takes it.
    """

    message: Message
    keyid: str | None = None
    body_digest: Sha256 | None = None
    received: AwareDatetime | None = None


class Waiting(Wire):
    """A message that was taken and not started yet.

    Attributes:
        conflict: another body came under its id before.
        size: bytes of the event as JSON.
    """

    event: Event
    conflict: bool = False
    size: int = 0


class Shelf(Wire):
    """Messages that wait in the object store: too many to be carried from run to run.

    Attributes:
        digest: of the object, whose bytes are :class:`Shelved` as JSON.
        count: how many.
    """

    digest: Sha256
    count: int


class Shelved(Wire):
    """Messages that were taken and not started yet, in order."""

    waiting: tuple[Waiting, ...]


class PeerRun(Wire):
    """What a run begins with: all that is carried through continue-as-new.

    Attributes:
        waiting: messages that were taken and are started next.
        shelves: those after them.
        later: those after these; none without shelves.
        seen: messages that were taken: the beginning of the digest of their id, and of their body's.
        taken, started, duplicates, refused: how many, of all runs before.
        paused: by whom, and why.
        refusals: why the last of the signals that were no messages were none.
        last: workflow id of the message that was started last.
        ending: somebody has cancelled the run: it goes on until nothing waits.
        max_started: messages that this run starts before it continues as new.
        max_carried: bytes of waiting messages that are carried along; those beyond are put into the object store.
    """

    peer: str
    waiting: tuple[Waiting, ...] = ()
    shelves: tuple[Shelf, ...] = ()
    later: tuple[Waiting, ...] = ()
    seen: dict[str, str] = Field(default_factory=dict)
    taken: int = 0
    started: int = 0
    duplicates: int = 0
    refused: int = 0
    paused: Decision | None = None
    refusals: tuple[str, ...] = ()
    last: str | None = None
    ending: bool = False
    max_started: int = MAX_STARTED
    max_carried: int = MAX_CARRIED


class ApplyResult(Wire):
    """What came of a message, and who is to be told of it, if anybody."""

    applied: Applied
    notice: PeerNoticeTask | None = None

    @property
    def entries(self) -> tuple[Range, ...]:
        """Ledger indices of what was recorded."""
        return self.applied.entries


@dataclass
class _Seen:
    """What a gateway saw of the run of a peer.

    Attributes:
        moment: when; of the monotonic clock.
        sent: bytes that were sent to it since.
    """

    moment: float = -math.inf
    sent: int = 0
    behind: bool = False


@dataclass(frozen=True)
class PeerGate:
    """Hands messages to the runs of peers.

    Attributes:
        client: may be lazy: Temporal need not be up when the process starts.
        timeout: seconds to try.
    """

    client: Client
    timeout: float
    _seen: dict[str, "_Seen"] = field(default_factory=dict, init=False)

    async def deliver(self, peer: str, message: Message, *, keyid: str, body_digest: str, received: datetime) -> str:
        """Signal the run of a peer, started if there is none; the id of the message's own run, which that one starts.

        Raises:
            Unavailable: too much of the peer waits already, or Temporal did not confirm in time; the same message may
                come again.
        """
        if await self._is_behind(peer):
            raise Unavailable("too many of your messages wait here already", remedy="send it again", retry_after=30)
        signal = PeerMessage(message=message, keyid=keyid, body_digest=body_digest, received=received)
        source = peer_source(peer)
        try:
            async with asyncio.timeout(self.timeout):
                await self.client.start_workflow(
                    WorkflowName.PEER,
                    PeerRun(peer=peer),
                    id=peer_workflow_id(peer),
                    task_queue=TaskQueue.EVENTS,
                    start_signal=SignalName.MESSAGE,
                    start_signal_args=[signal],
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(source)),
                    static_summary=f"What the peer {peer} sends",
                    rpc_timeout=timedelta(seconds=self.timeout),
                )
        except (RPCError, TimeoutError, RuntimeError) as error:
            raise Unavailable(
                f"Temporal did not confirm that it has the message within {self.timeout:g} s",
                remedy="send it again: it is taken once",
                retry_after=30,
            ) from error
        self._seen[peer].sent += len(signal.model_dump_json())
        metrics.ACCEPTED.labels(EventType.FEDERATED_MESSAGE).inc()
        return workflow_id(EventType.FEDERATED_MESSAGE, source, message.id)

    async def _is_behind(self, peer: str) -> bool:
        """Whether so much waits in the run of a peer that more could be lost. Seen some seconds late."""
        seen = self._seen.setdefault(peer, _Seen())
        now = time.monotonic()
        if now - seen.moment < LOOK and seen.sent < LOOK_BYTES:
            return seen.behind
        seen.moment, seen.sent = now, 0  # the others that ask meanwhile need not look
        try:
            async with asyncio.timeout(self.timeout):
                run = await self.client.get_workflow_handle(peer_workflow_id(peer)).describe()
                seen.behind = run.status is WorkflowExecutionStatus.RUNNING and (
                    run.history_length > MAX_UNREAD_EVENTS
                    or run.raw_description.workflow_execution_info.history_size_bytes > MAX_UNREAD_BYTES
                    or bool(await run.memo_value(BEHIND, default=False))
                )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise _unasked(peer) from error
            seen.behind = False
        except (TimeoutError, RuntimeError) as error:
            raise _unasked(peer) from error
        return seen.behind

    async def knows(self, peer: str, message_id: str) -> bool:
        """Whether the run of a peer has a message that may not have been claimed yet.

        Raises:
            Unavailable: it cannot be asked now.
        """
        try:
            async with asyncio.timeout(self.timeout):
                known: bool = await self.client.get_workflow_handle(peer_workflow_id(peer), result_type=bool).query(
                    "knows", message_id, result_type=bool
                )
            return known
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _unasked(peer) from error
        except (TimeoutError, RuntimeError) as error:
            raise _unasked(peer) from error


def _unasked(peer: str) -> Unavailable:
    return Unavailable(f"the run of {peer} cannot be asked now", remedy="ask again", retry_after=10)


@dataclass(frozen=True)
class PeerActivities:
    """Applies what peers send.

    Attributes:
        inbox: does the work.
        audience: is told.
    """

    inbox: PeerInbox
    audience: Audience

    @activity.defn(name=ActivityName.APPLY_MESSAGE, no_thread_cancel_exception=True)
    @boundary
    def apply(self, task: ApplyTask) -> ApplyResult:
        """Keep what a message tells, once, and say who wants to know."""
        applied = self.inbox.apply(task)
        metrics.PEER_MESSAGES.labels(task.received.peer, task.received.message.name).inc()
        return ApplyResult(
            applied=applied, notice=self.audience.peer_notice_of(task.received, task.event, applied.entries[0].first)
        )

    @activity.defn(name=ActivityName.SHELVE_MESSAGES, no_thread_cancel_exception=True)
    @boundary
    def shelve(self, messages: Shelved) -> Shelf:
        """Put messages that wait into the object store. Clean-up keeps it: the open run of the peer names it."""
        digest = self.inbox.objects.put(messages.model_dump_json().encode())
        return Shelf(digest=digest, count=len(messages.waiting))

    @activity.defn(name=ActivityName.UNSHELVE_MESSAGES, no_thread_cancel_exception=True)
    @boundary
    def unshelve(self, shelf: Shelf) -> Shelved:
        """Get messages back from the object store."""
        return Shelved.model_validate_json(self.inbox.objects.get(shelf.digest))
