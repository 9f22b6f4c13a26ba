"""What becomes of the domain's errors in Temporal, what is logged, what is measured."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.boundary import UNEXPECTED, UNEXPECTED_ATTEMPTS, boundary
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IdempotencyConflict,
    IntegrityError,
    LedgerUnavailable,
    PolicyDenied,
    Refused,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.events import EventRef, Wire
from coafi.findings import Finding, Severity
from coafi.git.failures import AccessRefused, CommitNotFound, GitCancelled, GitFailed, MirrorDamaged
from tests.activities.support import EVENT, environment, failure_of

FINDINGS = tuple(
    Finding(severity=Severity.ERROR, rule=f"x/{number}", message="wrong", remedy="mend it", pointer=f"/{number}")
    for number in range(2)
)


class Task(Wire):
    """What the step works on."""

    event: EventRef


@dataclass(frozen=True)
class Steps:
    """A step that does what a test says."""

    do: Callable[[], int]

    @activity.defn(name="a.step", no_thread_cancel_exception=True)
    @boundary
    def step(self, task: Task) -> int:
        """Do it."""
        return self.do()


def raising(error: BaseException) -> Steps:
    def do() -> int:
        raise error

    return Steps(do)


def failed(error: Exception, *, attempt: int = 1) -> ApplicationError:
    return failure_of(environment(step="a.step", attempt=attempt), raising(error).step, Task(event=EVENT))


def tried(*errors: Exception) -> list[ApplicationError]:
    """How each of some tries fails, each of which knows what the one before told last."""
    told: tuple[Any, ...] = ()
    found = []
    for attempt, error in enumerate(errors, 1):
        made = environment(step="a.step", attempt=attempt, heartbeat=told)
        beats = [told]
        made.on_heartbeat = lambda *details, beats=beats: beats.append(details)
        found.append(failure_of(made, raising(error).step, Task(event=EVENT)))
        told = beats[-1]
    return found


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValidationError, "ValidationError"),
        (AuthorizationError, "AuthorizationError"),
        (ResourceNotFoundError, "ResourceNotFoundError"),
        (PolicyDenied, "PolicyDenied"),
        (IdempotencyConflict, "IdempotencyConflict"),
        (CommitNotFound, "ResourceNotFoundError"),
    ],
)
def test_a_refusal_is_not_tried_again_and_carries_its_findings(error: type[Refused], kind: str) -> None:
    result = failed(error("no", remedy="ask", findings=FINDINGS))
    assert (result.type, result.non_retryable, result.message) == (kind, True, "no (ask)")
    assert [Finding.model_validate(one) for one in result.details] == list(FINDINGS)


def test_a_refusal_without_findings_gets_one_that_says_why() -> None:
    result = failed(CommitNotFound("no such commit", remedy="push it"))
    assert [Finding.model_validate(one) for one in result.details] == [
        Finding(severity=Severity.ERROR, rule="event/CommitNotFound", message="no such commit", remedy="push it")
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("away"), "Unavailable"),
        (LedgerUnavailable("away"), "LedgerUnavailable"),
        (GitCancelled("stopped"), "Unavailable"),
    ],
)
@pytest.mark.parametrize("attempt", [1, UNEXPECTED_ATTEMPTS, 500])
def test_what_is_out_of_reach_is_tried_again_however_often(error: Unavailable, kind: str, attempt: int) -> None:
    result = failed(error, attempt=attempt)
    assert (result.type, result.non_retryable, result.next_retry_delay) == (kind, False, None)


def test_a_wait_that_the_other_side_asks_for_is_honoured() -> None:
    assert failed(Unavailable("busy", retry_after=97.5)).next_retry_delay == timedelta(seconds=97.5)
    assert failed(Unavailable("busy", retry_after=0)).next_retry_delay == timedelta(0)


@pytest.mark.parametrize("error", [IntegrityError, MirrorDamaged, AccessRefused, GitFailed, CoafiError])
def test_every_other_error_of_the_domain_is_tried_five_times(error: type[CoafiError]) -> None:
    results = tried(*[error("bad", remedy="restore it")] * (UNEXPECTED_ATTEMPTS + 1))
    assert {(result.type, result.message) for result in results} == {(error.__name__, "bad (restore it)")}
    assert [result.non_retryable for result in results] == [False] * (UNEXPECTED_ATTEMPTS - 1) + [True] * 2


@pytest.mark.parametrize("error", [IntegrityError("bad"), RuntimeError("oh")])
def test_outages_do_not_count_among_the_tries_of_another_error(error: Exception) -> None:
    away = Unavailable("away")
    assert not any(result.non_retryable for result in tried(*[away] * 6, error, away, error, error, away, error))
    assert tried(*[away] * 6, *[error, away] * 4, error)[-1].non_retryable


@pytest.mark.parametrize("error", [RuntimeError("token=hunter2"), KeyError("hunter2"), OSError(5, "hunter2")])
def test_an_unexpected_error_is_not_quoted_and_tried_five_times(error: Exception) -> None:
    results = tried(*[error] * UNEXPECTED_ATTEMPTS)
    assert [result.non_retryable for result in results] == [False] * (UNEXPECTED_ATTEMPTS - 1) + [True]
    for number, result in enumerate(results, 1):
        assert result.type == UNEXPECTED
        assert "hunter2" not in str(result)
        assert f"unexpected {type(error).__name__} in a.step, try {number} of 5" in result.message
        assert result.__cause__ is None
        assert result.__suppress_context__, "the cause would be serialised into history"
        assert result.details == ()


def test_what_already_is_an_error_of_temporals_stays_as_it_is() -> None:
    error = ApplicationError("as it is", type="Custom", non_retryable=True)
    assert failed(error) is error


def test_the_end_of_a_process_is_not_translated() -> None:
    with pytest.raises(KeyboardInterrupt):
        environment().run(raising(KeyboardInterrupt()).step, Task(event=EVENT))


def logged(steps: Steps, *, attempt: int = 1) -> list[EventDict]:
    with (
        capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines,
        contextlib.suppress(ApplicationError),
    ):
        environment(step="a.step", attempt=attempt).run(steps.step, Task(event=EVENT))
    return list(lines)


def saying_something() -> int:
    structlog.get_logger().info("something")
    return 1


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        (Steps(saying_something), [("something", "info"), ("step done", "info")]),
        (raising(ValidationError("no")), [("step refused", "info")]),
        (raising(Unavailable("away")), [("step waits", "warning")]),
        (raising(IntegrityError("bad")), [("step failed", "error")]),
        (raising(RuntimeError("oh")), [("step failed unexpectedly", "error")]),
    ],
)
def test_every_line_names_step_attempt_run_and_event(steps: Steps, lines: list[tuple[str, str]]) -> None:
    found = logged(steps, attempt=3)
    assert [(line["event"], line["log_level"]) for line in found] == lines
    for line in found:
        assert {name: line[name] for name in ("step", "attempt", "workflow_id", "run_id", "event_id", "utids")} == {
            "step": "a.step",
            "attempt": 3,
            "workflow_id": "git.commit:source:d1",
            "run_id": "run1",
            "event_id": EVENT.id,
            "utids": EVENT.utids,
        }


def test_the_log_has_the_traceback_that_history_has_not() -> None:
    error = RuntimeError("token=hunter2")
    (line,) = logged(raising(error))
    assert line["exc_info"] is error


def test_what_was_bound_for_a_step_is_gone_afterwards() -> None:
    logged(raising(RuntimeError("oh")))
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [(Steps(lambda: 1), "done"), (raising(Unavailable("away")), "Unavailable"), (raising(KeyError()), "KeyError")],
)
def test_every_attempt_is_measured_by_its_outcome(steps: Steps, outcome: str) -> None:
    labels = {"step": "a.step", "outcome": outcome}
    before = REGISTRY.get_sample_value("coafi_step_seconds_count", labels) or 0
    logged(steps)
    assert REGISTRY.get_sample_value("coafi_step_seconds_count", labels) == before + 1
