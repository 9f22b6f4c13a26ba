"""The versions of the tables: which one a database is at, and how it gets to the newest.

A version is a file in ``migrations/versions``; alembic runs those that are missing, all of them in one transaction,
and notes the last one in the table ``alembic_version``. The tables that the modules declare are the source: a test
holds what the versions make against them.
"""

import importlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy import text as sql
from sqlalchemy.schema import SchemaItem

from coafi.database.port import Database
from coafi.database.schema import metadata
from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError

VERSIONS = ("0001", "0002", "0003", "0004", "0005")
"""Every version, the oldest first."""

NEWEST = VERSIONS[-1]
"""The version that this software needs."""

TABLE_OWNERS = (
    "coafi.api.stored",
    "coafi.artifacts.cache",
    "coafi.compliance.findings",
    "coafi.deliveries",
    "coafi.federation.positions",
    "coafi.federation.sent",
    "coafi.federation.tables",
    "coafi.federation.witnessed",
    "coafi.following",
    "coafi.index.pointers",
    "coafi.index.summaries",
    "coafi.ledger.store.tables",
    "coafi.notify.gone",
    "coafi.registry.store",
    "coafi.registry.tables",
    "coafi.registry.verdicts",
    "coafi.results",
    "coafi.tasks.results",
    "coafi.tasks.pushes",
    "coafi.trees.facts",
)
"""The modules that declare tables."""

LOCK_TIMEOUT = 60.0
"""Seconds that a process waits for another one that migrates the same database."""

_LOCK = 0x434F414649  # any number that others do not use for their own locks in this database
_VERSION_TABLE = "alembic_version"


class Standing(StrEnum):
    """How a database stands to this software."""

    EMPTY = "empty"
    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


@dataclass(frozen=True)
class State:
    """What a database is at.

    Attributes:
        version: as it is noted; ``None`` when the tables are older than versions, or when there are none.
        missing: the versions that lie between it and this software.
    """

    standing: Standing
    version: str | None
    missing: tuple[str, ...]


def state_of(database: Database) -> State:
    """What a database is at. Changes nothing.

    Raises:
        Unavailable: the database is out of reach.
    """
    with database.read() as connection:
        return _state(connection)


def require_current(database: Database) -> None:
    """Refuse a database that is not at the version of this software. Changes nothing.

    Raises:
        ResourceNotFoundError: it has no tables.
        ValidationError: its tables are older, or newer.
        Unavailable: it is out of reach.
    """
    state = state_of(database)
    if state.standing is Standing.EMPTY:
        raise ResourceNotFoundError(
            f"database {database.where} has no tables", remedy="start the service, or run: coafi database migrate"
        )
    if state.standing is Standing.BEHIND:
        raise ValidationError(
            f"database {database.where} is at version {state.version or 'none'}, and this software needs {NEWEST}",
            remedy="back it up, then start the service or run: coafi database migrate",
        )
    _refuse_newer(database, state)


def migrate(database: Database) -> State:
    """Bring a database to the version of this software; what it was at before.

    All or nothing, and once: other processes wait, and then find nothing to do.

    Raises:
        ValidationError: the tables are those of newer software.
        Unavailable: the database is out of reach, locked, or the role may not change tables.
    """
    before = state_of(database)
    _refuse_newer(database, before)
    if before.standing is Standing.CURRENT:
        return before
    with database.write(lock_timeout=LOCK_TIMEOUT) as connection:
        if database.dialect == "postgresql":
            connection.execute(sql("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = _state(connection)
        _refuse_newer(database, before)
        if before.standing is not Standing.CURRENT:
            _upgrade(connection)
    return before


def differences(database: Database) -> list[str]:
    """What the tables of a database lack or have too much, compared with what the modules declare; one line each.

    Raises:
        Unavailable: the database is out of reach.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for module in TABLE_OWNERS:
        importlib.import_module(module)
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": partial(_concerns, database.dialect)}
        )
        return [_described(one) for one in compare_metadata(context, metadata)]


def _state(connection: Connection) -> State:
    tables = set(inspect(connection).get_table_names())
    if _VERSION_TABLE not in tables:
        # Before there were versions every database had this table, and no other program's has.
        empty = "ledger_head" not in tables
        return State(Standing.EMPTY if empty else Standing.BEHIND, None, VERSIONS)
    version = connection.execute(sql(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608  # a constant
    if version is None:
        return State(Standing.EMPTY, None, VERSIONS)
    if version not in VERSIONS:
        return State(Standing.AHEAD, version, ())
    missing = VERSIONS[VERSIONS.index(version) + 1 :]
    return State(Standing.BEHIND if missing else Standing.CURRENT, version, missing)


def _refuse_newer(database: Database, state: State) -> None:
    if state.standing is Standing.AHEAD:
        raise ValidationError(
            f"database {database.where} is at version {state.version}, and this software knows {NEWEST} at most",
            remedy="run the newer software, or restore the backup from before its upgrade; there is no way back else",
        )


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Unavailable(
            f"the tables cannot be migrated: {error}", remedy="install the package again: its migrations are damaged"
        ) from error


def _concerns(dialect: str, declared: SchemaItem, *_: object) -> bool:
    return declared.info.get("dialect") in (None, dialect)


def _described(difference: object) -> str:
    """A difference as alembic reports it, in words."""
    parts = difference if isinstance(difference, tuple) else (difference,)
    if parts and isinstance(parts[0], list):  # changes of one column come in a list
        return "; ".join(_described(one) for one in parts[0])
    verb, *rest = parts
    names = [str(getattr(one, "name", one)) for one in rest if one is not None]
    return " ".join([str(verb).replace("_", " "), *names])
