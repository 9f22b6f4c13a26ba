"""Commands about events: submit, look, steer; and what comes of them: findings, indexes, subscribers.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from starters.commands.common import By, Json, Limit, run

submit = typer.Typer(no_args_is_help=True, help="Submit an event by hand.")
events = typer.Typer(no_args_is_help=True, help="What happened, as database and ledger remember it.")
dead_letters = typer.Typer(no_args_is_help=True, help="Parked runs: list them, retry them, discard them.")
files = typer.Typer(no_args_is_help=True, help="Local files: what the service would find, before you push.")
docs = typer.Typer(no_args_is_help=True, help="The documentation indexes of the branches.")
subscribers = typer.Typer(no_args_is_help=True, help="Who is notified of new indexes and entries.")
findings = typer.Typer(no_args_is_help=True, help="What does not comply: findings on entries, documents, UTidS.")

Runs = Annotated[list[str] | None, typer.Argument(help="Workflow ids, event ids or UTidS.", show_default=False)]
FindingName = Annotated[str, typer.Argument(help="Id of the finding, or the beginning of it.", metavar="FINDING")]


@files.command("check")
def files_check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and directories; default: this directory.", show_default=False)
    ] = None,
    style: Annotated[str, typer.Option("--format", help="How to print: text, json, sarif or github.")] = "text",
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail as well.")] = False,
    as_json: Json = False,
) -> None:
    """Check files as the service does; exit 1 if there are errors."""
    from starters.files import Format, check_files

    if style not in set(Format):
        raise typer.BadParameter(f"{style!r} is none of {', '.join(Format)}", param_hint="--format")
    check_files(paths or [], Format.JSON if as_json else Format(style), strict=strict)


@submit.command("git-commit")
def submit_git_commit(
    repository: Annotated[str, typer.Option(help="URL of the repository.")],
    commit: Annotated[str, typer.Option(help="Full id of the commit.")],
    before: Annotated[str | None, typer.Option(help="Tip of the branch before; default: the first parent.")] = None,
    branch: Annotated[str, typer.Option(help="Branch that the commit is on.")] = "main",
    again: Annotated[bool, typer.Option("--again", help="Ask for another run of what was submitted before.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 1 unless the event was processed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start the run of a commit, or find the one that exists."""
    from starters.runs import submit_commit

    run(submit_commit(repository, commit, before=before, branch=branch, again=again, wait=wait, as_json=as_json))


@events.command("list")
def events_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most events to show.")] = 20,
    as_json: Json = False,
) -> None:
    """The newest events first."""
    from starters.records import list_events

    list_events(limit, as_json=as_json)


@events.command("show")
def events_show(
    event: Annotated[str, typer.Argument(help="Workflow id, event id or UTidS.")], as_json: Json = False
) -> None:
    """One event: how it ended, its files and verdicts, its findings, its ledger entries."""
    from starters.records import show_event

    show_event(event, as_json=as_json)


@events.command("match")
def events_match(
    event_type: Annotated[
        str | None, typer.Argument(help="A type, such as GAIA:COMPLIANCE:FAILURE.", show_default=False)
    ] = None,
    source: Annotated[str, typer.Option(help="Which ledger it comes from.")] = "https://ledger.example.org",
    details: Annotated[str, typer.Option(help="What it says, as a JSON object.")] = "{}",
    entry: Annotated[int | None, typer.Option(min=0, help="An entry of the ledger, instead of a type.")] = None,
    as_json: Json = False,
) -> None:
    """Which subscriptions an event matches, and what they ask for; exit 1 if it would start nothing."""
    from starters.matching import match_entry, match_event

    if (event_type is None) == (entry is None):
        raise typer.BadParameter("give a type of event, or --entry")
    if event_type is not None:
        starts = match_event(event_type, source, details, as_json=as_json)
    else:
        starts = match_entry(entry or 0, as_json=as_json)
    raise typer.Exit(0 if starts else 1)


@findings.command("list")
def findings_list(
    entity: Annotated[str, typer.Option(help="Of this entity alone: AERO/wing-12, a document's id, a UTidS.")] = "",
    closed: Annotated[bool, typer.Option("--closed", help="The closed ones too.")] = False,
    before: Annotated[int | None, typer.Option(min=0, help="Only those opened before this ledger entry.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The open findings, the newest first."""
    from coafi.compliance.findings import FindingQuery
    from starters.findings import list_findings

    list_findings(FindingQuery(entity=entity, closed=closed, before=before, limit=limit), as_json=as_json)


@findings.command("show")
def findings_show(finding: FindingName, as_json: Json = False) -> None:
    """One finding: what is wrong with what, who says so, and where the ledger has it."""
    from starters.findings import show_finding

    show_finding(finding, as_json=as_json)


@findings.command("close")
def findings_close(
    finding: FindingName,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    as_json: Json = False,
) -> None:
    """Close a finding: what was wrong is mended, or was not wrong."""
    from starters.decisions import decision_of
    from starters.findings import close_finding

    close_finding(finding, decision_of(by, reason), as_json=as_json)


@docs.command("list")
def docs_list(as_json: Json = False) -> None:
    """Every branch that has an index."""
    from starters.docs import list_docs

    list_docs(as_json=as_json)


@docs.command("show")
def docs_show(
    repository: Annotated[str, typer.Argument(help="URL of the repository.")],
    branch: Annotated[str, typer.Argument(help="Name of the branch.")],
    as_json: Json = False,
) -> None:
    """The newest index of a branch: what it was made of, where it is, and which documents are invalid."""
    from starters.docs import show_docs

    show_docs(repository, branch, as_json=as_json)


@subscribers.command("list")
def subscribers_list(as_json: Json = False) -> None:
    """Who is notified, of what, and who answered that it wants no more."""
    from starters.subscribers import list_subscribers

    list_subscribers(as_json=as_json)


@subscribers.command("enable")
def subscribers_enable(
    name: Annotated[str, typer.Argument(help="Name of the subscriber.")], as_json: Json = False
) -> None:
    """Send to a subscriber again that answered 410."""
    from starters.subscribers import enable_subscriber

    enable_subscriber(name, as_json=as_json)


@dead_letters.command("list")
def dead_letters_list(as_json: Json = False) -> None:
    """The runs that are parked, and why."""
    from starters.runs import list_parked

    run(list_parked(as_json=as_json))


@dead_letters.command("retry")
def dead_letters_retry(
    by: By,
    runs: Runs = None,
    every: Annotated[bool, typer.Option("--all", help="Every parked run.")] = False,
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")] = "cause mended",
    as_json: Json = False,
) -> None:
    """Let parked runs go on at the step that failed."""
    from starters.runs import decide_parked

    run(decide_parked("retry", runs or [], every=every, by=by, reason=reason, as_json=as_json))


@dead_letters.command("discard")
def dead_letters_discard(
    by: By,
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    runs: Runs = None,
    every: Annotated[bool, typer.Option("--all", help="Every parked run.")] = False,
    as_json: Json = False,
) -> None:
    """Give parked runs up: their events are dead-lettered."""
    from starters.runs import decide_parked

    run(decide_parked("discard", runs or [], every=every, by=by, reason=reason, as_json=as_json))
