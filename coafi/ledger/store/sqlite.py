"""The ledger's hot statements in SQLite's own words, given to its driver as they are.

With what SQLAlchemy does around a statement they took a tenth of the time of a batch.

What comes by the hundred, entries and keys, goes over as ``bytearray``. For each value of type ``bytes`` the driver
first looks for an adapter, by raising and dropping an exception, which took half the time of an insert; it knows
``bytearray`` as a type that needs none. The database stores the same BLOB for either.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, islice, repeat
from typing import Any

import pysqlite3.dbapi2
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from coafi.ledger.store.statements import LedgerStore
from coafi.ledger.store.tables import EntryRow, Head
from coafi.ledger.tiles import Growth, TileId

CHUNK = 500
"""Values in one IN list."""

_HEAD = "SELECT origin, size, root FROM ledger_head WHERE log_id = ?"
_WITH_KEYS = (
    "SELECT idx, key, request, leaf_hash, event_id, type, body FROM ledger_entry WHERE log_id = ? AND key IN (?%s)"
)
_TILES = "SELECT level, n, hashes FROM ledger_tile WHERE log_id = ? AND (level, n) IN (VALUES (?, ?)%s)"
_ADD_ENTRIES = (
    "INSERT INTO ledger_entry (log_id, idx, key, request, leaf_hash, event_id, type, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_GROW_TILE = "UPDATE ledger_tile SET hashes = ? WHERE log_id = ? AND level = ? AND n = ?"
_ADD_TILE = "INSERT INTO ledger_tile (log_id, level, n, hashes) VALUES (?, ?, ?, ?)"
_SET_HEAD = "UPDATE ledger_head SET origin = ?, size = ?, root = ? WHERE log_id = ?"


class SqliteLedgerStore(LedgerStore):
    """See :class:`LedgerStore`."""

    def head(self, connection: Connection, *, lock: bool = False) -> Head | None:  # a writer is alone
        """See :meth:`LedgerStore.head`."""
        rows = _rows(connection, _HEAD, (self._log_id,))
        return Head(*rows[0]) if rows else None

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """See :meth:`LedgerStore.with_keys`."""
        found: dict[bytes, EntryRow] = {}
        rest = iter(keys)
        while chunk := list(islice(rest, CHUNK)):
            statement = _WITH_KEYS % (", ?" * (len(chunk) - 1))
            for row in map(EntryRow._make, _rows(connection, statement, (self._log_id, *map(bytearray, chunk)))):
                found[row.key] = row
        return found

    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """See :meth:`LedgerStore.tiles`."""
        found: dict[TileId, bytes] = {}
        rest = iter(wanted)
        while chunk := list(islice(rest, CHUNK)):
            statement = _TILES % (", (?, ?)" * (len(chunk) - 1))
            for level, n, hashes in _rows(connection, statement, (self._log_id, *chain(*chunk))):
                found[TileId(level, n)] = hashes
        return found

    def extend(self, connection: Connection, rows: Sequence[EntryRow], growth: Growth, head: Head) -> None:
        """See :meth:`LedgerStore.extend`."""
        log = self._log_id
        index, key, request, leaf, event, type_, body = zip(*rows, strict=True)
        blobs = [map(bytearray, column) for column in (key, request, leaf, body)]
        _write(connection, _ADD_ENTRIES, zip(repeat(log), index, *blobs[:3], event, type_, blobs[3], strict=False))
        _write(connection, _GROW_TILE, [(hashes, log, *id_) for id_, hashes in growth.grown.items()])
        _write(connection, _ADD_TILE, [(log, *id_, hashes) for id_, hashes in growth.fresh.items()])
        _write(connection, _SET_HEAD, [(*head, log)])


def _rows(connection: Connection, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """What a query finds."""
    try:
        found: list[tuple[Any, ...]] = _driver(connection).execute(statement, values).fetchall()
    except pysqlite3.dbapi2.Error as error:
        raise _as_usual(statement, error) from error
    return found


def _write(connection: Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    """Do a statement for each of some rows."""
    try:
        _driver(connection).executemany(statement, rows)
    except pysqlite3.dbapi2.Error as error:
        raise _as_usual(statement, error) from error


def _driver(connection: Connection) -> pysqlite3.dbapi2.Connection:
    return connection.connection.driver_connection


def _as_usual(statement: str, error: Exception) -> BaseException:
    """The error that SQLAlchemy would have raised."""
    return DBAPIError.instance(statement, None, error, pysqlite3.dbapi2.Error)
