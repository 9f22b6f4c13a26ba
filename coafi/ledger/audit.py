"""Holds everything that a database says about its log against everything else, and against the keys.

The verifier sees what an auditor sees: entries, tiles, one checkpoint. Here the rest is added that only the owner of
the database has: the columns that entries are looked up by, every checkpoint that was ever signed, the keys.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint
from coafi.ledger.entry import Entry
from coafi.ledger.keys import Keyring
from coafi.ledger.log import Ledger
from coafi.ledger.reading import check_columns
from coafi.ledger.store import CheckpointRow, EntryRow
from coafi.ledger.verifier import LogReport, verify_log


class ClockStep(NamedTuple):
    """An entry whose time lies before that of an earlier one: the clock was set back.

    Attributes:
        entry: index of the entry.
        seconds: by how much.
    """

    entry: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A ledger that was found sound.

    Attributes:
        log: what the verifier says; its ``checkpoints`` are those that are stored, but for the last.
        keys: the log's keys; each hand-over was checked.
        steps_back: how often the clock was set back between two entries.
        worst: the largest of these steps, if there is one. It is no proof of tampering; the order of the entries is
            that of their indices.
    """

    log: LogReport
    keys: Keyring
    steps_back: int
    worst: ClockStep | None


def audit(ledger: Ledger, on_progress: Callable[[int], None] | None = None) -> AuditReport:
    """Verify a whole ledger: entries, their columns, tiles, every stored checkpoint, the hand-overs of its keys.

    Args:
        on_progress: is told now and then how many entries were read.

    Raises:
        IntegrityError: something contradicts something else; the message names it.
        Unavailable: database or state directory are out of reach.
    """
    signed = ledger.checkpoint(force=True)
    doubts = _Doubts()
    keys = doubts.keys(ledger)
    reading = _Reading()
    report = verify_log(
        reading.bodies(ledger.rows()),
        signed.note,
        keys,
        stored_tiles=ledger.tiles(),
        earlier=doubts.without(ledger.checkpoints(), keys, signed.checkpoint),
        on_entry=reading.check,
        on_progress=on_progress,
    )
    doubts.raise_first()
    return AuditReport(report, keys, reading.steps_back, reading.worst)


class _Reading:
    """Compares the columns of entries, once they are read, and their times."""

    def __init__(self) -> None:
        self.steps_back = 0
        self.worst: ClockStep | None = None
        self._rows: deque[EntryRow] = deque()
        self._latest = ""

    def bodies(self, rows: Iterator[EntryRow]) -> Iterator[bytes]:
        """The bytes of the entries."""
        for row in rows:
            self._rows.append(row)
            yield row.body

    def check(self, index: int, entry: Entry, leaf: bytes) -> None:
        """Compare an entry with its row."""
        row = self._rows.popleft()
        if row.leaf_hash != leaf:
            raise IntegrityError(
                f"the hash stored with entry {index} is not that of its bytes",
                remedy="the tree speaks for the bytes: put the right hash back, "
                f"{leaf.hex()}, and find out who changed it",
            )
        check_columns(row, entry)
        if entry.time >= self._latest:
            self._latest = entry.time
            return
        try:
            seconds = (datetime.fromisoformat(self._latest) - datetime.fromisoformat(entry.time)).total_seconds()
        except ValueError as error:
            raise IntegrityError(
                f"entry {index} has the time {entry.time!r}, which is none", remedy=str(error)
            ) from None
        self.steps_back += 1
        if self.worst is None or seconds > self.worst.seconds:
            self.worst = ClockStep(index, seconds)


class _Doubts:
    """What is wrong with keys and checkpoints.

    It waits until entries and tiles are known to be sound: if they are not, that is the better thing to name.
    """

    def __init__(self) -> None:
        self._first: IntegrityError | None = None

    def keys(self, ledger: Ledger) -> Keyring:
        """The keys of a ledger; the one that signs now if the others cannot be had."""
        try:
            keys = ledger.keys
            for index, error in ledger.false_key_changes():
                self._first = self._first or IntegrityError(
                    f"entry {index} is a change of keys that is none: {error.message}", remedy=error.remedy
                )
            for index, new in ledger.lost_hand_overs():
                self._first = self._first or IntegrityError(
                    f"entry {index} gives the ledger the key {new}, and no checkpoint after it is signed by both keys",
                    remedy="that checkpoint was changed or removed: restore a backup that has it",
                )
            return keys
        except IntegrityError as error:
            self._first = error
            return Keyring.of(ledger.key)

    def without(self, rows: Iterator[CheckpointRow], keys: Keyring, last: Checkpoint) -> Iterator[Checkpoint]:
        """The stored checkpoints before ``last`` of which there is no doubt."""
        for row in rows:
            try:
                found = _opened(row, keys, last)
            except IntegrityError as error:
                self._first = self._first or error
            else:
                if found.size < last.size:
                    yield found

    def raise_first(self) -> None:
        """Raise the first that was found."""
        if self._first is not None:
            raise self._first


def _opened(row: CheckpointRow, keys: Keyring, last: Checkpoint) -> Checkpoint:
    try:
        found = open_checkpoint(row.note, keys).checkpoint
    except ValidationError as error:
        raise IntegrityError(
            f"the stored checkpoint of {row.size} entries: {error.message}", remedy=error.remedy
        ) from error
    if (found.size, found.root) != (row.size, row.root):
        raise IntegrityError(
            f"a checkpoint of {found.size} entries is stored as one of {row.size} and root {row.root.hex()}",
            remedy="the database was changed by hand or damaged: restore a backup",
        )
    if found.size == last.size and found != last:
        raise IntegrityError(
            f"two checkpoints of {last.size} entries were signed, with different roots: a fork",
            remedy="keep both as evidence and tell whoever relies on this ledger",
        )
    return found
