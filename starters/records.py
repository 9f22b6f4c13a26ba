"""Commands that read what is on record: ``events``. They need the database, not Temporal."""

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.database.migrate import require_current
from coafi.deliveries import Delivery, DeliveryReader
from coafi.documents.check import FileReport
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.ledger.entry import Recorded
from coafi.ledger.log import Ledger as OwnLedger
from coafi.ledger.port import Ledger
from coafi.ledger.search import Query, find
from coafi.names import KEY_CHANGES, EntryType, parse_workflow_id
from coafi.objects import ObjectStore
from coafi.processing import read_reports
from coafi.recording import Failure, conclusion_of
from coafi.settings import Settings
from coafi.utids import PATTERN
from starters.addresses import run_url
from starters.output import (
    command_settings,
    facts,
    out,
    print_findings,
    print_json,
    print_link,
    roomy,
    safe,
    styled,
    table,
)
from workers.resources import open_ledger, open_objects

OPEN = "open"
"""What a run is called that has not ended: at work, or parked. Only Temporal knows which."""


def list_events(limit: int, *, as_json: bool) -> None:
    """``coafi events list``."""
    with open_database(command_settings()) as database:
        deliveries = DeliveryReader(database).recent(limit)
    if as_json:
        print_json([_delivery_json(delivery) for delivery in deliveries])
        return
    wide = roomy()
    rows = table("Received", "Type", "Phase", *(("Event id", "UTidS", "About") if wide else ("About, event id",)))
    for one in deliveries:
        about, event_id = safe(one.subject), safe(one.delivery_id)
        rows.add_row(
            moment(one.received_at),
            one.event_type,
            styled(one.outcome or OPEN),
            *((event_id, one.utids, about) if wide else (f"{about}\n[dim]{event_id}[/dim]",)),
        )
    out.print(rows if deliveries else "No events yet.")


def show_event(name: str, *, as_json: bool) -> None:
    """``coafi events show``."""
    settings = command_settings()
    with opened_ledger(settings) as ledger, open_database(settings) as database:
        delivery = one_delivery(database, name)
        entries = entries_of(ledger, delivery, settings.ledger_namespace)
    reports = file_reports(open_objects(settings), entries)
    conclusion, parked = conclusion_of(entries), _parked(entries)
    findings = conclusion.findings if conclusion else ()
    failure = conclusion.failure if conclusion else None
    refused = conclusion.refused if conclusion else None
    if as_json:
        print_json(
            {
                **_delivery_json(delivery),
                "counts": conclusion.counts if conclusion else {},
                "findings": [finding.model_dump(mode="json", exclude_none=True) for finding in findings],
                "refused": refused,
                "failure": failure,
                "parked": list(parked),
                "decisions": list(conclusion.decisions) if conclusion else [],
                "files": [report.model_dump(mode="json", by_alias=True, exclude_none=True) for report in reports],
                "entries": [entry_json(entry) for entry in entries],
            }
        )
        return
    out.print(f"[bold]{safe(delivery.subject)}[/bold]", highlight=False)
    rows = facts()
    rows.add_row("Phase", styled(delivery.outcome or OPEN))
    rows.add_row("Received", moment(delivery.received_at))
    rows.add_row("Concluded", moment(delivery.concluded_at) if delivery.concluded_at else "–")
    for who in _principals(entries):
        rows.add_row("Vouched for", safe(f"by {who}"))
    rows.add_row("Event", safe(delivery.delivery_id))
    if delivery.duplicate_of:
        rows.add_row("Duplicate of", safe(delivery.duplicate_of))
    rows.add_row("UTidS", delivery.utids)
    rows.add_row("Workflow", safe(delivery.workflow_id))
    rows.add_row("Body", delivery.body_digest)
    for one in entries:
        if one.entry.type == EntryType.REGISTRY_ENTRY_CHANGED:
            rows.add_row("Changed", safe(_change(one)))
    if refused:
        rows.add_row("Refused at", safe(f"{refused.step}: {refused.message}"))
    for stop in parked:
        rows.add_row("Parked at", safe(f"{stop.step}: {stop.message}"))
    if failure and failure not in parked:
        rows.add_row("Failed at", safe(f"{failure.step}: {failure.message}"))
    for decision in conclusion.decisions if conclusion else ():
        rows.add_row("Decided", safe(f"by {decision.by}: {decision.reason}"))
    out.print(rows)
    print_link(run_url(settings, delivery.workflow_id, delivery.run_id))
    print_files(entries)
    print_findings([*findings, *(finding for report in reports for finding in report.findings)])
    if not entries:
        return
    out.print()
    out.print("[bold]Ledger[/bold]")
    steps = table("#Index", "Time", "Entry", "Step")
    for one in entries:
        steps.add_row(str(one.index), moment(one.entry.time), one.entry.type, safe(one.entry.step))
    out.print(steps)


