"""SQLite: a file, for the processes of one machine.

It comes from ``pysqlite3``, never from the interpreter: two SQLite libraries in one process break each other's file
locks.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from coafi.errors import IntegrityError, Unavailable


class SqliteAdapter:
    """A file in WAL mode with full durability.

    Writes are taken one at a time, in turn: first among the threads of this process, then among processes by a lock
    file, because SQLite's own lock is polled and starves waiting processes.

    Args:
        path: the database file; its directory must exist.
        busy_timeout: seconds that SQLite itself waits for a lock.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._turn = threading.Lock()
        self.engine = create_engine(
            f"sqlite+pysqlite:///{path}",
            module=pysqlite3.dbapi2,
            connect_args={"timeout": busy_timeout, "check_same_thread": False, "isolation_level": None},
            pool_size=32,
            max_overflow=32,
        )
        event.listen(self.engine, "connect", _configure)
        self._glancing = threading.Lock()
        self._glance: pysqlite3.dbapi2.Connection | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See :class:`coafi.database.port.Database`."""
        with _translated(self._path), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                if not connection.invalidated:  # as after Ctrl-C in a statement: then it is closed already
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def write(self, lock_timeout: float) -> Iterator[Connection]:
        """See :class:`coafi.database.port.Database`."""
        with _translated(self._path), self._locked(lock_timeout), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                if not connection.invalidated and connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]  # SQLite's own attribute
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def glance(self, statement: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        """See :class:`coafi.database.port.Database`. Readers of a file in WAL mode do not wait for writers."""
        if not self._glancing.acquire(blocking=False):
            raise Unavailable(f"database {self._path} is being looked into", remedy="read it in a thread")
        try:
            if self._glance is None:
                self._glance = pysqlite3.dbapi2.connect(
                    f"{self._path.resolve().as_uri()}?mode=ro",
                    uri=True,
                    timeout=0,
                    check_same_thread=False,
                    isolation_level=None,
                )
            found: list[tuple[Any, ...]] = self._glance.execute(statement, values).fetchall()
            return found
        except pysqlite3.dbapi2.Error as error:
            self._forget_glance()
            raise Unavailable(f"database {self._path} cannot be read at once: {error}", remedy="wait for it") from error
        finally:
            self._glancing.release()

    def close(self) -> None:
        """Close every connection."""
        with self._glancing:
            self._forget_glance()
        self.engine.dispose()

    def _forget_glance(self) -> None:
        if self._glance is not None:
            self._glance.close()
            self._glance = None

    @contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            raise _busy(self._path)
        try:
            descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while True:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            raise _busy(self._path) from None
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
