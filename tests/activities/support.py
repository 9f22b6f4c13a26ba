"""Activities in Temporal's own environment for them, without a server."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from coafi.events import EventRef

Task = TypeVar("Task")
Result = TypeVar("Result")

EVENT = EventRef(
    id="d1",
    source="https://git.example/acme/docs",
    type="git.commit",
    bodydigest="0" * 64,
    utids="UTIDS-P-0000000000000000000000000A",
)


def environment(
    *, step: str = "git.fetch", attempt: int = 1, allowed: int | None = None, heartbeat: tuple[Any, ...] = ()
) -> ActivityEnvironment:
    """An attempt of a step.

    Args:
        allowed: how many attempts its retry policy allows; 0 for any number, ``None`` for no policy.
        heartbeat: what the attempt before this one reported last.
    """
    made = ActivityEnvironment()
    made.info = dataclasses.replace(
        made.info,
        activity_type=step,
        attempt=attempt,
        workflow_id="git.commit:source:d1",
        workflow_run_id="run1",
        heartbeat_details=heartbeat,
        retry_policy=None
        if allowed is None
        else RetryPolicy(maximum_attempts=allowed, initial_interval=timedelta(seconds=1)),
    )
    made.payload_converter = pydantic_data_converter.payload_converter
    return made


def failure_of(made: ActivityEnvironment, method: Callable[[Task], Result], task: Task) -> ApplicationError:
    """How an attempt fails."""
    with pytest.raises(ApplicationError) as failed:
        made.run(method, task)
    return failed.value
