"""Commands about the tables themselves: ``database``."""

from contextlib import closing

import typer

from coafi.database import Database
from coafi.database.migrate import NEWEST, Standing, differences, migrate, state_of
from starters.output import command_settings, facts, out, print_json, safe
from starters.records import existing_database

_MEANING = {
    Standing.EMPTY: "no tables yet: start the service, or run: coafi database migrate",
    Standing.CURRENT: "the tables are those that this software needs",
    Standing.BEHIND: "older than this software: back it up, then run: coafi database migrate",
    Standing.AHEAD: "newer than this software: run the newer software, or restore the backup from before its upgrade",
}


def check_database(*, as_json: bool) -> None:
    """``coafi database check``.

    Raises:
        ResourceNotFoundError: there is no SQLite file in this home.
        Unavailable: the database is out of reach.
    """
    with closing(existing_database(command_settings())) as database:
        state = state_of(database)
        # Of another version, what differs is not known here: only its own software can tell.
        wrong = differences(database) if state.standing is Standing.CURRENT else []
    sound = state.standing is Standing.CURRENT and not wrong
    if as_json:
        print_json(
            {
                "database": str(database.where),
                "standing": state.standing.value,
                "version": state.version,
                "needed": NEWEST,
                "missing": list(state.missing),
                "differences": list(wrong),
            }
        )
    else:
        rows = facts()
        rows.add_row("Database", safe(str(database.where)))
        rows.add_row("Version", state.version or "none")
        rows.add_row("This software needs", NEWEST)
        rows.add_row("Missing", ", ".join(state.missing) or "nothing")
        for one in wrong:
            rows.add_row("Differs", safe(one))
        rows.add_row("Meaning", _MEANING[state.standing] if not wrong else "changed by hand: restore a backup")
        out.print(rows)
    if not sound:
        raise typer.Exit(1)


def migrate_database(*, as_json: bool) -> None:
    """``coafi database migrate``.

    Raises:
        ValidationError: the tables are those of newer software.
        Unavailable: the database is out of reach, locked, or the role may not change tables.
    """
    settings = command_settings()
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(Database(settings.database)) as database:
        before = migrate(database)
    if as_json:
        print_json({"database": str(database.where), "before": before.version, "version": NEWEST})
    else:
        done = f"is at version {NEWEST}" if before.missing else f"was at version {NEWEST} already"
        typer.echo(f"Database {safe(str(database.where))} {done}.")
