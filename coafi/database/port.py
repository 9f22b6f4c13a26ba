"""``Database``: reads and writes, on whichever adapter the settings name."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from coafi.database.address import PostgresqlAddress
from coafi.database.sqlite import SqliteAdapter

WRITE_LOCK_TIMEOUT = 2.0
"""Seconds that a writer waits for its turn before it reports the database as unavailable."""


class Adapter(Protocol):
    """What a database must be able to do; see :class:`Database` for what each means."""

    engine: Engine

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees one consistent state."""

    def write(self, lock_timeout: float) -> AbstractContextManager[Connection]:
        """A connection whose writes are committed when the block ends."""

    def glance(self, statement: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        """The rows of one small query, at once or not at all."""

    def close(self) -> None:
        """Close every connection."""


class Database:
    """A SQLite file or a PostgreSQL database, with full durability: what a commit returned is on the disk.

    Reads run side by side, also with writes. SQLite takes one writer at a time; on PostgreSQL writers meet only where
    they touch the same rows, so a write that depends on what it has read must lock that first, or let a key decide.

    Args:
        where: the SQLite file, whose directory must exist; or the address of a PostgreSQL database.
        write_lock_timeout: seconds that a writer waits for another one.
    """

    def __init__(self, where: Path | PostgresqlAddress, *, write_lock_timeout: float = WRITE_LOCK_TIMEOUT) -> None:
        self.where = where
        self._write_lock_timeout = write_lock_timeout
        self._adapter: Adapter
        if isinstance(where, Path):
            self._adapter = SqliteAdapter(where, write_lock_timeout)
        else:
            from coafi.database.postgresql import PostgresqlAdapter  # its driver is loaded only where it is used

            self._adapter = PostgresqlAdapter(where)

    def __repr__(self) -> str:
        return f"Database({self.where})"

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._adapter.engine.dialect.name

    def create_tables(self) -> None:
        """Make the tables, or bring them to the version that this software needs; see :mod:`coafi.database.migrate`.

        Raises:
            ValidationError: the tables are those of newer software.
            Unavailable: the database is out of reach.
        """
        from coafi.database.migrate import migrate  # alembic is loaded only where it is used

        migrate(self)

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees one consistent state.

        Raises:
            Unavailable: the database cannot be reached.
            IntegrityError: it is damaged.
        """
        return self._adapter.read()

    def glance(self, statement: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        """The rows of one small query by key, at once or not at all: for an event loop, which must not wait.

        A file that this machine has in memory answers in microseconds, less than it costs to hand the question to a
        thread. A server never does.

        Args:
            statement: a SELECT, with ``?`` for each value.
            values: what it is asked for.

        Raises:
            Unavailable: not at once; :meth:`read`, in a thread, may do, or says why not.
        """
        return self._adapter.glance(statement, values)

    def write(self, *, lock_timeout: float | None = None) -> AbstractContextManager[Connection]:
        """A connection whose writes are committed when the block ends, and undone when it raises.

        Args:
            lock_timeout: seconds to wait for another writer, when it is not the usual time.

        Raises:
            Unavailable: a lock is not to be had in time, the disk refuses, or the connection was lost. In the last
                case the outcome of the commit is unknown: write what may be written again.
            IntegrityError: the database is damaged.
        """
        return self._adapter.write(self._write_lock_timeout if lock_timeout is None else lock_timeout)

    def close(self) -> None:
        """Close every connection."""
        self._adapter.close()
