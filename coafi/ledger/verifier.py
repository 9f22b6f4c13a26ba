"""Checks everything again, from nothing but what is given and public keys.

Independent on purpose: this module knows neither store nor log nor database, so that a defect there cannot hide
itself here, and an auditor needs no access to them. The arithmetic it shares with the log is tested against the
definition in RFC 6962 and against published vectors.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger import merkle, tiles
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint
from coafi.ledger.entry import Entry
from coafi.ledger.keys import Trusted
from coafi.ledger.merkle import HASH_SIZE, Range
from coafi.ledger.proof import Proof
from coafi.ledger.tiles import WIDTH, Tile, TileId

_STEP = 1_024
_KEY_PREFIX = 16
"""Bytes of a key that are kept to find doubles: enough, and half the memory."""

OnEntry = Callable[[int, Entry, bytes], None]
"""Is given index, entry and leaf hash of every entry that was found well-formed."""


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """An entry that the log's key vouches for.

    Attributes:
        index: its place in the log.
        entry: the entry, read.
        checkpoint: the signed state of the log that covers it.
    """

    index: int
    entry: Entry
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class LogReport:
    """A log that was found sound.

    Attributes:
        checkpoint: the signed state that its entries lead to.
        beyond: entries after the checkpoint: read and well-formed, but signed by nobody yet.
        tiles: stored tiles that were compared.
        checkpoints: earlier checkpoints that the entries lead to as well.
    """

    checkpoint: Checkpoint
    beyond: int
    tiles: int
    checkpoints: int = 0


def verify_inclusion(proof: Proof, keys: Trusted) -> VerifiedEntry:
    """Check that a log's signed checkpoint covers an entry.

    Raises:
        ValidationError: the checkpoint is not one, or not signed by one of ``keys``.
        IntegrityError: the entry is not in the log, or is not what its key says.
    """
    checkpoint = open_checkpoint(proof.checkpoint, keys).checkpoint
    if checkpoint.size != proof.size:
        raise IntegrityError(
            f"the proof is about a log of {proof.size} entries, its checkpoint about one of {checkpoint.size}",
            remedy="they do not belong together: get both again",
        )
    body = proof.entry.encode("utf-8", errors="replace")  # what UTF-8 cannot say was never hashed
    hashes = [bytes.fromhex(digest) for digest in proof.hashes]
    merkle.verify_inclusion(merkle.leaf_hash(body), proof.index, proof.size, hashes, checkpoint.root)
    return VerifiedEntry(proof.index, _entry(proof.index, body), checkpoint)


def verify_consistency(
    old_note: str | bytes, new_note: str | bytes, hashes: Sequence[bytes], keys: Trusted
) -> tuple[Checkpoint, Checkpoint]:
    """Check that a log has only grown between two of its checkpoints, and return them.

    Args:
        old_note: the earlier checkpoint, which the caller has kept.
        new_note: the later one.
        hashes: the consistency proof (RFC 9162 section 2.1.4), lowest first.
        keys: the log's key or keys.

    Raises:
        ValidationError: a checkpoint is not one, or not signed by one of ``keys``.
        IntegrityError: the log was rewritten, or the proof does not show that it was not.
    """
    old = open_checkpoint(old_note, keys).checkpoint
    new = open_checkpoint(new_note, keys).checkpoint
    merkle.verify_consistency(old.size, new.size, hashes, old.root, new.root)
    return old, new


def verify_log(
    entries: Iterable[bytes],
    checkpoint_note: str | bytes,
    keys: Trusted,
    *,
    stored_tiles: Iterable[tuple[TileId, bytes]] | None = None,
    earlier: Iterable[Checkpoint] = (),
    on_entry: OnEntry | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> LogReport:
    """Recompute a whole log from its entries: every hash, key and, if given, tile, up to the signed root.

    Get the checkpoint first, so that a log that grows meanwhile is no contradiction; the first tile is read before the
    first entry. All is read once and as a stream; what is kept is 24 bytes of each entry, to find a step that was
    recorded twice.

    Args:
        entries: the bytes of all entries, in order.
        checkpoint_note: a checkpoint of the log.
        keys: the log's key or keys.
        stored_tiles: the tiles as they are stored, level by level, each level from the left.
        earlier: other checkpoints whose signatures the caller has checked, by size.
        on_entry: see :data:`OnEntry`; what it raises ends the verification.
        on_progress: is told every 1,024 entries, and at the end, how many were read.

    Raises:
        ValidationError: the checkpoint is not one, or not signed by one of ``keys``.
        IntegrityError: the log contradicts its checkpoint, its tiles or itself; the message says where.
    """
    checkpoint = open_checkpoint(checkpoint_note, keys).checkpoint
    tree, stored = _Tree(), None if stored_tiles is None else _StoredTiles(iter(stored_tiles), checkpoint)
    signed = _Signed(checkpoint, earlier)
    seen = _Keys()
    bodies = iter(entries)
    signed.check(tree, ())
    while chunk := list(islice(bodies, WIDTH)):
        leaves = [merkle.leaf_hash(body) for body in chunk]
        rows = merkle.perfect_rows(b"".join(leaves))
        if stored is not None:
            stored.compare(tree, rows[0])
        for index, (body, leaf) in enumerate(zip(chunk, leaves, strict=True), tree.size):
            entry = _entry(index, body)
            seen.add(index, entry.key)
            if on_entry is not None:
                on_entry(index, entry, leaf)
        signed.check(tree, rows)
        tree.add(rows)
        if on_progress is not None and tree.size % _STEP == 0:
            on_progress(tree.size)
    if on_progress is not None:
        on_progress(tree.size)
    if tree.size < checkpoint.size:
        raise IntegrityError(
            f"the log has {tree.size} entries, and its checkpoint says {checkpoint.size}: entry {tree.size} is"
            " the first that is missing",
            remedy="entries were removed, or this is an old copy: restore one that has them",
        )
    seen.check()
    if stored is not None:
        stored.finish(tree)
    return LogReport(checkpoint, tree.size - checkpoint.size, stored.count if stored else 0, signed.count)


class _Tree:
    """The tree so far, without its leaves: the hashes of levels 1 and up, 0.13 bytes for each entry."""

    def __init__(self) -> None:
        self.size = 0
        self.levels: list[bytearray] = []

    def add(self, rows: Sequence[bytes]) -> None:
        """Append the rows over up to 256 leaf hashes; only the last ones may be fewer."""
        self.size += len(rows[0]) // HASH_SIZE
        level = 0
        while len(rows) > tiles.HEIGHT:
            if level == len(self.levels):
                self.levels.append(bytearray())
            row = self.levels[level]
            row += rows[tiles.HEIGHT]
            level += 1
            if len(row) % (WIDTH * HASH_SIZE):
                break
            rows = merkle.perfect_rows(bytes(row[-WIDTH * HASH_SIZE :]))

    def root(self, rows: Sequence[bytes], count: int) -> bytes:
        """The root of this tree and ``count`` further leaves, whose rows these are."""
        peaks = [peak for row in reversed(self.levels) for peak in merkle.peaks(bytes(_partial(row)))]
        for level, number in merkle.nodes(Range(0, count)):
            peaks.append(rows[level][number * HASH_SIZE :][:HASH_SIZE])
        return merkle.fold(peaks)


class _StoredTiles:
    """The tiles as they are stored, read along with the entries.

    What the leaf hashes say is compared at once; what is missing, and the levels above, when the entries are known to
    be sound.
    """

    def __init__(self, source: Iterator[tuple[TileId, bytes]], checkpoint: Checkpoint) -> None:
        self.count = 0
        self._source = source
        self._checkpoint = checkpoint
        self._next = next(source, None)
        self._wrong: IntegrityError | None = None

    def compare(self, tree: _Tree, leaves: bytes) -> None:
        """Compare the tile that follows ``tree`` with its leaf hashes."""
        n = tree.size // WIDTH
        kept = self._take(TileId(0, n))
        common = min(len(kept), len(leaves))
        if kept[:common] != leaves[:common]:
            self._contradiction(tree, n, kept, _difference(kept, leaves))
        if len(kept) > len(leaves):
            self._is_wrong(_wrong_hash(TileId(0, n), len(leaves) // HASH_SIZE))
        self._check_width(TileId(0, n), kept)

    def finish(self, tree: _Tree) -> None:
        """Compare what is left once all entries are read: the levels above the leaves, and nothing else."""
        for level, row in enumerate(tree.levels, 1):
            for n, at in enumerate(range(0, len(row), WIDTH * HASH_SIZE)):
                right = bytes(row[at : at + WIDTH * HASH_SIZE])
                kept = self._take(TileId(level, n))
                if kept != right[: len(kept)]:
                    raise _wrong_hash(TileId(level, n), _difference(kept, right))
                self._check_width(TileId(level, n), kept)
        if self._next is not None:
            self._is_wrong(_wrong_hash(self._next[0], 0))
        if self._wrong is not None:
            raise self._wrong

    def _take(self, wanted: TileId) -> bytes:
        while self._next is not None and self._next[0] < wanted:  # of a tree with more entries, or out of order
            self._is_wrong(_wrong_hash(self._next[0], 0))
            self._next = next(self._source, None)
        if self._next is None or self._next[0] != wanted:
            return b""
        hashes = self._next[1]
        self.count += 1
        self._next = next(self._source, None)
        return hashes

    def _check_width(self, id_: TileId, hashes: bytes) -> None:
        below = self._checkpoint.size >> (tiles.HEIGHT * id_.level)
        width = min(WIDTH, below - id_.n * WIDTH)
        if len(hashes) < width * HASH_SIZE:
            self._is_wrong(IntegrityError(f"{Tile(*id_, width).path} is missing or too short", remedy=_REBUILD))

    def _is_wrong(self, error: IntegrityError) -> None:
        self._wrong = self._wrong or error

    def _contradiction(self, tree: _Tree, n: int, kept: bytes, offset: int) -> None:
        """Say which of the two, entry or tile, the signed root speaks for."""
        path, index = Tile(0, n).path, n * WIDTH + offset
        right = kept[offset * HASH_SIZE :][:HASH_SIZE]
        if index < self._checkpoint.size and self._lead_to_root(tree, kept):
            raise IntegrityError(
                f"entry {index} was changed: hash {offset} of {path}, which the signed checkpoint covers, is that of"
                " other bytes",
                remedy="restore this entry from a copy whose hash is " + right.hex(),
            )
        raise IntegrityError(
            f"entry {index} and hash {offset} of {path} contradict each other: one of them was changed",
            remedy="verify the entries without tiles: if that succeeds, the tile is wrong",
        )

    def _lead_to_root(self, tree: _Tree, hashes: bytes) -> bool:
        """Whether the stored leaf hashes from here on, and they alone, lead to the signed root."""
        while (missing := self._checkpoint.size - tree.size) > WIDTH and len(hashes) == WIDTH * HASH_SIZE:
            tree.add(merkle.perfect_rows(hashes))
            hashes = self._take(TileId(0, tree.size // WIDTH))
        if missing > WIDTH or len(hashes) < missing * HASH_SIZE:
            return False
        return tree.root(merkle.perfect_rows(hashes), missing) == self._checkpoint.root


class _Signed:
    """The checkpoints that the entries must lead to, by size."""

    def __init__(self, checkpoint: Checkpoint, earlier: Iterable[Checkpoint]) -> None:
        self.count = 0
        self._last = checkpoint
        others = (one for one in earlier if one.size <= checkpoint.size)
        self._waiting = chain(others, (checkpoint,))
        self._next = next(self._waiting, None)
        self._sound = 0

    def check(self, tree: _Tree, rows: Sequence[bytes]) -> None:
        """Compare the checkpoints that end within the leaves that follow ``tree``."""
        stop = tree.size + (len(rows[0]) // HASH_SIZE if rows else 0)
        while self._next is not None and self._next.size <= stop:
            root = tree.root(rows, self._next.size - tree.size)
            if root != self._next.root:
                raise self._rewritten(self._next, root)
            self._sound = self._next.size
            self.count += self._next is not self._last
            self._next = next(self._waiting, None)

    def _rewritten(self, said: Checkpoint, root: bytes) -> IntegrityError:
        since = f", at or after entry {self._sound}" if self._sound else ""
        return IntegrityError(
            f"the first {said.size} entries have root {root.hex()}, and the checkpoint says {said.root.hex()}: at least"
            f" one of them was changed{since}",
            remedy="compare with a copy or with the stored tiles to learn which; keep both as evidence",
        )


class _Keys:
    """Finds a key that comes twice, with 24 bytes for each: the key's beginning and the index, in 256 heaps."""

    _RECORD = _KEY_PREFIX + 8

    def __init__(self) -> None:
        self._heaps = [bytearray() for _ in range(256)]

    def add(self, index: int, key: str) -> None:
        prefix = bytes.fromhex(key[: 2 * _KEY_PREFIX])
        self._heaps[prefix[0]] += prefix + index.to_bytes(8, "big")

    def check(self) -> None:
        """Compare all of them."""
        for heap in self._heaps:
            records = sorted(bytes(heap[at : at + self._RECORD]) for at in range(0, len(heap), self._RECORD))
            for one, other in pairwise(records):
                if one[:_KEY_PREFIX] == other[:_KEY_PREFIX]:
                    first, second = (int.from_bytes(record[_KEY_PREFIX:], "big") for record in (one, other))
                    raise IntegrityError(
                        f"entry {second} repeats the key of an earlier one, entry {first}",
                        remedy="the log accepted one step twice: this is a defect of the software that wrote it",
                    )


def _entry(index: int, body: bytes) -> Entry:
    try:
        entry = Entry.parse(body)
        entry.check_key()
        entry.check_canonical(body)
    except (ValidationError, IntegrityError) as error:
        raise IntegrityError(f"entry {index}: {error.message}", remedy=error.remedy) from error
    return entry


def _partial(row: bytearray) -> bytearray:
    """The hashes of the last tile of a level, if it is not full."""
    return row[len(row) // (WIDTH * HASH_SIZE) * WIDTH * HASH_SIZE :]


def _difference(kept: bytes, right: bytes) -> int:
    """The number of the first hash that differs."""
    places = range(0, len(kept), HASH_SIZE)
    return next(at for at in places if kept[at : at + HASH_SIZE] != right[at : at + HASH_SIZE]) // HASH_SIZE


def _wrong_hash(id_: TileId, offset: int) -> IntegrityError:
    return IntegrityError(
        f"hash {offset} of {Tile(*id_).path} is not that of the entries below it",
        remedy=_REBUILD,
    )


_REBUILD = "the entries are sound, the tile is not: restore the tiles from a copy"
