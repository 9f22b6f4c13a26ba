"""Merkle tree arithmetic after RFC 6962 section 2.1 and RFC 9162 section 2.1: roots, proofs and their verification.

Pure: numbers and SHA-256 digests (32 bytes) in, the same out. ``D`` is the list of entries, ``MTH`` the Merkle Tree
Hash, both as the RFCs name them. A :class:`Node` is a perfect subtree; every hash that a proof needs is one perfect
subtree, or a few of them folded together, so proofs cost O(log n) reads of nodes.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from coafi.errors import IntegrityError

HASH_SIZE = 32

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without entries (RFC 6962 section 2.1)."""


class Node(NamedTuple):
    """The perfect subtree over ``D[number * 2**level : (number + 1) * 2**level]``."""

    level: int
    number: int


class Range(NamedTuple):
    """The entries ``D[start:stop]``."""

    start: int
    stop: int


NodeReader = Callable[[Sequence[Node]], Sequence[bytes]]
"""Gives the hashes of the nodes asked for, in their order."""


def leaf_hash(body: bytes) -> bytes:
    """The hash of an entry: SHA-256 of ``00 ‖ body``."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of ``01 ‖ left ‖ right``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """MTH of the perfect subtrees ``hashes``, which shrink from left to right; of none, the empty root."""
    if not hashes:
        return EMPTY_ROOT
    result = hashes[-1]
    for left in reversed(hashes[:-1]):
        result = node_hash(left, result)
    return result


def nodes(wanted: Range) -> list[Node]:
    """The perfect subtrees of which MTH of the range is the :func:`fold`.

    ``wanted.start`` must be a multiple of the largest power of two within the range; in all ranges that the RFCs'
    definitions name, it is.
    """
    start, stop = wanted
    result = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        result.append(Node(level, start >> level))
        start += 1 << level
    return result


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose hashes are PROOF(old, D[0:new]), lowest first (RFC 6962 section 2.1.2); none for ``old`` 0."""
    if old == 0:
        return []
    start, stop = 0, new
    result = []
    while old != stop:
        split = _split(start, stop)
        if old <= split:
            result.append(Range(split, stop))
            stop = split
        else:
            result.append(Range(start, split))
            start = split
    if start > 0:
        result.append(Range(start, stop))
    return result[::-1]


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """PATH(index, D[0:size]), lowest first (RFC 6962 section 2.1.1); ``0 <= index < size``.

    First come the siblings on the way to the root of the perfect subtree that holds the entry; then all that is right
    of it, as one hash; then the perfect subtrees left of it, smallest first.
    """
    peaks = nodes(Range(0, size))
    at = next(at for at, peak in enumerate(peaks) if index >> peak.level == peak.number)
    height = peaks[at].level
    siblings = [Node(level, (index >> level) ^ 1) for level in range(height)]
    hashes = read(siblings + peaks[at + 1 :] + peaks[:at][::-1])
    left = height + len(peaks) - at - 1
    right = [fold(hashes[height:left])] if left > height else []
    return [*hashes[:height], *right, *hashes[left:]]


def consistency_proof(old: int, new: int, read: NodeReader) -> list[bytes]:
    """The hashes that prove the tree of ``old`` to be the beginning of that of ``new``; ``0 <= old <= new``."""
    parts = [nodes(wanted) for wanted in consistency_ranges(old, new)]
    hashes = iter(read([node for part in parts for node in part]))
    return [fold([next(hashes) for _ in part]) for part in parts]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf hash is at ``index`` of the tree of ``size`` and ``root`` (RFC 9162 section 2.1.3.2).

    Raises:
        IntegrityError: it is not, or the proof does not show it.
    """
    if not 0 <= index < size:
        raise IntegrityError(f"entry {index} cannot be in a tree of {size} entries", remedy=_ASK_AGAIN)
    _check_hashes(leaf, root, *proof)
    number, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise IntegrityError(f"the inclusion proof of entry {index} is too long", remedy=_ASK_AGAIN)
        if number & 1 or number == last:
            result = node_hash(sibling, result)
            number, last = _rise(number, last)
        else:
            result = node_hash(result, sibling)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise IntegrityError(f"the inclusion proof of entry {index} is too short", remedy=_ASK_AGAIN)
    if result != root:
        raise IntegrityError(
            f"entry {index} is not in the tree of {size} entries and root {root.hex()}: it leads to {result.hex()}",
            remedy="entry, index, proof or checkpoint was changed; compare each with its source",
        )


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of ``old`` entries is the beginning of that of ``new`` (RFC 9162 section 2.1.4.2).

    The RFC begins at size 1; the empty log is the beginning of every log, by an empty proof.

    Raises:
        IntegrityError: it is not, or the proof does not show it.
    """
    if not 0 <= old <= new:
        raise IntegrityError(f"a log of {old} entries cannot become one of {new}", remedy="it lost entries")
    _check_hashes(old_root, new_root, *proof)
    if old in (0, new):
        _verify_trivial_consistency(old, new, proof, old_root, new_root)
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if consistency_roots(old, new, path) != (old_root, new_root):
        raise IntegrityError(
            f"the log of {new} entries is not a continuation of that of {old}",
            remedy="either is rewritten (a fork), or the proof is another one's: keep both checkpoints as evidence",
        )


