"""How a peer's messages come to its run, and what each of them does (``peers.apply``)."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field
from temporalio import activity
from temporalio.client import Client
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
    """A message that was taken and not started yet. ``conflict``: another body came under its id before."""

    event: Event
    conflict: bool = False


class PeerRun(Wire):
    """What a run begins with: all that is carried through continue-as-new.

    Attributes:
        waiting: messages that were taken and not started yet.
        seen: messages that were taken: the beginning of the digest of their id, and of their body's.
        taken, started, duplicates, refused: how many, of all runs before.
        paused: by whom, and why.
        refusals: why the last of the signals that were no messages were none.
        last: workflow id of the message that was started last.
    """

    peer: str
    waiting: tuple[Waiting, ...] = ()
    seen: dict[str, str] = Field(default_factory=dict)
    taken: int = 0
    started: int = 0
    duplicates: int = 0
    refused: int = 0
    paused: Decision | None = None
    refusals: tuple[str, ...] = ()
    last: str | None = None
    max_started: int = MAX_STARTED


class ApplyResult(Wire):
    """What came of a message, and who is to be told of it, if anybody."""

    applied: Applied
    notice: PeerNoticeTask | None = None

    @property
    def entries(self) -> tuple[Range, ...]:
        """Ledger indices of what was recorded."""
        return self.applied.entries


@dataclass(frozen=True)
class PeerGate:
    """Hands messages to the runs of peers.

    Attributes:
        client: may be lazy: Temporal need not be up when the process starts.
        timeout: seconds to try.
    """

    client: Client
    timeout: float

    async def deliver(self, peer: str, message: Message, *, keyid: str, body_digest: str, received: datetime) -> str:
        """Signal the run of a peer, started if there is none; the id of the message's own run, which that one starts.

        Raises:
            Unavailable: Temporal did not confirm in time; the same message may come again.
        """
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
        metrics.ACCEPTED.labels(EventType.FEDERATED_MESSAGE).inc()
        return workflow_id(EventType.FEDERATED_MESSAGE, source, message.id)

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
