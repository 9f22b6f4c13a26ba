"""Tasks of schedules (``tasks.run``), and who is told of their alarms (``tasks.alarm``)."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import Priority, SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities import tries
from activities.boundary import async_boundary, boundary
from activities.dispatch import Dispatcher
from activities.notifications import Audience, NotificationTask
from activities.pulse import pulse
from coafi.errors import Unavailable
from coafi.events import Event, EventRef, Wire
from coafi.names import (
    PRIORITY_APPLICATION,
    ActivityName,
    AlarmName,
    SearchAttribute,
    TaskQueue,
    WorkflowName,
    alarm_workflow_id,
    fairness_key,
)
from coafi.notify.message import AlarmNotice
from coafi.notify.subscribers import ALARMS
from coafi.tasks.history import Run
from coafi.tasks.run import TaskDone, TaskRunner, TaskTask

CALL = timedelta(seconds=30)
"""One call of Temporal."""

LONGEST_STEP = 3_600.0
"""Seconds that a task may go without saying what it does, such as a query of a large table."""

PHASE = SearchAttributeKey.for_keyword(SearchAttribute.PHASE)

T = TypeVar("T")


class AlarmTask(Wire):
    """An alarm that was raised."""

    event: EventRef
    schedule: str
    time: str
    done: TaskDone


class Told(Wire):
    """The runs that tell of it."""

    workflow_ids: tuple[str, ...]


@dataclass(frozen=True)
class TaskActivities:
    """Runs tasks.

    Attributes:
        runner: knows all of them.
    """

    runner: TaskRunner

    @activity.defn(name=ActivityName.RUN_TASK, no_thread_cancel_exception=True)
    @boundary
    def run(self, task: TaskTask) -> TaskDone:
        """Do a task, and write ``TASK_COMPLETED``, and ``ALARM_RAISED`` if there is reason to."""
        with pulse(longest=LONGEST_STEP) as alive:

            def beat(text: str) -> None:
                alive()
                _beat(text)

            return self.runner.run(task, beat)


@dataclass(frozen=True)
class AlarmActivities:
    """Starts the runs that tell of alarms.

    Attributes:
        client: of Temporal: the runs are their own, so that a dead subscriber holds up nobody.
        audience: who is told.
    """

    client: Client
    audience: Audience

    @activity.defn(name=ActivityName.ALARM)
    @async_boundary
    async def alarm(self, task: AlarmTask) -> Told:
        """Start a run for each subscriber of alarms; one that was started before is left alone."""
        wanted = {one.name for one in self.audience.subscribers.of_topics((ALARMS,))}
        started = []
        for subscriber in await asyncio.to_thread(self.audience.present, wanted) if wanted else ():
            workflow_id = alarm_workflow_id(AlarmName(subscriber.name, task.event.workflow_id))
            notice = AlarmNotice(
                subscriber=subscriber.name,
                time=task.time,
                workflow_id=task.event.workflow_id,
                task=task.done.task,
                schedule=task.schedule,
                alarms=task.done.alarms,
                count=task.done.counts.get("alarms", len(task.done.alarms)),
                entry=task.done.alarm_entry,
            )
            try:
                await self.client.start_workflow(
                    WorkflowName.NOTIFICATION,
                    NotificationTask(notification=notice, policy=self.audience.policy),
                    id=workflow_id,
                    task_queue=TaskQueue.EVENTS,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(subscriber.host)),
                    static_summary=f"Tell {subscriber.name} of an alarm of {task.done.task}"[:200],
                    rpc_timeout=CALL,
                )
            except WorkflowAlreadyStartedError:
                pass
            except (RPCError, RuntimeError) as error:
                raise _away(error) from error
            started.append(workflow_id)
        return Told(workflow_ids=tuple(started))


@dataclass(frozen=True)
class Calls:
    """Calls Temporal's client, which is asynchronous, from the threads that tasks run on.

    Attributes:
        loop: that the client lives on; another thread than the caller's must run it.
    """

    loop: asyncio.AbstractEventLoop

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
        except (RPCError, RuntimeError) as error:
            raise _away(error) from error


@dataclass(frozen=True)
class TemporalHistory:
    """Temporal, as tasks see it; see :class:`coafi.tasks.history.History`."""

    client: Client
    call: Calls

    def retention(self) -> timedelta:
        """See :class:`coafi.tasks.history.History`."""
        request = DescribeNamespaceRequest(namespace=self.client.namespace)
        answer = self.call(self.client.workflow_service.describe_namespace(request, timeout=CALL))
        return answer.config.workflow_execution_retention_ttl.ToTimedelta()

    def runs(self, closed_after: datetime, beat: Callable[[str], None]) -> Iterator[Run]:
        """See :class:`coafi.tasks.history.History`."""
        since = closed_after.astimezone(UTC).isoformat().replace("+00:00", "Z")
        handled = f"{SearchAttribute.EVENT_TYPE} IS NOT NULL"
        for query in (f"{handled} AND ExecutionStatus='Running'", f"{handled} AND CloseTime >= '{since}'"):
            yield from map(_run, self._listed(query, beat))

    def find(self, workflow_id: str) -> Run | None:
        """See :class:`coafi.tasks.history.History`."""
        return self.call(self._find(workflow_id))

    def open_payloads(self, beat: Callable[[str], None]) -> Iterator[bytes]:
        """See :class:`coafi.tasks.history.History`."""
        for number, run in enumerate(self._listed("ExecutionStatus='Running'", beat)):
            beat(f"looking into open run {number:,}")
            yield self.call(self._history(run.id, run.run_id))

    def check(self) -> None:
        """See :class:`coafi.tasks.history.History`."""
        if not self.call(self.client.service_client.check_health(timeout=CALL)):
            raise Unavailable("Temporal is not serving", remedy="look at its log")

    def _listed(self, query: str, beat: Callable[[str], None]) -> Iterator[WorkflowExecution]:
        runs = self.client.list_workflows(query, page_size=500, rpc_timeout=CALL)
        while True:
            beat("listing runs")
            self.call(runs.fetch_next_page())
            yield from runs.current_page or ()
            if not runs.next_page_token:
                return

    async def _find(self, workflow_id: str) -> Run | None:
        try:
            return _run(await self.client.get_workflow_handle(workflow_id).describe(rpc_timeout=CALL))
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _history(self, workflow_id: str, run_id: str) -> bytes:
        try:
            history = await self.client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history(rpc_timeout=CALL)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return b""  # it ended meanwhile, and what it found out is on the record
            raise
        return b"\0".join(event.SerializeToString() for event in history.events)


@dataclass(frozen=True)
class StartRun:
    """Starts the run of an event, from the threads that tasks run on; whether there was one."""

    dispatcher: Dispatcher
    call: Calls

    def __call__(self, event: Event) -> bool:
        """See :class:`coafi.tasks.reconcile.Start`."""
        return self.call(self.dispatcher.start(event)).existed


def _run(found: WorkflowExecution) -> Run:
    status = found.status or WorkflowExecutionStatus.RUNNING
    phase = found.typed_search_attributes.get(PHASE) or ""
    return Run(found.id, found.run_id, status.name, phase, found.close_time)


def _away(error: Exception) -> Unavailable:
    said = error.message if isinstance(error, RPCError) else str(error)
    return Unavailable(f"Temporal did not answer: {said}", remedy="nothing: it is tried again")


def _beat(text: str) -> None:
    tries.heartbeat(text)
    if activity.is_cancelled() or activity.is_worker_shutdown():
        raise Unavailable("the worker was told to stop", remedy="nothing: the task is done again")
