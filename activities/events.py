"""The light steps around every handler: receive, park, finish. Each is one transaction of the ledger."""

from dataclasses import dataclass

from temporalio import activity

from activities.boundary import boundary
from coafi import metrics
from coafi.events import Event, EventRef, Wire
from coafi.names import ActivityName
from coafi.recording import Concluded, Conclusion, EventRecorder, Failure, Range, Received


class Patience(Wire):
    """How long a run waits for what, in seconds; from the settings at the time of receipt.

    Attributes:
        fetch: one try of ``git.fetch``.
        git, files: retries of the steps on those queues.
        parked: a person's decision.
        api: retries of a request that another instance must do; ``None``: this one does it itself.
        asks_for_index: whether the run asks for an update of the index at its end. Runs that were received before
            there was one do not, and are replayed as they were.
    """

    fetch: float
    git: float
    files: float
    parked: float
    asks_for_index: bool = False
    api: float | None = None


class ReceiveTask(Wire):
    """An event to receive, and the original id of the run that asks."""

    event: Event
    run_id: str


class ReceiveResult(Wire):
    """What came of it, and how patient the run shall be from here on."""

    received: Received
    patience: Patience

    @property
    def entries(self) -> tuple[Range, ...]:
        """Ledger indices of what was recorded."""
        return self.received.entries


class ParkTask(Wire):
    """A failure to record."""

    event: EventRef
    failure: Failure


class FinishTask(Wire):
    """A conclusion to record."""

    event: EventRef
    conclusion: Conclusion


@dataclass(frozen=True)
class EventActivities:
    """Activities of the phases around a handler.

    Attributes:
        recorder: writes ledger and deliveries.
        patience: what runs received from now on are told.
    """

    recorder: EventRecorder
    patience: Patience

    @activity.defn(name=ActivityName.RECEIVE, no_thread_cancel_exception=True)
    @boundary
    def receive(self, task: ReceiveTask) -> ReceiveResult:
        """Claim the delivery, validate the payload, write ``EVENT_RECEIVED``."""
        received = self.recorder.receive(task.event, task.run_id)
        if not received.phase.goes_on:
            metrics.CONCLUDED.labels(received.phase).inc()
        return ReceiveResult(received=received, patience=self.patience)

    @activity.defn(name=ActivityName.PARK, no_thread_cancel_exception=True)
    @boundary
    def park(self, task: ParkTask) -> Range:
        """Write ``EVENT_PROCESSING_FAILED``; the result is its place in the ledger."""
        place = self.recorder.park(task.event, task.failure)
        metrics.PARKED.labels(task.failure.step).inc()
        return place

    @activity.defn(name=ActivityName.FINISH, no_thread_cancel_exception=True)
    @boundary
    def finish(self, task: FinishTask) -> Concluded:
        """Write how the run ended: ``EVENT_PROCESSED``, ``EVENT_REJECTED`` or ``EVENT_DEAD_LETTERED``."""
        concluded = self.recorder.conclude(task.event, task.conclusion)
        metrics.CONCLUDED.labels(concluded.conclusion.phase).inc()
        return concluded
