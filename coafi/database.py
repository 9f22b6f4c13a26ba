"""The one database: ledger, deliveries, registry and caches share it, so that they can share a transaction.

SQLite comes from ``pysqlite3``, never from the interpreter: two SQLite libraries in one process break each other's
file locks.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pysqlite3.dbapi2
from sqlalchemy import Connection, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from coafi.errors import IntegrityError, Unavailable

metadata = MetaData()
"""Every table of the service, each declared in the module that owns it."""

WRITE_LOCK_TIMEOUT = 2.0
"""Seconds that a writer waits for its turn before it reports the database as unavailable."""


class Database:
    """A SQLite file in WAL mode with full durability: what a commit returned is on the disk.

    Reads run side by side. Writes are taken one at a time, in turn: first among the threads of this process, then
    among processes by a lock file, because SQLite's own lock is polled and starves waiting processes.

    Args:
        path: the database file; its directory must exist.
    """

    def __init__(self, path: Path, *, write_lock_timeout: float = WRITE_LOCK_TIMEOUT) -> None:
        self.path = path
        self._timeout = write_lock_timeout
        self._turn = threading.Lock()
        self._engine = create_engine(
            f"sqlite+pysqlite:///{path}",
            module=pysqlite3.dbapi2,
            connect_args={"timeout": write_lock_timeout, "check_same_thread": False, "isolation_level": None},
            pool_size=32,
            max_overflow=32,
        )
        event.listen(self._engine, "connect", _configure)

    def create_tables(self) -> None:
        """Make the tables that are missing."""
        with self.write() as connection:
            metadata.create_all(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with _translated(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection that holds the write lock; it commits when the block ends, and rolls back when it raises.

        Raises:
            Unavailable: the lock is not to be had in time, or the disk refuses.
        """
        with _translated(self.path), self._locked(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # SQLite's own attribute
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout
        if not self._turn.acquire(timeout=self._timeout):
            raise _busy(self.path)
        try:
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while True:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            raise _busy(self.path) from None
                        time.sleep(0.002)
                yield
            finally:
                os.close(descriptor)
        finally:
            self._turn.release()


def _configure(connection: pysqlite3.dbapi2.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA cache_size=-65536")


def _busy(path: Path) -> Unavailable:
    return Unavailable(f"database {path} is locked by another writer", remedy="wait, or end the process that holds it")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if "Could not decode" in str(error.orig):  # no outage: text of ours is UTF-8
            raise IntegrityError(
                f"database {path} is damaged: {str(error.orig).partition(' with text')[0]}",
                remedy="keep a copy of it, and restore a backup",
            ) from error
        raise Unavailable(
            f"database {path} is out of reach: {error.orig}", remedy="check its disk space, permissions and locks"
        ) from error
    except DBAPIError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise IntegrityError(
                f"database {path} is damaged: {error.orig}", remedy="keep a copy of it, and restore a backup"
            ) from error
        if "disk" in str(error.orig) or error.connection_invalidated:
            raise Unavailable(f"database {path} is out of reach: {error.orig}", remedy="check its disk") from error
        raise
    except OSError as error:
        raise Unavailable(f"database {path} is out of reach: {error}", remedy="check its directory") from error
