"""What waits, as metrics: runs for a person, tasks for a worker.

Temporal is asked when somebody looks, and only so often.
"""

import asyncio
import time
from dataclasses import dataclass, field

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue as TemporalTaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from coafi import metrics
from coafi.names import Phase, SearchAttribute, TaskQueue

log = structlog.stdlib.get_logger()

QUERIES = {
    "parked": f"ExecutionStatus = 'Running' AND {SearchAttribute.PHASE} = '{Phase.PARKED}'",
    # A workflow task that fails again and again: a defect, or code that does not fit the history.
    "reported-problems": "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL",
}
"""Which runs are counted, and how Temporal is asked for them."""

QUEUES = (
    (TaskQueue.EVENTS, "workflow", TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
    *((queue, "activity", TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY) for queue in TaskQueue),
)
"""Which tasks are counted."""

TIMEOUT = 2.0

UNKNOWN = float("nan")


@dataclass
class RunCounts:
    """Counts open runs and tasks.

    Attributes:
        client: of Temporal.
        age: seconds that a count may be old.
    """

    client: Client
    age: float = 10.0
    _counted: float = field(default=float("-inf"), init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def refresh(self) -> None:
        """Bring the metrics up to date. What Temporal does not tell in time is not shown."""
        async with self._turn:
            if time.monotonic() - self._counted < self.age:
                return
            await asyncio.gather(
                *(self._count_runs(name, query) for name, query in QUERIES.items()),
                *(self._count_tasks(*queue) for queue in QUEUES),
            )
            self._counted = time.monotonic()

    async def _count_runs(self, name: str, query: str) -> None:
        count = UNKNOWN
        try:
            async with asyncio.timeout(TIMEOUT):
                count = (await self.client.count_workflows(query)).count
        except Exception as error:  # whatever the reason: an old number would be taken for a new one
            _warn("runs not counted", error, state=name)
        metrics.OPEN_RUNS.labels(name).set(count)

    async def _count_tasks(self, queue: TaskQueue, kind: str, task_queue_type: TaskQueueType.ValueType) -> None:
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TemporalTaskQueue(name=queue),
            task_queue_type=task_queue_type,
            report_stats=True,
        )
        count = seconds = UNKNOWN
        try:
            async with asyncio.timeout(TIMEOUT):
                stats = (await self.client.workflow_service.describe_task_queue(request)).stats
            count = stats.approximate_backlog_count
            seconds = stats.approximate_backlog_age.ToTimedelta().total_seconds()
        except Exception as error:  # likewise
            _warn("tasks not counted", error, queue=queue, kind=kind)
        metrics.QUEUE_BACKLOG.labels(queue, kind).set(count)
        metrics.QUEUE_AGE.labels(queue, kind).set(seconds)


def _warn(what: str, error: Exception, **about: str) -> None:
    log.warning(what, **about, reason=f"{type(error).__name__}: {error}"[:300])
