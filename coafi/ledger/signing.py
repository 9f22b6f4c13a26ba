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
from coafi.ledger.keys import Keyring, Signer, VerifierKey
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
        the database and, durably, in the state directory.

        Raises:
            IntegrityError: the database is behind the last checkpoint or contradicts it. Nothing is signed.
            Unavailable: database or state directory are out of reach.
        """
        with self._published.locked(WRITE_LOCK_TIMEOUT):
            last = self._last_published()
            with self._state.database.read() as connection:
                head = self._state.head(connection)
                if last is not None and last.size > 0 and not force and self._published.age() < self._publish_seconds:
                    return last
                self._state.check_head(connection, head)
                self._state.check_continues(connection, head, last)
                successor = self._successor(connection, head)
                if last is not None and last.size == head.size and successor is None:
                    return last
                self._check_key(connection)
            signers = [self._source.current(), *([successor] if successor else [])]
            signed = sign_checkpoint(Checkpoint(*head), *signers)
            with self._state.database.write() as connection:
                if not self._state.store.add_checkpoint(connection, head.size, head.root, signed.note):
                    raise IntegrityError(
                        f"a checkpoint of {head.size} entries with another root than {head.root.hex()} is stored:"
                        " the history was rewritten (a fork)",
                        remedy=self._state.how_to_recover(head.size),
                    )
            self._published.replace(signed.note)
            self._state.covered = signed.size
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
        change = KeyChange(self.key, successor.key)
        if not any(row.idx < head.size and _says(row, change) for row in self._key_changes(connection)):
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
            raise IntegrityError(
                f"{what} is not a checkpoint of this ledger: {error.message}",
                remedy="it was damaged, or belongs to another key: restore the file or the key; "
                "do not delete it, it is what tells this log from a forged one",
            ) from error


def _says(row: EntryRow, change: KeyChange) -> bool:
    """Whether an entry says this change, signed by both keys."""
    if row.key.hex() != change_key(change.new):
        return False
    try:
        return read_change(recorded(row).entry) == change
    except ValidationError:
        return False
