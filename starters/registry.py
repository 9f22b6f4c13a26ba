"""Commands that read the registries: ``registry``. They need the database, or another instance, and not Temporal."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.errors import ValidationError
from coafi.registry.acceptance import accept_schema
from coafi.registry.entry import MAX_DATA, RegistryId, require_depth, require_size
from coafi.registry.impact import BrokenDocument, BrokenEntry, ImpactAnalysis, ImpactReport
from coafi.registry.reader import EntryQuery, EntryReader
from coafi.registry.remote import RemoteRegistry
from coafi.registry.resolver import Resolver
from coafi.registry.store import PublishedSchemas, refuse_after, refuse_unpublishable
from coafi.registry.validation import Schema, SchemaLookup
from coafi.settings import Settings
from starters.output import (
    clean,
    command_settings,
    err,
    facts,
    indented,
    out,
    print_json,
    roomy,
    safe,
    styled,
    table,
)
from starters.records import moment, open_database
from workers.resources import open_ledger, open_objects, remote_registry

_MOST = 2 * MAX_DATA
"""Bytes of a file that is read: white space is not part of what is limited."""


def list_entries(said: dict[str, Any], *, as_json: bool) -> None:
    """``coafi registry list`` and ``search``.

    Args:
        said: what an :class:`EntryQuery` takes; empty for what was not said.

    Raises:
        ValidationError: a value is not allowed.
    """
    try:
        query = EntryQuery.model_validate({name: value for name, value in said.items() if value != ""})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValidationError(
            f"{'/'.join(str(part) for part in first['loc'])}: {first['msg']}", remedy="see docs/registry.md"
        ) from None
    with _entries() as entries:
        page = entries.search(query)
    if as_json:
        print_json(page.model_dump(mode="json", by_alias=True))
        return
    rows = table("Registry", "Entry", "#Version", "Status", "Class", "Owner", "Tags")
    for one in page.entries:
        rows.add_row(
            one.registry_id,
            one.entry_id,
            str(one.version),
            one.status,
            one.entry_class,
            safe(one.owner),
            safe(", ".join(one.tags)),
        )
    out.print(rows if page.entries else "No entry is like that.")
    if page.cursor is not None:
        err.print(f"There are more: --cursor {page.cursor}", highlight=False, soft_wrap=True)


def show_entry(name: str, entry_id: str, version: int | None, *, as_json: bool) -> None:
    """``coafi registry show``.

    Raises:
        ResourceNotFoundError: there is no such entry, or no such version of it.
        ValidationError: there is no such registry.
    """
    with _entries() as entries:
        entry = entries.get(_registry(name), entry_id, version)
    if as_json:
        print_json(entry.model_dump(mode="json", by_alias=True))
        return
    out.print(f"[bold]{entry.registry_id}/{entry.entry_id}[/bold]", highlight=False)
    rows = facts()
    rows.add_row("Version", str(entry.version))
    rows.add_row("Status", entry.status)
    rows.add_row("Integrated", "–" if entry.integrated_version is None else str(entry.integrated_version))
    rows.add_row("Class", entry.entry_class)
    rows.add_row("Owner", safe(entry.owner))
    rows.add_row("Tags", safe(", ".join(entry.tags)) or "–")
    rows.add_row("UTidS", entry.utids)
    rows.add_row("Digest", entry.digest)
    rows.add_row("Created", moment(entry.created) or "with the package")
    rows.add_row("Changed", f"{moment(entry.changed)} by {safe(entry.by)}" if entry.changed else "–")
    if entry.reason:
        rows.add_row("Reason", safe(entry.reason))
    if entry.checked_with is not None:
        rows.add_row("Schema", f"{entry.checked_with.schema_id} {entry.checked_with.version}")
    rows.add_row("Workflow", safe(entry.workflow_id or "–"))
    rows.add_row("Ledger", "–" if entry.ledger_entry is None else str(entry.ledger_entry))
    out.print(rows)
    print_json(entry.data)


def show_history(name: str, entry_id: str, before: int | None, limit: int, *, as_json: bool) -> None:
    """``coafi registry history``.

    Raises:
        ResourceNotFoundError: there is no such entry.
        ValidationError: there is no such registry.
    """
    with _entries() as entries:
        versions = entries.history(_registry(name), entry_id, before=before, limit=limit)
    if as_json:
        print_json([one.model_dump(mode="json", by_alias=True) for one in versions])
        return
    wide = roomy()
    rows = table("#Version", "Changed", "Status", "#Ledger", "Digest", "By", *(("Workflow",) if wide else ()), "Reason")
    for one in versions:
        rows.add_row(
            str(one.version),
            moment(one.changed) or "–",
            one.status,
            "–" if one.ledger_entry is None else str(one.ledger_entry),
            one.digest[:12],
            safe(one.by),
            *((safe(one.workflow_id or "–"),) if wide else ()),
            safe(one.reason),
        )
    out.print(rows)


def show_diff(name: str, entry_id: str, old: int, new: int, *, as_json: bool) -> None:
    """``coafi registry diff``.

    Raises:
        ResourceNotFoundError: there is no such entry, or no such version of it.
        ValidationError: there is no such registry.
    """
    with _entries() as entries:
        found = entries.diff(_registry(name), entry_id, old, new)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
        return
    for change in found.patch:
        words = [str(change["op"]), safe(str(change.get("from", ""))), safe(str(change["path"]))]
        value = f" {safe(json.dumps(change['value'], ensure_ascii=False))}" if "value" in change else ""
        out.print(" ".join(word for word in words if word) + value, highlight=False)
    if not found.patch:
        out.print("They are the same.")


def show_impact(schema_id: str, file: Path, *, as_json: bool) -> None:
    """``coafi registry impact``; exits with 1 if anything would become invalid.

    Raises:
        ValidationError: the file is no JSON, or no schema that is accepted, or a higher version is published.
        PolicyDenied: only a release of this software can change this schema.
        IdempotencyConflict: this version is published with other content.
    """
    schema = _schema(schema_id, file)
    settings = command_settings()
    with open_database(settings) as database, _published(settings, database, schema) as schemas:
        analysis = ImpactAnalysis(database, open_objects(settings), schemas)
        if as_json:
            report = analysis.examine(schema)
            print_json({**report.model_dump(mode="json", by_alias=True, exclude_none=True), "breaks": report.breaks})
        else:
            with err.status("looking") as status:
                report = analysis.examine(
                    schema, _print_broken, lambda text: status.update(clean(text)) if err.is_terminal else None
                )
            _print_report(report)
    if report.breaks:
        sys.exit(1)


def resolve_utids(utids: str, *, as_json: bool) -> None:
    """``coafi registry resolve``.

    Raises:
        ValidationError: it is no UTidS.
        ResourceNotFoundError: it names nothing here.
    """
    settings = command_settings()
    with open_database(settings) as database:
        ledger = open_ledger(settings, database)
        try:
            found = Resolver(database, ledger, settings.ledger_namespace).resolve(utids)
        finally:
            ledger.close()
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
        return
    rows = facts()
    rows.add_row("UTidS", found.permanent or found.utids)
    rows.add_row("Kind", found.kind)
    for name, value in found.names.items():
        rows.add_row(name, safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    rows.add_row("Status", styled(found.status))
    rows.add_row("Source", safe(found.origin.source) or "–")
    rows.add_row("Principal", safe(found.origin.principal) or "–")
    rows.add_row("Received", moment(found.origin.time) or "–")
    rows.add_row("Body", found.origin.body_digest or "–")
    rows.add_row("Workflow", safe(found.origin.workflow_id or "–"))
    ranges = ", ".join(str(one.first) if one.first == one.last else f"{one.first}–{one.last}" for one in found.entries)
    rows.add_row("Ledger", ranges or "–")
    out.print(rows)


@contextmanager
def _entries() -> Iterator[EntryReader | RemoteRegistry]:
    """The entries: those of this home, or of the instance that keeps the registry."""
    settings = command_settings()
    if settings.registry_api_url:
        with remote_registry(settings) as remote:
            yield remote
    else:
        with open_database(settings) as database:
            yield EntryReader(database)


@contextmanager
def _published(settings: Settings, database: Database, schema: Schema) -> Iterator[SchemaLookup]:
    """The schemas that are published, if the new one can be published beside them."""
    if settings.registry_api_url:
        with remote_registry(settings) as remote:
            refuse_after(schema, remote.find(schema.schema_id))
            err.print(
                "Entries are not looked at: ask where the registry is kept. Documents are those of this instance."
            )
            yield remote
    else:
        with database.read() as connection:
            refuse_unpublishable(connection, schema)
        yield PublishedSchemas(database)


def _registry(name: str) -> RegistryId:
    try:
        return RegistryId(name)
    except ValueError:
        raise ValidationError(
            f"there is no registry {clean(name)}", remedy=f"the registries are {', '.join(RegistryId)}"
        ) from None


def _schema(schema_id: str, file: Path) -> Schema:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST + 1)
        if len(content) > _MOST:
            raise ValidationError(f"{file} has more than {_MOST:,} bytes", remedy="a schema is a small file")
        document: JsonObject = json.loads(content)
    except OSError as error:
        raise ValidationError(f"{file} cannot be read: {error.strerror}", remedy="name a file with a schema") from None
    except (ValueError, RecursionError):
        raise ValidationError(f"{file} is no JSON", remedy="name a file with a schema") from None
    if not isinstance(document, dict):
        raise ValidationError(f"{file} is no JSON object", remedy="name a file with a schema")
    require_depth(document)
    require_size(document)
    return accept_schema(schema_id, document)


def _print_broken(one: BrokenDocument | BrokenEntry) -> None:
    if isinstance(one, BrokenDocument):
        what = f"{safe(one.path)} [dim]{safe(one.repository)} {safe(one.branch)}[/dim]"
    else:
        what = f"{one.registry_id}/{one.entry_id} [dim]version {one.version}[/dim]"
    out.print(what, highlight=False)
    for found in one.findings:
        place = f" [dim]{safe(found.pointer)}[/dim]" if found.pointer else ""
        out.print(indented(f"{styled(found.severity)}{place} {safe(found.message)}"), highlight=False)


def _print_report(report: ImpactReport) -> None:
    was = f", after {report.published.version}" if report.published else ", the first"
    out.print(f"{report.proposed.schema_id} {report.proposed.version}{was}", highlight=False)
    out.print(
        f"Looked at {_several(report.documents, 'document', 'documents')} and"
        f" {_several(report.entries, 'entry', 'entries')} that it concerns."
    )
    if report.unreadable:
        out.print(f"The reports of {_several(report.unreadable, 'document', 'documents')} are lost.")
    out.print(
        f"{_several(report.broken_documents, 'document', 'documents')} and"
        f" {_several(report.broken_entries, 'entry', 'entries')} would become invalid."
    )


def _several(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"
