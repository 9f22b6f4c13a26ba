"""What a task is given, and what it must give back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol, TypeVar

import pydantic
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256
from coafi.errors import ValidationError
from coafi.events import EventRef, Wire
from coafi.names import TaskName

MAX_ALARM = 2_000
"""Most characters of an alarm."""


class TaskModel(Wire):
    """Base of what a task is asked for and gives back: camelCase on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class TaskOutcome(StrEnum):
    """What came of a task."""

    DONE = "done"
    ALARM = "alarm"


class NoParameters(TaskModel):
    """A task that is asked for nothing more."""


class TaskResult(TaskModel):
    """Base of what a task finds out.

    Attributes:
        summary: one line for people.
        alarms: what somebody has to be told at once; empty when all is well.
        counts: how many of what, for the receipt.
        recorded: ledger indices of what the task itself recorded.
        artifacts: digests of what it left in the object store, by name.
    """

    summary: str = Field(max_length=MAX_ALARM)
    alarms: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    recorded: tuple[int, ...] = ()
    artifacts: dict[str, Sha256] = Field(default_factory=dict)

    @property
    def outcome(self) -> TaskOutcome:
        """Whether somebody has to be told."""
        return TaskOutcome.ALARM if self.alarms else TaskOutcome.DONE


@dataclass(frozen=True)
class Job:
    """One run of a task.

    Attributes:
        event: what it belongs to.
        due: the time that the schedule had in mind.
        parameters: as the file of schedules has them.
        beat: to be called often, with what is being done; raises when the work shall stop.
    """

    event: EventRef
    due: datetime
    parameters: JsonObject
    beat: Callable[[str], None]


class Task(Protocol):
    """A task. Doing it again after a crash must do no harm."""

    name: ClassVar[TaskName]
    parameters: ClassVar[type[TaskModel]]

    def run(self, job: Job) -> TaskResult:
        """Do it.

        Raises:
            Unavailable: something is out of reach; try again.
            CoafiError: it cannot be done.
        """
        ...


Parameters = TypeVar("Parameters", bound=TaskModel)


def parameters_of(model: type[Parameters], job: Job) -> Parameters:
    """What a task was asked for.

    Raises:
        ValidationError: that is not what the task understands.
    """
    try:
        return model.model_validate(job.parameters)
    except pydantic.ValidationError as error:
        raise ValidationError(
            "; ".join(
                f"parameters/{'/'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            ),
            remedy="correct the file of schedules, then: coafi schedules apply",
        ) from None
