"""Checks a receipt, from nothing but its file and public keys: no database, no network, no settings, no home.

In this order, so that nothing is believed before it is proved: the checkpoint's signature, each entry's inclusion in
its tree, what the entries tell together, the statement's signature, and that the statement says just what the entries
tell. A receipt that passes has one spelling, so no byte of it can be changed.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from pydantic import JsonValue

from coafi.artifacts.compose import Provenance, restore
from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.documents.source import visible
from coafi.errors import CoafiError, IntegrityError, ValidationError
from coafi.ledger import merkle
from coafi.ledger.checkpoint import SignedCheckpoint, open_checkpoint, parse_note
from coafi.ledger.keys import Keyring, Trusted, VerifierKey
from coafi.receipts.dsse import open_envelope, parse_envelope
from coafi.receipts.layout import ReceiptReader, render_envelope
from coafi.receipts.statement import statement_of
from coafi.receipts.story import ArtifactData, ChangeData, Story
from coafi.receipts.tlog_proof import parse_tlog_proof

_STEP = 1_000
_DATA = 2**20
"""Bytes of a file that may be the data of an entry: what is accepted has a quarter of it as canonical JSON."""
_ROOM = 4_096
"""Bytes of an envelope beyond its payload at most: two names of keys and a signature fit."""


class Subject(NamedTuple):
    """An artifact, or the data of a registry's entry, that a receipt names; and the index of the entry that does."""

    entry: int
    data: ArtifactData | ChangeData


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt that was found sound.

    Attributes:
        story: what its entries tell.
        checkpoint: the signed state of the log that covers them.
        key: the key that signed the checkpoint.
        statement_key: the key that signed the statement; another one if the log's key was changed in between.
        statement: the in-toto statement, as it was signed.
        artifacts: what it names, by SHA-256; the same bytes may derive from many files.
    """

    story: Story
    checkpoint: SignedCheckpoint
    key: VerifierKey
    statement_key: VerifierKey
    statement: bytes
    artifacts: dict[str, list[Subject]]


@dataclass(frozen=True, slots=True)
class VerifiedArtifact:
    """A file that a receipt proves to be an artifact of its event, or what an entry of a registry was set to.

    Attributes:
        digest: SHA-256 of the artifact as it was generated; of an entry's data, that of its canonical JSON.
        subjects: what the receipt says of it; of a page as the service shows it, the one that it names.
        provenance: what a page as the service shows it says of itself; ``None`` for a file as it was generated.
        unproved: what of that follows from entries of other events, if from any: not from this receipt.
    """

    digest: str
    subjects: tuple[Subject, ...]
    provenance: Provenance | None = None
    unproved: tuple[str, ...] = ()


def verify_receipt(
    file: BinaryIO, keys: Sequence[Trusted], *, on_progress: Callable[[int], None] | None = None
) -> VerifiedReceipt:
    """Check a receipt. Takes O(n log n) time for n entries, and keeps what they tell, not the entries.

    Args:
        file: the receipt, from its first byte.
        keys: the log's keys, got on another way than the receipt; of a ring, each counts while it was in use.
        on_progress: is told every thousand entries how many were checked.

    Raises:
        ValidationError: this is no receipt, or it is of another log, or signed by another key.
        IntegrityError: an entry is not in the log, one is missing or another event's, or the statement says what the
            entries do not. The message names the place.
    """
    if not keys:
        raise ValidationError("no key is given", remedy="get the log's vkey from whoever answers for the log")
    reader = ReceiptReader(file)
    rings = [Keyring.of(one) for one in keys]
    story = Story()
    signed: SignedCheckpoint | None = None
    key = rings[0].terms[0].key
    for number, item in enumerate(reader.items(), 1):
        place = f"entry number {number} of the receipt"
        try:
            proof = parse_tlog_proof(item.proof)
            if signed is None:
                signed, key = _open(proof.checkpoint, rings)
        except ValidationError as error:
            raise ValidationError(f"{place}: {error.message}", remedy=error.remedy) from error
        if proof.extra is not None:
            raise ValidationError(f"{place}: its proof holds extra data, which nothing proves", remedy=_AGAIN)
        if proof.checkpoint != signed.note:
            raise IntegrityError(f"{place}: its proof has another checkpoint than the first one", remedy=_AGAIN)
        checkpoint = signed.checkpoint
        try:
            leaf = merkle.leaf_hash(item.body)
            merkle.verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
        except IntegrityError as error:
            raise IntegrityError(f"{place}: {error.message}", remedy=error.remedy) from error
        story.add(proof.index, item.body)
        if on_progress is not None and number % _STEP == 0:
            on_progress(number)
    if signed is None:  # pragma: no cover  # a reader gives one item or raises
        raise ValidationError("the receipt has no entries", remedy=_AGAIN)
    story.end()
    statement = statement_of(story, signed)
    statement_key = _check_statement(reader, statement, rings, signed.size)
    artifacts: dict[str, list[Subject]] = {}
    subjects: list[Subject] = [Subject(*one) for one in story.artifacts]
    subjects += [Subject(*one) for one in story.changes]
    for subject in subjects:
        artifacts.setdefault(subject.data.digest, []).append(subject)
    return VerifiedReceipt(story, signed, key, statement_key, statement, artifacts)


def verify_artifact(receipt: VerifiedReceipt, content: bytes) -> VerifiedArtifact:
    """Check that a file is an artifact of the receipt's event: as it was generated, or a page as the service shows it.

    Where the event changed an entry of a registry, its data, as JSON in any spelling, is one as well.

    Raises:
        IntegrityError: it is not; the message says what it is like.
    """
    digest = sha256(content)
    if receipt.story.changes:
        digest = _canonical_digest(content) or digest  # data says the same in every spelling
    if digest in receipt.artifacts:
        return VerifiedArtifact(digest, tuple(receipt.artifacts[digest]))
    try:
        restored = restore(content)
    except ValidationError as error:
        raise IntegrityError(
            f"its SHA-256 is {digest}, which is no artifact of this event; and {error.message}",
            remedy="it was changed, or it is an artifact of another event",
        ) from error
    said = restored.provenance
    found = sha256(restored.page)
    if found != said.artifact:
        raise IntegrityError(
            f"it is a page whose SHA-256 was {said.artifact} when it was generated, and now is {found}",
            remedy="it was changed: get it again",
        )
    if said.event != receipt.story.event_id or said.utids != receipt.story.received.utids:
        raise IntegrityError(
            f"it is a page that comes from event {visible(said.event)} ({visible(said.utids)}), and the receipt is of"
            f" another, {visible(receipt.story.event_id)}",
            remedy="ask for the receipt of the event that the page names",
        )
    wanted = (said.artifact_entry, said.path, said.blob, said.generator)
    for subject in receipt.artifacts.get(found, ()):
        data = subject.data
        if isinstance(data, ArtifactData) and (subject.entry, data.path, data.blob, data.generator) == wanted:
            return VerifiedArtifact(found, (subject,), said, _unproved(receipt.story, said))
    raise IntegrityError(
        f"it says that entry {said.artifact_entry} names it for {visible(said.path)}, and no such entry is in the"
        " receipt",
        remedy="its panel was changed, or the receipt was made before the page: get both again",
    )


def _canonical_digest(content: bytes) -> str | None:
    """SHA-256 of the canonical JSON of what a file says; ``None`` if that is not JSON, or ambiguous."""
    if len(content) > _DATA:
        return None
    try:
        return sha256(canonical_json(json.loads(content, object_pairs_hook=_once)))
    except (ValueError, RecursionError, CoafiError):
        return None


def _once(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _open(note: str, rings: Sequence[Keyring]) -> tuple[SignedCheckpoint, VerifierKey]:
    """The checkpoint in a note, and which of the keys signed it."""
    signers = {(line.name, line.key_id) for line in parse_note(note).signatures}
    for ring in rings:
        signed = [term for term in ring.terms if (term.key.name, term.key.key_id) in signers]
        if signed:
            found = open_checkpoint(note, ring)
            return found, next(term.key for term in signed if term.covers(found.size))
    return open_checkpoint(note, rings[0]), rings[0].terms[0].key


def _check_statement(reader: ReceiptReader, expected: bytes, rings: Sequence[Keyring], size: int) -> VerifierKey:
    """Check that the envelope holds just this statement, about a log of ``size`` entries, signed; by which key.

    It must not have been replaced before the log had that size. It may have come into use since.
    """
    room = 2 * len(base64.b64encode(expected)) + _ROOM  # twice, so that the difference can be named
    data = reader.envelope(room)
    envelope = parse_envelope(data)
    if render_envelope(envelope) != data:
        raise ValidationError("the envelope of the receipt is not spelled as receipts are", remedy=_AGAIN)
    terms = [term for ring in rings for term in ring.terms]
    payload, key = open_envelope(envelope, [term.key for term in terms])
    if all(term.until is not None and term.until < size for term in terms if term.key == key):
        raise ValidationError(
            f"the statement about {size} entries is signed by {key}, which was replaced before there were so many",
            remedy="somebody still uses, or has got hold of, a key that was replaced: do not believe it",
        )
    if payload != expected:
        raise IntegrityError(
            f"the statement is not what the entries tell: {_difference(payload, expected)}",
            remedy="whoever signed it says more than the log, or other things: ask them why",
        )
    return key


def _difference(said: bytes, expected: bytes) -> str:
    try:
        return _first_difference(json.loads(said), json.loads(expected), "") or "it is spelled otherwise"
    except (ValueError, RecursionError):
        return "it is not JSON that can be read"


def _first_difference(said: JsonValue, told: JsonValue, pointer: str) -> str:
    """Where two JSON values first differ, for a person; empty when they do not."""
    if isinstance(said, dict) and isinstance(told, dict):
        for name in dict.fromkeys([*told, *said]):
            place = f"{pointer}/{visible(name.replace('~', '~0').replace('/', '~1'))}"
            if name not in told or name not in said:
                return f"{place} is {'missing' if name in told else 'more than they tell'}"
            if found := _first_difference(said[name], told[name], place):
                return found
    elif isinstance(said, list) and isinstance(told, list):
        for at, (one, other) in enumerate(zip(said, told, strict=False)):
            if found := _first_difference(one, other, f"{pointer}/{at}"):
                return found
        if len(said) != len(told):
            return f"{pointer} has {len(said)} items, and they tell {len(told)}"
    elif said != told or type(said) is not type(told):
        return f"{pointer} says {visible(json.dumps(said))}, and they tell {visible(json.dumps(told))}"
    return ""


def _unproved(story: Story, said: Provenance) -> tuple[str, ...]:
    """What a page says of itself that does not follow from this receipt."""
    received, conclusion = story.received.data, story.conclusion
    files = {(index, file.path, file.blob) for index, file in story.files}
    end = None if conclusion is None else conclusion.index
    proved = {
        "repository": said.repository.removesuffix(".git") == received.asked("repositoryUrl").removesuffix(".git"),
        "branch": said.branch in (None, received.asked("branch")),
        "commit": said.commit == story.commit,
        "entry of the file": (said.file_entry, said.path, said.blob) in files,
        "entry of the conclusion": said.receipt in (None, end),
    }
    return tuple(name for name, follows in proved.items() if not follows)


_AGAIN = "get the receipt again, byte for byte"
