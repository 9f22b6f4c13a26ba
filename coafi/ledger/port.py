"""What the service needs of a ledger, wherever it is kept.

:class:`coafi.ledger.log.Ledger` keeps it in this home's database, :class:`coafi.ledger.remote.RemoteLedger` is another
instance's, over HTTP. One contract test runs on both. What differs is said in ``docs/ledger.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.handover import HandOver
from coafi.ledger.keys import Keyring, VerifierKey
from coafi.ledger.proof import Proof
from coafi.ledger.tiles import TileId

T = TypeVar("T")


class LedgerTransaction(Protocol):
    """What a unit works with; of use only while the unit runs."""

    @property
    def connection(self) -> Connection:
        """The connection to this home's database that holds the write lock, committed when the unit has ended."""
        ...

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries, all or none; see :meth:`Ledger.append`."""
        ...


class Ledger(Protocol):
    """An append-only log of entries, and its signed checkpoints."""

    @property
    def atomic(self) -> bool:
        """Whether what a unit appends and the rows that it writes are committed in one transaction, or not at all."""
        ...

    @property
    def key(self) -> VerifierKey:
        """The public key that signs the checkpoints now."""
        ...

    @property
    def keys(self) -> Keyring:
        """All keys that verify the checkpoints: the one that signs now, and those before it."""
        ...

    def hand_overs(self) -> list[HandOver]:
        """Every change of keys that both keys vouch for, in order.

        Raises:
            IntegrityError: one was changed, or they are no chain.
        """
        ...

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries, all or none, in the order given. The first write of a key wins, and its body comes back.

        Raises:
            IdempotencyConflict: a key is known with another request digest.
            ValidationError: a draft has no canonical form, or is too long.
            LedgerUnavailable: the ledger cannot be written now. Try again: the outcome may be unknown.
            IntegrityError: the ledger contradicts a checkpoint that was signed.
        """
        ...

    def transact(self, unit: Callable[[LedgerTransaction], T]) -> T:
        """Run ``unit`` and return what it returns, after the commit of all it wrote.

        A unit must be one that may be tried again, even within one call, and touch nothing but its transaction.

        Raises:
            LedgerUnavailable: ledger or database cannot be written now.
            IntegrityError: the ledger contradicts a checkpoint that was signed.
        """
        ...

    def size(self) -> int:
        """The number of committed entries."""
        ...

    def head(self) -> Checkpoint:
        """The committed state, which nobody may have signed yet."""
        ...

    def entry(self, index: int) -> Recorded:
        """The entry at ``index``.

        Raises:
            ResourceNotFoundError: there is none.
        """
        ...

    def entries(self, start: int, stop: int) -> list[Recorded]:
        """The entries ``start <= index < stop``, in order; fewer at the end of the log. All are held in memory."""
        ...

    def index_of(self, key: str) -> int | None:
        """The index of the entry with this key, if there is one."""
        ...

    def by_event(self, event_id: str, *, limit: int | None = None) -> list[Recorded]:
        """The entries of an event, in order, at most ``limit``; also those of other instances, if they share it."""
        ...

    def bodies(self) -> Iterator[bytes]:
        """The bytes of every entry there is now, in order, for the verifier."""
        ...

    def tiles(self) -> Iterator[tuple[TileId, bytes]]:
        """Every tile, level by level, for the verifier. Take them all, or close the iterator."""
        ...

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes that prove entry ``index`` to be in the tree of ``size`` entries, by default all of them.

        Raises:
            ResourceNotFoundError: the log has no such entry, or is smaller.
        """
        ...

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """The hashes that prove the tree of ``old`` entries to be the beginning of that of ``new``, by default all.

        Raises:
            ResourceNotFoundError: the log is smaller, or ``new`` is smaller than ``old``.
        """
        ...

    def prove(self, index: int) -> Proof:
        """Entry ``index`` with all it takes to verify it offline, up to a signed checkpoint.

        Raises:
            ResourceNotFoundError: there is no such entry.
        """
        ...

    def checkpoint(self, *, force: bool = False) -> SignedCheckpoint:
        """A signed checkpoint; with ``force``, of all that is committed."""
        ...

    def close(self) -> None:
        """Finish what is under way; later appends are refused."""
        ...
