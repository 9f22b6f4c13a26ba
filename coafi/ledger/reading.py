"""Reads of the log: entries, tiles, checkpoints, and the proofs that follow from the tiles."""

from collections.abc import Iterable, Iterator, Mapping

from coafi.errors import IntegrityError, ResourceNotFoundError, ValidationError
from coafi.ledger import merkle, tiles
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint
from coafi.ledger.cosignature import Cosignature, cosignatures
from coafi.ledger.entry import Entry, Recorded
from coafi.ledger.keys import CosignerKey
from coafi.ledger.merkle import HASH_SIZE
from coafi.ledger.nodes import NodeCache
from coafi.ledger.proof import Proof
from coafi.ledger.state import LogState
from coafi.ledger.store import CheckpointRow, CosignatureRow, EntryRow
from coafi.ledger.tiles import Tile, TileId

_PAGE = 1_000
_TILE_PAGE = 64


class Reader:
    """Reads a log. What it gives of an entry was checked against the hash that is stored with it.

    Args:
        state: the log.
    """

    def __init__(self, state: LogState) -> None:
        self._state = state
        self._nodes = NodeCache()

    def size(self) -> int:
        """The number of entries."""
        return self.head().size

    def head(self) -> Checkpoint:
        """The committed state: origin, size and root."""
        with self._state.database.read() as connection:
            return Checkpoint(*self._state.head(connection))

    def entry(self, index: int) -> Recorded:
        """The entry at ``index``.

        Raises:
            ResourceNotFoundError: there is none.
            IntegrityError: its bytes were changed.
        """
        found = self.entries(index, index + 1) if index >= 0 else []
        if not found:
            raise ResourceNotFoundError(f"the ledger has no entry {index}", remedy=f"it has {self.size()} entries")
        return found[0]

    def entries(self, start: int, stop: int) -> list[Recorded]:
        """The entries ``start <= index < stop``, in order; fewer at the end of the log. All are held in memory.

        Raises:
            IntegrityError: the bytes of one were changed, or one is missing.
        """
        with self._state.database.read() as connection:
            stop = min(stop, self._state.head(connection).size)
            rows = self._state.store.entries(connection, max(start, 0), stop)
        for expected, row in enumerate(rows, max(start, 0)):
            if row.idx != expected:
                raise _missing(expected)
        if len(rows) < stop - max(start, 0):
            raise _missing(max(start, 0) + len(rows))
        return [recorded(row) for row in rows]

    def index_of(self, key: str) -> int | None:
        """The index of the entry with this key (:func:`coafi.ledger.entry.entry_key`), if there is one."""
        wanted = bytes.fromhex(key)
        with self._state.database.read() as connection:
            row = self._state.store.with_keys(connection, [wanted]).get(wanted)
        return None if row is None else row.idx

    def by_event(self, event_id: str, *, start: int = 0, limit: int | None = None) -> list[Recorded]:
        """The entries of an event from index ``start`` on, in order, at most ``limit``.

        Raises:
            IntegrityError: the bytes of one were changed.
        """
        with self._state.database.read() as connection:
            rows = self._state.store.by_event(connection, event_id, start=start, limit=limit)
        return [recorded(row) for row in rows]

    def bodies(self) -> Iterator[bytes]:
        """The bytes of every entry there is now, in order, for the verifier.

        Raises:
            IntegrityError: what an entry is looked up by contradicts its bytes, or one is missing.
        """
        for row in self.rows():
            check_columns(row, _entry(row))
            yield row.body

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[EntryRow]:
        """The entries ``start <= index < stop``, by default all there are now, as they are stored: unchecked.

        Raises:
            IntegrityError: one is missing.
        """
        size = self.size() if stop is None else min(stop, self.size())
        for first in range(start, size, _PAGE):
            rows = self._page(first, min(first + _PAGE, size))
            for expected, row in enumerate(rows, first):
                if row.idx != expected:
                    raise _missing(expected)
                yield row
            if len(rows) < min(_PAGE, size - first):
                raise _missing(first + len(rows))

    def tiles(self) -> Iterator[tuple[TileId, bytes]]:
        """Every stored tile, level by level, for the verifier: of the tree there is when the first is taken.

        What the log has grown by since is left out; what is beyond its head is not. Take the first tile before the
        first entry, as the verifier does, or the tiles can be of a larger tree.
        """
        size = self.size()
        after = TileId(-1, 0)
        while True:
            with self._state.database.read() as connection:
                head = self._state.head(connection)
                page = self._state.store.tiles_after(connection, after, _TILE_PAGE)
            for id_, hashes in page:
                width = tiles.width(id_, size) * HASH_SIZE
                if len(hashes) == tiles.width(id_, head.size) * HASH_SIZE:
                    hashes = hashes[:width]
                if hashes or not tiles.width(id_, head.size):
                    yield id_, hashes
            if len(page) < _TILE_PAGE:
                return
            after = page[-1][0]

    def checkpoints(self) -> Iterator[CheckpointRow]:
        """Every stored checkpoint, by size and as it is stored: nothing of it is checked."""
        after = -(2**63)
        while True:
            with self._state.database.read() as connection:
                page = self._state.store.checkpoints_after(connection, after, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].size

    def cosignatures(self, size: int) -> list[CosignatureRow]:
        """What witnesses say of the checkpoint of ``size`` entries, as it is stored: unchecked."""
        with self._state.database.read() as connection:
            return self._state.store.cosignatures(connection, size)

    def cosigned_size(self, cosigner: str) -> int:
        """Entries of the largest checkpoint that a witness has cosigned; 0 for none."""
        with self._state.database.read() as connection:
            return self._state.store.cosigned_size(connection, cosigner) or 0

    def last_cosignatures(self) -> list[tuple[Checkpoint, Cosignature]]:
        """Of each witness the cosignature of the largest checkpoint, with that, by witness.

        Raises:
            IntegrityError: one is not of the checkpoint that is stored with it.
        """
        found = []
        with self._state.database.read() as connection:
            for row in self._state.store.last_cosignatures(connection):
                stored = self._state.store.checkpoint(connection, row.size)
                if stored is None:
                    raise _not_cosigned(row, "no such checkpoint is stored")
                checkpoint = Checkpoint(self._state.origin, stored.size, stored.root)
                try:
                    (one,) = cosignatures(f"{checkpoint.text()}\n{row.line}", [CosignerKey.parse(row.cosigner)])
                except ValueError:
                    raise _not_cosigned(row, "its line is another witness's") from None
                except ValidationError as error:
                    raise _not_cosigned(row, error.message) from error
                found.append((checkpoint, one))
        return found

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile in the width that is asked for, which it may have outgrown.

        Raises:
            ResourceNotFoundError: the tree has no such tile, or not in this width yet.
            IntegrityError: the tile is missing or too short.
        """
        with self._state.database.read() as connection:
            size = self._state.head(connection).size
            if tile.n * tiles.WIDTH + tile.width > size >> (tiles.HEIGHT * tile.level):
                raise ResourceNotFoundError(
                    f"a tree of {size} entries has no {tile.path}", remedy="ask for what its checkpoint says is there"
                )
            hashes = self._state.store.tiles(connection, [tile.id]).get(tile.id, b"")
        if len(hashes) < tile.width * HASH_SIZE:
            raise tiles.wrong_width(tile.id, hashes)
        return hashes[: tile.width * HASH_SIZE]

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes that prove entry ``index`` to be in the tree of ``size`` entries, by default all of them.

        Raises:
            ResourceNotFoundError: the log has no such entry, or is smaller.
            IntegrityError: a tile is missing or too short.
        """
        size = self._size_at(size)
        if not 0 <= index < size:
            raise ResourceNotFoundError(
                f"a tree of {size} entries has no entry {index}", remedy="ask for a smaller index or a larger tree"
            )
        return merkle.inclusion_proof(index, size, lambda nodes: self._nodes.read(nodes, self.stored_tiles))

    def inclusion_proofs(self, indices: Iterable[int], size: int) -> Iterator[list[bytes]]:
        """The inclusion proof of each of ``indices``, in their order.

        Raises:
            ResourceNotFoundError: the log has no such entry, or is smaller.
            IntegrityError: a tile is missing or too short.
        """
        for index in indices:
            yield self.inclusion_proof(index, size)

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """The hashes that prove the tree of ``old`` entries to be the beginning of that of ``new``, by default all.

        Raises:
            ResourceNotFoundError: the log is smaller, or ``new`` is smaller than ``old``.
            IntegrityError: a tile is missing or too short.
        """
        new = self._size_at(new)
        if not 0 <= old <= new:
            raise ResourceNotFoundError(
                f"no tree of {old} entries can become one of {new}", remedy="name the smaller tree first"
            )
        return merkle.consistency_proof(old, new, lambda nodes: self._nodes.read(nodes, self.stored_tiles))

    def proof(self, recorded: Recorded, signed: SignedCheckpoint) -> Proof:
        """An entry with all it takes to verify it offline, up to a checkpoint that covers it."""
        return Proof(
            index=recorded.index,
            size=signed.size,
            entry=recorded.body.decode(),
            hashes=tuple(hash_.hex() for hash_ in self.inclusion_proof(recorded.index, signed.size)),
            checkpoint=signed.note,
        )

    def _page(self, start: int, stop: int) -> list[EntryRow]:
        try:
            with self._state.database.read() as connection:
                return self._state.store.entries(connection, start, stop)
        except IntegrityError as error:  # the database says what it could not read, and not where
            if stop - start == 1:
                raise IntegrityError(f"entry {start} cannot be read: {error.message}", remedy=error.remedy) from error
        middle = (start + stop) // 2
        return self._page(start, middle) + self._page(middle, stop)

    def _size_at(self, size: int | None) -> int:
        if size is not None and size <= self._state.known:
            return size  # no need to look
        available = self.size()
        if size is None:
            return available
        if size > available:
            raise ResourceNotFoundError(
                f"the ledger has {available} entries, not {size}", remedy="ask for a smaller tree"
            )
        return size

    def stored_tiles(self, wanted: Iterable[TileId]) -> Mapping[TileId, bytes]:
        """The hashes of those of the tiles that are stored."""
        with self._state.database.read() as connection:
            return self._state.store.tiles(connection, wanted)


