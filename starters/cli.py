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

from coafi.errors import CoafiError


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
ledger = typer.Typer(no_args_is_help=True, help="BITT, the ledger: read, prove, verify.")
dead_letters = typer.Typer(no_args_is_help=True, help="Parked runs: list them, retry them, discard them.")
files = typer.Typer(no_args_is_help=True, help="Local files: what the service would find, before you push.")
receipt = typer.Typer(
    cls=GroupWithDefault,
    no_args_is_help=True,
    help="Receipts: `coafi receipt EVENT -o FILE` exports what proves an event offline; `verify` checks it anywhere.",
)
app.add_typer(files, name="files")
docs = typer.Typer(no_args_is_help=True, help="The documentation indexes of the branches.")
app.add_typer(submit, name="submit")
app.add_typer(events, name="events")
app.add_typer(docs, name="docs")
app.add_typer(ledger, name="ledger")
app.add_typer(receipt, name="receipt")
app.add_typer(dead_letters, name="dead-letters")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
By = Annotated[str, typer.Option("--by", help="Who decides; goes on the record.", default_factory=getpass.getuser)]
Runs = Annotated[list[str] | None, typer.Argument(help="Workflow ids, event ids or UTidS.", show_default=False)]
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


@ledger.command("verify")
def ledger_verify(as_json: Json = False) -> None:
    """Recompute every hash from the entries and hold them against tiles and signed checkpoint."""
    from starters.records import verify_ledger

    verify_ledger(as_json=as_json)


@ledger.command("show")
def ledger_show(
    first: Annotated[int | None, typer.Argument(help="First index; default: the last ten entries.")] = None,
    last: Annotated[int | None, typer.Argument(help="Last index; default: the first.")] = None,
    as_json: Json = False,
) -> None:
    """Entries by index."""
    from starters.records import show_entries

    show_entries(first, last, as_json=as_json)


@ledger.command("prove")
def ledger_prove(
    index: Annotated[int, typer.Argument(min=0, help="Index of the entry.")], as_json: Json = False
) -> None:
    """Make an inclusion proof and check it with the independent verifier."""
    from starters.records import prove_entry

    prove_entry(index, as_json=as_json)


@ledger.command("checkpoint")
def ledger_checkpoint(as_json: Json = False) -> None:
    """The newest signed checkpoint (C2SP signed note)."""
    from starters.records import show_checkpoint

    show_checkpoint(as_json=as_json)


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
    key: Annotated[list[str], typer.Option("--key", help="The log's vkey, or a file that holds it; repeatable.")],
    artifact: Annotated[
        list[Path] | None, typer.Option("--artifact", help="A file to prove as well; repeatable.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a receipt, and say what it proves; needs neither service nor database. Exit 1 if anything is wrong."""
    from starters.receipts import verify

    verify(file, artifact or [], key, as_json=as_json)


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
