"""The ``coafi`` command. Heavy modules are imported by the commands that need them, so that ``--help`` is quick."""

import asyncio
import contextlib
import getpass
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import typer.core

from coafi.errors import CoafiError, ValidationError


class GroupWithDefault(typer.core.TyperGroup):
    """A group whose command ``export`` need not be named: ``coafi receipt EVENT`` is ``coafi receipt export EVENT``."""

    default = "export"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # typer does not export the type
        """Name the default command where no command is named."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="COAFI Event Handlers: run, submit, inspect, steer.",
)
submit = typer.Typer(no_args_is_help=True, help="Submit an event by hand.")
events = typer.Typer(no_args_is_help=True, help="What happened, as database and ledger remember it.")
ledger = typer.Typer(no_args_is_help=True, help="BITT, the ledger: read, prove, verify; its keys.")
ledger_keys = typer.Typer(no_args_is_help=True, help="The ledger's signing keys: list, make, replace.")
dead_letters = typer.Typer(no_args_is_help=True, help="Parked runs: list them, retry them, discard them.")
files = typer.Typer(no_args_is_help=True, help="Local files: what the service would find, before you push.")
receipt = typer.Typer(
    cls=GroupWithDefault,
    no_args_is_help=True,
    help="Receipts: `coafi receipt EVENT -o FILE` exports what proves an event offline; `verify` checks it anywhere.",
)
witness_app = typer.Typer(
    no_args_is_help=True, help="Witnessing: peers cosign each other's checkpoints, so that nobody rewrites quietly."
)
app.add_typer(files, name="files")
database = typer.Typer(no_args_is_help=True, help="The tables of the database, and their version.")
docs = typer.Typer(no_args_is_help=True, help="The documentation indexes of the branches.")
subscribers = typer.Typer(no_args_is_help=True, help="Who is notified of new indexes and entries.")
findings = typer.Typer(no_args_is_help=True, help="What does not comply: findings on entries, documents, UTidS.")
auth = typer.Typer(no_args_is_help=True, help="Who may use the API: keys, tokens, and what they permit.")
auth_key = typer.Typer(no_args_is_help=True, help="API keys for machines: make, list, revoke.")
registry = typer.Typer(no_args_is_help=True, help="The registries: entries, their versions, schemas, UTidS.")
peers = typer.Typer(no_args_is_help=True, help="Partner organisations: who they are, and what they send.")
schedules = typer.Typer(no_args_is_help=True, help="What is started when: Temporal's Schedules, from a file.")
reports = typer.Typer(no_args_is_help=True, help="What scheduled tasks found out: results and reports.")
archive = typer.Typer(no_args_is_help=True, help="Archives of the ledger: files that prove themselves.")
app.add_typer(submit, name="submit")
app.add_typer(schedules, name="schedules")
app.add_typer(reports, name="reports")
app.add_typer(archive, name="archive")
app.add_typer(events, name="events")
app.add_typer(docs, name="docs")
app.add_typer(findings, name="findings")
app.add_typer(subscribers, name="subscribers")
app.add_typer(peers, name="peers")
app.add_typer(auth, name="auth")
auth.add_typer(auth_key, name="key")
app.add_typer(registry, name="registry")
app.add_typer(ledger, name="ledger")
app.add_typer(database, name="database")
ledger.add_typer(ledger_keys, name="keys")
app.add_typer(receipt, name="receipt")
app.add_typer(witness_app, name="witness")
app.add_typer(dead_letters, name="dead-letters")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
By = Annotated[str, typer.Option("--by", help="Who decides; goes on the record.", default_factory=getpass.getuser)]
Runs = Annotated[list[str] | None, typer.Argument(help="Workflow ids, event ids or UTidS.", show_default=False)]
RoleNames = Annotated[list[str], typer.Option("--role", help="A role; repeatable.")]
HandOvers = Annotated[
    Path | None,
    typer.Option(help="File of `ledger keys list --json`: leads from your key to the others of the log."),
]
RegistryName = Annotated[str, typer.Argument(help="The registry, such as AERO or schemas.", metavar="REGISTRY")]
EntryName = Annotated[str, typer.Argument(help="Id of the entry.")]
InRegistry = Annotated[str, typer.Option("--registry", help="Of this registry alone.")]
FindingName = Annotated[str, typer.Argument(help="Id of the finding, or the beginning of it.", metavar="FINDING")]
PeerName = Annotated[str, typer.Argument(help="Id of the peer, such as acme.example.", metavar="PEER")]
Accepts = Annotated[list[str] | None, typer.Option("--accept", help="Type that it may send, or a pattern; repeatable.")]
Subscription = Annotated[
    list[str] | None, typer.Option("--send", help="Pattern of what it is sent, TYPE or TYPE:SUBJECT; repeatable.")
]
Restricted = Annotated[
    list[str] | None, typer.Option("--digests-only", help="Pattern of what it gets only digests of; repeatable.")
]
LedgerKey = Annotated[str | None, typer.Option(help="Verifier key of its ledger.")]
WitnessKey = Annotated[str | None, typer.Option(help="Verifier key with which it cosigns checkpoints.")]
Reason = Annotated[str, typer.Option(help="Why; goes on the record.")]
ScheduleName = Annotated[str, typer.Argument(help="Name of the schedule.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="Most to show.")]
Cursor = Annotated[str, typer.Option(help="Go on where the page before ended, as it says.")]
Result = TypeVar("Result")

_SDK_USED: list[bool] = []
"""Not empty once a command has talked to Temporal."""


def main() -> None:
    """Run the command; an error of ours goes to standard error in one line, and the exit code is 1."""
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    except CoafiError as error:
        from starters.output import print_error

        print_error(error)
        code = 1
    if _SDK_USED:
        _end_at_once(code)
    sys.exit(code if isinstance(code, int | str) else 0)


@app.command()
def up() -> None:
    """Run the service on this machine: Temporal with its Web UI, workers, gateway. Ctrl-C stops it."""
    from starters.service import run_service

    _run(run_service())


@app.command()
def demo() -> None:
    """Commit documents to a sample repository, deliver the push, and show what came of it."""
    from starters.demo import run_demo

    _run(run_demo())


@app.command("demo-federation")
def demo_federation() -> None:
    """Let two instances on this machine tell each other of documents and entries, and prove what came of it."""
    from starters.demo_federation import run_demo

    _run(run_demo())


@app.command()
def worker() -> None:
    """Run the workers of every task queue against a Temporal that is already there."""
    from starters.service import run_workers

    _run(run_workers())


@app.command()
def gateway() -> None:
    """Run the HTTP gateway against a Temporal that is already there."""
    from starters.service import run_gateway

    _run(run_gateway())


@app.command()
def listener(
    start: Annotated[
        int | None, typer.Option("--from", min=0, help="Go on at this entry of the ledger; default: where it was.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say how far it is, and do nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Follow the ledger and start what its entries ask for. `coafi up` does so by itself."""
    if status:
        from starters.listener import show_followers

        show_followers(as_json=as_json)
        return
    from starters.service import run_listener

    _run(run_listener(start))