def file_reports(objects: ObjectStore, entries: list[Recorded]) -> list[FileReport]:
    """The reports of the files that the ledger names, in its order."""
    digests = dict.fromkeys(
        str(one.entry.data["reportsDigest"]) for one in entries if one.entry.type == EntryType.FILE_PROCESSED
    )
    return [report for digest in digests for report in read_reports(objects, digest)]


def print_files(entries: list[Recorded]) -> None:
    """A table of the files of a commit: kind, verdict, findings, artifacts, places in the ledger."""
    artifacts: dict[str, int] = {}
    for one in entries:
        if one.entry.type == EntryType.ARTIFACT_GENERATED:
            path = str(one.entry.data["path"])
            artifacts[path] = artifacts.get(path, 0) + 1
    rows = table("#Ledger", "Change", "Kind", "Verdict", "#Err", "#Warn", "#Artifacts", "File")
    found = False
    for one in entries:
        if one.entry.type == EntryType.FILE_PROCESSED:
            found = True
            data = one.entry.data
            path = str(data["path"])
            rows.add_row(
                str(one.index),
                str(data["change"]),
                str(data["kind"]),
                styled(str(data["verdict"])),
                str(data["errors"]),
                str(data["warnings"]),
                str(artifacts.get(path, 0)),
                safe(path),
            )
    if found:
        out.print()
        out.print(rows)


def entries_of(ledger: Ledger, delivery: Delivery, namespace: str) -> list[Recorded]:
    """The ledger entries of one delivery's run, in order, without those of other instances."""
    run = (namespace, delivery.workflow_id)
    return [one for one in ledger.by_event(delivery.delivery_id) if (one.entry.namespace, one.entry.workflow_id) == run]


def print_entries(entries: list[Recorded]) -> None:
    """A table of entries, by event where there is little room."""
    wide = roomy()
    rows = table("#Index", "Time", "Entry", *(("Event",) if wide else ()), "Step")
    event = None
    for one in entries:
        if not wide and one.entry.event_id != event:
            event = one.entry.event_id
            rows.add_row("", "", "", f"[dim]{safe(event)}[/dim]")
        about = (safe(one.entry.event_id),) if wide else ()
        rows.add_row(str(one.index), moment(one.entry.time), one.entry.type, *about, safe(one.entry.step))
    out.print(rows if entries else "The ledger is empty.")


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database of this installation, which must exist, with its tables: to look must not make or change them.

    Raises:
        ResourceNotFoundError: nothing has run here yet.
        ValidationError: the tables are those of older or newer software.
        Unavailable: the database is out of reach.
    """
    database = existing_database(settings)
    try:
        require_current(database)
        yield database
    finally:
        database.close()


def existing_database(settings: Settings) -> Database:
    """The database, with or without tables.

    Raises:
        ResourceNotFoundError: there is no SQLite file in this home.
    """
    where = settings.database
    if isinstance(where, Path) and not where.exists():
        raise ResourceNotFoundError(
            f"there is no database in {settings.home}", remedy="start the service, or set COAFI_HOME"
        )
    return Database(where)


@contextmanager
def opened_ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger of this home."""
    with open_database(settings) as database:
        ledger = open_ledger(settings, database)
        try:
            yield ledger
        finally:
            ledger.close()


def own_ledger(ledger: Ledger) -> OwnLedger:
    """``ledger``, which must be kept here.

    Raises:
        ValidationError: it is another instance's.
    """
    if not isinstance(ledger, OwnLedger):
        raise elsewhere()
    return ledger


