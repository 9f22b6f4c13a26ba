"""The keys of a log that is kept elsewhere, as far as hand-overs lead from the one that is trusted.

The other side shows its hand-overs (:mod:`coafi.ledger.handover`). They authenticate themselves, so it can withhold one
and cannot invent one. Those that were seen are kept in this home, in the form that ``coafi ledger keys list --json``
prints: a key that was replaced stays replaced, whatever is shown later, also to the next process.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from coafi.database import WRITE_LOCK_TIMEOUT
from coafi.errors import IntegrityError, LedgerUnavailable, ValidationError
from coafi.ledger.checkpoint import parse_note
from coafi.ledger.handover import HandOver, keyring, open_hand_over, parse_hand_overs
from coafi.ledger.keys import Keyring, VerifierKey
from coafi.ledger.proof import Proof
from coafi.ledger.published import StateFile
from coafi.ledger.wire import MAX_KEYS_ANSWER, KeysAnswer

ASK_SECONDS = 5.0
"""The other side is asked for its hand-overs once in this time at most."""

_Ids = frozenset[tuple[str, bytes]]


class FollowedKeys:
    """The keys of a log. Many threads may use it, and other processes the same file.

    Args:
        trusted: any key that the log has had, which came on another way.
        directory: where hand-overs that were seen are kept, as ``hand-overs``.
        ask: gives the hand-overs that the other side shows.
        ask_seconds: how long after that it is not called again.

    Raises:
        IntegrityError: the hand-overs that were kept do not lead to the trusted key.
        Unavailable: the directory is out of reach.
    """

    def __init__(
        self,
        trusted: VerifierKey,
        directory: Path,
        ask: Callable[[], Sequence[Proof]],
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self.trusted: Final = trusted
        self._file = StateFile(directory / "hand-overs", MAX_KEYS_ANSWER)
        self._ask = ask
        self._ask_seconds = ask_seconds
        self._lock = threading.Lock()
        self._known: dict[tuple[VerifierKey, VerifierKey, str], HandOver] = {}
        self._ring = Keyring.of(trusted)
        self._kept: frozenset[tuple[VerifierKey, VerifierKey, str]] = frozenset()
        self._asked = float("-inf")
        self._strangers: _Ids = frozenset()
        self._read()

    @property
    def ring(self) -> Keyring:
        """The keys that are known, and when each counted."""
        return self._ring

    @property
    def hand_overs(self) -> list[HandOver]:
        """The hand-overs that are known, in order."""
        return sorted(self._known.values(), key=lambda one: one.size)

    @property
    def unchecked(self) -> list[HandOver]:
        """Those of them whose checkpoints were not held against the log yet; see :meth:`keep`."""
        return [one for name, one in self._known.items() if name not in self._kept]

    def is_strange(self, note: str | bytes) -> bool:
        """Whether a note is signed in the log's name, and by none of the known keys."""
        return bool(self._unknown(note))

    def ring_for(self, note: str | bytes) -> Keyring:
        """The keys that are known, once they were asked for if none of them says that it signed ``note``.

        Raises:
            IntegrityError: what the other side shows are no hand-overs, or they do not lead to the trusted key.
            LedgerUnavailable: it is out of reach, or was asked a moment ago.
        """
        if not self._unknown(note):
            return self._ring
        with self._lock:
            if self._unknown(note):
                self._read()
            if unknown := self._unknown(note):
                self._find(unknown)
            return self._ring

    def refresh(self) -> None:
        """Ask for hand-overs, unless that was done a moment ago.

        Raises:
            IntegrityError, LedgerUnavailable: as :meth:`ring_for`.
        """
        with self._lock:
            if self._wait() <= 0:
                self._fetch(frozenset())

    def keep(self, checked: Iterable[HandOver]) -> None:
        """Keep hand-overs in the file, now that their checkpoints are known to be the log's.

        Raises:
            Unavailable: the file cannot be written.
        """
        with self._lock, self._file.locked(WRITE_LOCK_TIMEOUT):
            self._read()
            kept = self._kept | {_name(one) for one in checked}
            said = KeysAnswer.of(self.trusted, [one for one in self.hand_overs if _name(one) in kept])
            self._file.replace(said.model_dump_json(indent=2) + "\n")
            self._kept = kept

    def _find(self, unknown: _Ids) -> None:
        """Ask for the hand-over to an unknown key. When that led nowhere a moment ago, it does so again."""
        wait = self._wait()
        if wait > 0 and unknown <= self._strangers:
            return
        if wait > 0:
            raise LedgerUnavailable(
                f"a checkpoint of {self.trusted.name} is signed by a key that is not known, and its hand-overs were"
                " asked for a moment ago",
                remedy="wait a few seconds",
                retry_after=wait,
            )
        self._fetch(unknown)

    def _wait(self) -> float:
        return self._asked + self._ask_seconds - time.monotonic()

    def _fetch(self, unknown: _Ids) -> None:
        self._strangers = frozenset()
        self._asked = time.monotonic()
        shown = self._ask()
        self._strangers = unknown
        try:
            self._add([open_hand_over(one) for one in shown])
        except ValidationError as error:
            raise IntegrityError(
                f"what the ledger shows as a change of its keys is none: {error.message}", remedy=error.remedy
            ) from error

    def _read(self) -> None:
        """Take what this process, or another, has kept."""
        content = self._file.read()
        if content is None:
            return
        try:
            found = parse_hand_overs(content)
        except (ValidationError, IntegrityError) as error:
            raise IntegrityError(
                f"the file {self._file.path} is damaged: {error.message}",
                remedy="remove it; hand-overs are asked for again",
            ) from error
        self._add(found)
        self._kept |= {_name(one) for one in found}

    def _add(self, found: Iterable[HandOver]) -> None:
        known = {**{_name(one): one for one in found}, **self._known}
        ring = keyring(self.trusted, known.values())
        if len(ring.terms) != len(known) + 1:
            raise IntegrityError(
                f"the hand-overs that are shown do not lead from or to the key {self.trusted}",
                remedy="they are another ledger's, or that key is: ask who runs it",
            )
        self._known, self._ring = known, ring

    def _unknown(self, note: str | bytes) -> _Ids:
        """Who signed a note in the log's name, if nobody of them is known. A note that is none has no signatures."""
        try:
            lines = parse_note(note).signatures
        except ValidationError:
            return frozenset()
        signed = frozenset((line.name, line.key_id) for line in lines if line.name == self.trusted.name)
        known = {(term.key.name, term.key.key_id) for term in self._ring.terms}
        return frozenset() if signed & known else signed


def _name(one: HandOver) -> tuple[VerifierKey, VerifierKey, str]:
    """What tells hand-overs apart: the keys, and the checkpoint that both signed."""
    return one.old, one.new, parse_note(one.proof.checkpoint).text
