"""Signed notes (https://c2sp.org/signed-note) and the checkpoints written in them (https://c2sp.org/tlog-checkpoint).

A checkpoint is a note whose text has three lines: origin, size, base64 of the root::

    example.com/log
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/log Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=

A note's text is to be believed only after :func:`verify_note`. The key's name must be the origin.
"""

import base64
import re
from dataclasses import dataclass
from typing import NamedTuple

from coafi.errors import ValidationError
from coafi.ledger.keys import Keyring, Signer, Term, Trusted, check_name, decode_base64
from coafi.ledger.merkle import HASH_SIZE

MAX_NOTE = 65_536
"""Bytes of a note at most. 16 signatures, the fewest to accept, fit many times."""

MAX_SIGNATURES = 100
MAX_SIZE = 2**63 - 1

_DASH = "\N{EM DASH} "
_ID_SIZE = 4


class NoteSignature(NamedTuple):
    """One signature line: who says it signed, with which key, and the signature. Nothing of it is verified yet."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A signed note taken apart; ``text`` ends with a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: the log's name.
        size: its number of entries.
        root: the root hash of its tree, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text to sign."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note that says it."""

    checkpoint: Checkpoint
    note: str

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.checkpoint.size


def parse_note(note: str | bytes) -> Note:
    """Take a signed note apart.

    Raises:
        ValidationError: it is not a signed note, or beyond the limits.
    """
    text = _decode(note)
    body, found, lines = text.rpartition("\n\n")
    if not found or not lines.endswith("\n"):
        raise _malformed("no signatures follow its text after an empty line")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise _malformed(f"it has more than {MAX_SIGNATURES} signatures")
    return Note(body + "\n", tuple(_signature(line) for line in signatures))


def sign_note(text: str, *signers: Signer) -> str:
    """``text``, which ends with a newline, as a note signed by each of the keys."""
    lines = (
        f"{_DASH}{one.name} {base64.b64encode(one.key.key_id + one.sign(text.encode())).decode('ascii')}\n"
        for one in signers
    )
    return f"{text}\n{''.join(lines)}"


def verify_note(note: str | bytes, keys: Trusted) -> str:
    """The text of a note that one of the keys signed. Signatures of strangers are ignored.

    Raises:
        ValidationError: it is not a signed note, none of the keys signed it, or a signature of theirs is wrong.
    """
    return _opened(note, Keyring.of(keys))[0]


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in the text of a note. Extension lines are allowed and ignored.

    Raises:
        ValidationError: the text is not a checkpoint.
    """
    lines = text.split("\n") if len(text) <= MAX_NOTE else []
    if len(lines) < 4 or lines[-1] != "" or "" in lines[:-1]:  # three lines and the end of the last
        raise _malformed("its text is not the three lines of a checkpoint")
    origin, size, root = lines[:3]
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", size, flags=re.ASCII) is None or int(size) > MAX_SIZE:
        raise _malformed("its second line is not the size of a log")
    try:
        digest = decode_base64(root)
    except ValueError as error:
        raise _malformed(f"its third line is {error}") from None
    if len(digest) != HASH_SIZE:
        raise _malformed("its third line is not a SHA-256 hash")
    return Checkpoint(origin, int(size), digest)


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> SignedCheckpoint:
    """The checkpoint, signed by each of the keys."""
    return SignedCheckpoint(checkpoint, sign_note(checkpoint.text(), *signers))


def open_checkpoint(note: str | bytes, keys: Trusted) -> SignedCheckpoint:
    """The checkpoint in a note, once its signature by one of the keys, that key's term and the origin are checked.

    Raises:
        ValidationError: the note is not a checkpoint of this log, signed by a key when it was in use.
    """
    ring = Keyring.of(keys)
    text, signed = _opened(note, ring)
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != ring.name:
        raise ValidationError(
            f"the checkpoint is of {checkpoint.origin!r}, the key that signed it of {ring.name!r}",
            remedy="a log's key carries the log's name",
        )
    if not any(term.covers(checkpoint.size) for term in signed):
        raise ValidationError(
            f"the checkpoint of {checkpoint.size} entries is signed by {signed[0].key}, which signed from"
            f" {signed[0].since} to {signed[0].until} entries",
            remedy="somebody still uses, or has got hold of, a key that was replaced: do not believe it",
        )
    return SignedCheckpoint(checkpoint, _decode(note))


def _opened(note: str | bytes, ring: Keyring) -> tuple[str, list[Term]]:
    """The text of a note, and the terms of the keys that signed it."""
    text, signatures = parse_note(note)
    message = text.encode()
    signed = []
    for line in signatures:
        for term in ring.terms:
            if (line.name, line.key_id) == (term.key.name, term.key.key_id):
                if not term.key.verifies(line.signature, message):
                    raise ValidationError(
                        f"the signature of {term.key.name} under the note is wrong",
                        remedy="note or signature was changed: get it again",
                    )
                signed.append(term)
    if not signed:
        raise ValidationError(
            f"the note is not signed by {ring}",
            remedy=f"{', '.join(sorted({line.name for line in signatures}))} did; check which key you trust",
        )
    return text, signed


def _decode(note: str | bytes) -> str:
    try:
        data = note.encode() if isinstance(note, str) else note
        text = data.decode("utf-8")
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    if len(data) > MAX_NOTE:
        raise _malformed(f"it is longer than {MAX_NOTE:,} bytes")
    if any(character < " " and character != "\n" for character in text):
        raise _malformed("it holds control characters")
    return text


def _signature(line: str) -> NoteSignature:
    parts = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(parts) != 2:
        raise _malformed("a signature line is not “— <name> <base64>”")
    name, encoded = parts
    try:
        check_name(name)
        data = decode_base64(encoded)
    except (ValueError, ValidationError):
        raise _malformed("a signature line has no proper name or base64") from None
    if len(data) <= _ID_SIZE:
        raise _malformed("a signature is too short")
    return NoteSignature(name, data[:_ID_SIZE], data[_ID_SIZE:])


def _malformed(problem: str) -> ValidationError:
    return ValidationError(f"this is not a signed checkpoint: {problem}", remedy="get it again from its source")
