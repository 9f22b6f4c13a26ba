"""Two checkpoints of one log: whether one continues the other, and if not, the proof of it that convinces anybody.

Of two checkpoints of one size with different roots the signatures are the proof. Of two sizes it takes more: that the
larger tree begins otherwise. The consistency proof that a log gives *of the larger tree* leads to the root of that one,
and on the way to the root that its beginning has; if this is another one than was signed before, the log has shown two
histories, and its own key says so twice. Nobody can make such a proof against a log that did not.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coafi.canonical import Sha256
from coafi.errors import CoafiError, IntegrityError, ResourceNotFoundError, ValidationError
from coafi.ledger import merkle
from coafi.ledger.checkpoint import MAX_NOTE, Checkpoint, SignedCheckpoint, open_checkpoint
from coafi.ledger.keys import Trusted
from coafi.ledger.proof import MAX_HASHES

FORMAT: Literal["coafi.split-view/1"] = "coafi.split-view/1"

_MAX_JSON = 4 * MAX_NOTE


class LogProofs(Protocol):
    """What a log proves about itself, on demand."""

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """The hashes that prove the tree of ``old`` entries to be the beginning of that of ``new``.

        Raises:
            ResourceNotFoundError: the log says that it has no such trees.
            Unavailable: it is out of reach.
        """
        ...

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """The hashes that prove entry ``index`` to be in the tree of ``size``.

        Raises:
            ResourceNotFoundError, Unavailable: as :meth:`consistency`.
        """
        ...


class Fork(BaseModel):
    """The proof that a log has shown two histories. It needs nothing but the log's public key to be checked.

    Attributes:
        smaller, larger: the signed notes, by size; of one size, in any order.
        prefix: the root that the first entries of the larger tree have, as many as the smaller one has; in hexadecimal.
            ``None`` if both have one size.
        hashes: the consistency proof from ``prefix`` to the root of the larger tree, in hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["coafi.split-view/1"] = FORMAT
    smaller: str = Field(max_length=MAX_NOTE)
    larger: str = Field(max_length=MAX_NOTE)
    prefix: Sha256 | None = None
    hashes: tuple[Sha256, ...] = Field((), max_length=MAX_HASHES)

    @classmethod
    def parse(cls, data: str | bytes) -> "Fork":
        """The proof in the JSON that ``model_dump_json`` writes.

        Raises:
            ValidationError: it is not that.
        """
        if len(data) > _MAX_JSON:
            raise ValidationError("this is too long for the proof of a split view", remedy="give what was printed")
        try:
            return cls.model_validate_json(data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "/".join(str(part) for part in first["loc"])
            raise ValidationError(
                f"this is no proof of a split view: {where or 'document'}: {first['msg']}",
                remedy="get it again from its source",
            ) from None


class Compared(NamedTuple):
    """What two checkpoints of one log are to each other.

    Attributes:
        consistent: whether the larger one was shown to continue the smaller one.
        fork: the proof that it does not. If it is neither, the log has proved nothing.
        problem: what it has answered instead.
    """

    consistent: bool
    fork: Fork | None = None
    problem: str = ""


def verify_fork(fork: Fork, keys: Trusted) -> tuple[Checkpoint, Checkpoint]:
    """Check that a log has shown two histories; both checkpoints.

    Raises:
        ValidationError: a checkpoint is not one, or not signed by one of ``keys``.
        IntegrityError: the two do not contradict each other, or it is not proved.
    """
    smaller, larger = (open_checkpoint(note, keys).checkpoint for note in (fork.smaller, fork.larger))
    if fork.prefix is None:
        if smaller.size != larger.size or fork.hashes:
            raise IntegrityError(
                f"checkpoints of {smaller.size} and {larger.size} entries contradict each other only if it is shown"
                " how the larger tree begins",
                remedy=_NOT_PROVED,
            )
        other = larger.root
    else:
        other = bytes.fromhex(fork.prefix)
        hashes = [bytes.fromhex(one) for one in fork.hashes]
        merkle.verify_consistency(smaller.size, larger.size, hashes, other, larger.root)
    if other == smaller.root:
        raise IntegrityError(
            f"the tree of {larger.size} entries continues that of {smaller.size}: there is one history",
            remedy=_NOT_PROVED,
        )
    return smaller, larger


def fork_of(one: SignedCheckpoint, other: SignedCheckpoint, hashes: Sequence[bytes] = ()) -> Fork | None:
    """The proof that two checkpoints contradict each other, if it follows from them, and from a consistency proof."""
    smaller, larger = sorted((one, other), key=lambda signed: signed.size)
    if smaller.size == larger.size:
        same = smaller.checkpoint.root == larger.checkpoint.root
        return None if same else Fork(smaller=smaller.note, larger=larger.note)
    if not smaller.size & (smaller.size - 1):
        return None  # then the proof says nothing of how the larger tree begins
    try:
        prefix, root = merkle.consistency_roots(smaller.size, larger.size, hashes)
    except IntegrityError:
        return None
    if root != larger.checkpoint.root or prefix == smaller.checkpoint.root:
        return None
    return _fork(smaller, larger, prefix, hashes)


def compare(one: SignedCheckpoint, other: SignedCheckpoint, proofs: LogProofs) -> Compared:
    """Ask a log how two of its checkpoints belong together.

    Raises:
        Unavailable: the log is out of reach.
    """
    smaller, larger = sorted((one, other), key=lambda signed: signed.size)
    if smaller.size == larger.size:
        fork = fork_of(smaller, larger)
        return Compared(fork is None, fork)
    hashes: Sequence[bytes] = ()
    try:
        if smaller.size:
            hashes = proofs.consistency(smaller.size, larger.size)
        merkle.verify_consistency(smaller.size, larger.size, hashes, smaller.checkpoint.root, larger.checkpoint.root)
    except ResourceNotFoundError as error:
        return Compared(consistent=False, problem=f"it has no such proof: {error.message}")
    except IntegrityError as error:
        try:
            fork = fork_of(smaller, larger, hashes) or _beginning(smaller, larger, hashes, proofs)
        except ResourceNotFoundError as missing:
            return Compared(consistent=False, problem=f"it has no such proof: {missing.message}")
        return Compared(consistent=False, fork=fork, problem=error.message)
    return Compared(consistent=True)


def _beginning(
    smaller: SignedCheckpoint, larger: SignedCheckpoint, hashes: Sequence[bytes], proofs: LogProofs
) -> Fork | None:
    """The proof, where the smaller size is a power of two: that tree is a node, on the way of the entry after it."""
    size = smaller.size
    if not size or size & (size - 1):
        return None
    for prefix in proofs.inclusion(size, larger.size):
        if prefix == smaller.checkpoint.root:
            continue
        try:
            merkle.verify_consistency(size, larger.size, hashes, prefix, larger.checkpoint.root)
        except CoafiError:
            continue
        return _fork(smaller, larger, prefix, hashes)
    return None


def _fork(smaller: SignedCheckpoint, larger: SignedCheckpoint, prefix: bytes, hashes: Sequence[bytes]) -> Fork:
    return Fork(
        smaller=smaller.note, larger=larger.note, prefix=prefix.hex(), hashes=tuple(one.hex() for one in hashes)
    )


_NOT_PROVED = "this proves nothing against the log: ask whoever gave it to you"
