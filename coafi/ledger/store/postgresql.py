"""The ledger's hot statements in PostgreSQL's own words: one round trip each, however many rows.

Lists go over as arrays, in binary form (``%b``).
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from coafi.ledger.store.statements import LedgerStore
from coafi.ledger.store.tables import EntryRow, Head
from coafi.ledger.tiles import Growth, TileId

_HEAD = "SELECT origin, size, root FROM ledger_head WHERE log_id = %s"

_WITH_KEYS = """
    SELECT idx, key, request, leaf_hash, event_id, type, body FROM ledger_entry
    WHERE log_id = %s AND key = ANY(%b::bytea[])
"""

_TILES = """
    SELECT level, n, hashes FROM ledger_tile JOIN unnest(%b::smallint[], %b::bigint[]) AS wanted (level, n)
    USING (level, n) WHERE log_id = %s
"""

_EXTEND = """
    WITH added AS (
        INSERT INTO ledger_entry (log_id, idx, key, request, leaf_hash, event_id, type, body)
        SELECT %s, * FROM
        unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[], %b::text[], %b::text[], %b::bytea[])
    ), grown AS (
        UPDATE ledger_tile SET hashes = new.hashes
        FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[]) AS new (level, n, hashes)
        WHERE ledger_tile.log_id = %s AND ledger_tile.level = new.level AND ledger_tile.n = new.n
    ), fresh AS (
        INSERT INTO ledger_tile (log_id, level, n, hashes)
        SELECT %s, * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[])
    )
    UPDATE ledger_head SET origin = %s, size = %s, root = %s WHERE log_id = %s
"""


class PostgresqlLedgerStore(LedgerStore):
    """See :class:`LedgerStore`."""

    def head(self, connection: Connection, *, lock: bool = False) -> Head | None:
        """See :meth:`LedgerStore.head`."""
        row = connection.exec_driver_sql(f"{_HEAD} FOR UPDATE" if lock else _HEAD, (self._log_id,)).first()
        return Head(*row) if row is not None else None

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """See :meth:`LedgerStore.with_keys`."""
        rows = connection.exec_driver_sql(_WITH_KEYS, (self._log_id, list(keys)))
        return {row.key: EntryRow._make(row) for row in rows}

    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """See :meth:`LedgerStore.tiles`."""
        ids = list(wanted)
        parameters = ([one.level for one in ids], [one.n for one in ids], self._log_id)
        rows = connection.exec_driver_sql(_TILES, parameters)
        return {TileId(level, n): hashes for level, n, hashes in rows}

    def extend(self, connection: Connection, rows: Sequence[EntryRow], growth: Growth, head: Head) -> None:
        """See :meth:`LedgerStore.extend`."""
        log, entries = self._log_id, [list(column) for column in zip(*rows, strict=True)]
        grown, fresh = _columns(growth.grown), _columns(growth.fresh)
        connection.exec_driver_sql(_EXTEND, (log, *entries, *grown, log, log, *fresh, *head, log))


def _columns(tiles: Mapping[TileId, bytes]) -> tuple[list[int], list[int], list[bytes]]:
    return [one.level for one in tiles], [one.n for one in tiles], list(tiles.values())
