"""The ledger's hot statements in PostgreSQL's own words: one round trip each, however many rows."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from coafi.ledger.store import EntryRow, Head, LedgerStore
from coafi.ledger.tiles import TileId

_HEAD = "SELECT origin, size, root FROM ledger_head WHERE log_id = %s"
_SET_HEAD = "UPDATE ledger_head SET origin = %s, size = %s, root = %s WHERE log_id = %s"

_WITH_KEYS = """
    SELECT idx, key, request, leaf_hash, event_id, type, body FROM ledger_entry
    WHERE log_id = %s AND key = ANY(%s::bytea[])
"""

_ADD_ENTRIES = """
    INSERT INTO ledger_entry (log_id, idx, key, request, leaf_hash, event_id, type, body)
    SELECT %s, * FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[], %s::bytea[], %s::text[], %s::text[], %s::bytea[])
"""

_TILES = """
    SELECT level, n, hashes FROM ledger_tile JOIN unnest(%s::smallint[], %s::bigint[]) AS wanted (level, n)
    USING (level, n) WHERE log_id = %s
"""

_GROW_TILES = """
    UPDATE ledger_tile SET hashes = grown.hashes
    FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[]) AS grown (level, n, hashes)
    WHERE ledger_tile.log_id = %s AND ledger_tile.level = grown.level AND ledger_tile.n = grown.n
"""

_ADD_TILES = """
    INSERT INTO ledger_tile (log_id, level, n, hashes)
    SELECT %s, * FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])
"""


class PostgresqlLedgerStore(LedgerStore):
    """See :class:`LedgerStore`."""

    def head(self, connection: Connection, *, lock: bool = False) -> Head | None:
        """See :meth:`LedgerStore.head`."""
        row = connection.exec_driver_sql(f"{_HEAD} FOR UPDATE" if lock else _HEAD, (self._log_id,)).first()
        return Head(*row) if row is not None else None

    def set_head(self, connection: Connection, head: Head) -> None:
        """See :meth:`LedgerStore.set_head`."""
        connection.exec_driver_sql(_SET_HEAD, (*head, self._log_id))

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """See :meth:`LedgerStore.with_keys`."""
        rows = connection.exec_driver_sql(_WITH_KEYS, (self._log_id, list(keys)))
        return {row.key: EntryRow._make(row) for row in rows}

    def add_entries(self, connection: Connection, rows: Sequence[EntryRow]) -> None:
        """See :meth:`LedgerStore.add_entries`."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        connection.exec_driver_sql(_ADD_ENTRIES, (self._log_id, *columns))

    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """See :meth:`LedgerStore.tiles`."""
        ids = list(wanted)
        parameters = ([one.level for one in ids], [one.n for one in ids], self._log_id)
        rows = connection.exec_driver_sql(_TILES, parameters)
        return {TileId(level, n): hashes for level, n, hashes in rows}

    def set_tiles(
        self, connection: Connection, *, grown: Mapping[TileId, bytes], fresh: Mapping[TileId, bytes]
    ) -> None:
        """See :meth:`LedgerStore.set_tiles`."""
        if grown:
            connection.exec_driver_sql(_GROW_TILES, (*_columns(grown), self._log_id))
        if fresh:
            connection.exec_driver_sql(_ADD_TILES, (self._log_id, *_columns(fresh)))


def _columns(tiles: Mapping[TileId, bytes]) -> tuple[list[int], list[int], list[bytes]]:
    return [one.level for one in tiles], [one.n for one in tiles], list(tiles.values())
