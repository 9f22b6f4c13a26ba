"""The edge between the domain and Temporal: errors, log context and step metrics, for every activity alike."""

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import tries
from coafi import metrics
from coafi.errors import CoafiError, Refused, Unavailable
from coafi.events import Wire
from coafi.findings import Finding, Severity

UNEXPECTED = "Unexpected"
"""The error type of whatever the domain did not foresee: a defect of ours or of a library."""

UNEXPECTED_ATTEMPTS = 5
"""Tries that fail in one way that neither waiting nor rejecting answers, before a run parks. Outages do not count."""

log = structlog.stdlib.get_logger()

Self = TypeVar("Self")
Task = TypeVar("Task", bound=Wire)
Result = TypeVar("Result")


def boundary(
    method: Callable[[Self, Task], Result],
) -> Callable[[Self, Task], Result]:
    """Wrap an activity method: its log lines name the run, its time is measured, its errors become Temporal's.

    - ``Refused`` → not retryable, its findings in the details;
    - ``Unavailable`` → retryable until the step's patience ends, ``retry_after`` honoured;
    - every other error of the domain → retryable up to ``UNEXPECTED_ATTEMPTS`` of its kind;
    - anything else → ``Unexpected``, likewise. Its message may quote anything, so it goes to the log, not into history.
    """

    @functools.wraps(method)
    def wrapped(self: Self, task: Task) -> Result:
        with _observed(task):
            return method(self, task)

    return wrapped


def async_boundary(
    method: Callable[[Self, Task], Awaitable[Result]],
) -> Callable[[Self, Task], Coroutine[Any, Any, Result]]:
    """:func:`boundary` for an activity that talks to Temporal itself, whose client is asynchronous."""

    @functools.wraps(method)
    async def wrapped(self: Self, task: Task) -> Result:
        with _observed(task):
            return await method(self, task)

    return wrapped


@contextmanager
def _observed(task: Wire) -> Iterator[None]:
    info = activity.info()
    event = getattr(task, "event", None)
    started = time.perf_counter()
    outcome = "done"
    with structlog.contextvars.bound_contextvars(
        step=info.activity_type,
        attempt=info.attempt,
        workflow_id=info.workflow_id,
        run_id=info.workflow_run_id,
        event_id=getattr(event, "id", None),
        utids=getattr(event, "utids", None),
    ):
        try:
            with tries.counted():
                try:
                    yield
                except Exception as error:
                    outcome = type(error).__name__
                    raise _translate(error, info) from None
        finally:
            seconds = time.perf_counter() - started
            metrics.STEP_SECONDS.labels(info.activity_type, outcome).observe(seconds)
        log.info("step done", milliseconds=round(seconds * 1000))


def _translate(error: Exception, info: activity.Info) -> ApplicationError:
    kind = type(error).__name__
    match error:
        case Refused():
            log.info("step refused", error=kind, reason=str(error))
            findings = error.findings or (_finding(error),)
            details = [finding.model_dump(mode="json") for finding in findings]
            return ApplicationError(str(error), *details, type=error.kind, non_retryable=True)
        case Unavailable():
            log.warning("step waits", error=kind, reason=str(error))
            delay = None if error.retry_after is None else timedelta(seconds=error.retry_after)
            return ApplicationError(str(error), type=error.kind, next_retry_delay=delay)
        case CoafiError():
            log.error("step failed", error=kind, reason=str(error))
            return ApplicationError(str(error), type=kind, non_retryable=tries.failed(kind) >= UNEXPECTED_ATTEMPTS)
        case ApplicationError():
            return error
        case _:
            log.error("step failed unexpectedly", error=kind, exc_info=error)
            count = tries.failed(UNEXPECTED)
            return ApplicationError(
                f"unexpected {kind} in {info.activity_type}, try {count} of {UNEXPECTED_ATTEMPTS}: "
                "the worker's log has the traceback",
                type=UNEXPECTED,
                non_retryable=count >= UNEXPECTED_ATTEMPTS,
            )


def _finding(error: Refused) -> Finding:
    """A refusal as a finding: a run that is rejected always says why."""
    rule = f"event/{type(error).__name__}"
    return Finding(severity=Severity.ERROR, rule=rule, message=error.message, remedy=error.remedy)
