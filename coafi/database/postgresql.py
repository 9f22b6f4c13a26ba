"""PostgreSQL, by psycopg 3: one database for many machines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy.exc
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from coafi.database.address import PostgresqlAddress
from coafi.errors import CoafiError, IntegrityError, Unavailable

CONNECT_TIMEOUT = 5
"""Seconds that a host may take to answer; where several are named, each."""

POOL_SIZE = 8
"""Connections that a process keeps open."""

POOL_OVERFLOW = 8
"""Connections that it opens beyond them and closes again. Times the processes, all must fit into the server's
``max_connections``."""

POOL_TIMEOUT = 10.0
"""Seconds that a thread waits for one of its process's connections."""

IDLE_TIMEOUT = 30.0
"""Seconds between two statements of a write, after which the server takes its machine for dead and frees its locks."""

_DEFAULTS = {
    "connect_timeout": str(CONNECT_TIMEOUT),
    # A server that vanished is noticed within half a minute, by an idle connection too.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "coafi",
    # Of several hosts, the one that may be written to: after a failover it is another.
    "target_session_attrs": "read-write",
}

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
    "SET LOCAL synchronous_commit = {durability}; SET LOCAL lock_timeout = {lock};"
    "SET LOCAL idle_in_transaction_session_timeout = {idle}"
)
"""Durability is set for each transaction, so that neither a default of role or database nor a pooler between weakens
it. Not a stricter level: each statement must see what was committed while it waited for a lock."""


class PostgresqlAdapter:
    """A database on a server that keeps what it has confirmed.

    Args:
        address: of the database.
    """

    def __init__(self, address: PostgresqlAddress) -> None:
        self._name = f"database {address}"
        self._parameters = {**_DEFAULTS, **address.parameters, "client_encoding": "utf8"}
        self._durability = "on"
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            # Transactions are begun and ended in words, as on SQLite.
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_TIMEOUT,
            pool_use_lifo=True,
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See :class:`coafi.database.port.Database`."""
        with self._translated(), self._begun(_READ) as connection:
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def write(self, lock_timeout: float) -> Iterator[Connection]:
        """See :class:`coafi.database.port.Database`."""
        begin = _WRITE.format(
            durability=self._durability, lock=max(1, round(lock_timeout * 1000)), idle=round(IDLE_TIMEOUT * 1000)
        )
        with self._translated(), self._begun(begin) as connection:
            try:
                yield connection
                self._commit(connection)
            except BaseException:
                _roll_back(connection)
                raise

    def glance(self, statement: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        """See :class:`coafi.database.port.Database`: whoever asks a server has to wait for it."""
        raise Unavailable(f"{self._name} does not answer at once", remedy="read it in a thread")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        connection = psycopg.connect(autocommit=True, **self._parameters)  # type: ignore[arg-type]  # libpq's own names
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: "psycopg.Connection[tuple[object, ...]]") -> None:
        """Refuse a server that may forget what it has confirmed, or that cannot hold all text."""
        names = ("fsync", "full_page_writes", "synchronous_commit", "server_encoding")
        query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
        found = {str(name): str(setting) for name, setting in connection.execute(query, (list(names),))}
        for name in ("fsync", "full_page_writes"):
            if found[name] != "on":
                raise Unavailable(
                    f"{self._name} runs with {name}={found[name]}: a crash could take entries that were signed",
                    remedy=f"set {name} = on in postgresql.conf, and reload it",
                )
        if found["server_encoding"] != "UTF8":
            raise Unavailable(
                f"{self._name} is encoded in {found['server_encoding']}, which cannot hold every name",
                remedy="create a database with ENCODING 'UTF8'",
            )
        # Stricter than needed is left alone.
        self._durability = "remote_apply" if found["synchronous_commit"] == "remote_apply" else "on"

    @contextmanager
    def _begun(self, begin: str) -> Iterator[Connection]:
        """A connection on which a transaction has begun; a pooled one that was lost meanwhile is replaced once."""
        connection = self.engine.connect()
        try:
            connection.exec_driver_sql(begin)
        except DBAPIError as error:
            connection.close()
            if not error.connection_invalidated:
                raise
            connection = self.engine.connect()  # SQLAlchemy has emptied the pool: this one is new
            try:
                connection.exec_driver_sql(begin)
            except BaseException:
                connection.close()
                raise
        with connection:
            yield connection

    def _commit(self, connection: Connection) -> None:
        """Commit, if there is a sound transaction: of a failed one, COMMIT is a ROLLBACK without an error."""
        status = connection.connection.driver_connection.info.transaction_status  # type: ignore[union-attr]  # psycopg's
        if status is not TransactionStatus.INTRANS:
            raise Unavailable(
                f"the transaction on {self._name} has failed or ended before its commit (it is {status.name})",
                remedy="nothing was written; if it happens again, it is a defect",
            )
        connection.exec_driver_sql("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.TimeoutError as error:
            raise Unavailable(
                f"{self._name}: all {POOL_SIZE + POOL_OVERFLOW} connections of this process are in use",
                remedy="wait; if it lasts, lower the slots in the settings or run more processes",
            ) from error
        except sqlalchemy.exc.PendingRollbackError as error:
            raise Unavailable(f"the connection to {self._name} was lost", remedy=_CHECK_SERVER) from error
        except DBAPIError as error:
            translated = self._meaning(error)
            if translated is None:
                raise
            raise translated from error

    def _meaning(self, error: DBAPIError) -> CoafiError | None:
        """What an error of the driver means here; ``None`` when it is the caller's own."""
        state = getattr(error.orig, "sqlstate", None) or ""
        said = " ".join(str(error.orig).split())
        if state in _DAMAGED:
            return IntegrityError(f"{self._name} is damaged: {said}", remedy="keep a copy of it, and restore a backup")
        for prefix, (what, remedy) in _UNAVAILABLE.items():
            if state.startswith(prefix):
                return Unavailable(f"{self._name} {what}: {said}", remedy=remedy)
        if state.startswith(_LIMIT):
            return None
        if isinstance(error.orig, psycopg.OperationalError) or error.connection_invalidated:
            return Unavailable(f"{self._name} is out of reach: {said}", remedy=_CHECK_SERVER)
        return None


