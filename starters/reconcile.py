"""``coafi reconcile``: by hand what the task ``reconcile`` does by itself."""

import asyncio
from concurrent.futures import Future

import typer
from rich.table import Table

from activities.dispatch import Dispatcher
from coafi.errors import Unavailable, ValidationError
from coafi.events import Event
from coafi.tasks.reconcile import Branch, ReconcileParameters, Reconciler, Standing, result_of
from starters.output import command_settings, err, out, print_json, safe, styled, table
from starters.runs import temporal_client
from workers.resources import open_resources
from workers.tasks import build_reconciler
from workers.wiring import build_fetcher


async def reconcile(repositories: list[str], branch: str, since: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Look up the heads, show what was missed, and start it. Exit 1 if something could not be looked at or started."""
    if branch and since is None:
        raise ValidationError("--branch goes with --since", remedy="leave it out: every branch is looked at")
    settings = command_settings()
    with open_resources(settings) as resources:
        fetcher = build_fetcher(resources)
        if dry_run:
            reconciler = build_reconciler(resources, fetcher, _never)
            missed, unreachable = await asyncio.to_thread(_look, reconciler, repositories, branch, since)
            done: list[Branch] = missed
        else:
            async with temporal_client(settings) as client:
                dispatcher = Dispatcher(client, settings.temporal_start_timeout)
                loop = asyncio.get_running_loop()

                def start(event: Event) -> bool:
                    started: Future[bool] = asyncio.run_coroutine_threadsafe(_start(dispatcher, event), loop)
                    return started.result()

                reconciler = build_reconciler(resources, fetcher, start)
                missed, unreachable = await asyncio.to_thread(_look, reconciler, repositories, branch, since)
                done = [await asyncio.to_thread(reconciler.start_one, one) for one in missed]
                done += await asyncio.to_thread(reconciler.start_lost, repositories)
    result = result_of([] if dry_run else done, done if dry_run else [], unreachable)
    if as_json:
        print_json(
            {
                "dryRun": dry_run,
                "branches": [one.model_dump(mode="json", by_alias=True) for one in done],
                "unreachable": result.unreachable,
            }
        )
    else:
        out.print(_table(done) if done else "Nothing was missed.")
        for url, reason in unreachable.items():
            err.print(f"not looked at: {safe(url)}: {safe(reason)}", highlight=False)
    if unreachable or any(one.standing is Standing.FAILED for one in done):
        raise typer.Exit(1)


def _look(
    reconciler: Reconciler, repositories: list[str], branch: str, since: str | None
) -> tuple[list[Branch], dict[str, str]]:
    if since is not None:
        if len(repositories) > 1:
            raise ValidationError("--since is a commit of one repository", remedy="say one --repository")
        return reconciler.since(since, branch, repositories[0] if repositories else ""), {}
    return reconciler.look(ReconcileParameters(repositories=tuple(repositories)))


async def _start(dispatcher: Dispatcher, event: Event) -> bool:
    return (await dispatcher.start(event)).existed


def _never(_event: Event) -> bool:
    raise Unavailable("a dry run starts nothing")


def _table(branches: list[Branch]) -> Table:
    rows = table("What", "Repository", "Branch", "Before", "After", "Run")
    for one in branches:
        rows.add_row(
            styled(one.standing),
            safe(one.repository),
            safe(one.branch),
            one.before[:12],
            one.after[:12],
            safe(one.workflow_id or one.reason or "–"),
        )
    return rows