def recorded(row: EntryRow) -> Recorded:
    """A stored entry, its bytes checked against the hash that is stored with it.

    Raises:
        IntegrityError: they were changed.
    """
    if merkle.leaf_hash(row.body) != row.leaf_hash:
        raise IntegrityError(
            f"entry {row.idx} was changed: its bytes have another hash than the one stored with them",
            remedy="find out more with: coafi ledger verify; and restore a backup of the database",
        )
    return Recorded(row.idx, row.body)


def check_columns(row: EntryRow, entry: Entry) -> None:
    """Check that an entry is looked up by what its bytes say.

    Raises:
        IntegrityError: it is not.
    """
    columns = (row.key.hex(), row.request.hex(), row.event_id, row.type)
    said = (entry.key, entry.request, entry.event_id, entry.type)
    if columns == said:
        return
    name, column, right = next(
        (name, column, right)
        for name, column, right in zip(("key", "request", "event", "type"), columns, said, strict=True)
        if column != right
    )
    raise IntegrityError(
        f"entry {row.idx} is stored under {name} {column!r}, and its bytes say {right!r}",
        remedy="the database was changed by hand or damaged: restore a backup",
    )


def _entry(row: EntryRow) -> Entry:
    try:
        return recorded(row).entry
    except ValidationError as error:
        raise IntegrityError(f"entry {row.idx} is not an entry: {error.message}", remedy=error.remedy) from error


def _not_cosigned(row: CosignatureRow, problem: str) -> IntegrityError:
    return IntegrityError(
        f"the cosignature of {row.cosigner} that is stored with the checkpoint of {row.size} entries: {problem}",
        remedy="the database was changed by hand or damaged: restore a backup",
    )


def _missing(index: int) -> IntegrityError:
    return IntegrityError(
        f"entry {index} is missing from the ledger", remedy="the database was changed by hand: restore a backup"
    )
