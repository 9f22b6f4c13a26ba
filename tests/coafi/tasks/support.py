"""What the tests of tasks share."""

from datetime import UTC, datetime

from coafi.canonical import JsonObject, sha256
from coafi.events import EventRef
from coafi.names import SCHEDULES, EventType
from coafi.tasks.task import Job

MOMENT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def job(*, due: datetime = MOMENT, beats: list[str] | None = None, **parameters: object) -> Job:
    """A run of a task."""
    asked: JsonObject = {
        name: value for name, value in parameters.items() if isinstance(value, str | int | float | list)
    }
    event = EventRef(
        id=f"test-{due.isoformat()}",
        source=SCHEDULES,
        type=EventType.SCHEDULED_TASK,
        bodydigest=sha256(b""),
        utids="UTIDS-P-00000000000000000000000000",
    )
    return Job(event=event, due=due, parameters=asked, beat=(beats if beats is not None else []).append)
