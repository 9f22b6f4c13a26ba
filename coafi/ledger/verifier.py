"""Checks everything again, from nothing but what is given and a public key.

Independent on purpose: this module knows neither store nor log nor database, so that a defect there cannot hide
itself here, and an auditor needs no access to them. The arithmetic it shares with the log is tested against the
definition in RFC 6962 and against published vectors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger import merkle, tiles
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint
from coafi.ledger.entry import Entry
from coafi.ledger.keys import VerifierKey
from coafi.ledger.merkle import HASH_SIZE, Frontier
from coafi.ledger.proof import Proof
from coafi.ledger.tiles import Tile, TileId

_STEP = 1_000
_KEY_PREFIX = 16
"""Bytes of a key that are kept to find doubles: enough, and half the memory."""


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
    """

    checkpoint: Checkpoint
    beyond: int
    tiles: int


def verify_inclusion(proof: Proof, key: VerifierKey) -> VerifiedEntry:
    """Check that a log's signed checkpoint covers an entry.

    Raises:
        ValidationError: the checkpoint is not one, or not signed by ``key``.
        IntegrityError: the entry is not in the log, or is not what its key says.
    """
    checkpoint = open_checkpoint(proof.checkpoint, key).checkpoint
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
    old_note: str | bytes, new_note: str | bytes, hashes: Sequence[bytes], key: VerifierKey
) -> tuple[Checkpoint, Checkpoint]:
    """Check that a log has only grown between two of its checkpoints, and return them.

    Args:
        old_note: the earlier checkpoint, which the caller has kept.
        new_note: the later one.
        hashes: the consistency proof (RFC 9162 section 2.1.4), lowest first.
        key: the log's key.

    Raises:
        ValidationError: a checkpoint is not one, or not signed by ``key``.
        IntegrityError: the log was rewritten, or the proof does not show that it was not.
    """
    old = open_checkpoint(old_note, key).checkpoint
    new = open_checkpoint(new_note, key).checkpoint
    merkle.verify_consistency(old.size, new.size, hashes, old.root, new.root)
    return old, new


