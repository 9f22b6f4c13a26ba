"""The two steps that look at files: ``files.process`` and ``artifacts.generate``, a batch each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from temporalio import activity

from activities import tries
from activities.boundary import boundary
from activities.pulse import pulse
from coafi import metrics
from coafi.errors import Unavailable
from coafi.events import Wire
from coafi.names import ActivityName
from coafi.processing import BatchProcessor, BatchTask, Checked, Generated, GenerateTask

SILENCE = 2.0
"""Seconds after which a heartbeat says that the worker is still there: each costs Temporal a state transition."""

Done = TypeVar("Done", bound=Wire)


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
        progress = _Progress(Checked, _count_files)
        with progress.alive():
            return progress.ended(self.processor.check(task, progress.done, progress.report))

    @activity.defn(name=ActivityName.GENERATE, no_thread_cancel_exception=True)
    @boundary
    def generate(self, task: GenerateTask) -> Generated:
        """Generate the artifacts of a batch's valid files, write ``ARTIFACT_GENERATED``."""
        progress = _Progress(Generated, _count_artifacts)
        with progress.alive():
            return progress.ended(self.processor.generate(task, progress.done, progress.report))


class _Progress(Generic[Done]):
    """How far an attempt has come; the one before it told where to begin.

    Attributes:
        done: what is done and counted.
    """

    def __init__(self, kind: type[Done], count: Callable[[Done, Done], None]) -> None:
        details = tries.told()
        self.done = kind.model_validate(details[0]) if details else kind()
        self._count = count
        self._told = time.monotonic()
        self._one_is_done: Callable[[], None] = lambda: None

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Heartbeat also while one file takes long."""
        with pulse(lambda: self.done) as self._one_is_done:
            yield

    def report(self, done: Done) -> None:
        """Heartbeat when more is done, or when nothing was told for a while; it is also the time to stop."""
        self._one_is_done()
        now = time.monotonic()
        if done != self.done or now - self._told > SILENCE:
            self._told = now
            tries.heartbeat(done)
        self.ended(done)
        if activity.is_cancelled():
            raise Unavailable("the worker was told to stop", remedy="nothing: the batch goes on where it stopped")

    def ended(self, done: Done) -> Done:
        """Count what is done now and was not before."""
        self._count(self.done, done)
        self.done = done
        return done


def _count_files(before: Checked, now: Checked) -> None:
    for verdict, count in now.verdicts.items():
        metrics.FILES.labels(verdict).inc(count - before.verdicts.get(verdict, 0))


def _count_artifacts(before: Generated, now: Generated) -> None:
    cached = now.cached - before.cached
    metrics.ARTIFACTS.labels("true").inc(cached)
    metrics.ARTIFACTS.labels("false").inc(now.artifacts - before.artifacts - cached)
