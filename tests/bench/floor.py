"""What Temporal itself costs: a run that does nothing, and one with the steps of a push that all do nothing."""

import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from workers.wiring import RUNNER

WORKFLOW_QUEUE = "bench-floor"
ACTIVITY_QUEUE = "bench-floor-activities"
"""Apart, as ours: where a rate can be set, no activity may start eagerly."""

STEPS = 3
"""Regular activities of an ordinary push: fetch, check, generate."""

TIMEOUT = timedelta(minutes=1)


@activity.defn
def nothing() -> None:
    """Do nothing."""


@workflow.defn
class FloorWorkflow:
    """Two local activities around regular ones, or nothing at all."""

    @workflow.run
    async def run(self, steps: int) -> None:
        """Do nothing, in so many regular activities; without any, end at once."""
        if not steps:
            return
        await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)
        for _ in range(steps):
            await workflow.execute_activity(nothing, task_queue=ACTIVITY_QUEUE, start_to_close_timeout=TIMEOUT)
        await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)


async def run_floor(client: Client, steps: int) -> None:
    """One run, to its end."""
    await client.execute_workflow(FloorWorkflow.run, steps, id=f"floor-{uuid.uuid4()}", task_queue=WORKFLOW_QUEUE)


@asynccontextmanager
async def floor_workers(client: Client) -> AsyncIterator[None]:
    """The workers of these runs, in this process."""
    with ThreadPoolExecutor(40) as threads:
        local = Worker(
            client,
            task_queue=WORKFLOW_QUEUE,
            workflows=[FloorWorkflow],
            activities=[nothing],
            activity_executor=threads,
            workflow_runner=RUNNER,
        )
        async with local, Worker(client, task_queue=ACTIVITY_QUEUE, activities=[nothing], activity_executor=threads):
            yield
