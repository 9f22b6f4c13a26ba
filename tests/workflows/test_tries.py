"""How often a step may fail in which way, on a real server: outages do not count, and what is told stays."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import tries
from activities.boundary import UNEXPECTED_ATTEMPTS, async_boundary, boundary
from coafi.errors import IntegrityError, Unavailable
from coafi.events import Wire
from tests.harness import Stack

AT_ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=10), backoff_coefficient=1, maximum_attempts=30)
AWAY = Unavailable("away")
BAD = IntegrityError("bad")


class Named(Wire):
    """Which activity is tried."""

    name: str


@workflow.defn(name="Tried")
class Tried:
    """Does one step."""

    @workflow.run
    async def run(self, task: Named) -> None:
        """Do it."""
        await workflow.execute_activity(
            task.name, task, start_to_close_timeout=timedelta(seconds=10), retry_policy=AT_ONCE
        )


@dataclass
class Failing:
    """A step that fails in these ways, one after the other."""

    errors: list[Exception]
    beats: bool
    told: list[Any] = field(default_factory=list)

    @activity.defn(name="test.blocking", no_thread_cancel_exception=True)
    @boundary
    def blocking(self, task: Named) -> None:
        """Fail, in a thread."""
        self._fail()

    @activity.defn(name="test.asynchronous")
    @async_boundary
    async def asynchronous(self, task: Named) -> None:
        """Fail, in the loop."""
        self._fail()

    def _fail(self) -> None:
        self.told.append(tries.told())
        if self.beats:
            tries.heartbeat(Named(name=str(len(self.told))))
        if self.errors:
            raise self.errors.pop(0)


async def tried(stack: Stack, step: Failing, name: str) -> None:
    queue = f"tries-{uuid.uuid4()}"
    with ThreadPoolExecutor(1) as threads:
        async with Worker(
            stack.client,
            task_queue=queue,
            workflows=[Tried],
            activities=[step.blocking, step.asynchronous],
            activity_executor=threads,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await stack.client.execute_workflow("Tried", Named(name=name), id=queue, task_queue=queue)


@pytest.mark.parametrize("beats", [True, False])
@pytest.mark.parametrize("name", ["test.blocking", "test.asynchronous"])
async def test_outages_do_not_count_among_the_tries_of_another_error(stack: Stack, name: str, beats: bool) -> None:
    step = Failing([*[AWAY] * (UNEXPECTED_ATTEMPTS - 1), BAD, AWAY, RuntimeError()], beats)
    await tried(stack, step, name)
    assert step.told == [()] + ([({"name": str(number)},) for number in range(1, 8)] if beats else [()] * 7)


@pytest.mark.parametrize(("name", "error"), [("test.blocking", BAD), ("test.asynchronous", RuntimeError("oh"))])
async def test_an_error_that_stays_is_final_also_after_outages(stack: Stack, name: str, error: Exception) -> None:
    step = Failing([error, AWAY, *[error] * 20], True)
    with pytest.raises(WorkflowFailureError) as failed:
        await tried(stack, step, name)
    assert isinstance(failed.value.cause, ActivityError)
    assert isinstance(failed.value.cause.cause, ApplicationError)
    assert failed.value.cause.cause.non_retryable
    assert len(step.told) == 1 + UNEXPECTED_ATTEMPTS
