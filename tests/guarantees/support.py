"""What the guarantees have in common: cases side by side, and what a history says of a run's activities."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle, WorkflowHistory

from workflows.lifecycle import Receipt

HANG = 120
"""Seconds after which something hangs; nothing is measured by it."""


async def finished(handle: WorkflowHandle[Any, Receipt], *, seconds: float = HANG) -> Receipt:
    """The receipt of a run that must end."""
    return await asyncio.wait_for(handle.result(), seconds)


Case = Callable[[Path], Coroutine[Any, Any, None]]
"""A case of a test; it gets a directory of its own."""


async def side_by_side(home: Path, cases: Mapping[str, Case]) -> None:
    """Run cases that mostly wait at the same time; all of them end, and each failure names its case."""
    outcomes = await asyncio.gather(*(case(_made(home / name)) for name, case in cases.items()), return_exceptions=True)
    failures = {name: outcome for name, outcome in zip(cases, outcomes, strict=True) if outcome is not None}
    for name, failure in failures.items():
        failure.add_note(f"in the case {name!r}")
    if failures:
        raise BaseExceptionGroup(f"failed: {', '.join(failures)}", list(failures.values()))


@dataclass(frozen=True)
class Activity:
    """One activity of a run, as its history tells; ``attempt`` is the last one, 0 before the first has ended."""

    name: str
    scheduled: datetime
    started: datetime | None = None
    attempt: int = 0
    completed: bool = False


def activities(history: WorkflowHistory, name: str | None = None) -> list[Activity]:
    """The regular activities of a run in the order in which they were scheduled, or those of one name."""
    found: dict[int, Activity] = {}
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                found[event.event_id] = Activity(scheduled.activity_type.name, _time(event))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                known = found[started.scheduled_event_id]
                found[started.scheduled_event_id] = Activity(known.name, known.scheduled, _time(event), started.attempt)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                number = event.activity_task_completed_event_attributes.scheduled_event_id
                known = found[number]
                found[number] = Activity(known.name, known.scheduled, known.started, known.attempt, completed=True)
    return [one for one in found.values() if name in (None, one.name)]


def local_activities(history: WorkflowHistory) -> list[str]:
    """The names of the local activities that a run has on record, in their order."""
    markers = [
        event.marker_recorded_event_attributes
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    ]
    return [
        payload.data.decode().partition('"activity_type":"')[2].partition('"')[0]
        for marker in markers
        if marker.marker_name == "core_local_activity"
        for payload in marker.details["data"].payloads
    ]


def payloads(message: Message) -> Iterator[Payload]:
    """Every payload in a message of Temporal's API, however deep."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            members = [one for one in value.values() if isinstance(one, Message)]
        else:
            members = [value] if isinstance(value, Message) else list(value)
        for member in members:
            yield from payloads(member)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(UTC)
