"""What tasks find, and how it is recorded: once, whatever happens in between."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from coafi.canonical import canonical_json
from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.index.model import IndexTask
from coafi.index.pointers import IndexReader
from coafi.index.update import IndexUpdater
from coafi.ledger.log import Ledger
from coafi.names import (
    AlarmName,
    EntryType,
    EventType,
    TaskName,
    action_workflow_id,
    alarm_workflow_id,
    parse_alarm_workflow_id,
    parse_schedule_id,
    parse_workflow_id,
    schedule_id,
    workflow_id,
)
from coafi.objects.local import LocalObjectStore
from coafi.recording import EventRecorder
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.tasks.compliance_report import ComplianceReport, ComplianceReporter, OpenFinding, TrendPoint
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.pushes import KnownPushes
from coafi.tasks.report_page import report_page
from coafi.tasks.results import TaskResults
from coafi.tasks.run import TaskDone, TaskRunner, TaskTask
from coafi.tasks.task import Job, NoParameters, Task, TaskModel, TaskOutcome, TaskResult
from coafi.trees.listing import TreeFile
from coafi.trees.recorder import TreeRecorder
from tests.coafi.ledger.making import opened
from tests.coafi.tasks.support import MOMENT, job

NAMESPACE = "default"


@dataclass
class Parts:
    """What tasks work with."""

    ledger: Ledger
    recorder: EventRecorder
    objects: LocalObjectStore
    results: TaskResults

    def run(self, task: Task, *, hours: int = 0) -> TaskDone:
        """Run a task as one action of its schedule."""
        due = MOMENT + timedelta(hours=hours)
        runner = TaskRunner({task.name: task}, self.recorder, self.objects, self.results)
        event = job(due=due).event
        said = TaskTask(event=event, schedule="s", task=task.name, parameters={}, due=due, body={"due": str(due)})
        return runner.run(said, lambda _text: None)


@pytest.fixture
def parts(place: Path) -> Iterator[Parts]:
    with opened(place) as ledger:
        database = ledger._state.database
        registry = PublishedSchemas(database)
        registry.publish(builtin_schemas())
        recorder = EventRecorder(ledger=ledger, registry=registry, namespace=NAMESPACE, build="1")
        yield Parts(ledger, recorder, LocalObjectStore(place / "objects"), TaskResults(database))


@dataclass
class Counting:
    """A task that counts how often it is done."""

    name: ClassVar[TaskName] = TaskName.VERIFY_LEDGER
    parameters: ClassVar[type[TaskModel]] = NoParameters

    alarms: tuple[str, ...] = ()
    done: int = 0

    def run(self, _job: Job) -> TaskResult:
        """Count."""
        self.done += 1
        return TaskResult(summary=f"done {self.done} times", alarms=self.alarms, counts={"done": self.done})


def types(parts: Parts) -> list[str]:
    return [one.entry.type for one in parts.ledger.entries(0, parts.ledger.size())]


def test_a_task_that_is_done_again_after_a_crash_is_recorded_once(parts: Parts) -> None:
    task = Counting(alarms=("something is wrong",))
    first = parts.run(task)
    assert first.outcome is TaskOutcome.ALARM
    assert parts.run(task) == first
    assert task.done == 1, "what is on record is not done again"
    assert types(parts) == [EntryType.TASK_COMPLETED, EntryType.ALARM_RAISED]
    assert first.alarm_entry == 1
    (stored,) = parts.results.last(TaskName.VERIFY_LEDGER)
    assert (stored.entry, stored.summary, stored.outcome) == (0, "done 1 times", "alarm")
    assert parts.results.get(stored.workflow_id) == stored == parts.results.at(TaskName.VERIFY_LEDGER, 0)
    parts.run(task, hours=1)
    assert [one.summary for one in parts.results.last(TaskName.VERIFY_LEDGER, 5)] == ["done 2 times", "done 1 times"]


def test_an_alarm_is_told_also_when_the_ledger_cannot_be_written(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise IntegrityError("the ledger contradicts its last checkpoint")

    monkeypatch.setattr(Ledger, "transact", refuse)
    done = parts.run(Counting(alarms=("the ledger is not sound",)))
    assert (done.alarms, done.alarm_entry, done.entries) == (("the ledger is not sound",), None, ())
    with pytest.raises(IntegrityError):
        parts.run(Counting(), hours=1)


def test_a_probe_that_fails_is_named_and_holds_up_no_other(parts: Parts) -> None:
    def away(_beat: object) -> str:
        raise Unavailable("it is away", remedy="wait")

    def broken(_beat: object) -> str:
        raise KeyError("secret")

    probes: dict[str, Callable[[object], str]] = {"a": away, "b": broken, "c": lambda _beat: "fine"}

    def named() -> Mapping[str, Callable[[object], str]]:
        return probes

    result = HealthCheck(named).run(job())
    assert [(one.name, one.ok) for one in result.dependencies] == [("a", False), ("b", False), ("c", True)]
    assert len(result.alarms) == 2
    assert "it is away (wait)" in result.alarms[0]
    assert "secret" not in result.alarms[1]
    assert HealthCheck(named).run(job(skip=["a", "b"])).alarms == ()
    with pytest.raises(ValidationError, match="parameters/skip"):
        HealthCheck(named).run(job(skip="a"))


def test_a_report_has_the_same_bytes_for_the_same_indexes_and_reports(parts: Parts) -> None:
    trees = TreeRecorder(parts.ledger._state.database, parts.objects)
    updater = IndexUpdater(parts.ledger, parts.ledger._state.database, parts.objects, NAMESPACE)
    contents = {"a" * 40: b"---\ntitle: A\nstatus: ACTIVE\n---\n", "b" * 40: b"---\ntitle: B\n---\n"}
    for generation, count in enumerate((1, 2)):
        files = [TreeFile(f"docs/{blob[0]}.md", "100644", blob) for blob in list(contents)[:count]]
        tree = trees.record(trees.plan(files), lambda blobs: ((one, contents[one]) for one in blobs))
        updater.update(
            IndexTask(
                repository="https://x.example/r",
                branch="main",
                generation=generation,
                commit=str(generation) * 40,
                tree=tree,
                commits=(),
            )
        )
        reporter = ComplianceReporter(IndexReader(parts.ledger._state.database), parts.objects, parts.results)
        one, other = reporter.run(job()), reporter.run(job())
        assert one.artifacts == other.artifacts
        done = parts.run(reporter, hours=generation)
        assert done.counts["documents"] == count
    report = ComplianceReport.model_validate_json(parts.objects.get(done.digests["report.json"]))
    assert [point.documents for point in report.trend] == [1, 2]
    assert report.statuses == {"(none)": {"unchecked": 2}}
    assert parts.objects.get(done.digests["report.json"]) == canonical_json(report)
    page = parts.objects.get(done.digests["report.html"]).decode()
    assert page == report_page(report, "Compliance report").decode()
    assert "<script" not in page
    assert page.count("<svg") == 4
    assert "<polyline" in page
    assert json.loads(parts.objects.get(done.digests["result"]))["trend"]["documents"] == 2


def test_nothing_that_documents_say_becomes_markup() -> None:
    bad = "<script>alert(1)</script>"
    point = TrendPoint(due=bad, documents=1, verdicts={"valid": 1}, findings={})
    finding = OpenFinding(repository=bad, branch=bad, path=bad, severity="error", rule=bad, message=bad)
    report = ComplianceReport(
        due=bad,
        documents=1,
        verdicts={"valid": 1},
        statuses={bad: {"valid": 1}},
        findings={"error": 1},
        rules={bad: 1},
        branches=(),
        open=(finding,),
        trend=(point, point),
        damaged=(bad,),
    )
    page = report_page(report, bad).decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8


def test_pushes_are_read_from_where_the_last_time_ended(parts: Parts) -> None:
    pushes = KnownPushes(parts.ledger._state.database, parts.ledger, NAMESPACE)
    assert pushes.catch_up() == 0
    parts.run(Counting())
    assert pushes.catch_up() == 1
    assert pushes.catch_up() == 0
    assert pushes.sources() == []


def test_the_names_of_schedules_and_their_runs_have_inverses() -> None:
    assert parse_schedule_id(schedule_id("nightly")) == "nightly"
    for wrong in ("nightly", "coafi:"):
        with pytest.raises(ValueError, match="coafi:"):
            parse_schedule_id(wrong)
    run = f"{action_workflow_id('nightly')}-2026-11-27T12:00:00Z"
    name = parse_workflow_id(run)
    assert name == (EventType.SCHEDULED_TASK, "/schedules", "nightly-2026-11-27T12:00:00Z")
    assert workflow_id(*name) == run
    alarm = AlarmName("ops", run)
    assert parse_alarm_workflow_id(alarm_workflow_id(alarm)) == alarm
    with pytest.raises(ValueError, match="alarm:"):
        parse_alarm_workflow_id("notify:ops:x")
