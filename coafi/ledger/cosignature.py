"""Cosignatures: what a witness says of a checkpoint that it found consistent with all it has seen of the log.

After https://c2sp.org/tlog-cosignature, version 1 for Ed25519 (signature type 04). A cosignature is a signature line of
the checkpoint's note, whose 72 bytes are a time and a signature::

    — witness.example.com/w1 base64(key id ‖ seconds since 1970, 8 bytes, big-endian ‖ signature, 64 bytes)

The signature is over ``cosignature/v1``, the time, and the whole text of the checkpoint::

    cosignature/v1
    time 1679315147
    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

It says that at this time the largest tree of this log that the witness knew had this root. The name of the witness is
not in the message: one key must not be used under two names.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from coafi.errors import ValidationError
from coafi.ledger.checkpoint import MAX_NOTE, Note, parse_note
from coafi.ledger.keys import Cosigner, CosignerKey

MAX_TIME = 2**63 - 1
"""Seconds of the time in a cosignature at most."""

_SIZE = 8 + 64
_DASH = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that was verified.

    Attributes:
        key: the witness.
        time: when it signed by its own clock, in seconds since 1970.
        line: the signature line, with its newline.
    """

    key: CosignerKey
    time: int
    line: str

    @property
    def moment(self) -> str:
        """The time in ISO 8601; in seconds, where it is beyond the years that have a name."""
        try:
            return datetime.fromtimestamp(self.time, UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError, OSError):
            return f"{self.time} s"


def cosign(text: str, cosigner: Cosigner, time: int) -> str:
    """The signature line of a witness under the text of a checkpoint.

    Args:
        text: the text of the note, which ends with a newline.
        time: seconds since 1970.

    Raises:
        ValueError: the time is none that a cosignature may have; 0 would say that nothing is said about the time.
    """
    if not 0 < time <= MAX_TIME:
        raise ValueError(f"{time} is no time of a cosignature")
    signature = cosigner.key.key_id + time.to_bytes(8, "big") + cosigner.sign(_message(text, time))
    return f"{_DASH}{cosigner.name} {base64.b64encode(signature).decode('ascii')}\n"


def cosignatures(note: str | bytes | Note, keys: Iterable[CosignerKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of these witnesses under a checkpoint; those of strangers are ignored. Each counts once.

    The checkpoint itself, and who signed it, is checked by :func:`coafi.ledger.checkpoint.open_checkpoint`.

    Raises:
        ValidationError: it is not a signed note, or a cosignature of one of these keys is wrong.
    """
    text, signatures = note if isinstance(note, Note) else parse_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[CosignerKey, Cosignature] = {}
    for line in signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        time = int.from_bytes(line.signature[:8], "big")
        if len(line.signature) != _SIZE or not 0 < time <= MAX_TIME:
            raise _wrong(key, "it is not a time and an Ed25519 signature")
        if not key.verifies(line.signature[8:], _message(text, time)):
            raise _wrong(key, "it is not of this checkpoint, or not by this key")
        encoded = base64.b64encode(line.key_id + line.signature).decode("ascii")
        found.setdefault(key, Cosignature(key, time, f"{_DASH}{line.name} {encoded}\n"))
    return tuple(found.values())


def parse_cosignatures(text: str, answer: str | bytes, keys: Sequence[CosignerKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of these witnesses in what one of them answered.

    Args:
        text: the text of the checkpoint that it was shown.
        answer: the signature lines. Those of strangers are ignored.

    Raises:
        ValidationError: they are no signature lines, or a cosignature of one of these keys is wrong.
    """
    if len(answer) > MAX_NOTE:
        raise ValidationError(f"an answer of {len(answer):,} bytes is none of a witness", remedy=_ASK)
    try:
        lines = answer if isinstance(answer, str) else answer.decode("utf-8")
    except UnicodeDecodeError:
        raise ValidationError("the answer of the witness is not UTF-8", remedy=_ASK) from None
    if not lines.startswith(_DASH) or "\n\n" in lines:  # or it would have another text than the one that was shown
        raise ValidationError("the witness answered with something else than signature lines", remedy=_ASK)
    return cosignatures(f"{text}\n{lines}", keys)


def with_cosignatures(note: str, lines: Iterable[str]) -> str:
    """A checkpoint's note with further signature lines, but for those that it has."""
    return note + "".join(line for line in dict.fromkeys(lines) if line not in note)


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _wrong(key: CosignerKey, problem: str) -> ValidationError:
    return ValidationError(
        f"the cosignature of {key.name} is wrong: {problem}", remedy="note or signature was changed: get it again"
    )


_ASK = "check the witness's URL, and ask who runs it"
