"""Commands about what scheduled tasks found out: ``reports`` and ``archive``. They need the database, not Temporal."""

import json
from pathlib import Path

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError
from coafi.names import TaskName
from coafi.settings import Settings
from coafi.tasks.archive import archives_of
from coafi.tasks.archive_file import verify_archive
from coafi.tasks.results import StoredResult, TaskResults
from starters.output import command_settings, facts, out, print_json, safe, styled, table
from starters.records import moment, open_database
from starters.trust import read_file, trusted_log
from workers.resources import open_objects

_MAX_FILE = 2 * 2**30


def list_results(task: str, limit: int, *, as_json: bool) -> None:
    """``coafi reports list``."""
    tasks = [_task(task)] if task else list(TaskName)
    with open_database(command_settings()) as database:
        results = TaskResults(database)
        found = [one for name in tasks for one in results.last(name, limit)]
    found = sorted(found, key=lambda one: one.entry, reverse=True)[:limit]
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    rows = table("Due", "Task", "Outcome", "#Ledger", "What it found")
    for one in found:
        rows.add_row(moment(one.due), one.task, styled(one.outcome), str(one.entry), safe(one.summary))
    out.print(rows if found else "No task has run yet.")


def show_result(name: str, *, as_json: bool) -> None:
    """``coafi reports show``."""
    settings = command_settings()
    with open_database(settings) as database:
        found = one_result(database, name)
    result: JsonObject = json.loads(open_objects(settings).get(found.result))
    if as_json:
        print_json({**_as_json(found), "details": result})
        return
    rows = facts()
    rows.add_row("Task", found.task)
    rows.add_row("Schedule", found.schedule)
    rows.add_row("Due", moment(found.due))
    rows.add_row("Outcome", styled(found.outcome))
    rows.add_row("Found", safe(found.summary))
    rows.add_row("Run", safe(found.workflow_id))
    rows.add_row("Ledger entry", str(found.entry))
    for artifact, digest in json.loads(found.artifacts).items():
        rows.add_row(safe(artifact), digest)
    out.print(rows)
    print_json(result)


def save_artifact(name: str, artifact: str, output: Path, *, as_json: bool) -> None:
    """``coafi reports save``."""
    settings = command_settings()
    with open_database(settings) as database:
        found = one_result(database, name)
    digest = found.artifact(artifact)
    if digest is None:
        known = ", ".join(json.loads(found.artifacts)) or "nothing"
        raise ResourceNotFoundError(f"this run left no {artifact}", remedy=f"it left {known}")
    data = open_objects(settings).get(digest)
    try:
        output.write_bytes(data)
    except OSError as error:
        raise Unavailable(f"{output} cannot be written: {error.strerror}", remedy="say another file") from error
    if as_json:
        print_json({"file": str(output), "digest": digest, "size": len(data)})
    else:
        out.print(f"{safe(str(output))}: {len(data)} bytes, SHA-256 {digest}", highlight=False)


def one_result(database: Database, name: str) -> StoredResult:
    """The newest result of a task, or that of a run.

    Raises:
        ResourceNotFoundError: there is none.
    """
    results = TaskResults(database)
    found = next(iter(results.last(TaskName(name))), None) if name in set(TaskName) else results.get(name)
    if found is None:
        raise ResourceNotFoundError(f"there is no result of {name}", remedy="see `coafi reports list`")
    return found


def list_archives(*, as_json: bool) -> None:
    """``coafi archive list``."""
    settings: Settings = command_settings()
    found = archives_of(settings.archives)
    if as_json:
        print_json(
            [{**one.model_dump(mode="json", by_alias=True), "directory": str(settings.archives)} for one in found]
        )
        return
    rows = table("#First", "#Last", "Since", "Until", "#Bytes", "File")
    for one in found:
        rows.add_row(
            str(one.first), str(one.stop - 1), moment(one.since), moment(one.until), str(one.size), safe(one.file)
        )
    out.print(rows if found else f"No archives in {safe(str(settings.archives))}.")


def verify_archive_file(file: Path, key: str, hand_overs: Path | None, *, as_json: bool) -> None:
    """``coafi archive verify``."""
    found = verify_archive(read_file(file, _MAX_FILE, "archive"), trusted_log(key, hand_overs))
    header = found.header
    if as_json:
        print_json(
            {
                "origin": header.origin,
                "first": header.first,
                "last": header.stop - 1,
                "since": header.since,
                "until": header.until,
                "bodies": len(header.bodies),
                "checkpoint": {"size": found.checkpoint.size, "root": found.checkpoint.root.hex()},
            }
        )
        return
    rows = facts()
    rows.add_row("Ledger", safe(header.origin))
    rows.add_row(
        "Entries", f"{header.first} to {header.stop - 1}, taken {moment(header.since)} to {moment(header.until)}"
    )
    rows.add_row("Bodies", str(len(header.bodies)))
    rows.add_row("Checkpoint", f"{found.checkpoint.size} entries, root {found.checkpoint.root.hex()}")
    out.print(rows)
    out.print("[green]The archive is what the ledger's key signed.[/green]")


def _task(name: str) -> TaskName:
    try:
        return TaskName(name)
    except ValueError:
        raise ValidationError(f"there is no task {name}", remedy=f"say one of {', '.join(TaskName)}") from None


def _as_json(one: StoredResult) -> JsonObject:
    return {
        "task": one.task,
        "schedule": one.schedule,
        "due": one.due,
        "outcome": one.outcome,
        "summary": one.summary,
        "workflowId": one.workflow_id,
        "result": one.result,
        "artifacts": json.loads(one.artifacts),
        "ledgerEntry": one.entry,
    }
