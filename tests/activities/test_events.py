"""The light steps, and what they count."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from activities.events import EventActivities, FinishTask, ParkTask, Patience, ReceiveTask
from coafi.canonical import JsonObject
from coafi.errors import LedgerUnavailable
from coafi.events import Event, new_event
from coafi.names import EventType, Phase
from coafi.recording import Conclusion, EventRecorder, Failure, Range
from tests.activities.support import environment, failure_of
from tests.harness import settings_for
from workers.resources import open_resources

PATIENCE = Patience(fetch=1, git=2, files=3, parked=4)
PAYLOAD: JsonObject = {"repositoryUrl": "https://h/x", "commitSha": "a" * 40, "branch": "main", "author": "ada"}
FAILURE = Failure(step="git.fetch", sequence=1, error="Unavailable", message="away")


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventActivities]:
    with open_resources(settings_for(tmp_path)) as resources:
        recorder = EventRecorder(ledger=resources.ledger, registry=resources.registry, namespace="default", build="1")
        yield EventActivities(recorder, PATIENCE)


def event(data: JsonObject) -> Event:
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://h/x",
        delivery_id="d1",
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest="0" * 64,
        principal="p",
        data=data,
    )


def concluded(phase: Phase) -> float:
    return REGISTRY.get_sample_value("coafi_events_concluded_total", {"phase": phase}) or 0


def parked() -> float:
    return REGISTRY.get_sample_value("coafi_events_parked_total", {"step": "git.fetch"}) or 0


def test_a_receipt_tells_the_run_how_patient_to_be(events: EventActivities) -> None:
    result = environment().run(events.receive, ReceiveTask(event=event(PAYLOAD), run_id="run1"))
    assert result.patience == PATIENCE
    assert result.received.phase is Phase.VALIDATED
    assert result.entries == result.received.entries == (Range(first=0, last=0),)


def test_runs_that_end_are_counted_by_how(events: EventActivities) -> None:
    rejected, processed, validated = (concluded(phase) for phase in (Phase.REJECTED, Phase.PROCESSED, Phase.VALIDATED))
    environment().run(events.receive, ReceiveTask(event=event(PAYLOAD), run_id="run1"))
    task = FinishTask(event=event(PAYLOAD).ref(event(PAYLOAD).utids), conclusion=Conclusion(phase=Phase.PROCESSED))
    assert environment().run(events.finish, task).entry == 1
    environment().run(events.receive, ReceiveTask(event=_other(), run_id="run2"))
    assert (concluded(Phase.REJECTED), concluded(Phase.PROCESSED)) == (rejected + 1, processed + 1)
    assert concluded(Phase.VALIDATED) == validated


def _other() -> Event:
    return event({}).model_copy(update={"id": "d2"})


def test_a_park_is_recorded_and_counted(events: EventActivities) -> None:
    before = parked()
    task = ParkTask(event=event(PAYLOAD).ref(event(PAYLOAD).utids), failure=FAILURE)
    assert environment().run(events.park, task) == Range(first=0, last=0)
    assert parked() == before + 1


def test_a_park_that_waits_for_the_ledger_is_counted_once(
    events: EventActivities, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> Range:
        raise LedgerUnavailable("away")

    before = parked()
    task = ParkTask(event=event(PAYLOAD).ref(event(PAYLOAD).utids), failure=FAILURE)
    with monkeypatch.context() as patch:
        patch.setattr(EventRecorder, "park", away)
        assert failure_of(environment(), events.park, task).type == "LedgerUnavailable"
    environment(attempt=2).run(events.park, task)
    assert parked() == before + 1