def consistency_roots(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of the trees of ``old`` and ``new`` entries that the hashes of a consistency proof lead to.

    Args:
        old, new: ``0 < old < new``.
        path: the proof; if ``old`` is a power of two, after the root of the smaller tree, which a proof leaves out.

    Raises:
        IntegrityError: there are too few of them, or too many.
    """
    if not path:
        raise IntegrityError(f"the consistency proof from {old} to {new} is empty", remedy=_ASK_AGAIN)
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old_result = new_result = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise IntegrityError(f"the consistency proof from {old} to {new} is too long", remedy=_ASK_AGAIN)
        if number & 1 or number == last:
            old_result = node_hash(sibling, old_result)
            new_result = node_hash(sibling, new_result)
            number, last = _rise(number, last)
        else:
            new_result = node_hash(new_result, sibling)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise IntegrityError(f"the consistency proof from {old} to {new} is too short", remedy=_ASK_AGAIN)
    return old_result, new_result


class Frontier:
    """The roots of the perfect subtrees of a growing tree, largest first: what it takes to go on, O(log n).

    Args:
        size: of the tree to go on from.
        peaks: its perfect subtrees, as :func:`nodes` of all of it names them.

    Raises:
        IntegrityError: a tree of that size has not so many.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size.bit_count() != len(peaks):
            raise IntegrityError(f"a tree of {size} entries has not {len(peaks)} perfect subtrees", remedy=_ASK_AGAIN)
        _check_hashes(*peaks)
        self.size = size
        self._peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        carry = self.size
        while carry & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            carry >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """MTH of all that was added."""
        return fold(self._peaks)


@lru_cache(maxsize=1024)
def perfect_rows(row: bytes) -> tuple[bytes, ...]:
    """The hashes of all perfect subtrees over a row of hashes: item ``h`` holds those of height ``h``, concatenated.

    The cache is by content, so it can be neither stale nor wrong; it holds 16 KiB for each full tile. A row that goes
    on where one of the last ended, as the edge of a growing tree does, costs only what is new.
    """
    known = _begun.get(row[:HASH_SIZE], ())
    if known and not row.startswith(known[0]):
        known = ()
    rows = [row]
    while len(row) >= 2 * HASH_SIZE:
        pair = 2 * HASH_SIZE
        kept = known[len(rows)] if len(rows) < len(known) else b""
        row = kept + b"".join(
            hashlib.sha256(b"\x01" + row[at : at + pair]).digest()
            for at in range(2 * len(kept), len(row) // pair * pair, pair)
        )
        rows.append(row)
    result = tuple(rows)
    if len(_begun) >= _BEGUN:
        _begun.clear()
    _begun[result[0][:HASH_SIZE]] = result
    return result


def peaks(row: bytes) -> list[bytes]:
    """The roots of the perfect subtrees over a row of hashes, largest first: their fold is its MTH."""
    rows = perfect_rows(row)
    return [
        rows[node.level][node.number * HASH_SIZE : (node.number + 1) * HASH_SIZE]
        for node in nodes(Range(0, len(row) // HASH_SIZE))
    ]


_BEGUN = 32
"""Rows that are kept to go on from: the edge of a tree has one on each level."""

_begun: dict[bytes, tuple[bytes, ...]] = {}
_ASK_AGAIN = "ask for a proof of exactly this index and these sizes"


def _split(start: int, stop: int) -> int:
    return start + (1 << ((stop - start - 1).bit_length() - 1))


def _rise(number: int, last: int) -> tuple[int, int]:
    while number and not number & 1:
        number, last = number >> 1, last >> 1
    return number, last


def _check_hashes(*hashes: bytes) -> None:
    if any(len(hash_) != HASH_SIZE for hash_ in hashes):
        raise IntegrityError("a proof holds something that is not a SHA-256 hash", remedy=_ASK_AGAIN)


def _verify_trivial_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    if proof:
        raise IntegrityError(f"the consistency proof from {old} to {new} must be empty", remedy=_ASK_AGAIN)
    if old == 0 and old_root != EMPTY_ROOT:
        raise IntegrityError("a log without entries has another root than the one given", remedy=_ASK_AGAIN)
    if old == new and old_root != new_root:
        raise IntegrityError(
            f"two different logs of {new} entries are shown under one name",
            remedy="this is a fork: keep both checkpoints as evidence and tell whoever relies on this log",
        )
