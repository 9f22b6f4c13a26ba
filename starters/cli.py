"""The ``coafi`` command. Heavy modules are imported by the commands that need them, so that ``--help`` is quick."""

import contextlib
import logging
import os
import sys
from typing import Annotated

import typer

from coafi.errors import CoafiError
from coafi.names import TaskQueue
from starters.commands import auth, common, config, events, ledger, peers, registry, schedules
from starters.commands.common import Json, run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="COAFI Event Handlers: run, submit, inspect, steer.",
)
app.add_typer(events.files, name="files")
app.add_typer(events.submit, name="submit")
app.add_typer(schedules.schedules, name="schedules")
app.add_typer(schedules.reports, name="reports")
app.add_typer(ledger.archive, name="archive")
app.add_typer(events.events, name="events")
app.add_typer(events.docs, name="docs")
app.add_typer(events.findings, name="findings")
app.add_typer(events.subscribers, name="subscribers")
app.add_typer(peers.peers, name="peers")
app.add_typer(auth.auth, name="auth")
app.add_typer(config.config, name="config")
app.add_typer(registry.registry, name="registry")
app.add_typer(ledger.ledger, name="ledger")
app.add_typer(ledger.database, name="database")
app.add_typer(ledger.receipt, name="receipt")
app.add_typer(ledger.witness, name="witness")
app.add_typer(events.dead_letters, name="dead-letters")


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
    if common.SDK_USED:
        _end_at_once(code)
    sys.exit(code if isinstance(code, int | str) else 0)


@app.command()
def up() -> None:
    """Run the service on this machine: Temporal with its Web UI, workers, gateway. Ctrl-C stops it."""
    from starters.service import run_service

    run(run_service())


@app.command()
def demo() -> None:
    """Commit documents to a sample repository, deliver the push, and show what came of it."""
    from starters.demo import run_demo

    run(run_demo())


@app.command("demo-federation")
def demo_federation() -> None:
    """Let two instances on this machine tell each other of documents and entries, and prove what came of it."""
    from starters.demo_federation import run_demo

    run(run_demo())


@app.command()
def worker(
    queue: Annotated[
        list[TaskQueue] | None,
        typer.Option(help="Task queue to serve; repeatable. Default: all.", show_default=False),
    ] = None,
) -> None:
    """Run the workers of the task queues against a Temporal that is already there."""
    from starters.service import run_workers

    run(run_workers(queue or ()))


@app.command()
def gateway() -> None:
    """Run the HTTP gateway against a Temporal that is already there."""
    from starters.service import run_gateway

    run(run_gateway())


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

    run(run_listener(start))


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

    run(start_missed(repository or [], branch, since, dry_run=dry_run, as_json=as_json))


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
