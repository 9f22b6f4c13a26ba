"""A schedule was due: its task is done, recorded, and whoever has to know of an alarm is told.

Temporal makes the run's id from the schedule and the time it had in mind, and the event is made from that id: one event
for each action, whether it was due, triggered, backfilled, or overlaps another one. A run that does not end as
``PROCESSED`` fails in Temporal's eyes, so that the schedule pauses if it is told to.

Queries and updates: see :class:`workflows.lifecycle.EventWorkflow`.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from workflows.lifecycle import EventWorkflow, Outcome, Receipt, light, patient

with workflow.unsafe.imports_passed_through():
    from activities.events import Patience
    from activities.tasks import AlarmActivities, AlarmTask, TaskActivities
    from coafi.canonical import JsonObject, canonical_json, sha256
    from coafi.events import Event, EventRef, new_event
    from coafi.names import EventType, Phase, SearchAttribute, TaskName, TaskQueue, WorkflowName, parse_workflow_id
    from coafi.recording import Conclusion
    from coafi.tasks.run import ScheduledTask, TaskDone, TaskTask

TASK_TIMEOUT = timedelta(hours=12)
"""One try of a task: a ledger of many millions of entries takes its time."""

HEARTBEAT_TIMEOUT = timedelta(seconds=30)
"""A worker that was killed is noticed after this long."""

NOT_PROCESSED = "TaskNotProcessed"
"""The type of the error with which a run ends whose task was not done."""

SCHEDULED_TIME = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
EVENT_ID = SearchAttributeKey.for_keyword(SearchAttribute.EVENT_ID)


@workflow.defn(name=WorkflowName.SCHEDULED_TASK)
class ScheduledTaskWorkflow(EventWorkflow):
    """Takes one action of a schedule from its receipt to ``EVENT_PROCESSED``."""

    @workflow.init
    def __init__(self, task: ScheduledTask) -> None:
        super().__init__()
        self._task = task
        self._done_task: TaskDone | None = None

    @workflow.run
    async def run(self, _task: ScheduledTask) -> Receipt:
        """Do the task. The result is the receipt of its event."""
        event = self._event()
        workflow.upsert_search_attributes([EVENT_ID.value_set(event.id)])
        receipt = await self.handle(event, partial(self._do, event))
        await workflow.wait_condition(workflow.all_handlers_finished)
        if receipt.phase in (Phase.FAILED, Phase.REJECTED):
            why = receipt.failure.message if receipt.failure else "; ".join(one.message for one in receipt.findings)
            raise ApplicationError(
                f"{self._task.task} is {receipt.phase}: {why}",
                receipt.model_dump(mode="json"),
                type=NOT_PROCESSED,
                non_retryable=True,
            )
        return receipt

    def asked(self) -> str:
        """What is done, for which schedule."""
        return f"`{self._task.task}` of the schedule `{self._task.schedule}`"

    def came_of_it(self, conclusion: Conclusion) -> str:
        """What the task found."""
        if self._done_task is None:
            return super().came_of_it(conclusion)
        alarms = "\n".join(f"- **alarm**: {one}" for one in self._done_task.alarms)
        return "\n\n".join(filter(None, (super().came_of_it(conclusion), self._done_task.summary, alarms)))

    def patience_when_parked(self, settings: float) -> float:
        """As the schedule says, or as all runs."""
        return settings if self._task.give_up_after is None else self._task.give_up_after

    def _event(self) -> Event:
        """The event that this run handles, made from nothing but what is in its history."""
        info = workflow.info()
        name = parse_workflow_id(info.workflow_id)
        data: JsonObject = {
            "schedule": self._task.schedule,
            "task": self._task.task,
            "parameters": self._task.parameters,
            "scheduledTime": _due().isoformat().replace("+00:00", "Z"),
        }
        return new_event(
            event_type=EventType.SCHEDULED_TASK,
            source=name.source,
            delivery_id=name.delivery_id,
            time=info.workflow_start_time,
            body_digest=sha256(canonical_json(data)),
            principal=f"schedule:{self._task.schedule}",
            data=data,
        )

    async def _do(self, event: Event, ref: EventRef, patience: Patience) -> Outcome:
        task = TaskTask(
            event=ref,
            schedule=self._task.schedule,
            task=TaskName(self._task.task),
            parameters=self._task.parameters,
            due=_due(),
            body=event.data,
        )
        done = self._done_task = await self.step("tasks.run", partial(self._run, task, patience.files))
        if done.alarms:
            await self._tell(event, done)
        return Outcome(counts=done.counts, digests=done.digests)

    async def _run(self, task: TaskTask, patience: float) -> TaskDone:
        return await workflow.execute_activity_method(
            TaskActivities.run,
            task,
            task_queue=TaskQueue.TASKS,
            start_to_close_timeout=TASK_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(patience),
            summary=f"{task.task}",
        )

    async def _tell(self, event: Event, done: TaskDone) -> None:
        """Start the runs that tell subscribers. Whatever becomes of that, the alarm is on the record."""
        task = AlarmTask(
            event=event.ref(event.utids),
            schedule=self._task.schedule,
            time=_due().isoformat().replace("+00:00", "Z"),
            done=done,
        )
        try:
            await light(AlarmActivities.alarm, task, "Tell subscribers of the alarm")
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("nobody was told of the alarm", exc_info=error)


def _due() -> datetime:
    """The time that the schedule had in mind; of a run that no schedule started, when it began."""
    info = workflow.info()
    due = info.typed_search_attributes.get(SCHEDULED_TIME) or info.workflow_start_time
    return due.astimezone(UTC)