_CHECK_SERVER = "check the server, the network between, and COAFI_DATABASE_URL"

_DAMAGED = ("XX001", "XX002")

_LIMIT = "54"
"""A value is too large for the server, which psycopg calls operational: trying again cannot help."""

_UNAVAILABLE = {
    "25": ("has given up a transaction", "try again"),
    "3B": ("has given up a transaction", "try again"),
    "40": ("has given up a transaction", "try again"),
    "55P03": (
        "is locked by another writer",
        "wait, or end the session that holds it; see: SELECT pid, state, query FROM pg_stat_activity",
    ),
    "53300": ("has no connection left", "raise max_connections, or run fewer processes"),
    "53": ("is short of disk or memory", "give it more space"),
    "57014": ("has cancelled a statement", "check statement_timeout of role and database"),
    "57": ("is stopping, or starting", "wait until it is up"),
    "58": ("cannot use its disk", "check the server's disk and log"),
    "28": ("refuses this role", "check user and password in COAFI_DATABASE_URL, and pg_hba.conf"),
    "3D": ("does not exist", "create it; see docs/operations.md"),
    "3F": ("has no schema to use", "create it, or set the role's search_path"),
    "42501": ("does not allow this role to do so", "grant it what docs/operations.md says"),
    "42P01": ("lacks a table", "run: coafi database migrate"),
    "42703": ("lacks a column", "run: coafi database migrate"),
}
"""What SQLSTATEs mean, by their beginning, the longer first; all of these may pass. See "PostgreSQL Error Codes" in its
documentation."""


def _roll_back(connection: Connection) -> None:
    with suppress(sqlalchemy.exc.SQLAlchemyError):  # what is lost is rolled back by the server
        connection.exec_driver_sql("ROLLBACK")
