"""Witnesses the ledgers of others: cosigns a checkpoint once it is shown to continue the one that was cosigned last.

After https://c2sp.org/tlog-witness. Of each log one checkpoint is kept, the last that was cosigned. A new one takes its
place by compare-and-swap, committed before anybody is answered: whatever happens at the same time, and whenever the
process dies, no two checkpoints are cosigned of which one does not continue the other. It is kept outside the database,
too: if that is put back to an old copy, nothing is cosigned by what it remembers.

A checkpoint that contradicts the one that is kept, under the log's own signature, is a *split view*: the log shows
different histories to different people. What proves it is kept (:mod:`coafi.ledger.fork`), recorded once, and told. One
that is merely smaller is not: it is late. What the log cannot prove when it is asked is a doubt: kept, shown, and
cleared when it can.
"""

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from coafi import metrics
from coafi.canonical import JsonObject, sha256
from coafi.database import WRITE_LOCK_TIMEOUT, Database
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IntegrityError,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.federation.messages import CheckpointPublished
from coafi.federation.witnessed import (
    Grade,
    SplitView,
    Witnessed,
    WitnessRecord,
    advance,
    clear_doubt,
    forget,
    keep_split_view,
)
from coafi.ledger import merkle
from coafi.ledger.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    verify_note,
)
from coafi.ledger.cosignature import cosign, with_cosignatures
from coafi.ledger.entry import Draft, timestamp
from coafi.ledger.following import FollowedKeys
from coafi.ledger.fork import Compared, Fork, LogProofs, compare, fork_of, verify_fork
from coafi.ledger.keys import Cosigner, Keyring, Trusted, VerifierKey, decode_base64
from coafi.ledger.merkle import EMPTY_ROOT, HASH_SIZE
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.ledger.proof import Proof
from coafi.ledger.published import PublishedCheckpoint
from coafi.names import WITNESS, EntryType

MAX_PROOF = 63
"""Hashes of a request to cosign at most."""

MAX_REQUEST = MAX_NOTE + 64 * 64
"""Bytes of a request to cosign at most."""

_LOG = structlog.stdlib.get_logger()


class MalformedRequest(ValidationError):
    """The request is none, or its old size is larger than its checkpoint."""


class UnknownLog(ResourceNotFoundError):
    """The checkpoint is of a log that is not witnessed here."""


class NotSigned(AuthorizationError):
    """No key that the log has now signed the checkpoint, or its signature is wrong."""


class NotConsistent(ValidationError):
    """It is not shown that the checkpoint continues the one that was cosigned last."""


class OtherSize(CoafiError):
    """The last checkpoint that was cosigned has another size than the request begins at.

    Attributes:
        size: of that one; 0 if there is none.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"the last checkpoint that was cosigned has {size} entries", remedy="begin the proof there")
        self.size = size


@dataclass(frozen=True, slots=True)
class WitnessedLog:
    """A log whose checkpoints are cosigned here.

    Attributes:
        peer: whose it is.
        key: a key that it has or had.
        url: base URL of the gateway that serves it.
    """

    peer: str
    key: VerifierKey
    url: str


class Logs(Protocol):
    """Which logs are witnessed. Asked each time, so that what changes counts at once."""

    def of(self, origin: str) -> WitnessedLog | None:
        """The log of this name; ``None`` if it is not witnessed here."""
        ...


class ShownLog(LogProofs, Protocol):
    """What a log shows about itself."""

    def hand_overs(self) -> Sequence[Proof]:
        """The changes of its keys."""
        ...


class AddCheckpoint(NamedTuple):
    """A request to cosign a checkpoint.

    Attributes:
        old: the size that the proof begins at.
        proof: the consistency proof, lowest first.
        note: the signed checkpoint.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str


