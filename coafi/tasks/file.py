"""The file of schedules: what is started when. Checked in full before anything is changed; errors name line and column.

::

    timeZone: Europe/Madrid
    schedules:
      verify-ledger:
        task: verify-ledger
        cron: 17 3 * * *
        jitter: 10m
        overlap: skip
        catchUp: 6h
        pauseOnFailure: false

A schedule is due at the times of ``cron`` (one or a list), or ``every`` so often (with an ``offset``). Durations are
written ``90s``, ``15m``, ``6h``, ``7d``.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import pydantic
import yaml
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from coafi.canonical import JsonObject, digest_of
from coafi.errors import ValidationError
from coafi.events import Wire
from coafi.names import TaskName
from coafi.tasks.cron import Calendar, parse_cron
from coafi.tasks.parameters import PARAMETERS
from coafi.tasks.task import TaskModel

MAX_FILE = 2**20
"""Bytes of a file of schedules."""

MAX_SCHEDULES = 200
"""Schedules in a file."""

LONGEST = 366 * 86_400
"""Seconds of the longest duration."""

_DURATION = re.compile(r"(\d{1,8})(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _seconds(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return int(match[1]) * _UNITS[match[2]]
    raise ValueError(f"{value!r} is no duration: write 90s, 15m, 6h or 7d")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _cron(value: str) -> str:
    parse_cron(value)
    return " ".join(value.split())


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as Europe/Madrid or UTC")
    ZoneInfo(value)
    return value


Duration = Annotated[int, BeforeValidator(_seconds), Field(ge=0, le=LONGEST)]
"""Seconds, written ``15m``."""

Cron = Annotated[str, pydantic.AfterValidator(_cron)]
TimeZone = Annotated[str, pydantic.AfterValidator(_zone)]
ScheduleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Overlap = Literal["skip", "buffer-one", "buffer-all", "cancel-other", "terminate-other", "allow-all"]


class Schedule(TaskModel):
    """One schedule.

    Attributes:
        task: what is done.
        description: for people.
        cron: when; or ``every``, with an ``offset`` from midnight UTC of 1 January 1970.
        time_zone: that ``cron`` means; by default that of the file.
        jitter: up to so much later, at random: not all at once.
        overlap: what happens when it is due while it still runs.
        catch_up: how late it may be started after an outage; what is older is left out.
        pause_on_failure: whether it stops when a run fails: is rejected, discarded or given up. An alarm is no failure.
        give_up_after: how long a parked run waits for a decision; by default as all runs; ``0s`` is not at all.
        paused: whether it begins paused. What an operator paused or resumed since is left alone.
        parameters: what the task is told; see each task.
    """

    task: TaskName
    description: Annotated[str, StringConstraints(max_length=200)] = ""
    cron: Annotated[tuple[Cron, ...], BeforeValidator(_listed), Field(max_length=10)] = ()
    every: Annotated[Duration, Field(ge=10)] | None = None
    offset: Duration = 0
    time_zone: TimeZone = "UTC"
    jitter: Duration = 0
    overlap: Overlap = "skip"
    catch_up: Annotated[Duration, Field(ge=10)] = 3_600
    pause_on_failure: bool = False
    give_up_after: Duration | None = None
    paused: bool = False
    parameters: JsonObject = Field(default_factory=dict)

    @model_validator(mode="after")
    def _timed(self) -> "Schedule":
        if bool(self.cron) == (self.every is not None):
            raise ValueError("give either cron or every")
        if self.offset and self.every is None:
            raise ValueError("offset goes with every")
        if self.pause_on_failure and self.overlap == "allow-all":
            raise ValueError(
                "pauseOnFailure does not go with overlap allow-all: Temporal then follows no run to its end"
            )
        return self

    @property
    def calendars(self) -> tuple[Calendar, ...]:
        """The times of ``cron``."""
        return tuple(map(parse_cron, self.cron))

    @property
    def definition(self) -> JsonObject:
        """What is compared: everything but whether it begins paused."""
        return self.model_dump(mode="json", by_alias=True, exclude={"paused"}, exclude_none=True)

    @cached_property
    def digest(self) -> str:
        """Digest of the definition."""
        return digest_of(self.definition)


class ScheduleFile(Wire):
    """A whole file, by the names of its schedules."""

    schedules: Mapping[str, Schedule]


class _File(TaskModel):
    time_zone: TimeZone = "UTC"
    schedules: dict[ScheduleName, Any] = Field(max_length=MAX_SCHEDULES)


def load_schedules(path: Path | None) -> ScheduleFile:
    """The schedules of a file; those of the package without one.

    Raises:
        ValidationError: the file cannot be read or is not right; every wrong place is named, with line and column.
    """
    if path is None:
        return parse_schedules((files("coafi.tasks") / "schedules.yaml").read_bytes(), "the schedules of the package")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValidationError(
            f"the file of schedules {path} cannot be read: {error.strerror}", remedy="correct COAFI_SCHEDULES"
        ) from error
    return parse_schedules(data, str(path))


def parse_schedules(data: bytes, name: str) -> ScheduleFile:
    """The schedules in the bytes of a file.

    Args:
        name: what to call the file in messages.

    Raises:
        ValidationError: see :func:`load_schedules`.
    """
    if len(data) > MAX_FILE:
        raise _wrong(name, [f"it is larger than {MAX_FILE} bytes"])
    reader = _Reader()
    try:
        value = reader.read(data)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise _wrong(name, [f"{place}{error.problem or 'this is no YAML'}"]) from None
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise _wrong(name, [f"this is no YAML: {str(error).splitlines()[0]}"]) from None
    problems = list(reader.problems)
    try:
        written = _File.model_validate(value)
    except pydantic.ValidationError as error:
        raise _wrong(name, [*problems, *_problems(error, (), reader)]) from None
    found: dict[str, Schedule] = {}
    for schedule, body in written.schedules.items():
        said = {"timeZone": written.time_zone, **body} if isinstance(body, dict) else body
        try:
            found[schedule] = Schedule.model_validate(said)
            PARAMETERS[found[schedule].task].model_validate(found[schedule].parameters)
        except pydantic.ValidationError as error:
            inside = ("schedules", schedule, *(("parameters",) if schedule in found else ()))
            problems += _problems(error, inside, reader)
    if problems:
        raise _wrong(name, problems)
    return ScheduleFile(schedules=dict(sorted(found.items())))


def _problems(error: pydantic.ValidationError, inside: tuple[str | int, ...], reader: "_Reader") -> Iterator[str]:
    for problem in error.errors(include_url=False):
        where = (*inside, *(part for part in problem["loc"] if part != "[key]"))
        line, column = reader.place(where)
        said = problem["msg"].removeprefix("Value error, ")
        yield f"{line}:{column}: {'.'.join(str(part) for part in where) or 'file'}: {said}"


def _wrong(name: str, problems: list[str]) -> ValidationError:
    return ValidationError(f"{name} is not right: " + "; ".join(problems), remedy="correct it; see docs/schedules.md")


class _Reader:
    """Reads YAML and remembers where everything stands.

    Attributes:
        problems: keys that come twice.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._places: dict[tuple[str | int, ...], tuple[int, int]] = {}

    def read(self, data: bytes) -> Any:  # noqa: ANN401  # whatever the file holds
        loader = yaml.SafeLoader(data)
        try:
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, ())
        finally:
            loader.dispose()

    def place(self, where: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column, from 1, of the innermost part of ``where`` that there is."""
        for end in range(len(where), -1, -1):
            if where[:end] in self._places:
                return self._places[where[:end]]
        return 1, 1

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, where: tuple[str | int, ...]) -> Any:  # noqa: ANN401
        self._places.setdefault(where, _place(node))
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
                here = (*where, key)
                if key in found:
                    line, column = _place(key_node)
                    self.problems.append(f"{line}:{column}: {'.'.join(map(str, here))}: comes twice")
                self._places[here] = _place(key_node)
                found[key] = self._value(loader, value_node, here)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, one, (*where, number)) for number, one in enumerate(node.value)]
        return loader.construct_object(node)


def _place(node: yaml.Node) -> tuple[int, int]:
    mark = node.start_mark
    return mark.line + 1, mark.column + 1