def verify_log(
    entries: Iterable[bytes],
    checkpoint_note: str | bytes,
    key: VerifierKey,
    *,
    stored_tiles: Iterable[tuple[TileId, bytes]] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> LogReport:
    """Recompute a whole log from its entries: every hash, key and, if given, tile, up to the signed root.

    Get the checkpoint first, then the tiles, then the entries, so that a log that grows meanwhile is no contradiction;
    the tiles are read before the first entry. Keeps 16 bytes of each key, and with tiles some 100 bytes of each entry.

    Args:
        entries: the bytes of all entries, in order.
        checkpoint_note: a checkpoint of the log.
        key: the log's key.
        stored_tiles: the tiles as they are stored.
        on_progress: is told every thousand entries, and at the end, how many were read.

    Raises:
        ValidationError: the checkpoint is not one, or not signed by ``key``.
        IntegrityError: the log contradicts its checkpoint, its tiles or itself; the message says where.
    """
    checkpoint = open_checkpoint(checkpoint_note, key).checkpoint
    stored = None if stored_tiles is None else dict(stored_tiles)
    frontier = Frontier()
    root = frontier.root()
    leaves = bytearray()
    seen: set[bytes] = set()
    for index, body in enumerate(entries):
        leaf = merkle.leaf_hash(body)
        frontier.add(leaf)
        if stored is not None:
            _check_leaf(index, leaf, stored, checkpoint)
            leaves += leaf
        if frontier.size == checkpoint.size:
            root = frontier.root()
        _check_entry(index, body, seen)
        if on_progress is not None and frontier.size % _STEP == 0:
            on_progress(frontier.size)
    if on_progress is not None:
        on_progress(frontier.size)
    if frontier.size < checkpoint.size:
        raise IntegrityError(
            f"the log has {frontier.size} entries, and its checkpoint says {checkpoint.size}: entry {frontier.size} is"
            " the first that is missing",
            remedy="entries were removed, or this is an old copy: restore one that has them",
        )
    if root != checkpoint.root:
        raise IntegrityError(
            f"the first {checkpoint.size} entries have root {root.hex()}, and the checkpoint says"
            f" {checkpoint.root.hex()}: at least one of them was changed",
            remedy="compare with a copy or with the stored tiles to learn which; keep both as evidence",
        )
    if stored is not None:
        _check_tiles(stored, tiles.grow(0, {}, [bytes(leaves)]).fresh, checkpoint.size)
    return LogReport(checkpoint, frontier.size - checkpoint.size, len(stored or ()))


def _check_leaf(index: int, leaf: bytes, stored: dict[TileId, bytes], checkpoint: Checkpoint) -> None:
    """Compare a leaf hash with the one in its tile, and say which of the two the signed root speaks for."""
    n, offset = divmod(index, tiles.WIDTH)
    kept = stored.get(TileId(0, n), b"")[offset * HASH_SIZE :][:HASH_SIZE]
    if not kept or kept == leaf:
        return  # a missing tile is reported when the entries are known to be sound
    path = Tile(0, n).path
    if index < checkpoint.size and _signed(stored, checkpoint):
        raise IntegrityError(
            f"entry {index} was changed: hash {offset} of {path}, which the signed checkpoint covers, is that of other"
            " bytes",
            remedy="restore this entry from a copy whose hash is " + kept.hex(),
        )
    raise IntegrityError(
        f"entry {index} and hash {offset} of {path} contradict each other: one of them was changed",
        remedy="verify the entries without tiles: if that succeeds, the tile is wrong",
    )


def _signed(stored: dict[TileId, bytes], checkpoint: Checkpoint) -> bool:
    """Whether the leaf hashes in the tiles, and they alone, lead to the signed root."""
    leaves = b"".join(stored.get(TileId(0, n), b"") for n in range(-(-checkpoint.size // tiles.WIDTH)))
    edge = tiles.grow(0, {}, [leaves[: checkpoint.size * HASH_SIZE]]).edge
    return tiles.root(edge) == checkpoint.root


def _check_entry(index: int, body: bytes, seen: set[bytes]) -> None:
    entry = _entry(index, body)
    prefix = bytes.fromhex(entry.key)[:_KEY_PREFIX]
    if prefix in seen:
        raise IntegrityError(
            f"entry {index} repeats the key of an earlier one ({entry.key})",
            remedy="the log accepted one step twice: this is a defect of the software that wrote it",
        )
    seen.add(prefix)


def _check_tiles(stored: dict[TileId, bytes], expected: dict[TileId, bytes], size: int) -> None:
    for tile in tiles.all_tiles(size):
        if len(stored.get(tile.id, b"")) < tile.width * HASH_SIZE:
            raise IntegrityError(f"{tile.path} is missing or too short", remedy=_REBUILD)
    for id_, hashes in stored.items():
        if hashes == expected.get(id_, b"")[: len(hashes)]:
            continue
        right = expected.get(id_, b"")
        wrong = next(
            (
                at
                for at in range(0, len(hashes), HASH_SIZE)
                if hashes[at : at + HASH_SIZE] != right[at : at + HASH_SIZE]
            ),
            0,
        )
        raise IntegrityError(
            f"hash {wrong // HASH_SIZE} of {Tile(id_.level, id_.n).path} is not that of the entries below it",
            remedy=_REBUILD,
        )


def _entry(index: int, body: bytes) -> Entry:
    try:
        entry = Entry.parse(body)
        entry.check_key()
    except (ValidationError, IntegrityError) as error:
        raise IntegrityError(f"entry {index}: {error.message}", remedy=error.remedy) from error
    return entry


_REBUILD = "the entries are sound, the tile is not: restore the tiles from a copy"