@app.command()
def reconcile(
    repository: Annotated[
        list[str] | None,
        typer.Option(help="URL of a repository; repeatable. Default: all that are known.", show_default=False),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Full id of a commit: start what lies between it and the heads of its branches.")
    ] = None,
    branch: Annotated[str, typer.Option(help="With --since: of this branch alone.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what was missed.")] = False,
    as_json: Json = False,
) -> None:
    """Start the pushes that nobody delivered; exit 1 if a repository could not be looked at."""
    from starters.reconcile import reconcile as start_missed

    _run(start_missed(repository or [], branch, since, dry_run=dry_run, as_json=as_json))


@schedules.command("apply")
def schedules_apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make Temporal's Schedules what the file says; shows the difference first."""
    from starters.schedules import apply_schedules

    _run(apply_schedules(dry_run=dry_run, yes=yes, as_json=as_json))


@schedules.command("list")
def schedules_list(as_json: Json = False) -> None:
    """The schedules that there are, when they are due next, and what they have done."""
    from starters.schedules import list_schedules

    _run(list_schedules(as_json=as_json))


@schedules.command("trigger")
def schedules_trigger(name: ScheduleName, as_json: Json = False) -> None:
    """Start a schedule's task now, or when what runs has ended; also while it is paused."""
    from starters.schedules import trigger_schedule

    _run(trigger_schedule(name, as_json=as_json))


@schedules.command("pause")
def schedules_pause(
    name: ScheduleName,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; is shown by `schedules list`.")],
    as_json: Json = False,
) -> None:
    """Start nothing more, until it is resumed."""
    from starters.schedules import pause_schedule

    _run(pause_schedule(name, reason, by, as_json=as_json))


