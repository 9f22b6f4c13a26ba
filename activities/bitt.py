"""What is done about an event of a ledger (``bitt.react``)."""

from dataclasses import dataclass

from temporalio import activity

from activities.boundary import boundary
from activities.notifications import Audience, EventNoticeTask
from coafi.bitt.event import BittEvent
from coafi.bitt.reaction import Reacted, Reactor, ReactTask
from coafi.events import Wire
from coafi.names import ActivityName
from coafi.notify.message import EventReport
from coafi.recording import Range


class ReactResult(Wire):
    """What was done about an event, and what follows from it.

    Attributes:
        notice: what there is to tell, and whom; ``None`` when nobody wants to know.
        capped: somebody wants to know and is not told, because too many runs lie between this and its cause.
    """

    reacted: Reacted
    notice: EventNoticeTask | None = None
    capped: bool = False

    @property
    def entries(self) -> tuple[Range, ...]:
        """Ledger indices of what was recorded."""
        return self.reacted.entries


@dataclass(frozen=True)
class BittActivities:
    """Reacts to events of ledgers.

    Attributes:
        audience: is told of them.
        source: who this service is, in what it tells.
        max_depth: runs between an event and one from outside, at most.
    """

    reactor: Reactor
    audience: Audience
    source: str
    max_depth: int

    @activity.defn(name=ActivityName.REACT, no_thread_cancel_exception=True)
    @boundary
    def react(self, task: ReactTask) -> ReactResult:
        """Open or close findings, once, and say who is to be told."""
        reacted = self.reactor.react(task)
        depth = task.told.causationdepth + 1
        told = BittEvent.model_validate(task.told.data)
        report = EventReport.of(told, task.event, source=self.source, depth=depth, entries=reacted.entries)
        notice = self.audience.notice_of_event(report, reacted.topics)
        if depth > self.max_depth:
            return ReactResult(reacted=reacted, capped=notice is not None)
        return ReactResult(reacted=reacted, notice=notice)
