"""The two steps that look at files: ``files.process`` and ``artifacts.generate``, a batch each."""

from dataclasses import dataclass
from typing import TypeVar

from temporalio import activity

from activities.boundary import boundary
from coafi import metrics
from coafi.errors import Unavailable
from coafi.events import Wire
from coafi.names import ActivityName
from coafi.processing import BatchProcessor, BatchTask, Checked, Generated, GenerateTask

Progress = TypeVar("Progress", bound=Wire)


@dataclass(frozen=True)
class FileActivities:
    """Activities on batches of files. They heartbeat what is done, and a retry goes on from there.

    Attributes:
        processor: does the work.
    """

    processor: BatchProcessor

    @activity.defn(name=ActivityName.PROCESS, no_thread_cancel_exception=True)
    @boundary
    def process(self, task: BatchTask) -> Checked:
        """Give each file of a batch its verdict, write ``FILE_PROCESSED``."""
        before = _progress(Checked)
        checked = self.processor.check(task, before, _report)
        for verdict, count in checked.verdicts.items():
            metrics.FILES.labels(verdict).inc(count - before.verdicts.get(verdict, 0))
        return checked

    @activity.defn(name=ActivityName.GENERATE, no_thread_cancel_exception=True)
    @boundary
    def generate(self, task: GenerateTask) -> Generated:
        """Generate the artifacts of a batch's valid files, write ``ARTIFACT_GENERATED``."""
        before = _progress(Generated)
        generated = self.processor.generate(task, before, _report)
        metrics.ARTIFACTS.labels("true").inc(generated.cached - before.cached)
        metrics.ARTIFACTS.labels("false").inc(
            (generated.artifacts - generated.cached) - (before.artifacts - before.cached)
        )
        return generated


def _progress(kind: type[Progress]) -> Progress:
    """Where the attempt before this one got to."""
    details = activity.info().heartbeat_details
    return kind.model_validate(details[0]) if details else kind()


def _report(progress: Wire) -> None:
    """Heartbeat what is done; between two chunks is also the time to stop."""
    activity.heartbeat(progress)
    if activity.is_cancelled():
        raise Unavailable("the worker was told to stop", remedy="nothing: the batch goes on where it stopped")
