"""What the log asks of a database, in SQL that any understands.

Some statements run for every entry or every commit, and SQLAlchemy needs longer to prepare their values than a database
to run them: each database has a subclass that says those in its own words.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from sqlalchemy import Connection, SmallInteger, bindparam, func, insert, literal, select, tuple_, update

from coafi.database.statements import insert_missing
from coafi.ledger.store.tables import (
    CheckpointRow,
    EntryRow,
    Head,
    checkpoint_table,
    entry_table,
    head_table,
    tile_table,
)
from coafi.ledger.tiles import Growth, TileId

CHUNK = 500
"""Values in one IN list."""

# Built once: building a statement costs SQLAlchemy more than SQLite needs to run it.
_COLUMNS = tuple(entry_table.c[name] for name in EntryRow._fields)
_LOG = bindparam("of_log", type_=SmallInteger())
_HEAD = select(head_table.c.origin, head_table.c.size, head_table.c.root).where(head_table.c.log_id == _LOG)
_LOCK_HEAD = _HEAD.with_for_update()
_WITH_KEYS = select(*_COLUMNS).where(
    entry_table.c.log_id == _LOG, entry_table.c.key.in_(bindparam("keys", expanding=True))
)
_ADD_ENTRIES = insert(entry_table)
_TILES = select(tile_table.c.level, tile_table.c.n, tile_table.c.hashes).where(
    tile_table.c.log_id == _LOG,
    tuple_(tile_table.c.level, tile_table.c.n).in_(bindparam("wanted", expanding=True)),
)
_GROW_TILE = (
    update(tile_table)
    .where(
        tile_table.c.log_id == _LOG, tile_table.c.level == bindparam("of_level"), tile_table.c.n == bindparam("of_n")
    )
    .values(hashes=bindparam("to"))
)


class LedgerStore:
    """The statements. Each takes the connection, and so the transaction, it is to run on.

    Args:
        log_id: which log of the database.
    """

    def __init__(self, log_id: int = 1) -> None:
        self._log_id = log_id

    def head(self, connection: Connection, *, lock: bool = False) -> Head | None:
        """The head; with ``lock``, nobody else can change it until the transaction ends."""
        row = connection.execute(_LOCK_HEAD if lock else _HEAD, {"of_log": self._log_id}).first()
        return Head(*row) if row is not None else None

    def create_head(self, connection: Connection, head: Head) -> None:
        """Begin the log, unless somebody else has begun it."""
        insert_missing(connection, head_table, [{"log_id": self._log_id, **head._asdict()}])

    def set_head(self, connection: Connection, head: Head) -> None:
        """Replace the head."""
        connection.execute(update(head_table).where(head_table.c.log_id == self._log_id), head._asdict())

    def extend(self, connection: Connection, rows: Sequence[EntryRow], growth: Growth, head: Head) -> None:
        """Insert entries, and bring tiles and head to what they are with them."""
        self.add_entries(connection, rows)
        self.set_tiles(connection, grown=growth.grown, fresh=growth.fresh)
        self.set_head(connection, head)

    def last_index(self, connection: Connection) -> int | None:
        """The highest index of an entry."""
        query = select(func.max(entry_table.c.idx)).where(entry_table.c.log_id == self._log_id)
        index: int | None = connection.execute(query).scalar_one()
        return index

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """The entries that have one of these keys, by key."""
        found: dict[bytes, EntryRow] = {}
        rest = iter(keys)
        while chunk := list(islice(rest, CHUNK)):
            for row in connection.execute(_WITH_KEYS, {"of_log": self._log_id, "keys": chunk}):
                found[row.key] = EntryRow._make(row)
        return found

    def add_entries(self, connection: Connection, rows: Sequence[EntryRow]) -> None:
        """Insert entries."""
        connection.execute(_ADD_ENTRIES, [{"log_id": self._log_id, **row._asdict()} for row in rows])

    def entries(self, connection: Connection, start: int, stop: int) -> list[EntryRow]:
        """The entries ``start <= index < stop``, in order."""
        query = (
            select(*_COLUMNS)
            .where(entry_table.c.log_id == self._log_id, entry_table.c.idx >= start, entry_table.c.idx < stop)
            .order_by(entry_table.c.idx)
        )
        return [EntryRow._make(row) for row in connection.execute(query)]

    def by_event(
        self, connection: Connection, event_id: str, *, start: int = 0, limit: int | None = None
    ) -> list[EntryRow]:
        """The entries of an event from index ``start`` on, in order, at most ``limit``."""
        query = (
            select(*_COLUMNS)
            .where(
                entry_table.c.log_id == self._log_id,
                entry_table.c.event_id == event_id,
                entry_table.c.idx >= start,
            )
            .order_by(entry_table.c.idx)
            .limit(limit)
        )
        return [EntryRow._make(row) for row in connection.execute(query)]

    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """The hashes of those of these tiles that exist."""
        found: dict[TileId, bytes] = {}
        rest = iter(wanted)
        while chunk := list(islice(rest, CHUNK)):
            for level, n, hashes in connection.execute(_TILES, {"of_log": self._log_id, "wanted": chunk}):
                found[TileId(level, n)] = hashes
        return found

    def tiles_after(self, connection: Connection, after: TileId, limit: int) -> list[tuple[TileId, bytes]]:
        """The tiles that follow one, level by level."""
        query = (
            select(tile_table.c.level, tile_table.c.n, tile_table.c.hashes)
            .where(
                tile_table.c.log_id == self._log_id,
                tuple_(tile_table.c.level, tile_table.c.n) > tuple_(*map(literal, after)),
            )
            .order_by(tile_table.c.level, tile_table.c.n)
            .limit(limit)
        )
        return [(TileId(level, n), hashes) for level, n, hashes in connection.execute(query)]

    def set_tiles(
        self, connection: Connection, *, grown: Mapping[TileId, bytes], fresh: Mapping[TileId, bytes]
    ) -> None:
        """Replace the tiles that have grown and insert those that are new."""
        if grown:
            connection.execute(
                _GROW_TILE,
                [
                    {"of_log": self._log_id, "of_level": level, "of_n": n, "to": hashes}
                    for (level, n), hashes in grown.items()
                ],
            )
        if fresh:
            connection.execute(
                insert(tile_table),
                [
                    {"log_id": self._log_id, "level": level, "n": n, "hashes": hashes}
                    for (level, n), hashes in fresh.items()
                ],
            )

    def last_checkpoint(self, connection: Connection) -> str | None:
        """The note of the largest checkpoint that was signed."""
        query = (
            select(checkpoint_table.c.note)
            .where(checkpoint_table.c.log_id == self._log_id)
            .order_by(checkpoint_table.c.size.desc())
            .limit(1)
        )
        return connection.execute(query).scalar()

    def checkpoints_after(
        self, connection: Connection, size: int, *, signatures: int = 0, limit: int | None = None
    ) -> list[CheckpointRow]:
        """The checkpoints of more than ``size`` entries, by size; those that have so many signatures at least."""
        query = (
            select(checkpoint_table.c.size, checkpoint_table.c.root, checkpoint_table.c.note)
            .where(
                checkpoint_table.c.log_id == self._log_id,
                checkpoint_table.c.size > size,
                checkpoint_table.c.note.like("%" + "\n\N{EM DASH} %" * signatures),
            )
            .order_by(checkpoint_table.c.size)
            .limit(limit)
        )
        return [CheckpointRow._make(row) for row in connection.execute(query)]

    def add_checkpoint(self, connection: Connection, size: int, root: bytes, note: str) -> bool:
        """Keep a checkpoint; of one with this size and root that is there, the note is replaced.

        Returns:
            Whether that went well: not if there is one of this size with another root.
        """
        insert_missing(
            connection, checkpoint_table, [{"log_id": self._log_id, "size": size, "root": root, "note": note}]
        )
        where = (checkpoint_table.c.log_id == self._log_id, checkpoint_table.c.size == size)
        kept = connection.execute(select(checkpoint_table.c.root, checkpoint_table.c.note).where(*where)).one()
        if kept.root != root:
            return False
        if kept.note != note:  # the key that follows has signed as well
            connection.execute(update(checkpoint_table).where(*where).values(note=note))
        return True