class Sight(StrEnum):
    """What a checkpoint is, held against the one that was cosigned last.

    ``NEWER``: it continues it, and was cosigned. ``KNOWN``: it is the same. ``BEHIND``: an earlier one of the same
    history. ``SPLIT``: of another history, which is proved. ``UNPROVED``: signed by the log, which did not show how the
    two belong together.
    """

    NEWER = "newer"
    KNOWN = "known"
    BEHIND = "behind"
    SPLIT = "split"
    UNPROVED = "unproved"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of seeing a checkpoint.

    Attributes:
        size: entries of the checkpoint that was seen.
        kept: entries of the one that is kept now.
        view: what does not fit together, where something does not.
    """

    sight: Sight
    size: int
    kept: int
    view: SplitView | None = None


def parse_request(body: bytes) -> AddCheckpoint:
    """The request in the body of ``add-checkpoint``; nothing of it is verified.

    Raises:
        MalformedRequest: it is none.
    """
    if len(body) > MAX_REQUEST:
        raise MalformedRequest(f"it is longer than {MAX_REQUEST:,} bytes", remedy=_FORMAT)
    try:
        head, found, note = body.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError:
        raise MalformedRequest("it is not UTF-8", remedy=_FORMAT) from None
    first, *lines = head.split("\n")
    old = re.fullmatch(r"old (0|[1-9][0-9]{0,18})", first, flags=re.ASCII)
    if not found or old is None or int(old[1]) >= 2**63:
        raise MalformedRequest("it does not begin with “old <size>”, proof and an empty line", remedy=_FORMAT)
    if len(lines) > MAX_PROOF:
        raise MalformedRequest(f"its proof has more than {MAX_PROOF} hashes", remedy=_FORMAT)
    try:
        proof = tuple(decode_base64(line) for line in lines)
    except ValueError as error:
        raise MalformedRequest(f"a hash of its proof is {error}", remedy=_FORMAT) from None
    if any(len(hash_) != HASH_SIZE for hash_ in proof):
        raise MalformedRequest("a hash of its proof is no SHA-256 hash", remedy=_FORMAT)
    return AddCheckpoint(int(old[1]), proof, note)


def format_request(request: AddCheckpoint) -> bytes:
    """The inverse of :func:`parse_request`."""
    lines = [f"old {request.old}", *(base64.b64encode(one).decode("ascii") for one in request.proof)]
    return ("\n".join(lines) + "\n\n" + request.note).encode()


class Witness:
    """Cosigns the checkpoints of others. Many threads and processes may share its key and its database.

    Args:
        database: where the last checkpoints are kept.
        ledger: where split views are recorded.
        namespace: part of every entry's key.
        cosigner: the witness's key; never the ledger's own.
        logs: which logs are witnessed.
        shown: what a log shows about itself.
        directory: where hand-overs of keys, and what was cosigned last, are kept outside the database. Never restore it
            from a backup together with that.
        clock: gives the time of cosignatures.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        *,
        namespace: str,
        cosigner: Cosigner,
        logs: Logs,
        shown: Callable[[WitnessedLog], ShownLog],
        directory: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.record = WitnessRecord(database)
        self._database = database
        self._ledger = ledger
        self._namespace = namespace
        self._cosigner = cosigner
        self._logs = logs
        self._shown = shown
        self._directory = directory
        self._clock = clock
        self._keys: dict[WitnessedLog, FollowedKeys] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------ add-checkpoint

    def add_checkpoint(self, body: bytes) -> str:
        """Cosign a checkpoint, as ``add-checkpoint`` of tlog-witness asks; the signature lines to answer with.

        Raises:
            MalformedRequest: answered with 400.
            NotSigned: 403.
            UnknownLog: 404.
            OtherSize: 409.
            NotConsistent: 422.
            Unavailable: 503; the database is, or the log whose key is new.
            IntegrityError: 500; the database is an old copy.
        """
        old, proof, note = parse_request(body)
        log, signed = self._open(note)
        if old > signed.size:
            raise MalformedRequest(f"it begins at {old} entries, and its checkpoint has {signed.size}", remedy=_FORMAT)
        while True:
            kept = self._last(log, signed)
            self._check(log, kept, signed, old, proof)
            if (line := self._take(log, kept, signed)) is not None:
                return line

    def _check(
        self, log: WitnessedLog, kept: Witnessed | None, signed: SignedCheckpoint, old: int, proof: Sequence[bytes]
    ) -> None:
        """Check that a checkpoint continues the one that is kept, by a proof that begins at ``old``."""
        last = kept.checkpoint if kept else Checkpoint(log.key.name, 0, EMPTY_ROOT)
        fork = fork_of(kept.signed, signed, proof) if kept else None
        if kept is not None and fork is not None and self._proves(log, fork):
            self._split(log, kept, signed, fork)
            if old == last.size:
                raise NotConsistent(
                    f"it contradicts the checkpoint of {last.size} entries that was cosigned: its log has shown two"
                    " histories, which is recorded",
                    remedy="ask who runs that log",
                )
        if old != last.size:
            raise OtherSize(last.size)
        try:
            merkle.verify_consistency(old, signed.size, proof, last.root, signed.checkpoint.root)
        except IntegrityError as error:
            raise NotConsistent(error.message, remedy=error.remedy) from error

    def _take(self, log: WitnessedLog, kept: Witnessed | None, signed: SignedCheckpoint) -> str | None:
        """Cosign a checkpoint that continues the one that is kept; ``None`` if that is no longer the last one."""
        with self._database.write() as connection:
            # The time is taken while nobody else can cosign, so that times and sizes are in one order.
            now = max(int(self._clock().timestamp()), 1)
            line = cosign(parse_note(signed.note).text, self._cosigner, now)
            note = with_cosignatures(signed.note, [line])
            taken = advance(connection, kept, Witnessed(SignedCheckpoint(signed.checkpoint, note), now))
        if not taken:
            return None
        outside = self._outside(log.key.name)
        with outside.locked(WRITE_LOCK_TIMEOUT):
            before = outside.read()
            if before is None or parse_checkpoint(parse_note(before).text).size < signed.size:
                outside.replace(note)
        return line

    # --------------------------------------------------------------------- keys

    def _open(self, note: str | bytes) -> tuple[WitnessedLog, SignedCheckpoint]:
        """The checkpoint in a note, with its log, once a key that the log has now is found to have signed it."""
        try:
            origin = parse_checkpoint(parse_note(note).text).origin
        except ValidationError as error:
            raise MalformedRequest(error.message, remedy=error.remedy) from error
        log = self._logs.of(origin)
        if log is None or log.key.name != origin:
            raise UnknownLog("this log is not witnessed here", remedy="whoever runs this witness has to add it")
        return log, self._signed(log, note)

    def _signed(self, log: WitnessedLog, note: str | bytes) -> SignedCheckpoint:
        """The checkpoint in a note, once a key that the log has now signed it, and continues what was handed over."""
        keys = self._followed(log)
        try:
            ring = keys.ring_for(note)
            signed = open_checkpoint(note, ring)
        except (ValidationError, IntegrityError) as error:
            raise NotSigned(error.message, remedy=error.remedy) from error
        signed = SignedCheckpoint(signed.checkpoint, _own_signatures(signed.note, ring))
        if unchecked := keys.unchecked:
            for one in unchecked:
                self._check_hand_over(log, open_checkpoint(one.proof.checkpoint, ring), signed)
            keys.keep(unchecked)
        return signed

    def _check_hand_over(self, log: WitnessedLog, handed: SignedCheckpoint, signed: SignedCheckpoint) -> None:
        """Check that the checkpoint with which one key handed over to the next is one of this log's history."""
        compared = compare(handed, signed, self._shown(log))
        if compared.fork is not None:
            self._split(log, Witnessed(handed, 0), signed, compared.fork)
        if not compared.consistent:
            raise NotSigned(
                f"the key that signed it followed another one in a tree of {handed.size} entries, of which it is not"
                f" shown that this checkpoint continues it: {compared.problem}",
                remedy="ask who runs that log",
            )

    def _last(self, log: WitnessedLog, signed: SignedCheckpoint) -> Witnessed | None:
        """The last checkpoint of a log that was cosigned, which must be of the keys that it has or had.

        Its key may be an earlier one than that which is trusted: the log is asked for the hand-over, which is held
        against the checkpoint that it shows now.
        """
        outside = self._outside(log.key.name)
        content = outside.read()  # first: what is outside was in the database before
        kept = self.record.last(log.key.name)
        self._check_copy(outside, content, kept)
        if kept is not None:
            self._follow(log, kept, signed)
        for before in self._outside_by_key(self._followed(log).ring):
            self._check_copy(before, before.read(), kept)
        return kept

    def _follow(self, log: WitnessedLog, kept: Witnessed, signed: SignedCheckpoint) -> None:
        """Check that hand-overs lead from the key of the checkpoint that is kept to the one that is trusted.

        Whether that key may still have signed so many entries is not asked. It was cosigned when it did; if the log
        shows now that it was replaced before, the next checkpoint has to continue the kept one all the same.
        """
        keys = self._followed(log)
        if keys.is_strange(kept.signed.note):
            try:
                keys.ring_for(kept.signed.note)
            except IntegrityError as error:
                raise NotSigned(error.message, remedy=error.remedy) from error
            except ResourceNotFoundError:
                _LOG.warning("peer_hand_overs_missing", peer=log.peer, origin=log.key.name)
        if keys.unchecked:
            self._signed(log, signed.note)
        if not _is_signed(kept.signed.note, keys.ring):
            raise NotSigned(
                f"the checkpoint of {log.key.name} that was cosigned last is not of the key {log.key}, and no"
                " hand-over leads there",
                remedy="if the log was begun again under this key, run: coafi witness forget " + log.key.name,
            )

    def _check_copy(self, outside: PublishedCheckpoint, content: bytes | None, kept: Witnessed | None) -> None:
        """Check that the database knows of what was cosigned by what is kept outside of it."""
        if content is None:
            return
        checkpoint = parse_checkpoint(parse_note(content).text)
        if kept is None or kept.checkpoint.size < checkpoint.size:
            raise IntegrityError(
                f"a checkpoint of {checkpoint.origin} with {checkpoint.size} entries was cosigned here, and the"
                f" database knows of {kept.checkpoint.size if kept else 'none'}: it is an old copy, or has lost it",
                remedy=f"restore a copy that has it; {outside.path} is what was cosigned last",
            )

    def _outside(self, origin: str) -> PublishedCheckpoint:
        """What was cosigned last, outside the database. It hangs on the name: a new key must not hide it."""
        return PublishedCheckpoint(self._directory_of(origin))

    def _outside_by_key(self, ring: Keyring) -> list[PublishedCheckpoint]:
        """Where it was kept before, by key. Nothing is written there any more."""
        return [PublishedCheckpoint(self._directory_of(str(term.key))) for term in ring.terms]

    def _directory_of(self, name: str) -> Path:
        return self._directory / hashlib.sha256(name.encode()).hexdigest()[:32]

    def forget(self, origin: str, *, without_asking: bool = False) -> None:
        """Forget what was cosigned of a log that was begun again, under another key; its split views stay.

        Args:
            origin: the log.
            without_asking: do so even if the log does not say whether it handed its key over. Some never will: a policy
                file may name a log without an address, and other software shows no hand-overs.

        Raises:
            UnknownLog: it is not witnessed here, or nothing of it was cosigned.
            ValidationError: its key is still the same one, or follows that one: then nothing may be forgotten.
            IntegrityError: what the log shows as hand-overs are none, or not its own.
            ResourceNotFoundError: it shows none.
            Unavailable: it, or the database, is out of reach.
        """
        log = self._logs.of(origin)
        outside = self._outside(origin)
        content, kept = outside.read(), self.record.last(origin)
        if log is None or (kept is None and content is None):
            raise UnknownLog(f"no checkpoint of {origin} was cosigned", remedy="see: coafi witness list")
        notes = [note for note in (kept.signed.note if kept else None, content) if note is not None]
        # Its own memory: what the log said to another request a moment ago is asked again.
        keys = FollowedKeys(log.key, self._directory_of(str(log.key)), self._shown(log).hand_overs)
        if not self._is_of(keys.ring, notes):
            _ask(keys, anyway=without_asking)
        if self._is_of(keys.ring, notes):
            raise ValidationError(
                f"the checkpoint of {origin} that was cosigned last is of the key that this log has, or of one that"
                " handed over to it",
                remedy="whoever forgets it could cosign another history of the same log: that is never done",
            )
        with outside.locked(WRITE_LOCK_TIMEOUT):
            if outside.read() == content:
                outside.remove()
        if kept is not None:
            with self._database.write() as connection:
                forget(connection, kept)

    def _is_of(self, ring: Keyring, notes: Sequence[str | bytes]) -> bool:
        """Whether one of the keys signed what is kept, or what was kept outside the database by its key."""
        before = (one.read() for one in self._outside_by_key(ring))
        return any(_is_signed(note, ring) for note in (*notes, *before) if note is not None)

    def _followed(self, log: WitnessedLog) -> FollowedKeys:
        with self._lock:
            if log not in self._keys:
                self._keys[log] = FollowedKeys(log.key, self._directory_of(str(log.key)), self._shown(log).hand_overs)
            return self._keys[log]

    def ring(self, log: WitnessedLog) -> Keyring:
        """The keys of a log, as far as hand-overs were seen."""
        return self._followed(log).ring

    # ---------------------------------------------------------------------- see

    def see(self, origin: str, note: str, proofs: LogProofs | None = None) -> Seen:
        """Hold a checkpoint that somebody shows against what was cosigned; cosign it if it continues that.

        Args:
            origin: the log that it must be of.
            note: the signed checkpoint.
            proofs: where to ask how the two belong together; by default the log itself.

        Raises:
            MalformedRequest: it is no checkpoint of this log.
            UnknownLog: the log is not witnessed here.
            NotSigned: the log did not sign it.
            Unavailable: the log, or the database, is out of reach: try again.
        """
        log, signed = self._open(note)
        if signed.checkpoint.origin != origin:
            raise MalformedRequest(
                f"it is of {signed.checkpoint.origin!r}, not of {origin!r}", remedy="a log shows its own checkpoints"
            )
        while True:
            kept = self._last(log, signed)
            compared = Compared(True) if kept is None else compare(kept.signed, signed, proofs or self._shown(log))
            size = kept.checkpoint.size if kept else -1
            if not compared.consistent:
                assert kept is not None  # noqa: S101  # it was compared with something
                return self._unfit(log, kept, signed, compared)
            if signed.size > size:
                if self._take(log, kept, signed) is None:
                    continue
                return self._fit(log, Sight.NEWER, signed, signed.size)
            return self._fit(log, Sight.KNOWN if signed.size == size else Sight.BEHIND, signed, size)

    def published(self, peer: str, said: CheckpointPublished) -> Seen:
        """What comes of a peer's message that its own ledger has a new checkpoint.

        Raises:
            MalformedRequest: what the message says is not what the checkpoint in it says.
            UnknownLog: no ledger of this name is known to be this peer's.
            NotSigned, Unavailable: as :meth:`see`.
        """
        log = self._logs.of(said.origin)
        if log is None or log.peer != peer:
            raise UnknownLog(
                f"{said.origin} is not known here as the ledger of {peer}", remedy="give the peer its ledger's key"
            )
        seen = self.see(said.origin, said.note)
        checkpoint = parse_checkpoint(parse_note(said.note).text)
        if (checkpoint.size, checkpoint.root.hex()) != (said.size, said.root):
            raise MalformedRequest(
                f"it says {said.size} entries and root {said.root}, and the checkpoint in it {checkpoint.size} and"
                f" {checkpoint.root.hex()}",
                remedy="send the checkpoint as it is",
            )
        return seen

    def _fit(self, log: WitnessedLog, sight: Sight, signed: SignedCheckpoint, kept: int) -> Seen:
        if any(one.shown == signed.note for one in self.record.split_views(log.key.name)):
            with self._database.write() as connection:
                cleared = clear_doubt(connection, log.key.name, signed.note)
            _LOG.info("peer_doubt_cleared", peer=log.peer, origin=log.key.name, cleared=cleared)
        return Seen(sight, signed.size, kept)

    def _unfit(self, log: WitnessedLog, kept: Witnessed, signed: SignedCheckpoint, compared: Compared) -> Seen:
        size = kept.checkpoint.size
        if compared.fork is not None and self._proves(log, compared.fork):
            return Seen(Sight.SPLIT, signed.size, size, self._split(log, kept, signed, compared.fork))
        key = self._signer(log, kept.signed.note, signed.note) or log.key
        view = SplitView(
            origin=log.key.name,
            grade=Grade.UNPROVED,
            peer=log.peer,
            kept=kept.signed.note,
            shown=signed.note,
            fork=None,
            problem=f"it has signed trees of {size} and of {signed.size} entries, and when it was asked how they belong"
            f" together: {compared.problem or 'they do not'}",
            found=timestamp(self._clock()),
            key=str(key),
        )
        if self._known(log, Grade.UNPROVED, key) is not None:
            return Seen(Sight.UNPROVED, signed.size, size, view)
        with self._database.write() as connection:
            fresh = keep_split_view(connection, view)
        if fresh:
            metrics.SPLIT_VIEWS.labels(Grade.UNPROVED).inc()
            _LOG.warning("peer_history_unproved", peer=log.peer, origin=log.key.name, problem=view.problem)
        return Seen(Sight.UNPROVED, signed.size, size, view)

    # -------------------------------------------------------------------- split

    def _split(self, log: WitnessedLog, kept: Witnessed, signed: SignedCheckpoint, fork: Fork) -> SplitView:
        """Keep and record the proof that a log has shown two histories; once for each of its keys."""
        origin = log.key.name
        key = self._signer(log, fork.smaller, fork.larger) or log.key
        if (known := self._known(log, Grade.PROVED, key)) is not None:
            return known
        ours, theirs = kept.checkpoint, signed.checkpoint
        view = SplitView(
            origin=origin,
            grade=Grade.PROVED,
            peer=log.peer,
            kept=kept.signed.note,
            shown=signed.note,
            fork=fork,
            problem=f"its key has signed a tree of {ours.size} entries with root {ours.root.hex()}, and one of"
            f" {theirs.size} entries with root {theirs.root.hex()}, of which neither continues the other",
            found=timestamp(self._clock()),
            key=str(key),
        )
        data: JsonObject = {
            "peer": log.peer,
            "origin": origin,
            "key": str(key),
            "kept": {"size": ours.size, "root": ours.root.hex()},
            "shown": {"size": theirs.size, "root": theirs.root.hex()},
            "evidenceDigest": sha256(fork.model_dump_json().encode()),
            "found": view.found,
        }
        draft = Draft(
            namespace=self._namespace,
            workflow_id=WITNESS,
            step=f"split/{key}",
            type=EntryType.PEER_SPLIT_VIEW,
            event_id=WITNESS,
            utids="",
            inputs={"origin": origin, "key": str(key)},
            data=data,
        )

        def unit(transaction: LedgerTransaction) -> tuple[SplitView, bool]:
            (recorded,) = transaction.append([draft])
            found = replace(view, entry=recorded.index)
            return found, keep_split_view(transaction.connection, found)

        found, fresh = self._ledger.transact(unit)
        if fresh:
            metrics.SPLIT_VIEWS.labels(Grade.PROVED).inc()
            _LOG.error("peer_split_view", peer=log.peer, origin=origin, problem=view.problem, entry=found.entry)
        return found

    def _proves(self, log: WitnessedLog, fork: Fork) -> bool:
        """Whether it convinces others. Not if a key that was replaced signed beyond its hand-over: a thief may have."""
        try:
            verify_fork(fork, self.ring(log))
        except (ValidationError, IntegrityError):
            return False
        return True

    def _known(self, log: WitnessedLog, grade: Grade, key: VerifierKey) -> SplitView | None:
        """What is kept already of two histories of a key. By the notes: what was kept first does not name the key."""
        for one in self.record.split_views(log.key.name):
            if one.grade is grade and self._signer(log, one.kept, one.shown) == key:
                return one
        return None

    def _signer(self, log: WitnessedLog, *notes: str) -> VerifierKey | None:
        """The key that two histories are to be laid to; none if the log has no keys that signed them.

        It is the older one if two keys signed them: both vouched for the tree in which one handed over to the other, so
        the older one has signed that, too, and what does not go with it.
        """
        terms = self._followed(log).ring.terms
        signed = [[n for n, term in enumerate(terms) if _is_signed(note, term.key)] for note in notes]
        return terms[min(numbers[-1] for numbers in signed)].key if all(signed) else None


def _ask(keys: FollowedKeys, *, anyway: bool) -> None:
    """Ask a log for its hand-overs; ``anyway``: it need not answer."""
    try:
        keys.refresh()
    except (IntegrityError, ResourceNotFoundError, Unavailable) as error:
        if not anyway:
            raise type(error)(
                f"{keys.trusted.name} does not say whether its key was handed over: {error.message}",
                remedy="try again; --without-asking is for a log that was begun again and cannot be asked",
            ) from error


def _is_signed(note: str | bytes, keys: Trusted) -> bool:
    """Whether one of the keys signed a note, whenever that was."""
    try:
        verify_note(note, keys)
    except ValidationError:
        return False
    return True


def _own_signatures(note: str, ring: Keyring) -> str:
    """A note without the signatures of strangers: what is kept is what was verified."""
    known = {(term.key.name, term.key.key_id) for term in ring.terms}
    text, _, lines = note.rpartition("\n\n")
    own = [
        line
        for line, signature in zip(lines.split("\n"), parse_note(note).signatures, strict=False)
        if (signature.name, signature.key_id) in known
    ]
    return text + "\n\n" + "".join(f"{line}\n" for line in own)


_FORMAT = "see https://c2sp.org/tlog-witness"
