"""The log of this home's database: what appends, reads, signs and proves, put together.

::

    Ledger ─┬─ Appender          (appending)  group commit
            ├─ CheckpointSigner  (signing)    checkpoints and keys
            ├─ Reader            (reading)    entries, tiles, proofs
            └─ LogState          (state)      the committed size and root, on which all of them stand
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from coafi.database import Database
from coafi.errors import ValidationError
from coafi.ledger.appending import Appender
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint
from coafi.ledger.cosignature import Cosignature, with_cosignatures
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.group import LedgerTransaction
from coafi.ledger.handover import HandOver
from coafi.ledger.keyfile import HeldKey, KeySource
from coafi.ledger.keys import CosignerKey, Keyring, Signer, VerifierKey
from coafi.ledger.proof import Proof
from coafi.ledger.published import PublishedCheckpoint
from coafi.ledger.reading import Reader
from coafi.ledger.signing import CheckpointSigner, MessageSigner
from coafi.ledger.state import LogState
from coafi.ledger.store import CheckpointRow, CosignatureRow, EntryRow, store_for
from coafi.ledger.tiles import Tile, TileId

PUBLISH_SECONDS = 1.0
"""A checkpoint is signed at most this often, unless it is forced."""

T = TypeVar("T")


def is_begun(database: Database) -> bool:
    """Whether the database holds a ledger, even one without entries. The tables must exist."""
    with database.read() as connection:
        return store_for(database).head(connection) is not None


class Ledger:
    """An append-only log in the database, and its checkpoints in and outside of it.

    The tables must exist. Many threads and processes may use one log; each process opens it once.

    Args:
        database: where the log lives.
        origin: the log's name, such as ``example.com/log``.
        signer: the log's key, which carries the same name; or where to look for it each time something is signed.
        state_directory: where the last checkpoint is kept. Never restore it from a backup together with the database.
        publish_seconds: a new checkpoint is signed and published at most this often, unless forced. While entries
            arrive the ledger does so by itself.
        clock: gives the time that entries are stamped with.

    Raises:
        IntegrityError: the database is behind the last checkpoint or contradicts it: an old backup or a fork.
        ValidationError: key or database belong to a log of another name.
        Unavailable: database or state directory are out of reach.
    """

    def __init__(
        self,
        database: Database,
        *,
        origin: str,
        signer: Signer | KeySource,
        state_directory: Path,
        publish_seconds: float = PUBLISH_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        source = HeldKey(signer) if isinstance(signer, Signer) else signer
        if source.current().name != origin:
            raise ValidationError(
                f"the key is that of log {source.current().name!r}, not of {origin!r}",
                remedy="give the key of this log",
            )
        published = PublishedCheckpoint(state_directory)
        self.origin = origin
        self._state = LogState(database, origin, published.path)
        self._reader = Reader(self._state)
        self._signer = CheckpointSigner(self._state, self._reader, source, published, publish_seconds)
        self._appender = Appender(self._state, self._signer.checkpoint, publish_seconds, clock)
        self._signer.open()

    @property
    def atomic(self) -> bool:
        """Entries and rows are in one database."""
        return True

    # ------------------------------------------------------------------ append

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries, all or none, in one commit with those of other callers; in the order given.

        First write wins: when the key of a draft is known and its request digest is equal, the index and the body
        that are stored come back, with ``fresh`` false, and nothing is written.

        Raises:
            IdempotencyConflict: a key is known with another request digest.
            ValidationError: a draft has no canonical form, or is too long.
            LedgerUnavailable: the database cannot be written now, or the ledger is closed.
            IntegrityError: the database contradicts a checkpoint that was signed.
        """
        return self._appender.append(drafts)

    def transact(self, unit: Callable[[LedgerTransaction], T]) -> T:
        """Run ``unit`` in a write transaction and return what it returns, after the commit.

        The unit runs on the ledger's thread, with the caller's context variables, while other writers wait: it must
        be quick, and touch nothing but its transaction. If it raises, what it wrote is undone and its error is
        raised here; other units do not notice. The commit's outcome can remain unknown (LedgerUnavailable), so a
        unit must be one that may be tried again.

        Raises:
            LedgerUnavailable: the database cannot be written now, or the ledger is closed. Nothing is held back:
                whoever waits longer than one attempt to get the write lock is told so.
            IntegrityError: the database contradicts a checkpoint that was signed.
        """
        return self._appender.submit(unit)

    def close(self) -> None:
        """Commit what is waiting, publish the last checkpoint and end the thread. Later appends are refused."""
        self._appender.close()

    # ------------------------------------------------------------------- reads

    def size(self) -> int:
        """The number of entries."""
        return self._reader.size()

    def head(self) -> Checkpoint:
        """The committed state: origin, size and root."""
        return self._reader.head()

    def entry(self, index: int) -> Recorded:
        """See :meth:`Reader.entry`."""
        return self._reader.entry(index)

    def entries(self, start: int, stop: int) -> list[Recorded]:
        """See :meth:`Reader.entries`."""
        return self._reader.entries(start, stop)

    def index_of(self, key: str) -> int | None:
        """See :meth:`Reader.index_of`."""
        return self._reader.index_of(key)

    def by_event(self, event_id: str, *, start: int = 0, limit: int | None = None) -> list[Recorded]:
        """See :meth:`Reader.by_event`."""
        return self._reader.by_event(event_id, start=start, limit=limit)

    def bodies(self) -> Iterator[bytes]:
        """See :meth:`Reader.bodies`."""
        return self._reader.bodies()

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[EntryRow]:
        """See :meth:`Reader.rows`."""
        return self._reader.rows(start, stop)

    def tiles(self) -> Iterator[tuple[TileId, bytes]]:
        """See :meth:`Reader.tiles`."""
        return self._reader.tiles()

    def checkpoints(self) -> Iterator[CheckpointRow]:
        """See :meth:`Reader.checkpoints`."""
        return self._reader.checkpoints()

    def tile(self, tile: Tile) -> bytes:
        """See :meth:`Reader.tile`."""
        return self._reader.tile(tile)

    # ------------------------------------------------------------------ proofs

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """See :meth:`Reader.inclusion_proof`."""
        return self._reader.inclusion_proof(index, size)

    def inclusion_proofs(self, indices: Iterable[int], size: int) -> Iterator[list[bytes]]:
        """See :meth:`Reader.inclusion_proofs`."""
        return self._reader.inclusion_proofs(indices, size)

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """See :meth:`Reader.consistency_proof`."""
        return self._reader.consistency_proof(old, new)

    def prove(self, index: int) -> Proof:
        """Entry ``index`` with all it takes to verify it offline, up to a signed checkpoint.

        Raises:
            ResourceNotFoundError: there is no such entry.
            IntegrityError: the database was changed.
            Unavailable: a checkpoint is needed and cannot be published.
        """
        recorded, signed = self.entry(index), self.checkpoint()
        return self._reader.proof(recorded, signed if signed.size > index else self.checkpoint(force=True))

    # ---------------------------------------------------- keys and checkpoints

    @property
    def key(self) -> VerifierKey:
        """The public key that signs this log's checkpoints now."""
        return self._signer.key

    @property
    def keys(self) -> Keyring:
        """See :attr:`CheckpointSigner.keys`."""
        return self._signer.keys

    def hand_overs(self) -> list[HandOver]:
        """See :meth:`CheckpointSigner.hand_overs`."""
        return self._signer.hand_overs()

    def lost_hand_overs(self) -> list[tuple[int, VerifierKey]]:
        """See :meth:`CheckpointSigner.lost_hand_overs`."""
        return self._signer.lost_hand_overs()

    def false_key_changes(self) -> list[tuple[int, ValidationError]]:
        """See :meth:`CheckpointSigner.false_key_changes`."""
        return self._signer.false_key_changes()

    def checkpoint(self, *, force: bool = False) -> SignedCheckpoint:
        """See :meth:`CheckpointSigner.checkpoint`. Its note has the cosignatures that there are."""
        return self.cosigned(self._signer.checkpoint(force=force))

    def cosigned(self, signed: SignedCheckpoint) -> SignedCheckpoint:
        """A checkpoint of this log, with the cosignatures that there are by now."""
        rows = self._reader.cosignatures(signed.size)
        return SignedCheckpoint(signed.checkpoint, with_cosignatures(signed.note, (row.line for row in rows)))

    def add_cosignatures(self, checkpoint: Checkpoint, found: Sequence[Cosignature]) -> None:
        """Keep what witnesses say of a checkpoint of this log, which the caller has verified.

        Raises:
            Unavailable: the database is out of reach.
        """
        rows = [CosignatureRow(checkpoint.size, str(one.key), one.time, one.line) for one in found]
        with self._state.database.write() as connection:
            self._state.store.add_cosignatures(connection, rows)

    def cosigned_size(self, key: CosignerKey) -> int:
        """Entries of the largest checkpoint that a witness has cosigned, as far as is known here; 0 for none."""
        return self._reader.cosigned_size(str(key))

    def last_cosignatures(self) -> list[tuple[Checkpoint, Cosignature]]:
        """Of each witness the cosignature of the largest checkpoint, verified.

        Raises:
            IntegrityError: one is not of the checkpoint that is stored with it.
        """
        return self._reader.last_cosignatures()

    def signer(self) -> MessageSigner:
        """See :meth:`CheckpointSigner.signer`."""
        return self._signer.signer()
