"""The cheapest workflow with as many activities as a push has, which all do nothing: what Temporal itself costs."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

WORKFLOW_QUEUE = "bench-floor"
ACTIVITY_QUEUE = "bench-floor-activities"
"""Apart, as ours: where a rate can be set, no activity may start eagerly."""

TIMEOUT = timedelta(minutes=1)


@activity.defn
def nothing() -> None:
    """Do nothing."""


async def _nothing() -> None:
    await workflow.execute_activity(nothing, task_queue=ACTIVITY_QUEUE, start_to_close_timeout=TIMEOUT)


@workflow.defn
class FloorWorkflow:
    """Two local activities around regular ones."""

    @workflow.run
    async def run(self, widths: list[int]) -> None:
        """Do nothing: one group after the other, and in each so many regular activities side by side."""
        await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)
        for width in widths:
            await asyncio.gather(*(_nothing() for _ in range(width)))
        await workflow.execute_local_activity(nothing, start_to_close_timeout=TIMEOUT)