@schedules.command("resume")
def schedules_resume(
    name: ScheduleName,
    by: By,
    reason: Annotated[str, typer.Option(help="Why.")] = "cause mended",
    as_json: Json = False,
) -> None:
    """Go on with a schedule that was paused, or that paused itself after a failure."""
    from starters.schedules import resume_schedule

    _run(resume_schedule(name, reason, by, as_json=as_json))


@schedules.command("backfill")
def schedules_backfill(
    name: ScheduleName,
    since: Annotated[str, typer.Option(help="From this time on (ISO 8601, UTC by default).")],
    until: Annotated[str, typer.Option(help="Up to this time.")],
    as_json: Json = False,
) -> None:
    """Do what was due between two times, one after the other; what was done before is not done again."""
    from starters.ledger import parse_moment
    from starters.schedules import backfill_schedule

    _run(backfill_schedule(name, parse_moment(since), parse_moment(until), as_json=as_json))


@reports.command("list")
def reports_list(
    task: Annotated[str, typer.Option(help="Of this task alone.")] = "",
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """The newest results of scheduled tasks, and what each found."""
    from starters.reports import list_results

    list_results(task, limit, as_json=as_json)


@reports.command("show")
def reports_show(
    task: Annotated[str, typer.Argument(help="A task, for its newest result; or the workflow id of a run.")],
    as_json: Json = False,
) -> None:
    """One result, whole."""
    from starters.reports import show_result

    show_result(task, as_json=as_json)


@reports.command("save")
def reports_save(
    task: Annotated[str, typer.Argument(help="A task, for its newest result; or the workflow id of a run.")],
    artifact: Annotated[str, typer.Argument(help="What it left, such as report.html.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    as_json: Json = False,
) -> None:
    """Write a file that a task left, such as a report, after checking its digest."""
    from starters.reports import save_artifact

    save_artifact(task, artifact, output, as_json=as_json)


@archive.command("list")
def archive_list(as_json: Json = False) -> None:
    """The archives that there are, and which entries are in each."""
    from starters.reports import list_archives

    list_archives(as_json=as_json)


@archive.command("verify")
def archive_verify(
    file: Annotated[Path, typer.Argument(help="An archive.")],
    key: Annotated[str, typer.Option(help="The public key that you trust, or a file with it.")],
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Verify an archive; needs neither service nor database. Exit 1 if anything is wrong."""
    from starters.reports import verify_archive_file

    verify_archive_file(file, key, hand_overs, as_json=as_json)


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

    _run(submit_commit(repository, commit, before=before, branch=branch, again=again, wait=wait, as_json=as_json))


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


@peers.command("add")
def peers_add(
    peer: PeerName,
    url: Annotated[str, typer.Argument(help="Base URL of its gateway.")],
    by: By,
    key: Annotated[list[str] | None, typer.Option(help="A key that may sign for it, ed25519:…; repeatable.")] = None,
    accept: Accepts = None,
    send: Subscription = None,
    digests_only: Restricted = None,
    ledger_key: LedgerKey = None,
    witness_key: WitnessKey = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let a partner organisation be a peer. It gets only digests, unless --digests-only says of what."""
    from starters.peers import add_peer

    add_peer(
        peer,
        url,
        keys=key or [],
        accepts=accept or [],
        subscription=send or [],
        restricted=["*"] if digests_only is None else [one for one in digests_only if one],
        ledger_key=ledger_key,
        witness_key=witness_key,
        by=by,
        reason=reason,
        as_json=as_json,
    )


@peers.command("set")
def peers_set(
    peer: PeerName,
    by: By,
    url: Annotated[str | None, typer.Option(help="Base URL of its gateway.")] = None,
    accept: Accepts = None,
    send: Subscription = None,
    digests_only: Restricted = None,
    ledger_key: LedgerKey = None,
    witness_key: WitnessKey = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change what is named of a peer; a list is replaced as a whole, and '' empties it."""
    from starters.peers import set_peer

    set_peer(
        peer,
        url=url,
        accepts=accept,
        subscription=send,
        restricted=digests_only,
        ledger_key=ledger_key,
        witness_key=witness_key,
        by=by,
        reason=reason,
        as_json=as_json,
    )


@peers.command("list")
def peers_list(as_json: Json = False) -> None:
    """Every peer: where it is, what it may send, and what it is sent."""
    from starters.peers import list_peers

    list_peers(as_json=as_json)


@peers.command("show")
def peers_show(peer: PeerName, as_json: Json = False) -> None:
    """One peer, with its keys."""
    from starters.peers import show_peer

    show_peer(peer, as_json=as_json)


@peers.command("disable")
def peers_disable(peer: PeerName, by: By, reason: Reason, as_json: Json = False) -> None:
    """Take nothing more from a peer, and send it nothing."""
    from starters.peers import disable_peer

    disable_peer(peer, by=by, reason=reason, as_json=as_json)


@peers.command("enable")
def peers_enable(peer: PeerName, by: By, reason: Reason = "", as_json: Json = False) -> None:
    """Let a peer be active again that was disabled, or had answered that it wants nothing more."""
    from starters.peers import enable_peer

    enable_peer(peer, by=by, reason=reason, as_json=as_json)


@peers.command("trust")
def peers_trust(
    peer: PeerName,
    key: Annotated[str, typer.Argument(help="The key, ed25519:… or ecdsa-p256-sha256:…; with --revoke also its id.")],
    by: By,
    retire: Annotated[str, typer.Option(help="Let its other keys count only so much longer, such as 7d.")] = "",
    revoke: Annotated[bool, typer.Option("--revoke", help="Trust the key no more, at once.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Trust a further key of a peer, or one no more."""
    from starters.peers import trust_key

    trust_key(peer, key, retire=retire, revoke=revoke, by=by, reason=reason, as_json=as_json)


@peers.command("key")
def peers_key(
    follow: Annotated[bool, typer.Option("--next", help="Make the key that is to follow.")] = False,
    rotate: Annotated[bool, typer.Option("--rotate", help="Sign with that one from now on.")] = False,
    as_json: Json = False,
) -> None:
    """What peers need to know of this instance: its id and its key."""
    from starters.peers import show_identity

    show_identity(follow=follow, rotate=rotate, as_json=as_json)


@peers.command("standing")
def peers_standing(peer: PeerName, as_json: Json = False) -> None:
    """What was taken from a peer, and what waits."""
    from starters.peers import show_standing

    _run(show_standing(peer, as_json=as_json))


@peers.command("send")
def peers_send(
    peer: PeerName,
    kind: Annotated[str, typer.Argument(help="Type of the message, such as SystemUpdateNotification.", metavar="TYPE")],
    file: Annotated[Path, typer.Argument(help="What it says, as JSON.")],
    by: By,
    subject: Annotated[str, typer.Option(help="What it is about; default: its type.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Send once more what was sent before.")] = False,
    as_json: Json = False,
) -> None:
    """Send a message to a peer by hand. On the record, and in order with all that it is sent."""
    from starters.outbox import send_message

    _run(send_message(peer, kind, file, subject=subject, by=by, again=again, as_json=as_json))


@peers.command("backlog")
def peers_backlog(as_json: Json = False) -> None:
    """What each peer has not been told yet, since when, and what is in the way."""
    from starters.outbox import show_backlog

    show_backlog(as_json=as_json)


@peers.command("pause")
def peers_pause(peer: PeerName, by: By, reason: Reason, as_json: Json = False) -> None:
    """Handle nothing that a peer sends until it is resumed; what comes waits."""
    from starters.peers import steer

    _run(steer("pause", peer, by=by, reason=reason, as_json=as_json))


@peers.command("resume")
def peers_resume(peer: PeerName, by: By, reason: Reason = "resumed", as_json: Json = False) -> None:
    """Handle what waits, in order."""
    from starters.peers import steer

    _run(steer("resume", peer, by=by, reason=reason, as_json=as_json))


@auth_key.command("add")
def auth_key_add(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: RoleNames,
    expires: Annotated[str, typer.Option(help="How long it is valid: 12h, 90d, or never.")] = "90d",
    another: Annotated[bool, typer.Option("--another", help="Beside a valid key of this name, to replace it.")] = False,
    as_json: Json = False,
) -> None:
    """Make an API key and print it. It is shown this once."""
    from starters.auth import add_key

    add_key(name, role, expires, another=another, as_json=as_json)


@auth_key.command("list")
def auth_key_list(as_json: Json = False) -> None:
    """The API keys that were made, and which of them are valid."""
    from starters.auth import list_keys

    list_keys(as_json=as_json)


@auth_key.command("revoke")
def auth_key_revoke(
    name: Annotated[str, typer.Argument(help="Name: every key that has it; or the id of one key.")],
    as_json: Json = False,
) -> None:
    """Revoke API keys. Counts at once."""
    from starters.auth import revoke_keys

    revoke_keys(name, as_json=as_json)


@auth.command("token")
def auth_token(
    subject: Annotated[str, typer.Option(help="Who the token is for.")],
    role: Annotated[list[str] | None, typer.Option("--role", help="A role; repeatable.", show_default=False)] = None,
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="A permission; repeatable.", show_default=False)
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is valid: 30m, 1h, 7d.")] = "1h",
    as_json: Json = False,
) -> None:
    """Make a token for development and print it: signed with AUTH_SECRET, or with a key that is made if missing."""
    from starters.auth import make_token

    make_token(subject, role or [], permission or [], ttl, as_json=as_json)


@auth.command("check")
def auth_check(as_json: Json = False) -> None:
    """Read a token or key from standard input; say who it is and what it may do. Exit 1 if it is not valid."""
    from starters.auth import check_token

    check_token(as_json=as_json)


@registry.command("list")
def registry_list(
    in_registry: InRegistry = "",
    status: Annotated[str, typer.Option(help="Submission, Review, Approval or Integration.")] = "",
    entry_class: Annotated[str, typer.Option("--class", help="Core, Service, Application or Experimental.")] = "",
    owner: Annotated[str, typer.Option(help="Who owns it.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag that it has; repeatable.", show_default=False)] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: Json = False,
) -> None:
    """The entries that are like all you say, as their newest versions are."""
    from starters.registry import list_entries

    said = {"registryId": in_registry, "status": status, "class": entry_class, "owner": owner, "cursor": cursor}
    list_entries({**said, "tags": tag or [], "limit": limit}, as_json=as_json)


@registry.command("search")
def registry_search(
    words: Annotated[list[str], typer.Argument(help="Words that must occur in an entry.")],
    in_registry: InRegistry = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: Json = False,
) -> None:
    """The entries with these words in id, owner, tags or data; without regard to case."""
    from starters.registry import list_entries

    said = {"registryId": in_registry, "text": " ".join(words), "limit": limit, "cursor": cursor}
    list_entries(said, as_json=as_json)


@registry.command("show")
def registry_show(
    name: RegistryName,
    entry: EntryName,
    version: Annotated[int | None, typer.Option(min=0, help="Which version; default: the newest.")] = None,
    as_json: Json = False,
) -> None:
    """One entry, whole."""
    from starters.registry import show_entry

    show_entry(name, entry, version, as_json=as_json)


@registry.command("history")
def registry_history(
    name: RegistryName,
    entry: EntryName,
    before: Annotated[int | None, typer.Option(min=1, help="Only versions before this one.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The versions of an entry, the newest first: who made each, why, and where the ledger has it."""
    from starters.registry import show_history

    show_history(name, entry, before, limit, as_json=as_json)


@registry.command("diff")
def registry_diff(
    name: RegistryName,
    entry: EntryName,
    old: Annotated[int, typer.Argument(min=0, help="The version before.")],
    new: Annotated[int, typer.Argument(min=0, help="The version after.")],
    as_json: Json = False,
) -> None:
    """What changed from one version to another, as a JSON Patch (RFC 6902)."""
    from starters.registry import show_diff

    show_diff(name, entry, old, new, as_json=as_json)


@registry.command("impact")
def registry_impact(
    schema: Annotated[str, typer.Argument(help="Id of the schema, such as frontmatter.INFO-SPEC.")],
    file: Annotated[Path, typer.Argument(help="The new version, as JSON.")],
    as_json: Json = False,
) -> None:
    """What a new version of a schema would make invalid; exit 1 if there is anything."""
    from starters.registry import show_impact

    show_impact(schema, file, as_json=as_json)


@registry.command("resolve")
def registry_resolve(
    utids: Annotated[str, typer.Argument(help="A UTidS, permanent or temporary.")], as_json: Json = False
) -> None:
    """What a UTidS names, where that came from, and its ledger entries."""
    from starters.registry import resolve_utids

    resolve_utids(utids, as_json=as_json)


@ledger.command("verify")
def ledger_verify(
    proof: Annotated[
        Path | None, typer.Option(help="Verify the proof in this file instead, without a database; needs --key.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Verify that the ledger has only grown since the checkpoint, note or JSON, here."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The public key that you trust, or a file with it; default: the ledger's own.")
    ] = None,
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash from the entries and hold them against columns, tiles, checkpoints and keys."""
    from starters.ledger import verify_against, verify_ledger, verify_proof

    if proof is not None and key is not None and against is None:
        verify_proof(proof, key, hand_overs, as_json=as_json)
    elif proof is None and against is not None:
        verify_against(against, key, hand_overs, as_json=as_json)
    elif (proof, against, key, hand_overs) == (None, None, None, None):
        verify_ledger(as_json=as_json)
    else:
        raise ValidationError("these options do not go together", remedy="say --proof and --key, or --against, or none")


@ledger.command("show")
def ledger_show(
    first: Annotated[int | None, typer.Argument(help="First index; default: the newest entries.")] = None,
    last: Annotated[int | None, typer.Argument(help="Last index; default: the first.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, if no index is given.")] = 10,
    as_json: Json = False,
) -> None:
    """Entries by index."""
    from starters.ledger import show_entries

    show_entries(first, last, limit=limit, as_json=as_json)


@ledger.command("tail")
def ledger_tail(
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the newest entries to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is appended; Ctrl-C ends it.")] = False,
    as_json: Json = False,
) -> None:
    """The newest entries, a line each; with --json, a JSON object on each line."""
    from starters.ledger import tail_entries

    tail_entries(limit, follow=follow, as_json=as_json)


@ledger.command("find")
def ledger_find(
    event: Annotated[str, typer.Option(help="Id of the event.")] = "",
    entry_type: Annotated[str, typer.Option("--type", help="Type of the entry, such as FILE_PROCESSED.")] = "",
    repository: Annotated[str, typer.Option(help="URL of the repository.")] = "",
    utids: Annotated[str, typer.Option(help="UTidS of the event.")] = "",
    since: Annotated[str | None, typer.Option(help="Taken at this time or later (ISO 8601, UTC by default).")] = None,
    until: Annotated[str | None, typer.Option(help="Taken before this time.")] = None,
    as_json: Json = False,
) -> None:
    """The entries that are like all you say, in order; printed while they are read."""
    from coafi.ledger.search import Query
    from starters.ledger import find_entries, parse_moment

    query = Query(
        event=event,
        type=entry_type,
        repository=repository,
        utids=utids,
        since=None if since is None else parse_moment(since),
        until=None if until is None else parse_moment(until),
    )
    find_entries(query, as_json=as_json)


@ledger.command("prove")
def ledger_prove(
    index: Annotated[int, typer.Argument(min=0, help="Index of the entry.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the proof to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Make an inclusion proof and check it with the independent verifier."""
    from starters.ledger import prove_entry

    prove_entry(index, output, as_json=as_json)


@ledger.command("checkpoint")
def ledger_checkpoint(as_json: Json = False) -> None:
    """The newest signed checkpoint (C2SP signed note)."""
    from starters.ledger import show_checkpoint

    show_checkpoint(as_json=as_json)


@database.command("check")
def database_check(as_json: Json = False) -> None:
    """What version the tables are at, and what is missing; exit 1 unless this software can use them."""
    from starters.database import check_database

    check_database(as_json=as_json)


@database.command("migrate")
def database_migrate(as_json: Json = False) -> None:
    """Make the tables, or bring them to the version of this software. Back up first."""
    from starters.database import migrate_database

    migrate_database(as_json=as_json)


@ledger_keys.command("list")
def ledger_keys_list(as_json: Json = False) -> None:
    """The keys that the ledger has had, and which of its checkpoints each signed."""
    from starters.ledger import list_keys

    list_keys(as_json=as_json)


@ledger_keys.command("generate")
def ledger_keys_generate(
    file: Annotated[Path, typer.Argument(help="The private key goes into this file, readable by you only.")],
    as_json: Json = False,
) -> None:
    """Make a signing key for the ledger that the settings name, and print its public half."""
    from starters.ledger import make_key

    make_key(file, as_json=as_json)


@ledger_keys.command("rotate")
def ledger_keys_rotate(
    to: Annotated[
        Path | None, typer.Option(help="Hand over to the key in this file, which you then give to every process.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give the ledger a new key. On the record, signed by both keys; the old private key is destroyed."""
    from starters.ledger import rotate_key

    rotate_key(to, as_json=as_json)


@receipt.command("export")
def receipt_export(
    event: Annotated[str, typer.Argument(help="Workflow id, event id or UTidS.")],
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - for standard output.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Export the receipt of an event: one file that proves, offline, what was done with it."""
    from starters.receipts import make_receipt

    make_receipt(event, output, force=force)


@receipt.command("verify")
def receipt_verify(
    file: Annotated[str, typer.Argument(help="The receipt; - for standard input.")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="The log's vkey, or a file that holds it; repeatable. Not needed if the policy names logs.",
            show_default=False,
        ),
    ] = None,
    artifact: Annotated[
        list[Path] | None, typer.Option("--artifact", help="A file to prove as well; repeatable.", show_default=False)
    ] = None,
    hand_overs: HandOvers = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness",
            help="The vkey of a witness that must have cosigned, or a file that holds it; repeatable.",
            show_default=False,
        ),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(help="How many of these witnesses must have cosigned; default: all.", min=0)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file (C2SP tlog-policy) that says which witnesses must have cosigned.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a receipt, and say what it proves; needs neither service nor database. Exit 1 if anything is wrong."""
    from starters.receipts import verify
    from starters.trust import trusted_witnesses

    wanted = trusted_witnesses(witness or [], quorum, policy)
    verify(file, artifact or [], key or [], hand_overs, wanted, as_json=as_json)


@witness_app.command("key")
def witness_key(as_json: Json = False) -> None:
    """The public key with which this instance cosigns: what others need to verify it. It is made if missing."""
    from starters.witnessing import show_key

    show_key(as_json=as_json)


@witness_app.command("list")
def witness_list(as_json: Json = False) -> None:
    """The ledgers of others: what was cosigned last, and what does not fit together."""
    from starters.witnessing import list_logs

    list_logs(as_json=as_json)


@witness_app.command("ask")
def witness_ask(as_json: Json = False) -> None:
    """Have the newest checkpoint of our own ledger cosigned now; how each witness answers. Exit 1 if too few do."""
    from starters.witnessing import ask_witnesses

    ask_witnesses(as_json=as_json)


@witness_app.command("evidence")
def witness_evidence(
    origin: Annotated[str | None, typer.Argument(help="The ledger; default: the only one.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the proof to this file.")] = None,
    as_json: Json = False,
) -> None:
    """The proof that a ledger has shown two histories: convinces anybody who has its public key."""
    from starters.witnessing import show_evidence

    show_evidence(origin, output, as_json=as_json)


@witness_app.command("verify")
def witness_verify(
    file: Annotated[Path, typer.Argument(help="The proof, as `witness evidence` writes it.")],
    key: Annotated[str, typer.Option("--key", help="A vkey of the ledger that it is about, or a file that holds it.")],
    hand_overs: HandOvers = None,
    as_json: Json = False,
) -> None:
    """Verify such a proof; needs neither service nor database. Exit 1 if it proves nothing."""
    from starters.witnessing import verify_evidence

    verify_evidence(file, key, hand_overs, as_json=as_json)


@witness_app.command("forget")
def witness_forget(origin: Annotated[str, typer.Argument(help="The ledger.")], as_json: Json = False) -> None:
    """Forget what was cosigned of a ledger that was begun again under another key."""
    from starters.witnessing import forget_log

    forget_log(origin, as_json=as_json)


@dead_letters.command("list")
def dead_letters_list(as_json: Json = False) -> None:
    """The runs that are parked, and why."""
    from starters.runs import list_parked

    _run(list_parked(as_json=as_json))


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

    _run(decide_parked("retry", runs or [], every=every, by=by, reason=reason, as_json=as_json))


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

    _run(decide_parked("discard", runs or [], every=every, by=by, reason=reason, as_json=as_json))


def _run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    _SDK_USED.append(True)
    return asyncio.run(coroutine)


def _end_at_once(code: object) -> None:
    """End without finalising the interpreter.

    Threads of Temporal's SDK may still call into Python then, which aborts the process (temporalio/sdk-python#300; seen
    in a quarter of the calls of a busy machine). Everything of ours is closed by now.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
