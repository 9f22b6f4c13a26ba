"""The ledger's hot statements in SQLite's own words: its driver takes the values as they are."""

from collections.abc import Iterable, Sequence
from itertools import chain, islice

from sqlalchemy import Connection

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
        row = connection.exec_driver_sql(_HEAD, (self._log_id,)).first()
        return Head(*row) if row is not None else None

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """See :meth:`LedgerStore.with_keys`."""
        found: dict[bytes, EntryRow] = {}
        rest = iter(keys)
        while chunk := list(islice(rest, CHUNK)):
            statement = _WITH_KEYS % (", ?" * (len(chunk) - 1))
            for row in connection.exec_driver_sql(statement, (self._log_id, *chunk)):
                found[row.key] = EntryRow._make(row)
        return found

    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """See :meth:`LedgerStore.tiles`."""
        found: dict[TileId, bytes] = {}
        rest = iter(wanted)
        while chunk := list(islice(rest, CHUNK)):
            statement = _TILES % (", (?, ?)" * (len(chunk) - 1))
            for level, n, hashes in connection.exec_driver_sql(statement, (self._log_id, *chain(*chunk))):
                found[TileId(level, n)] = hashes
        return found

    def extend(self, connection: Connection, rows: Sequence[EntryRow], growth: Growth, head: Head) -> None:
        """See :meth:`LedgerStore.extend`."""
        log = self._log_id
        connection.exec_driver_sql(_ADD_ENTRIES, [(log, *row) for row in rows])
        if growth.grown:
            connection.exec_driver_sql(_GROW_TILE, [(hashes, log, *id_) for id_, hashes in growth.grown.items()])
        if growth.fresh:
            connection.exec_driver_sql(_ADD_TILE, [(log, *id_, hashes) for id_, hashes in growth.fresh.items()])
        connection.exec_driver_sql(_SET_HEAD, (*head, log))
