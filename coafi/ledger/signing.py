"""Signs what is committed: checkpoints, and the hand-overs from key to key that they show."""

import contextlib

import structlog
from sqlalchemy import Connection

from coafi.database import WRITE_LOCK_TIMEOUT
from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.ledger import handover
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from coafi.ledger.handover import HandOver, KeyChange, change_key, open_hand_over, read_change
from coafi.ledger.keyfile import KeySource
from coafi.ledger.keys import Keyring, Signer, Trusted, VerifierKey
from coafi.ledger.published import PublishedCheckpoint
from coafi.ledger.reading import Reader, recorded
from coafi.ledger.state import LogState
from coafi.ledger.store import EntryRow, Head
from coafi.names import KEY_CHANGES, EntryType

_LOG = structlog.get_logger(__name__)


class MessageSigner:
    """A log's key as it was when it was asked for: what it signs is by the key that it names, whatever key is next."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def key(self) -> VerifierKey:
        """The public half."""
        return self._signer.key

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
        return self._signer.sign(message)


class CheckpointSigner:
    """Signs and publishes the checkpoints of a log.

    Args:
        state: the log.
        reader: reads it.
        source: where the key is.
        published: the last checkpoint, outside the database.
        publish_seconds: a new checkpoint is signed at most this often, unless forced.
    """

    def __init__(
        self,
        state: LogState,
        reader: Reader,
        source: KeySource,
        published: PublishedCheckpoint,
        publish_seconds: float,
    ) -> None:
        self._state = state
        self._reader = reader
        self._source = source
        self._published = published
        self._publish_seconds = publish_seconds
        self._hand_overs: dict[int, HandOver] = {}

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
        with self._state.database.read() as connection:
            return self._all_hand_overs(connection)

    def lost_hand_overs(self) -> list[tuple[int, VerifierKey]]:
        """Entries that gave the log a key that is in use or was, though no checkpoint shows that it was handed over.

        Returns:
            The index of each, and the key.
        """
        keys = {term.key for term in self.keys.terms}
        found = []
        with self._state.database.read() as connection:
            for row in self._key_changes(connection):
                with contextlib.suppress(ValidationError):
                    new = read_change(recorded(row).entry).new
                    if new in keys and self._hand_over(connection, row) is None:
                        found.append((row.idx, new))
        return found

    def false_key_changes(self) -> list[tuple[int, ValidationError]]:
        """Entries that say that a key follows another one, and that not both of these have signed.

        Returns:
            The index of each, and what is wrong with it.
        """
        found = []
        with self._state.database.read() as connection:
            for row in self._key_changes(connection):
                try:
                    read_change(recorded(row).entry)
                except ValidationError as error:
                    found.append((row.idx, error))
        return found

    def signer(self) -> MessageSigner:
        """The key that signs now, for messages that are no checkpoints."""
        return MessageSigner(self._source.current())

    def open(self) -> None:
        """Begin the log if there is none; else check that it continues the last checkpoint, here and outside.

        Raises:
            IntegrityError: the database is behind the last checkpoint or contradicts it.
            ValidationError: the database holds a log of another name.
            Unavailable: database or state directory are out of reach.
        """
        last = self._last_published()
        if last is None:
            self._state.begin()
        else:
            self._state.covered = last.size
        with self._state.database.read() as connection:
            head = self._state.head(connection)
            if head.origin != self._state.origin:
                raise ValidationError(
                    f"database {self._state.database.where} holds the log {head.origin!r}, not {self._state.origin!r}",
                    remedy="give the key of that log, or another database",
                )
            self._state.check_head(connection, head)
            self._state.check_continues(connection, head, last)
            kept = self._state.store.last_checkpoint(connection)
            if kept is not None:
                self._state.check_continues(connection, head, self._own(kept, "the last checkpoint in the database"))
        if self._published.read() is None:
            if head.size > 0:
                _LOG.warning(
                    "ledger_state_missing",
                    file=str(self._published.path),
                    meaning="an old backup of the database would not have been noticed",
                )
            self.checkpoint(force=True)
        self._state.committed = head.size

    def checkpoint(self, *, force: bool = False) -> SignedCheckpoint:
        """The last checkpoint; a new one when the log has grown and the last is old enough, or ``force`` is given.

        A new one is signed only after all it covers is committed and found to continue the one before. It is kept in
        the database and, durably, in the state directory. One that is in the database already is not signed again: it
        may be the hand-over to another key, which cannot be signed twice.

        Raises:
            IntegrityError: the database is behind the last checkpoint or contradicts it. Nothing is signed.
            Unavailable: database or state directory are out of reach.
        """
        with self._published.locked(WRITE_LOCK_TIMEOUT):
            last = self._last_published()
            if last is not None and last.size > 0 and not force and self._published.age() < self._publish_seconds:
                with self._state.database.read() as connection:
                    self._state.head(connection)
                return self._cover(last)
            with self._state.database.read() as connection:
                head = self._continued(connection, last)
                successor = self._successor(connection, head)
                handed = None if successor is None else self._handed_over(connection, successor)
            if handed is not None:
                last = self._finish(handed, last)
                successor = None
            if last is not None and last.size == head.size and successor is None:
                return self._cover(last)
            if successor is None and (stored := self._stored(head)) is not None:
                return self._publish(stored)
            signed = self._sign(head, last, successor)
            self._publish(signed)
            if successor is not None:
                self._promote(successor.key, signed.size)
            return signed

    def _continued(self, connection: Connection, last: SignedCheckpoint | None, *, lock: bool = False) -> Head:
        """The head, once it is found to be sound and to continue the last checkpoint."""
        head = self._state.head(connection, lock=lock)
        self._state.check_head(connection, head)
        self._state.check_continues(connection, head, last)
        return head

    def _sign(self, head: Head, last: SignedCheckpoint | None, successor: Signer | None) -> SignedCheckpoint:
        """Sign a checkpoint and keep it in the database; with a successor, by both keys and of all there is by then."""
        with self._state.database.read() as connection:
            self._check_key(connection)
        with self._state.database.write() as connection:
            if successor is not None:
                # The old key counts up to this size and no further: nobody may sign a larger one with it meanwhile.
                head = self._continued(connection, last, lock=True)
                self._check_key(connection)
            signers = [self._source.current(), *([successor] if successor else [])]
            note = sign_checkpoint(Checkpoint(*head), *signers).note
            kept = self._state.store.add_checkpoint(connection, head.size, head.root, note)
            if kept is None:
                raise self._fork(head)
            for one in signers:  # what others have signed as well is as good, and what is damaged is not
                signed = self._opened(kept, one.key, head)
        return signed

    def _stored(self, head: Head) -> SignedCheckpoint | None:
        """The checkpoint of all there is, if one was signed and is not published."""
        with self._state.database.read() as connection:
            row = self._state.store.checkpoint(connection, head.size)
        if row is None:
            return None
        if row.root != head.root:
            raise self._fork(head)
        return self._opened(row.note, self.keys, head)

    def _opened(self, note: str, keys: Trusted, head: Head) -> SignedCheckpoint:
        """A stored note, once it is found to be signed by one of the keys, and to say this head."""
        where = f"the checkpoint of {head.size} entries in the database"
        try:
            signed = open_checkpoint(note, keys)
        except ValidationError as error:
            raise _not_ours(where, error.message) from error
        if signed.checkpoint != Checkpoint(*head):
            raise _not_ours(where, f"it says {signed.size} entries and root {signed.checkpoint.root.hex()}")
        return signed

    def _fork(self, head: Head) -> IntegrityError:
        return IntegrityError(
            f"a checkpoint of {head.size} entries with another root than {head.root.hex()} is stored:"
            " the history was rewritten (a fork)",
            remedy=self._state.how_to_recover(head.size),
        )

    def _publish(self, signed: SignedCheckpoint) -> SignedCheckpoint:
        self._published.replace(signed.note)
        return self._cover(signed)

    def _cover(self, signed: SignedCheckpoint) -> SignedCheckpoint:
        """Note what a published checkpoint covers, whoever signed it."""
        self._state.covered = max(self._state.covered, signed.size)
        return signed

    def _successor(self, connection: Connection, head: Head) -> Signer | None:
        """The key that waits to follow, if an entry says that it does."""
        successor = self._source.successor()
        if successor is None:
            return None
        change = KeyChange(self.key, successor.key)
        if not any(row.idx < head.size and _says(row, change) for row in self._key_changes(connection)):
            return None
        return successor

    def _handed_over(self, connection: Connection, successor: Signer) -> HandOver | None:
        """The hand-over to a key, read anew: on what it says the old key is destroyed."""
        for row in self._key_changes(connection):
            self._hand_overs.pop(row.idx, None)
        return next((one for one in self._all_hand_overs(connection) if one.new == successor.key), None)

    def _finish(self, handed: HandOver, last: SignedCheckpoint | None) -> SignedCheckpoint:
        """Do the steps of a hand-over that a crash or a full disk has left: publish its checkpoint, change the key."""
        signed = open_checkpoint(handed.proof.checkpoint, handed.new)
        if last is None or last.size < signed.size or (last.size == signed.size and last.note != signed.note):
            last = self._publish(signed)
        self._promote(handed.new, signed.size)
        return last

    def _promote(self, new: VerifierKey, size: int) -> None:
        """Let the new key sign from now on. This destroys the old one, so all that needs it must be durable."""
        old = self.key
        self._source.promote()
        _LOG.info("ledger_key_changed", old=str(old), new=str(new), size=size)

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
        rows = self._state.store.by_event(connection, KEY_CHANGES)
        return [row for row in rows if row.type == EntryType.LEDGER_KEY_CHANGED]

    def _all_hand_overs(self, connection: Connection) -> list[HandOver]:
        return [found for row in self._key_changes(connection) if (found := self._hand_over(connection, row))]

    def _hand_over(self, connection: Connection, row: EntryRow) -> HandOver | None:
        """The hand-over that an entry led to; none when no checkpoint was signed by both keys (yet)."""
        if row.idx in self._hand_overs:
            return self._hand_overs[row.idx]
        for stored in self._state.store.checkpoints_after(connection, row.idx, signatures=2):
            try:
                signed = SignedCheckpoint(Checkpoint(self._state.origin, stored.size, stored.root), stored.note)
                found = open_hand_over(self._reader.proof(recorded(row), signed))
            except ValidationError:
                continue  # signed by others
            self._hand_overs[row.idx] = found
            return found
        return None

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
            raise _not_ours(what, error.message) from error


def _not_ours(what: str, problem: str) -> IntegrityError:
    return IntegrityError(
        f"{what} is not a checkpoint of this ledger: {problem}",
        remedy="it was damaged, or belongs to another key: restore the file or the key; "
        "do not delete it, it is what tells this log from a forged one",
    )


def _says(row: EntryRow, change: KeyChange) -> bool:
    """Whether an entry says this change, signed by both keys."""
    if row.key.hex() != change_key(change.new):
        return False
    try:
        return read_change(recorded(row).entry) == change
    except ValidationError:
        return False
