"""Commands about what is started when, and what it found.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from starters.commands.common import By, Json, Limit, run

schedules = typer.Typer(no_args_is_help=True, help="What is started when: Temporal's Schedules, from a file.")
reports = typer.Typer(no_args_is_help=True, help="What scheduled tasks found out: results and reports.")

ScheduleName = Annotated[str, typer.Argument(help="Name of the schedule.")]


@schedules.command("apply")
def schedules_apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make Temporal's Schedules what the file says; shows the difference first."""
    from starters.schedules import apply_schedules

    run(apply_schedules(dry_run=dry_run, yes=yes, as_json=as_json))


@schedules.command("list")
def schedules_list(as_json: Json = False) -> None:
    """The schedules that there are, when they are due next, and what they have done."""
    from starters.schedules import list_schedules

    run(list_schedules(as_json=as_json))


@schedules.command("trigger")
def schedules_trigger(name: ScheduleName, as_json: Json = False) -> None:
    """Start a schedule's task now, or when what runs has ended; also while it is paused."""
    from starters.schedules import trigger_schedule

    run(trigger_schedule(name, as_json=as_json))


@schedules.command("pause")
def schedules_pause(
    name: ScheduleName,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; is shown by `schedules list`.")],
    as_json: Json = False,
) -> None:
    """Start nothing more, until it is resumed."""
    from starters.schedules import pause_schedule

    run(pause_schedule(name, reason, by, as_json=as_json))


@schedules.command("resume")
def schedules_resume(
    name: ScheduleName,
    by: By,
    reason: Annotated[str, typer.Option(help="Why.")] = "cause mended",
    as_json: Json = False,
) -> None:
    """Go on with a schedule that was paused, or that paused itself after a failure."""
    from starters.schedules import resume_schedule

    run(resume_schedule(name, reason, by, as_json=as_json))


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

    run(backfill_schedule(name, parse_moment(since), parse_moment(until), as_json=as_json))


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
