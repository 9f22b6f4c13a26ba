"""Commands about what does not comply: ``findings``. They need the database, not Temporal."""

from dataclasses import asdict

from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject
from coafi.compliance.findings import EntityFinding, FindingQuery, FindingReader, Findings
from coafi.recording import Decision
from starters.output import command_settings, facts, out, print_json, safe, table
from starters.records import moment, open_database
from workers.resources import open_resources
from workers.wiring import build_recorder


def list_findings(asked: FindingQuery, *, as_json: bool) -> None:
    """``coafi findings list``."""
    with open_database(command_settings()) as database:
        found = FindingReader(database).find(asked)
    if as_json:
        print_json([finding_json(one) for one in found])
        return
    rows = table("Finding", "Severity", "Entity", "Rule", "Source", "Opened", "Closed")
    for one in found:
        rows.add_row(
            one.id[:12],
            one.severity,
            safe(one.entity),
            safe(one.rule),
            safe(one.source),
            moment(one.opened),
            moment(one.closed) if one.closed else "–",
        )
    out.print(rows if found else "No findings.")


def show_finding(name: str, *, as_json: bool) -> None:
    """``coafi findings show``.

    Raises:
        ResourceNotFoundError: there is no such finding.
    """
    with open_database(command_settings()) as database:
        found = FindingReader(database).get(name)
    if as_json:
        print_json(finding_json(found))
        return
    rows = facts()
    rows.add_row("Finding", found.id)
    rows.add_row("Entity", safe(f"{found.entity} ({found.kind})"))
    rows.add_row("Rule", safe(found.rule))
    rows.add_row("Severity", found.severity)
    rows.add_row("Message", safe(found.message))
    rows.add_row("Source", safe(found.source))
    rows.add_row("Detected", moment(found.detected))
    rows.add_row("Opened", f"{moment(found.opened)}, ledger entry {found.opened_entry}")
    rows.add_row("By run", safe(found.workflow_id))
    if found.closed:
        rows.add_row("Closed", f"{moment(found.closed)}, ledger entry {found.closed_entry}")
        rows.add_row("  by", safe(found.closed_by or ""))
        rows.add_row("  because", safe(found.reason or ""))
    out.print(rows)


def close_finding(name: str, decision: Decision, *, as_json: bool) -> None:
    """``coafi findings close``.

    Raises:
        ResourceNotFoundError: there is no such finding.
    """
    settings = command_settings()
    with open_database(settings) as database:
        found = FindingReader(database).get(name)
    with open_resources(settings) as resources:
        closed = Findings(build_recorder(resources)).close(found, decision)
        now = FindingReader(resources.database).get(found.id)
    if as_json:
        print_json({"closed": bool(closed.ids), "finding": finding_json(now)})
    elif closed.ids:
        out.print(f"Closed {now.id}, ledger entry {now.closed_entry}.")
    else:
        out.print(f"{now.id} was closed before, by {safe(now.closed_by or '')}.")


def finding_json(one: EntityFinding) -> JsonObject:
    """A finding for programs."""
    return {to_camel(name): value for name, value in asdict(one).items()}
