"""Does a task and puts what came of it on the record: once, however often it is called.

The typed result goes into the object store; ``TASK_COMPLETED`` names it. An alarm is counted and logged before it is
recorded: a ledger that cannot be written any more must not keep it quiet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic import Field

from coafi import metrics
from coafi.canonical import JsonObject, Sha256, canonical_json
from coafi.errors import IntegrityError, ResourceNotFoundError
from coafi.events import EventRef, Wire
from coafi.ledger.entry import Draft, entry_key, timestamp
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType, TaskName
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder, Range, merge_ranges, ranges_of
from coafi.tasks.results import StoredResult, TaskResults, add_result
from coafi.tasks.task import MAX_ALARM, Job, Task, TaskOutcome, TaskResult

log = structlog.stdlib.get_logger()

SHOWN_ALARMS = 20
"""Alarms that an entry of the ledger quotes; all are in the result, and counted."""


class ScheduledTask(Wire):
    """What a schedule asks for: the input of its runs.

    Attributes:
        schedule: its name.
        parameters: what the task is told beside its name.
        give_up_after: seconds that a parked run waits for a decision, where the schedule says so.
    """

    schedule: str
    task: str
    parameters: JsonObject = Field(default_factory=dict)
    give_up_after: float | None = None


class TaskTask(Wire):
    """A task to run, and the event that asks for it.

    Attributes:
        body: the event's payload, which is its body.
        due: the time that the schedule had in mind.
    """

    event: EventRef
    schedule: str
    task: TaskName
    parameters: JsonObject
    due: datetime
    body: JsonObject


class TaskDone(Wire):
    """What came of a task, for the run.

    Attributes:
        result: digest of the typed result.
        alarms: the first of them.
        alarm_entry: index of ``ALARM_RAISED``.
    """

    task: TaskName
    outcome: TaskOutcome
    summary: str
    counts: dict[str, int]
    digests: dict[str, Sha256]
    alarms: tuple[str, ...] = ()
    alarm_entry: int | None = None
    entries: tuple[Range, ...] = ()


@dataclass(frozen=True)
class TaskRunner:
    """Runs tasks.

    Attributes:
        tasks: every task that there is.
    """

    tasks: Mapping[TaskName, Task]
    recorder: EventRecorder
    objects: ObjectStore
    results: TaskResults

    def run(self, task: TaskTask, beat: Callable[[str], None]) -> TaskDone:
        """Do a task and record it; what was recorded before comes back.

        Raises:
            ResourceNotFoundError: this software has no such task.
            CoafiError: as the task raises.
        """
        done = self._recorded(task)
        if done is not None:
            return done
        worker = self.tasks.get(task.task)
        if worker is None:
            raise ResourceNotFoundError(f"there is no task {task.task}", remedy="correct the file of schedules")
        self.objects.put(canonical_json(task.body))
        beat(f"{task.task} begins")
        result = worker.run(Job(event=task.event, due=task.due, parameters=task.parameters, beat=beat))
        if result.alarms:
            metrics.ALARMS.labels(task.task).inc()
            log.error("alarm", task=task.task, schedule=task.schedule, alarms=list(result.alarms[:SHOWN_ALARMS]))
        metrics.TASKS.labels(task.task, result.outcome).inc()
        digest = self.objects.put(canonical_json(result))
        try:
            return self._record(task, result, digest)
        except IntegrityError as error:
            if not result.alarms:
                raise
            log.error("the alarm could not be recorded", task=task.task, reason=str(error))
            return self._done(task, result, digest)

    def _recorded(self, task: TaskTask) -> TaskDone | None:
        """What an earlier attempt recorded."""
        event = task.event
        key = entry_key(self.recorder.namespace, event.workflow_id, _step(task.task), EntryType.TASK_COMPLETED)
        index = self.recorder.ledger.index_of(key)
        if index is None:
            return None
        data = self.recorder.ledger.entry(index).data
        result = TaskResult.model_validate_json(self.objects.get(str(data["result"])), extra="ignore")
        return self._record(task, result, str(data["result"]))

    def _record(self, task: TaskTask, result: TaskResult, digest: str) -> TaskDone:
        drafts = self._drafts(task, result, digest)

        def unit(transaction: LedgerTransaction) -> TaskDone:
            recorded = transaction.append(drafts)
            first = recorded[0]
            stored = StoredResult(
                workflow_id=task.event.workflow_id,
                task=task.task,
                schedule=task.schedule,
                due=timestamp(task.due.astimezone(UTC)),
                outcome=str(first.data["outcome"]),
                summary=str(first.data["summary"]),
                result=str(first.data["result"]),
                artifacts=canonical_json(first.data["artifacts"]).decode(),
                entry=first.index,
            )
            add_result(transaction.connection, stored)
            own = (Range(first=index, last=index) for index in result.recorded)
            alarm = recorded[1].index if len(recorded) > 1 else None
            return self._done(task, result, digest).model_copy(
                update={"entries": merge_ranges([*own, *ranges_of(recorded)]), "alarm_entry": alarm}
            )

        return self.recorder.ledger.transact(unit)

    def _drafts(self, task: TaskTask, result: TaskResult, digest: str) -> list[Draft]:
        said: JsonObject = {"task": task.task, "schedule": task.schedule, "due": timestamp(task.due.astimezone(UTC))}
        completed = self.recorder.draft(
            task.event,
            EntryType.TASK_COMPLETED,
            step=_step(task.task),
            inputs={"task": task.task},
            data={
                **said,
                "outcome": result.outcome,
                "summary": result.summary,
                "counts": dict(result.counts),
                "artifacts": dict(result.artifacts),
                "result": digest,
                "build": self.recorder.build,
            },
        )
        if not result.alarms:
            return [completed]
        alarm = self.recorder.draft(
            task.event,
            EntryType.ALARM_RAISED,
            step=f"alarm/{task.task}",
            inputs={"task": task.task},
            data={**said, "alarms": list(_shown(result)), "count": len(result.alarms), "result": digest},
        )
        return [completed, alarm]

    def _done(self, task: TaskTask, result: TaskResult, digest: str) -> TaskDone:
        return TaskDone(
            task=task.task,
            outcome=result.outcome,
            summary=result.summary,
            counts={**result.counts, **({"alarms": len(result.alarms)} if result.alarms else {})},
            digests={"result": digest, **result.artifacts},
            alarms=_shown(result),
        )


def _step(task: TaskName) -> str:
    return f"task/{task}"


def _shown(result: TaskResult) -> tuple[str, ...]:
    return tuple(alarm[:MAX_ALARM] for alarm in result.alarms[:SHOWN_ALARMS])