def entries_to_export(
    ledger: Ledger, database: Database, name: str, namespace: str
) -> tuple[OwnLedger, list[Recorded]]:
    """The ledger, which must be kept here, and all entries of the run that ``name`` means, of another instance too.

    An event that this instance received is in its database; another instance's is looked up in the ledger, by the same
    names, or by its namespace before the workflow id.

    Raises:
        ResourceNotFoundError: none is known by that name.
        ValidationError: several are; or the ledger is another instance's, whose key must sign.
    """
    if not isinstance(ledger, OwnLedger):
        raise ValidationError(
            "a receipt is signed with the ledger's key, and this ledger is another instance's (BITT_API_URL)",
            remedy="run the same command where the ledger is kept",
        )
    try:
        return ledger, entries_of(ledger, one_delivery(database, name), namespace)
    except ResourceNotFoundError:
        runs = _recorded_runs(ledger, name)
        if not runs:
            raise
    if len(runs) > 1:
        raise ValidationError(
            f"{len(runs)} events are known as {name}", remedy=f"name one of them: {', '.join(sorted(runs))}"
        )
    return ledger, next(iter(runs.values()))


def _recorded_runs(ledger: OwnLedger, name: str) -> dict[str, list[Recorded]]:
    """The entries of the runs that ``name`` means to the ledger, of any instance, by namespace and workflow id."""
    if PATTERN.match(name):
        events = {one.entry.event_id for one in find(ledger, Query(utids=name))}  # reads the whole ledger
    else:
        events = {name}
        with contextlib.suppress(ValueError):
            events.add(parse_workflow_id(name).delivery_id)
    runs: dict[str, list[Recorded]] = {}
    for one in (one for event in sorted(events - {KEY_CHANGES}) for one in ledger.by_event(event)):
        entry = one.entry
        run = f"{entry.namespace}/{entry.workflow_id}"
        if name in (entry.event_id, entry.workflow_id, entry.utids, run):
            runs.setdefault(run, []).append(one)
    return runs


def elsewhere() -> ValidationError:
    """The refusal of what only the instance that keeps the ledger can do."""
    return ValidationError(
        "this ledger is another instance's (BITT_API_URL), which alone can do this", remedy="run the command there"
    )


def one_delivery(database: Database, name: str) -> Delivery:
    """The delivery that ``name`` (a workflow id, event id or UTidS) means.

    Raises:
        ResourceNotFoundError: none is known by that name.
        ValidationError: several are.
    """
    found = DeliveryReader(database).find(name)
    if not found:
        raise ResourceNotFoundError(f"no event is known as {name}", remedy="see `coafi events list`")
    if len(found) > 1:
        raise ValidationError(
            f"{len(found)} events are known as {name}",
            remedy="name one by its workflow id: " + ", ".join(one.workflow_id for one in found),
        )
    return found[0]


def print_entry(recorded: Recorded) -> None:
    """One entry, and what it says."""
    entry = recorded.entry
    rows = facts()
    rows.add_row("Index", str(recorded.index))
    rows.add_row("Entry", entry.type)
    rows.add_row("Time", entry.time)
    rows.add_row("Step", safe(entry.step))
    rows.add_row("Event", safe(entry.event_id))
    rows.add_row("UTidS", safe(entry.utids))
    rows.add_row("Workflow", safe(entry.workflow_id))
    rows.add_row("Key", entry.key)
    out.print(rows)
    print_json(entry.data)


def _principals(entries: list[Recorded]) -> list[str]:
    return [str(one.entry.data["principal"]) for one in entries if one.entry.type == EntryType.EVENT_RECEIVED]


def _change(recorded: Recorded) -> str:
    said = recorded.entry.data
    return (
        f"{said['registryId']}/{said['entryId']}, version {said['version']}, {said['status']} (entry {recorded.index})"
    )


def _parked(entries: list[Recorded]) -> tuple[Failure, ...]:
    return tuple(
        Failure.model_validate(one.entry.data) for one in entries if one.entry.type == EntryType.EVENT_PROCESSING_FAILED
    )


def moment(time: str) -> str:
    """A ledger time for people: UTC, to the second."""
    return time[:19].replace("T", " ")


def _delivery_json(delivery: Delivery) -> JsonObject:
    return {
        "eventId": delivery.delivery_id,
        "source": delivery.source,
        "type": delivery.event_type,
        "subject": delivery.subject,
        "phase": delivery.outcome,
        "workflowId": delivery.workflow_id,
        "runId": delivery.run_id,
        "utids": delivery.utids,
        "bodyDigest": delivery.body_digest,
        "receivedAt": delivery.received_at,
        "concludedAt": delivery.concluded_at,
        "duplicateOf": delivery.duplicate_of,
    }


def entry_json(recorded: Recorded) -> JsonObject:
    """An entry with its index, for programs."""
    return {"index": recorded.index, **json.loads(recorded.body)}
