"""The log: append, group commit, reads, proofs and checkpoints.

A commit with full durability costs milliseconds whatever it holds, so the units of work that wait at the same time
share one. A thread of the ledger takes them, runs them one after the other in one transaction and wakes their callers
after the commit::

    caller      transact(unit) ──┐                              ┌── result, after COMMIT
    caller      transact(unit) ──┼─► queue ─► BEGIN             ├── result
    caller      transact(unit) ──┘            unit, unit, unit ─┴── its own error, undone alone
                                              entries, tiles, head
                                              COMMIT

While one group commits the next one gathers, so a lone caller waits for nobody and many callers fill the groups.
"""

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy.exc
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from coafi.database import WRITE_LOCK_TIMEOUT, Database
from coafi.errors import (
    CoafiError,
    IdempotencyConflict,
    IntegrityError,
    LedgerUnavailable,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.ledger import handover, merkle, tiles
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from coafi.ledger.entry import Draft, Entry, Recorded, timestamp
from coafi.ledger.handover import HandOver, open_hand_over
from coafi.ledger.keyfile import HeldKey, KeySource
from coafi.ledger.keys import Keyring, Signer, VerifierKey
from coafi.ledger.merkle import EMPTY_ROOT, HASH_SIZE
from coafi.ledger.nodes import NodeCache
from coafi.ledger.proof import Proof
from coafi.ledger.published import PublishedCheckpoint
from coafi.ledger.store import CheckpointRow, EntryRow, Head, LedgerStore, store_for
from coafi.ledger.tiles import Tile, TileId
from coafi.names import KEY_CHANGES, EntryType

GROUP_UNITS = 256
"""Units of one commit at most."""

GROUP_ENTRIES = 4_096
"""Entries after which a group takes no further unit, so that no other process waits long for its turn."""

GATHER_SECONDS = 0.005
"""How long, after its first unit, a group waits for as many as the group before it had."""

PUBLISH_SECONDS = 1.0
"""A checkpoint is signed at most this often, unless it is forced."""

_PAGE = 1_000
_TILE_PAGE = 64
_LOG = structlog.get_logger(__name__)

T = TypeVar("T")


def is_begun(database: Database) -> bool:
    """Whether the database holds a ledger, even one without entries. The tables must exist."""
    with database.read() as connection:
        return LedgerStore().head(connection) is not None


class LedgerTransaction:
    """What a unit works with: the ledger and the database, in one transaction.

    It is of use only while the unit runs.
    """

    def __init__(self, group: "_Group") -> None:
        self._group = group
        self._saved = False
        self._ended = False

    @property
    def connection(self) -> Connection:
        """The connection that holds the write lock; what is written through it is committed with the entries.

        Never commit or roll back on it, and open no other write transaction: the unit holds the only one. Entries
        that were appended are written when all units of the group have run; do not look for them here. Let the error of
        a statement out of the unit: PostgreSQL takes no further statement after it.
        """
        self._check()
        if not self._saved:
            self._group.connection.exec_driver_sql("SAVEPOINT unit")
            self._saved = True
        return self._group.connection

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries; see :meth:`Ledger.append`. All or none of them."""
        self._check()
        return self._group.append(drafts)

    def end(self, error: BaseException | None) -> None:
        """Keep what the unit wrote, or undo it; called by the ledger.

        Raises:
            sqlalchemy.exc.OperationalError: the database has given up the whole transaction, not only the unit.
        """
        self._ended = True
        if self._saved:
            if error is not None:
                self._group.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unit")
            self._group.connection.exec_driver_sql("RELEASE SAVEPOINT unit")
        elif isinstance(error, OperationalError):
            # The unit wrote nothing, so this is ours; whether the transaction still stands cannot be told.
            raise error

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError("this transaction has ended: use it only within its unit")


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
        self.origin = origin
        self._database = database
        self._store = store_for(database)
        self._source = source
        self._nodes = NodeCache()
        self._hand_overs: dict[int, HandOver] = {}
        self._published = PublishedCheckpoint(state_directory)
        self._publish_seconds = publish_seconds
        self._clock = clock
        self._wake = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._accepted = 0
        self._enough = 1
        self._committed = 0
        self._covered = 0
        self._flusher: threading.Thread | None = None
        self._closing = False
        self._broken: IntegrityError | None = None
        self._open()

    # ------------------------------------------------------------------ append

    @property
    def key(self) -> VerifierKey:
        """The public key that signs this log's checkpoints now."""
        return self._source.current().key

    @property
    def keys(self) -> Keyring:
        """All keys that verify this log's checkpoints: the one that signs now, and those before it.

        Raises:
            IntegrityError: the hand-overs from key to key are no chain, or one was changed.
        """
        return handover.keyring(self.key, self.hand_overs())

    def hand_overs(self) -> list[HandOver]:
        """Every change of keys that both keys vouch for, in order.

        Raises:
            IntegrityError: one was changed.
        """
        with self._database.read() as connection:
            return self._all_hand_overs(connection)

    def lost_hand_overs(self) -> list[tuple[int, VerifierKey]]:
        """Entries that gave the log a key that is in use or was, though no checkpoint shows that it was handed over.

        Returns:
            The index of each, and the key.
        """
        keys = {term.key for term in self.keys.terms}
        found = []
        with self._database.read() as connection:
            for row in self._key_changes(connection):
                new = VerifierKey.parse(str(recorded(row).data["new"]))
                if new in keys and self._hand_over(connection, row) is None:
                    found.append((row.idx, new))
        return found

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
        for draft in drafts:
            _ = draft.request_digest  # here rather than while the write lock is held
        return self._submit(lambda transaction: transaction.append(drafts), drafts)

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
        return self._submit(unit, ())

    def close(self) -> None:
        """Commit what is waiting, publish the last checkpoint and end the thread. Later appends are refused."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            flusher = self._flusher
        if flusher is not None:
            flusher.join()

    def _submit(self, unit: Callable[[LedgerTransaction], T], expected: Sequence[Draft]) -> T:
        if threading.current_thread() is self._flusher:
            raise RuntimeError("a unit must append through its own transaction")
        waiting = _Waiting(unit, [bytes.fromhex(draft.key) for draft in expected])
        with self._wake:
            if self._broken is not None:
                raise IntegrityError(self._broken.message, remedy=self._broken.remedy) from self._broken
            if self._closing:
                raise LedgerUnavailable("the ledger is closed", remedy="this process is ending; try again on another")
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._serve, name="ledger", daemon=True)
                self._flusher.start()
            self._accepted += 1
            waiting.number = self._accepted
            self._queue.append(waiting)
            # The thread waits for the first unit, or for enough of them: no need to wake it for each.
            if len(self._queue) in (1, self._enough):
                self._wake.notify_all()
        result: T = waiting.done.result()
        return result

    # ------------------------------------------------------------------- reads

    def size(self) -> int:
        """The number of entries."""
        return self.head().size

    def head(self) -> Checkpoint:
        """The committed state: origin, size and root."""
        with self._database.read() as connection:
            return Checkpoint(*self._head(connection))

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
        with self._database.read() as connection:
            stop = min(stop, self._head(connection).size)
            rows = self._store.entries(connection, max(start, 0), stop)
        for expected, row in enumerate(rows, max(start, 0)):
            if row.idx != expected:
                raise _missing(expected)
        if len(rows) < stop - max(start, 0):
            raise _missing(max(start, 0) + len(rows))
        return [recorded(row) for row in rows]

    def index_of(self, key: str) -> int | None:
        """The index of the entry with this key (:func:`coafi.ledger.entry.entry_key`), if there is one."""
        wanted = bytes.fromhex(key)
        with self._database.read() as connection:
            row = self._store.with_keys(connection, [wanted]).get(wanted)
        return None if row is None else row.idx

    def by_event(self, event_id: str, *, start: int = 0, limit: int | None = None) -> list[Recorded]:
        """The entries of an event from index ``start`` on, in order, at most ``limit``.

        Raises:
            IntegrityError: the bytes of one were changed.
        """
        with self._database.read() as connection:
            rows = self._store.by_event(connection, event_id, start=start, limit=limit)
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

    def _page(self, start: int, stop: int) -> list[EntryRow]:
        try:
            with self._database.read() as connection:
                return self._store.entries(connection, start, stop)
        except IntegrityError as error:  # the database says what it could not read, and not where
            if stop - start == 1:
                raise IntegrityError(f"entry {start} cannot be read: {error.message}", remedy=error.remedy) from error
        middle = (start + stop) // 2
        return self._page(start, middle) + self._page(middle, stop)

    def tiles(self) -> Iterator[tuple[TileId, bytes]]:
        """Every stored tile, level by level, for the verifier: of the tree there is when the first is taken.

        What the log has grown by since is left out; what is beyond its head is not. Take the first tile before the
        first entry, as the verifier does, or the tiles can be of a larger tree.
        """
        size = self.size()
        after = TileId(-1, 0)
        while True:
            with self._database.read() as connection:
                head = self._head(connection)
                page = self._store.tiles_after(connection, after, _TILE_PAGE)
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
            with self._database.read() as connection:
                page = self._store.checkpoints_after(connection, after, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].size

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile in the width that is asked for, which it may have outgrown.

        Raises:
            ResourceNotFoundError: the tree has no such tile, or not in this width yet.
            IntegrityError: the tile is missing or too short.
        """
        with self._database.read() as connection:
            size = self._head(connection).size
            if tile.n * tiles.WIDTH + tile.width > size >> (tiles.HEIGHT * tile.level):
                raise ResourceNotFoundError(
                    f"a tree of {size} entries has no {tile.path}", remedy="ask for what its checkpoint says is there"
                )
            hashes = self._store.tiles(connection, [tile.id]).get(tile.id, b"")
        if len(hashes) < tile.width * HASH_SIZE:
            raise tiles.wrong_width(tile.id, hashes)
        return hashes[: tile.width * HASH_SIZE]

    # ------------------------------------------------------------------ proofs

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
        return merkle.inclusion_proof(index, size, lambda nodes: self._nodes.read(nodes, self._stored_tiles))

    def inclusion_proofs(self, indices: Iterable[int], size: int) -> Iterator[list[bytes]]:
        """The inclusion proof of each of ``indices``, in their order.

        Raises:
            ResourceNotFoundError: the log has no such entry, or is smaller.
            IntegrityError: a tile is missing or too short.
        """
        for index in indices:
            yield self.inclusion_proof(index, size)

    def sign(self, message: bytes) -> bytes:
        """The log's signature over ``message``, which must have a space before its first newline.

        No checkpoint has one there, since no log's name has: so nothing that is signed here can be taken for one.

        Raises:
            ValidationError: it has none.
        """
        if b" " not in message.partition(b"\n")[0]:
            raise ValidationError(
                "this could be a checkpoint, which the ledger signs only of its own state",
                remedy="sign it in a DSSE envelope",
            )
        return self._source.current().sign(message)

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
        return merkle.consistency_proof(old, new, lambda nodes: self._nodes.read(nodes, self._stored_tiles))

    def prove(self, index: int) -> Proof:
        """Entry ``index`` with all it takes to verify it offline, up to a signed checkpoint.

        Raises:
            ResourceNotFoundError: there is no such entry.
            IntegrityError: the database was changed.
            Unavailable: a checkpoint is needed and cannot be published.
        """
        return self._proof(self.entry(index), self._checkpoint_over(index))

    def _checkpoint_over(self, index: int) -> SignedCheckpoint:
        signed = self.checkpoint()
        return signed if signed.size > index else self.checkpoint(force=True)

    def _proof(self, recorded: Recorded, signed: SignedCheckpoint) -> Proof:
        return Proof(
            index=recorded.index,
            size=signed.size,
            entry=recorded.body.decode(),
            hashes=tuple(hash_.hex() for hash_ in self.inclusion_proof(recorded.index, signed.size)),
            checkpoint=signed.note,
        )

    # ------------------------------------------------------------- checkpoints

    def checkpoint(self, *, force: bool = False) -> SignedCheckpoint:
        """The last checkpoint; a new one when the log has grown and the last is old enough, or ``force`` is given.

        A new one is signed only after all it covers is committed and found to continue the one before. It is kept in
        the database and, durably, in the state directory.

        Raises:
            IntegrityError: the database is behind the last checkpoint or contradicts it. Nothing is signed.
            Unavailable: database or state directory are out of reach.
        """
        with self._published.locked(WRITE_LOCK_TIMEOUT):
            last = self._last_published()
            with self._database.read() as connection:
                head = self._head(connection)
                if last is not None and last.size > 0 and not force and self._published.age() < self._publish_seconds:
                    return last
                self._check_head(connection, head)
                self._check_continues(connection, head, last)
                successor = self._successor(connection, head)
                if last is not None and last.size == head.size and successor is None:
                    return last
                self._check_key(connection)
            signers = [self._source.current(), *([successor] if successor else [])]
            signed = sign_checkpoint(Checkpoint(*head), *signers)
            with self._database.write() as connection:
                if not self._store.add_checkpoint(connection, head.size, head.root, signed.note):
                    raise IntegrityError(
                        f"a checkpoint of {head.size} entries with another root than {head.root.hex()} is stored:"
                        " the history was rewritten (a fork)",
                        remedy=self._how_to_recover(head.size),
                    )
            self._published.replace(signed.note)
            self._covered = signed.size
            if successor is not None:
                self._source.promote()
                _LOG.info("ledger_key_changed", old=str(signers[0].key), new=str(successor.key), size=signed.size)
            return signed

    def _successor(self, connection: Connection, head: Head) -> Signer | None:
        """The key that must sign the next checkpoint too, because an entry says that it follows.

        If that checkpoint was signed already, and only the last step of the change is missing, that step is done.
        """
        successor = self._source.successor()
        if successor is None:
            return None
        change = handover.key_change(self.key, successor.key)
        if not any(row.key.hex() == change.key and row.idx < head.size for row in self._key_changes(connection)):
            return None
        if any(one.new == successor.key for one in self._all_hand_overs(connection)):
            self._source.promote()
            return None
        return successor

    def _check_key(self, connection: Connection) -> None:
        """Check that no other key has followed the one this process has."""
        key = self.key
        for one in self._all_hand_overs(connection):
            if one.old == key:
                raise Unavailable(
                    f"the key {key} was replaced by {one.new} and signs nothing any more",
                    remedy="give this process the new key and restart it; appending goes on meanwhile",
                )

    def _key_changes(self, connection: Connection) -> list[EntryRow]:
        rows = self._store.by_event(connection, KEY_CHANGES)
        return [row for row in rows if row.type == EntryType.LEDGER_KEY_CHANGED]

    def _all_hand_overs(self, connection: Connection) -> list[HandOver]:
        return [found for row in self._key_changes(connection) if (found := self._hand_over(connection, row))]

    def _hand_over(self, connection: Connection, row: EntryRow) -> HandOver | None:
        """The hand-over that an entry led to; none when no checkpoint was signed by both keys (yet)."""
        if row.idx in self._hand_overs:
            return self._hand_overs[row.idx]
        for stored in self._store.checkpoints_after(connection, row.idx, signatures=2):
            try:
                signed = SignedCheckpoint(Checkpoint(self.origin, stored.size, stored.root), stored.note)
                found = open_hand_over(self._proof(recorded(row), signed))
            except ValidationError:
                continue  # signed by others
            self._hand_overs[row.idx] = found
            return found
        return None

    def _open(self) -> None:
        last = self._last_published()
        if last is None:
            self._begin()
        else:
            self._covered = last.size
        with self._database.read() as connection:
            head = self._head(connection)
            if head.origin != self.origin:
                raise ValidationError(
                    f"database {self._database.where} holds the log {head.origin!r}, not {self.origin!r}",
                    remedy="give the key of that log, or another database",
                )
            self._check_head(connection, head)
            self._check_continues(connection, head, last)
            kept = self._store.last_checkpoint(connection)
            if kept is not None:
                self._check_continues(connection, head, self._own(kept, "the last checkpoint in the database"))
        if self._published.read() is None:
            if head.size > 0:
                _LOG.warning(
                    "ledger_state_missing",
                    file=str(self._published.path),
                    meaning="an old backup of the database would not have been noticed",
                )
            self.checkpoint(force=True)
        self._committed = head.size

    def _begin(self) -> None:
        with self._database.read() as connection:
            if self._store.head(connection) is not None:
                return
        with self._database.write() as connection:
            if self._store.head(connection) is None:
                self._store.create_head(connection, Head(self.origin, 0, EMPTY_ROOT))

    def _last_published(self) -> SignedCheckpoint | None:
        note = self._published.read()
        return None if note is None else self._own(note, f"the file {self._published.path}")

    def _own(self, note: str | bytes, what: str) -> SignedCheckpoint:
        try:
            return open_checkpoint(note, self.key)
        except ValidationError:
            pass  # of a key before this one, perhaps
        try:
            return open_checkpoint(note, self.keys)
        except ValidationError as error:
            raise IntegrityError(
                f"{what} is not a checkpoint of this ledger: {error.message}",
                remedy="it was damaged, or belongs to another key: restore the file or the key; "
                "do not delete it, it is what tells this log from a forged one",
            ) from error

    def _head(self, connection: Connection, *, lock: bool = False) -> Head:
        head = self._store.head(connection, lock=lock)
        if head is None:
            raise IntegrityError(
                f"database {self._database.where} holds no ledger any more",
                remedy="it was emptied or replaced: " + self._how_to_recover(self._covered),
            )
        return head

    def _check_head(self, connection: Connection, head: Head) -> None:
        """Check that entries, tiles and head end at the same place. Costs O(log n)."""
        last = self._store.last_index(connection)
        if (-1 if last is None else last) != head.size - 1:
            raise IntegrityError(
                f"the ledger's head says {head.size} entries, and the last one has index {last}",
                remedy="the database was changed by hand or damaged: " + self._how_to_recover(head.size),
            )
        root = self._root_at(connection, head.size)
        if root != head.root:
            raise IntegrityError(
                f"the ledger's head says root {head.root.hex()}, and its tiles give {root.hex()}",
                remedy="the database was changed by hand or damaged: " + self._how_to_recover(head.size),
            )

    def _check_continues(self, connection: Connection, head: Head, last: SignedCheckpoint | None) -> None:
        if last is None:
            return
        if head.size < last.size:
            raise IntegrityError(
                f"the ledger has {head.size} entries, and a checkpoint of {last.size} was signed:"
                " the database is an old copy, or has lost entries",
                remedy=self._how_to_recover(last.size),
            )
        root = self._root_at(connection, last.size)
        if root != last.checkpoint.root:
            raise IntegrityError(
                f"the first {last.size} entries have root {root.hex()}, and the signed checkpoint of them says"
                f" {last.checkpoint.root.hex()}: the history was rewritten (a fork)",
                remedy=self._how_to_recover(last.size),
            )

    def _how_to_recover(self, size: int) -> str:
        return (
            f"stop all writers, keep database and {self._published.path} as evidence, and restore a copy of the"
            f" database that has at least {size} entries; if there is none, the loss cannot be hidden: begin a new log"
            " under a new key and tell whoever relies on this one"
        )

    def _root_at(self, connection: Connection, size: int) -> bytes:
        wanted = tiles.edge(size)
        found = self._store.tiles(connection, [tile.id for tile in wanted])
        rows = {}
        for tile in wanted:
            hashes = found.get(tile.id, b"")
            if len(hashes) < tile.width * HASH_SIZE:
                raise tiles.wrong_width(tile.id, hashes)
            rows[tile.level] = hashes[: tile.width * HASH_SIZE]
        return tiles.root(rows)

    def _size_at(self, size: int | None) -> int:
        if size is not None and size <= max(self._committed, self._covered):
            return size  # no need to look
        available = self.size()
        if size is None:
            return available
        if size > available:
            raise ResourceNotFoundError(
                f"the ledger has {available} entries, not {size}", remedy="ask for a smaller tree"
            )
        return size

    def _stored_tiles(self, wanted: Iterable[TileId]) -> Mapping[TileId, bytes]:
        with self._database.read() as connection:
            return self._store.tiles(connection, wanted)

    # ------------------------------------------------------------ group commit

    def _serve(self) -> None:
        try:
            self._flush_all()
        except BaseException as error:
            with self._wake:
                self._closing = True
            self._fail(self._take(until=self._accepted), error)
            raise

    def _flush_all(self) -> None:
        publish_at: float | None = None
        while self._gather(publish_at):
            if self._queue and not self._flush():
                continue  # the database is out of reach: do not make callers wait for a checkpoint as well
            now = time.monotonic()
            if publish_at is not None and now >= publish_at:
                self._publish()
                publish_at = None
            if publish_at is None and self._covered < self._committed:
                publish_at = now + self._publish_seconds
        if self._covered < self._committed:
            self._publish(force=True)

    def _gather(self, wake_at: float | None) -> bool:
        """Wait for units, or until ``wake_at``; False when the ledger is closed and no unit is left."""
        with self._wake:
            while not self._queue:
                if self._closing:
                    return False
                remaining = None if wake_at is None else wake_at - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return True
                self._wake.wait(remaining)
            deadline = self._queue[0].arrived + GATHER_SECONDS
            while len(self._queue) < self._enough and not self._closing:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._wake.wait(remaining)
            return True

    def _flush(self) -> bool:
        """Commit one group and answer its callers; whether that went well."""
        with self._wake:
            waiting_now = self._accepted
        taken: list[_Waiting] = []
        try:
            with self._database.write() as connection:
                # Taken only now: who came while we waited for the lock goes along.
                taken = self._take()
                size = self._run(connection, taken)
        except BaseException as error:  # nobody may be left waiting, whatever happened
            self._fail(taken or self._take(until=waiting_now), error)
            return False
        self._committed = size
        with self._wake:
            self._enough = max(len(taken), 1)
        for waiting in taken:
            waiting.answer()
        return True

    def _run(self, connection: Connection, taken: Iterable["_Waiting"]) -> int:
        """Run units and write what they appended; the size of the log then."""
        head = self._head(connection, lock=True)
        before = max(self._committed, self._covered)
        if head.size < before:
            raise IntegrityError(
                f"the ledger has {head.size} entries, and had {before} before: the database was replaced by an old copy"
                " while it was in use",
                remedy=self._how_to_recover(before),
            )
        group = _Group(self._store, connection, head.size, timestamp(self._clock()))
        group.look_up([key for waiting in taken for key in waiting.keys])
        for waiting in taken:
            group.run(waiting)
        if group.rows:
            self._extend(connection, head, group.rows)
        return head.size + len(group.rows)

    def _extend(self, connection: Connection, head: Head, rows: Sequence[EntryRow]) -> None:
        edge = tiles.edge(head.size)
        stored = self._store.tiles(connection, [tile.id for tile in edge])
        edge_hashes = {tile.level: stored.get(tile.id, b"") for tile in edge}
        for tile in edge:
            if len(edge_hashes[tile.level]) != tile.width * HASH_SIZE:
                raise tiles.wrong_width(tile.id, edge_hashes[tile.level])
        growth = tiles.grow(head.size, edge_hashes, [row.leaf_hash for row in rows])
        try:
            self._store.extend(
                connection, rows, growth, Head(head.origin, head.size + len(rows), tiles.root(growth.edge))
            )
        except sqlalchemy.exc.IntegrityError as error:
            raise IntegrityError(
                f"the ledger's head says {head.size} entries, and there are entries or tiles beyond: {error.orig}",
                remedy="the database was changed by hand or damaged: " + self._how_to_recover(head.size),
            ) from error

    def _take(self, *, until: int | None = None) -> list["_Waiting"]:
        """The units of the next group; or, with ``until``, all that were accepted up to that number."""
        taken: list[_Waiting] = []
        entries = 0
        with self._wake:
            while self._queue:
                if until is not None:
                    if self._queue[0].number > until:
                        break
                elif len(taken) >= GROUP_UNITS or entries >= GROUP_ENTRIES:
                    break
                waiting = self._queue.popleft()
                entries += len(waiting.keys)
                taken.append(waiting)
        return taken

    def _fail(self, taken: Iterable["_Waiting"], error: BaseException) -> None:
        if isinstance(error, IntegrityError):
            self._break(error)
        for waiting in taken:
            if isinstance(error, Unavailable):
                waiting.done.set_exception(_unavailable(error))
            else:
                waiting.done.set_exception(error)

    def _publish(self, *, force: bool = False) -> None:
        try:
            self.checkpoint(force=force)
        except IntegrityError as error:
            self._break(error)
        except Exception as error:  # appends go on without a checkpoint; it is tried again
            _LOG.warning("ledger_checkpoint_failed", error=str(error))

    def _break(self, error: IntegrityError) -> None:
        """Refuse to extend a log that contradicts what was signed."""
        with self._wake:
            self._broken = error
            left = list(self._queue)
            self._queue.clear()
        _LOG.critical("ledger_broken", error=str(error))
        for waiting in left:
            waiting.done.set_exception(error)


@dataclass(eq=False)
class _Waiting:
    """A unit and its caller.

    Attributes:
        keys: the keys that the unit is known to append, to look them up together with those of others.
        number: how many units were accepted before and with it.
    """

    unit: Callable[[LedgerTransaction], Any]
    keys: list[bytes]
    number: int = 0
    arrived: float = field(default_factory=time.monotonic)
    done: "Future[Any]" = field(default_factory=Future)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class _Group:
    """The units of one transaction, and the entries they append."""

    def __init__(self, store: LedgerStore, connection: Connection, size: int, moment: str) -> None:
        self.connection = connection
        self.rows: list[EntryRow] = []
        self._store = store
        self._size = size
        self._moment = moment
        self._known: dict[bytes, EntryRow | None] = {}

    def look_up(self, keys: Iterable[bytes]) -> None:
        """Learn which of these keys are recorded."""
        missing = dict.fromkeys(key for key in keys if key not in self._known)
        if missing:
            self._known.update(missing)
            self._known.update(self._store.with_keys(self.connection, missing))

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        keys = [bytes.fromhex(draft.key) for draft in drafts]
        self.look_up(keys)
        fresh: dict[bytes, EntryRow] = {}
        recorded = []
        for draft, key in zip(drafts, keys, strict=True):
            first = self._known[key] or fresh.get(key)
            if first is None:
                body = draft.body(self._moment)
                index = self._size + len(self.rows) + len(fresh)
                fresh[key] = EntryRow(
                    idx=index,
                    key=key,
                    request=bytes.fromhex(draft.request_digest),
                    leaf_hash=merkle.leaf_hash(body),
                    event_id=draft.event_id,
                    type=draft.type.value,
                    body=body,
                )
                recorded.append(Recorded(index, body, fresh=True))
            elif first.request.hex() != draft.request_digest:
                raise IdempotencyConflict(
                    f"the entry {draft} is recorded at index {first.idx}, made from other inputs"
                    f" (request {first.request.hex()[:12]}…, not {draft.request_digest[:12]}…)",
                    remedy=f"look at it with: coafi ledger show {first.idx}; a step that does something else needs"
                    " another id",
                )
            else:
                recorded.append(Recorded(first.idx, first.body))
        self.rows += fresh.values()
        self._known |= fresh
        return recorded

    def run(self, waiting: _Waiting) -> None:
        """Run a unit; if it raises, undo what it did and keep its error."""
        before = len(self.rows)
        transaction = LedgerTransaction(self)
        try:
            waiting.result = waiting.context.run(waiting.unit, transaction)
        except BaseException as error:  # it is given to its caller
            waiting.error = _unavailable(error) if isinstance(error, OperationalError) else error
            for row in self.rows[before:]:
                self._known[row.key] = None
            del self.rows[before:]
            transaction.end(error)
        else:
            transaction.end(None)


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


def _entry(row: EntryRow) -> Entry:
    try:
        return recorded(row).entry
    except ValidationError as error:
        raise IntegrityError(f"entry {row.idx} is not an entry: {error.message}", remedy=error.remedy) from error


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


def _missing(index: int) -> IntegrityError:
    return IntegrityError(
        f"entry {index} is missing from the ledger", remedy="the database was changed by hand: restore a backup"
    )


def _unavailable(error: BaseException) -> LedgerUnavailable:
    message = error.message if isinstance(error, CoafiError) else str(error)
    result = LedgerUnavailable(
        f"the ledger cannot be written: {message}",
        remedy=error.remedy if isinstance(error, CoafiError) else "check the database's disk space and locks",
    )
    result.__cause__ = error
    return result
