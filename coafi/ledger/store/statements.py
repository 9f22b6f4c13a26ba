"""What the log asks of a database.

What is asked now and then is said in SQL that any database understands. Four questions come with every commit, and
SQLAlchemy needs longer to prepare their values than a database to answer: each database has a subclass that asks them
in its own words.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, literal, select, tuple_, update

from coafi.database.statements import insert_missing, insert_or_replace
from coafi.ledger.store.tables import (
    CheckpointRow,
    CosignatureRow,
    EntryRow,
    Head,
    checkpoint_table,
    cosignature_table,
    entry_table,
    head_table,
    tile_table,
)
from coafi.ledger.tiles import Growth, TileId

_COLUMNS = tuple(entry_table.c[name] for name in EntryRow._fields)


class LedgerStore(ABC):
    """The statements. Each takes the connection, and so the transaction, it is to run on.

    Args:
        log_id: which log of the database.
    """

    def __init__(self, log_id: int = 1) -> None:
        self._log_id = log_id

    @abstractmethod
    def head(self, connection: Connection, *, lock: bool = False) -> Head | None:
        """The head; with ``lock``, nobody else can change it until the transaction ends."""

    @abstractmethod
    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """The entries that have one of these keys, by key."""

    @abstractmethod
    def tiles(self, connection: Connection, wanted: Iterable[TileId]) -> dict[TileId, bytes]:
        """The hashes of those of these tiles that exist."""

    @abstractmethod
    def extend(self, connection: Connection, rows: Sequence[EntryRow], growth: Growth, head: Head) -> None:
        """Insert entries, of which there is one at least, and bring tiles and head to what they are with them."""

    def create_head(self, connection: Connection, head: Head) -> None:
        """Begin the log, unless somebody else has begun it."""
        insert_missing(connection, head_table, [{"log_id": self._log_id, **head._asdict()}])

    def last_index(self, connection: Connection) -> int | None:
        """The highest index of an entry."""
        query = select(func.max(entry_table.c.idx)).where(entry_table.c.log_id == self._log_id)
        index: int | None = connection.execute(query).scalar_one()
        return index

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

    def add_checkpoint(self, connection: Connection, size: int, root: bytes, note: str) -> str | None:
        """Keep a checkpoint; one with this size and root that is there loses no signature, and gets those it lacks.

        Returns:
            The note that is kept; none if there is one of this size with another root.
        """
        insert_missing(
            connection, checkpoint_table, [{"log_id": self._log_id, "size": size, "root": root, "note": note}]
        )
        where = (checkpoint_table.c.log_id == self._log_id, checkpoint_table.c.size == size)
        query = select(checkpoint_table.c.root, checkpoint_table.c.note).where(*where).with_for_update()
        stored = connection.execute(query).one()
        if stored.root != root:
            return None
        lines = note.rpartition("\n\n")[2].splitlines(keepends=True)
        kept: str = stored.note + "".join(line for line in lines if line not in stored.note)
        if kept != stored.note:  # the key that follows has signed as well
            connection.execute(update(checkpoint_table).where(*where).values(note=kept))
        return kept

    def checkpoint(self, connection: Connection, size: int) -> CheckpointRow | None:
        """The checkpoint of ``size`` entries, if one was signed."""
        query = select(checkpoint_table.c.size, checkpoint_table.c.root, checkpoint_table.c.note).where(
            checkpoint_table.c.log_id == self._log_id, checkpoint_table.c.size == size
        )
        row = connection.execute(query).first()
        return None if row is None else CheckpointRow._make(row)

    def add_cosignatures(self, connection: Connection, rows: Sequence[CosignatureRow]) -> None:
        """Keep cosignatures; of two by one witness for one checkpoint, the one that came last."""
        insert_or_replace(connection, cosignature_table, [{"log_id": self._log_id, **row._asdict()} for row in rows])

    def cosignatures(self, connection: Connection, size: int) -> list[CosignatureRow]:
        """What witnesses say of the checkpoint of ``size`` entries, by witness."""
        table = cosignature_table
        query = (
            select(table.c.size, table.c.cosigner, table.c.time, table.c.line)
            .where(table.c.log_id == self._log_id, table.c.size == size)
            .order_by(table.c.cosigner)
        )
        return [CosignatureRow._make(row) for row in connection.execute(query)]

    def last_cosignatures(self, connection: Connection) -> list[CosignatureRow]:
        """Of each witness the cosignature of the largest checkpoint, by witness."""
        table = cosignature_table
        largest = (
            select(table.c.cosigner, func.max(table.c.size).label("size"))
            .where(table.c.log_id == self._log_id)
            .group_by(table.c.cosigner)
            .subquery()
        )
        query = (
            select(table.c.size, table.c.cosigner, table.c.time, table.c.line)
            .join(largest, (table.c.cosigner == largest.c.cosigner) & (table.c.size == largest.c.size))
            .where(table.c.log_id == self._log_id)
            .order_by(table.c.cosigner)
        )
        return [CosignatureRow._make(row) for row in connection.execute(query)]

    def cosigned_size(self, connection: Connection, cosigner: str) -> int | None:
        """Entries of the largest checkpoint that a witness has cosigned."""
        table = cosignature_table
        query = select(func.max(table.c.size)).where(table.c.log_id == self._log_id, table.c.cosigner == cosigner)
        found: int | None = connection.execute(query).scalar_one()
        return found
