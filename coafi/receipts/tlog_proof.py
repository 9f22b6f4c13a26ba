"""An entry's inclusion in a log as text, which other tools of the field read: https://c2sp.org/tlog-proof@v1.

::

    c2sp.org/tlog-proof@v1
    index 1213
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=

    example.com/log
    …the rest of the checkpoint

Hashes go from the leaf's sibling up to the root's child. What ``extra`` holds is not authenticated.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from coafi.errors import ValidationError
from coafi.ledger.checkpoint import MAX_NOTE, MAX_SIZE
from coafi.ledger.keys import decode_base64
from coafi.ledger.merkle import HASH_SIZE
from coafi.ledger.proof import MAX_HASHES

HEADER = "c2sp.org/tlog-proof@v1"
MAX_EXTRA = 65_536
"""Characters of the line with extra data at most; the format has no limit of its own."""

_MAX_TEXT = MAX_NOTE + MAX_EXTRA + 100 * MAX_HASHES


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof taken apart.

    Attributes:
        index: of the entry, from 0.
        hashes: the inclusion proof, lowest first, 32 bytes each.
        checkpoint: the signed note, verbatim; not verified.
        extra: opaque data of an application; ``None`` when there is no such line.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None


def format_tlog_proof(index: int, hashes: Sequence[bytes], checkpoint: str, *, extra: bytes | None = None) -> str:
    """The text of a proof."""
    lines = [HEADER]
    if extra is not None:
        lines.append(f"extra {_base64(extra)}")
    lines.append(f"index {index}")
    lines += map(_base64, hashes)
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_tlog_proof(text: str) -> TlogProof:
    """The inverse of :func:`format_tlog_proof`. Only the one spelling of each proof is taken.

    Raises:
        ValidationError: the text is not a proof.
    """
    if len(text) > _MAX_TEXT:
        raise _malformed(f"it is longer than {_MAX_TEXT:,} characters")
    head, found, checkpoint = text.partition("\n\n")
    if not found or not checkpoint:
        raise _malformed("no checkpoint follows after an empty line")
    first, *lines = head.split("\n")
    if first != HEADER:
        raise _malformed(f"its first line is not {HEADER}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _decode(lines.pop(0).removeprefix("extra "), "extra data")
    index = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", index, flags=re.ASCII) is None or int(index) > MAX_SIZE:
        raise _malformed("the line “index <number>” is missing or wrong")
    if len(lines) > MAX_HASHES:
        raise _malformed(f"it has more than {MAX_HASHES} hashes")
    hashes = tuple(_decode(line, "hash") for line in lines)
    if any(len(hash_) != HASH_SIZE for hash_ in hashes):
        raise _malformed("one of its hashes is not a SHA-256 hash")
    return TlogProof(int(index), hashes, checkpoint, extra)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str, what: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise _malformed(f"its {what} is {error}") from None


def _malformed(problem: str) -> ValidationError:
    return ValidationError(f"this is not a tlog-proof: {problem}", remedy="get it again from its source")
