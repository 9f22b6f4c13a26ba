"""Schedules on a real Temporal: what they start, and what becomes of it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from git import Repo
from prometheus_client import REGISTRY
from sqlalchemy import text
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from coafi.canonical import JsonObject
from coafi.errors import IntegrityError, Unavailable
from coafi.git.fetch import GitFetcher
from coafi.names import (
    ActivityName,
    EntryType,
    Phase,
    TaskName,
    action_workflow_id,
    parse_workflow_id,
    schedule_id,
)
from coafi.tasks.archive_file import verify_archive
from coafi.tasks.compliance_report import ComplianceReport
from coafi.tasks.file import ScheduleFile, parse_schedules
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.results import TaskResults
from starters.schedules import Change, Step, apply_at_start, perform, plan
from tests.harness import Repository, Stack, documents, history_of, push_payload, running_stack, until, worker_process
from tests.workflows.support import Run, assert_receipt_names_every_entry, broken, entries_of, parked, retried
from tests.workflows.test_notification import KEY, receiver
from workers.wiring import running_workers
from workflows.scheduled_task import NOT_PROCESSED

HOURLY = "0 * * * *"


def written(name: str, task: TaskName, **more: Any) -> ScheduleFile:
    """A file with one schedule, which is not due while a test runs."""
    said = {"task": str(task), "cron": "0 0 29 2 *", **more}
    return parse_schedules(json.dumps({"schedules": {name: said}}).encode(), "test")


async def applied(stack: Stack, file: ScheduleFile) -> list[Step]:
    """Apply what a file says of its own schedules, and leave those of others."""
    steps = [step for step in await plan(stack.client, file) if step.change in (Change.CREATE, Change.UPDATE)]
    await perform(stack.client, steps)
    return steps


async def triggered(stack: Stack, name: str, task: TaskName, **more: Any) -> Run:
    """The run of a schedule that is started now."""
    await applied(stack, written(name, task, **more))
    handle = stack.client.get_schedule_handle(schedule_id(name))
    before = (await handle.describe()).info.num_actions
    if before:
        await asyncio.sleep(1.05)  # two within a second are one event
    await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ALL)

    async def started() -> bool:
        return (await handle.describe()).info.num_actions > before

    await until(started)
    action: Any = (await handle.describe()).info.recent_actions[-1].action
    return stack.handle(action.workflow_id)


async def details(stack: Stack, run: Run, *, readable: bool = True) -> JsonObject:
    """The typed result of a run that ended well; ``readable``: the whole ledger can be read."""
    receipt = await asyncio.wait_for(run.result(), 60)
    assert receipt.phase is Phase.PROCESSED
    if readable:
        assert_receipt_names_every_entry(stack, receipt)
    result: JsonObject = json.loads(stack.resources.objects.get(receipt.digests["result"]))
    return result


def alarms_counted(task: TaskName) -> float:
    return REGISTRY.get_sample_value("coafi_alarms_total", {"task": task}) or 0.0


async def test_a_second_apply_changes_nothing_and_others_schedules_are_left_alone(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        file = written("one", TaskName.VERIFY_LEDGER, cron=[HOURLY, "5,10-20/3 4 * jan-mar sun"], jitter="5m")
        (step,) = await applied(stack, file)
        assert step.change is Change.CREATE
        other = await stack.client.create_schedule("not-ours", (await _described(stack, "one")).schedule)
        assert {one.change for one in await plan(stack.client, file)} == {Change.KEEP}

        await stack.client.get_schedule_handle(schedule_id("one")).pause(note="ada: looking into it")
        changed = written("one", TaskName.VERIFY_LEDGER, cron=HOURLY, overlap="buffer-one", timeZone="Europe/Madrid")
        (step,) = await applied(stack, changed)
        assert step.change is Change.UPDATE
        assert step.fields["cron"] == ([HOURLY, "5,10-20/3 4 * jan-mar sun"], [HOURLY])
        assert step.fields["timeZone"] == ("UTC", "Europe/Madrid")
        assert step.fields["jitter"] == (300, 0)
        found = (await _described(stack, "one")).schedule
        assert found.state.paused, "apply does not undo what an operator decided"
        assert found.state.note == "ada: looking into it"
        assert found.policy.overlap is ScheduleOverlapPolicy.BUFFER_ONE
        assert found.spec.time_zone_name == "Europe/Madrid"

        assert await apply_at_start(stack.client, stack.settings) == 9, "one is removed, eight are made"
        names = {one.id async for one in await stack.client.list_schedules()}
        assert {"not-ours"} <= names
        assert await apply_at_start(stack.client, stack.settings) == 0
        await other.delete()


async def _described(stack: Stack, name: str) -> Any:
    return await stack.client.get_schedule_handle(schedule_id(name)).describe()


async def test_each_time_is_one_event_and_a_time_that_was_done_is_not_done_again(stack: Stack) -> None:
    await applied(stack, written("backfilled", TaskName.PUBLISH_CHECKPOINT, cron=HOURLY, catchUp="1d"))
    handle = stack.client.get_schedule_handle(schedule_id("backfilled"))
    await handle.pause()
    start = datetime(2026, 5, 1, 10, tzinfo=UTC)
    fill = ScheduleBackfill(start - timedelta(seconds=1), start + timedelta(hours=2), ScheduleOverlapPolicy.BUFFER_ALL)
    ids = [f"{action_workflow_id('backfilled')}-2026-05-01T{hour}:00:00Z" for hour in (10, 11, 12)]
    for _ in range(2):
        done = (await handle.describe()).info.num_actions
        await handle.backfill(fill)

        async def all_done(before: int = done) -> bool:
            info = (await handle.describe()).info
            return info.num_actions == before + 3 and not info.running_actions

        await until(all_done)
    for workflow_id, hour in zip(ids, (10, 11, 12), strict=True):
        receipt = await stack.handle(workflow_id).result()
        assert receipt.phase is Phase.DUPLICATE
        assert receipt.event_id == parse_workflow_id(workflow_id).delivery_id
        entries = entries_of(stack, workflow_id)
        assert [one.entry.type for one in entries] == [
            EntryType.EVENT_RECEIVED,
            EntryType.CHECKPOINT_PUBLISHED,
            EntryType.TASK_COMPLETED,
            EntryType.EVENT_PROCESSED,
        ]
        assert entries[0].data["parameters"] == {
            "schedule": "backfilled",
            "task": "publish-checkpoint",
            "parameters": {},
            "scheduledTime": f"2026-05-01T{hour}:00:00Z",
        }
        assert entries[0].data["principal"] == "schedule:backfilled"
        assert stack.resources.objects.has(str(entries[0].data["bodyDigest"]))
    stack.verify()


async def test_a_task_that_fails_parks_and_goes_on_when_it_is_told_to(stack: Stack) -> None:
    with (
        broken(HealthCheck, "run", IntegrityError("it is damaged")),
        patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1),
    ):
        run = await triggered(stack, "parks", TaskName.HEALTH_CHECK)
        await parked(stack, run)
    await retried(run)
    receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts["dependencies"] >= 4
    assert_receipt_names_every_entry(stack, receipt)


async def test_a_schedule_pauses_itself_when_a_run_is_given_up(stack: Stack) -> None:
    with (
        broken(HealthCheck, "run", IntegrityError("it is damaged")),
        patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1),
    ):
        run = await triggered(stack, "pauses", TaskName.HEALTH_CHECK, giveUpAfter="0s", pauseOnFailure=True)
        with pytest.raises(WorkflowFailureError) as failed:
            await run.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == NOT_PROCESSED
    assert [one.entry.type for one in entries_of(stack, run.id)] == [
        EntryType.EVENT_RECEIVED,
        EntryType.EVENT_PROCESSING_FAILED,
        EntryType.EVENT_DEAD_LETTERED,
    ]

    async def paused() -> bool:
        return bool((await _described(stack, "pauses")).schedule.state.paused)

    await until(paused)


async def test_what_no_webhook_delivered_is_started_once_and_a_late_delivery_is_a_duplicate(
    stack: Stack, repository: Repository
) -> None:
    url = repository.path.as_uri()
    await (await stack.accepted(repository.push(documents(1)))).result()
    repository.branch("feature/x")
    late = repository.push(documents(2))
    asked: dict[str, Any] = {"parameters": {"grace": 0, "repositories": [url]}}
    found = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
    assert found["counts"] == {"started": 2}
    branches = found["branches"]
    assert isinstance(branches, list)
    missed, new = sorted(branches, key=lambda one: str(one["branch"]), reverse=True)  # type: ignore[index, call-overload]
    assert (missed["branch"], missed["before"], missed["after"]) == ("main", late["before"], late["after"])  # type: ignore[index, call-overload]
    assert (new["branch"], new["before"]) == ("feature/x", "0" * 40)  # type: ignore[index, call-overload]
    workflow_id = str(missed["workflowId"])  # type: ignore[index, call-overload]
    receipt = await stack.handle(workflow_id).result()
    assert (receipt.phase, receipt.counts["files"]) == (Phase.PROCESSED, 1)
    assert entries_of(stack, workflow_id)[0].data["principal"] == "reconciled"

    again = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
    assert again["summary"] == "nothing was missed"
    size = stack.resources.ledger.size()
    duplicate = await (await stack.accepted(late)).result()
    assert duplicate.phase is Phase.DUPLICATE
    assert duplicate.duplicate_of == receipt_run(stack, workflow_id)
    assert stack.resources.ledger.size() == size

    back = push_payload(url, str(late["before"]), before=str(late["after"]))
    assert (await (await stack.accepted(back)).result()).phase is Phase.PROCESSED
    # Forced back to where it was: the same move again, and nobody told.
    moved = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
    branch = moved["branches"][0]  # type: ignore[index]
    assert branch["earlier"] == 1  # type: ignore[index, call-overload]
    assert str(branch["workflowId"]).endswith("-1")  # type: ignore[index, call-overload]
    assert (await stack.handle(str(branch["workflowId"])).result()).phase is Phase.PROCESSED  # type: ignore[index, call-overload]


async def test_the_run_of_a_missed_push_that_is_lost_is_started_again(stack: Stack, repository: Repository) -> None:
    """Nobody could deliver it again: to its host it is delivered, or forgotten."""
    await (await stack.accepted(repository.push(documents(1)))).result()
    late = repository.push(documents(2))
    asked: dict[str, Any] = {"parameters": {"grace": 0, "repositories": [repository.path.as_uri()]}}
    with broken(GitFetcher, "fetch", Unavailable("the host is away")):
        found = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
        run = stack.handle(str(found["branches"][0]["workflowId"]))  # type: ignore[index, call-overload]
        await parked(stack, run)
        waits = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
        assert waits["summary"] == "nothing was missed"
        await run.terminate("lost")
    assert (await (await stack.accepted(late)).result()).phase is Phase.DUPLICATE
    again = await details(stack, await triggered(stack, "reconciles", TaskName.RECONCILE, **asked))
    assert again["counts"] == {"started": 1}
    assert again["branches"][0]["workflowId"] == run.id  # type: ignore[index, call-overload]
    assert (await run.result()).phase is Phase.PROCESSED
    assert [one.entry.type for one in entries_of(stack, run.id)].count(EntryType.EVENT_RECEIVED) == 1


def receipt_run(stack: Stack, workflow_id: str) -> str:
    """The run that owns a delivery."""
    return str(entries_of(stack, workflow_id)[0].data["runId"])


async def test_a_branch_that_is_gone_and_a_host_that_is_down(stack: Stack, repository: Repository) -> None:
    url = repository.path.as_uri()
    await (await stack.accepted(repository.push(documents(1)))).result()
    away = repository.path.with_name(f"{repository.path.name}-away")
    asked: dict[str, Any] = {"parameters": {"grace": 0, "repositories": [url]}}
    repository.path.rename(away)
    found = await details(stack, await triggered(stack, "hosts", TaskName.RECONCILE, **asked))
    assert found["counts"] == {"unreachable": 1}
    assert found["unreachable"].keys() == {url}  # type: ignore[union-attr]
    away.rename(repository.path)
    repository.branch("kept")
    with Repo(repository.path) as repo:
        repo.git.checkout("kept")
        repo.git.branch("-D", "main")
    found = await details(stack, await triggered(stack, "hosts", TaskName.RECONCILE, **asked))
    assert found["counts"] == {"started": 2}
    gone = next(one for one in found["branches"] if one["branch"] == "main")  # type: ignore[union-attr, index, call-overload]
    assert gone["after"] == "0" * 40  # type: ignore[index, call-overload]
    assert (await stack.handle(str(gone["workflowId"])).result()).phase is Phase.PROCESSED  # type: ignore[index, call-overload]


async def test_archives_prove_themselves_go_on_where_they_ended_and_wait_for_room(stack: Stack) -> None:
    directory = stack.settings.archives
    directory.mkdir(exist_ok=True)
    full = directory / f".{0:012d}-{9:012d}.coafi.gz.new"
    full.symlink_to("/dev/full")
    asked: dict[str, Any] = {"parameters": {"age": 0, "entries": 10, "files": 2}, "giveUpAfter": "1h"}
    await (await triggered(stack, "fills", TaskName.PUBLISH_CHECKPOINT)).result()
    await (await triggered(stack, "fills2", TaskName.VERIFY_LEDGER)).result()
    await (await triggered(stack, "fills3", TaskName.CLEAN_UP)).result()
    assert stack.resources.ledger.size() > 10
    run = await triggered(stack, "archives", TaskName.ARCHIVE, **asked)
    found = await details(stack, run)
    assert "No space left" in str((await history_of(run)).to_json_dict()), "the first try met a full disk"
    archives = found["archives"]
    assert isinstance(archives, list)
    first = archives[0]
    assert (first["first"], first["stop"]) == (0, 10)  # type: ignore[index, call-overload]
    data = (directory / str(first["file"])).read_bytes()  # type: ignore[index, call-overload]
    assert stack.resources.objects.get(str(first["digest"])) == data  # type: ignore[index, call-overload]
    assert verify_archive(data, stack.resources.ledger.keys).header.stop == 10
    later = await details(stack, await triggered(stack, "archives", TaskName.ARCHIVE, **asked))
    assert later["archives"][0]["first"] == found["stop"]  # type: ignore[index, call-overload]
    listed = json.loads((directory / "manifest.json").read_text())["archives"]
    assert [one["first"] for one in listed] == sorted(one["first"] for one in listed)
    assert [one["stop"] for one in listed][:-1] == [one["first"] for one in listed][1:]


async def test_a_ledger_that_was_changed_raises_an_alarm_that_subscribers_hear(tmp_path: Path) -> None:
    with receiver() as heard, receiver() as deaf:
        subscribers = tmp_path / "subscribers.yaml"
        subscribers.touch(mode=0o600)
        listed = [
            {"name": "operator", "url": heard.url, "secret": KEY, "topics": ["alarms"]},
            {"name": "portal", "url": deaf.url, "secret": KEY},
        ]
        subscribers.write_text(yaml.safe_dump(listed))
        async with running_stack(tmp_path, subscribers=subscribers, notify_allow_private=True) as stack:
            repository = Repository.create(tmp_path / "repository")
            await (await stack.accepted(repository.push(documents(2)))).result()
            run = await triggered(stack, "verifies", TaskName.VERIFY_LEDGER)
            assert (await details(stack, run))["sound"] is True
            before = alarms_counted(TaskName.VERIFY_LEDGER)
            _tamper(stack, "UPDATE ledger_entry SET body = CAST(replace(body, 'docs', 'dogs') AS BLOB) WHERE idx = 1")

            run = await triggered(stack, "verifies", TaskName.VERIFY_LEDGER)
            found = await details(stack, run, readable=False)
            assert found["sound"] is False
            event = stack.resources.ledger.by_event(parse_workflow_id(run.id).delivery_id)
            (alarm,) = [one for one in event if one.entry.type == EntryType.ALARM_RAISED]
            assert "entry 1" in str(alarm.data["alarms"])
            assert alarms_counted(TaskName.VERIFY_LEDGER) == before + 1
            await until(lambda: len(heard.seen) == 1)
            message = json.loads(heard.seen[0][2])
            assert message["type"] == "task.alarm.raised"
            assert message["data"]["ledgerEntry"] == alarm.index
            assert message["data"]["workflowId"] == run.id
            assert not deaf.seen


def _tamper(stack: Stack, *statements: str) -> None:
    """Change the database by hand, as somebody with access to it can."""
    with stack.resources.database.write() as connection:
        triggers = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
        for trigger in triggers:
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        for statement in statements:
            connection.execute(text(statement))


async def test_what_only_one_of_temporal_and_the_ledger_has_is_a_gap(tmp_path: Path) -> None:
    async with running_stack(tmp_path, files_patience=0.5) as stack:
        repository = Repository.create(tmp_path / "repository")
        sound = await stack.accepted(repository.push(documents(1)))
        lacks_entry = await stack.accepted(repository.push(documents(2)))
        lacks_all = await stack.accepted(repository.push(documents(3)))
        forgotten = await stack.accepted(repository.push(documents(4)))
        for run in (sound, lacks_entry, lacks_all, forgotten):
            await run.result()
        asked: dict[str, Any] = {"parameters": {"grace": 0}}
        listed = 0
        while listed < 4:  # Temporal's list lags behind
            result = await details(stack, await triggered(stack, "compares", TaskName.COMPARE_HISTORY, **asked))
            listed = result["counts"]["runs"]  # type: ignore[index, call-overload, assignment]
            assert result["gaps"] == []

        with broken(HealthCheck, "run", IntegrityError("damaged")), patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1):
            ended = await triggered(stack, "ends", TaskName.HEALTH_CHECK)
            await parked(stack, ended)
        await ended.terminate("somebody was in a hurry")
        removed = [one.index for one in entries_of(stack, lacks_entry.id) if one.entry.type == EntryType.FILE_PROCESSED]
        names = ",".join(str(one.index) for one in entries_of(stack, lacks_all.id))
        _tamper(stack, f"DELETE FROM ledger_entry WHERE idx IN ({removed[0]},{names})")  # noqa: S608  # numbers
        await stack.forget(forgotten.id)
        before = alarms_counted(TaskName.COMPARE_HISTORY)

        async def gaps() -> dict[str, str]:
            run = await triggered(stack, "compares", TaskName.COMPARE_HISTORY, **asked)
            result = await details(stack, run, readable=False)
            return {one["workflowId"]: one["kind"] for one in result["gaps"]}  # type: ignore[union-attr, index, call-overload, misc]

        found: dict[str, str] = {}
        while len(found) < 5:
            found = await gaps()
        assert found == {
            lacks_entry.id: "entry-missing",
            lacks_all.id: "run-without-entries",
            forgotten.id: "entry-without-run",
            ended.id: "run-without-conclusion",
            "": "entries-damaged",
        }
        raised = alarms_counted(TaskName.COMPARE_HISTORY)
        assert raised > before
        assert await gaps() == found
        assert alarms_counted(TaskName.COMPARE_HISTORY) == raised, "known gaps are no news"
        last = TaskResults(stack.resources.database).last(TaskName.COMPARE_HISTORY)[0]
        assert last.summary == "5 gaps, 0 of them new"


async def test_a_report_says_how_the_documents_stand_and_what_is_wrong_with_which_line(tmp_path: Path) -> None:
    async with running_stack(tmp_path, index_debounce=0.1) as stack:
        repository = Repository.create(tmp_path / "repository")
        bad = "---\ntitle: Bad\nstatus: DRAFT\n---\n\n[nowhere](missing.md)\n"
        await (await stack.accepted(repository.push({**documents(2), "docs/bad.md": bad}))).result()
        await until(lambda: bool(stack.entries(EntryType.INDEX_UPDATED)))
        run = await triggered(stack, "reports", TaskName.COMPLIANCE_REPORT)
        receipt = await run.result()
        assert receipt.counts["documents"] == 4
        report = ComplianceReport.model_validate_json(stack.resources.objects.get(receipt.digests["report.json"]))
        assert report.statuses["ACTIVE"] == {"valid": 2}
        assert "DRAFT" in report.statuses
        assert sum(report.findings.values()) == len(report.open) == sum(report.rules.values())
        (wrong,) = [one for one in report.open if "missing.md" in one.message]
        assert (wrong.path, wrong.line) == ("docs/bad.md", 6)
        assert b"missing.md" in stack.resources.objects.get(receipt.digests["report.html"])


@pytest.mark.soak
async def test_a_task_whose_worker_is_killed_is_done_once_by_another(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        repository = Repository.create(tmp_path / "repository")
        with worker_process(stack) as process:
            await (await stack.accepted(repository.push(documents(1)))).result()
            repository.commit({"docs/missed.md": "# Missed\n"})
            run = await triggered(stack, "killed", TaskName.RECONCILE, parameters={"grace": 8})

            async def is_running() -> bool:
                pending = (await run.describe()).raw_description.pending_activities
                return any(
                    one.activity_type.name == ActivityName.RUN_TASK
                    and one.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
                    and one.attempt == 1
                    for one in pending
                )

            await until(is_running)
            await asyncio.sleep(2)
            process.kill()
        async with running_workers(stack.client, stack.resources):
            assert (await details(stack, run))["counts"] == {"started": 1}
        completed = [one for one in stack.entries(EntryType.TASK_COMPLETED) if one.entry.workflow_id == run.id]
        assert len(completed) == 1
        assert (await run.describe()).status is WorkflowExecutionStatus.COMPLETED
        assert "lastFailure" in str((await history_of(run)).to_json_dict())
        stack.verify()
