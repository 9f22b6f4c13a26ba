"""An archive of a range of the ledger: one compressed file that proves itself, given the ledger's public key.

Ours, gzip of::

    <header: canonical JSON> LF
    <entries>   as a tlog-tiles bundle has them: a 16-bit big-endian length, then the body, for each
    <bodies>    what senders delivered, in the order of the header's list: a 32-bit length, then the bytes

The header holds the hashes of the perfect subtrees before the range, a consistency proof from the tree that ends with
the range to a later checkpoint, and that checkpoint, which is signed. Whoever adds the entries to the subtrees comes to
a root; the proof leads from it to what was signed, or something was changed. Bodies are named by the entries.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from coafi.canonical import Sha256, canonical_json, sha256
from coafi.errors import IntegrityError, ValidationError
from coafi.ledger import merkle
from coafi.ledger.bundle import encode_bundle
from coafi.ledger.checkpoint import Checkpoint, open_checkpoint
from coafi.ledger.entry import Entry
from coafi.ledger.keys import Trusted
from coafi.tasks.task import TaskModel

MAX_ARCHIVE = 4 * 2**30
"""Bytes that an archive may unpack to."""

_Hash = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_ENTRY = 2
_BODY = 4


class ArchiveHeader(TaskModel):
    """What an archive says about itself.

    Attributes:
        first, stop: the entries ``first <= index < stop``.
        since, until: when the ledger took the first and the last of them.
        subtrees: of the tree of ``first`` entries, largest first.
        proof: consistency proof from the tree of ``stop`` entries to the checkpoint's.
        checkpoint: the signed note.
        entries: SHA-256 of all entries, as they stand in the file.
        bodies: digests of what senders delivered; of those that the object store still had.
    """

    format: Literal["coafi.archive/1"] = "coafi.archive/1"
    origin: str
    first: int = Field(ge=0)
    stop: int = Field(ge=1)
    since: str
    until: str
    subtrees: tuple[_Hash, ...]
    proof: tuple[_Hash, ...]
    checkpoint: str
    entries: Sha256
    bodies: tuple[Sha256, ...]


@dataclass(frozen=True)
class VerifiedArchive:
    """An archive that was found sound."""

    header: ArchiveHeader
    checkpoint: Checkpoint


def pack(header: ArchiveHeader, entries: Sequence[bytes], bodies: Sequence[bytes]) -> bytes:
    """The bytes of an archive: the same for the same content."""
    parts = [canonical_json(header), b"\n", encode_bundle(entries)]
    parts += [part for body in bodies for part in (len(body).to_bytes(_BODY, "big"), body)]
    return gzip.compress(b"".join(parts), mtime=0)


def verify_archive(data: bytes, keys: Trusted) -> VerifiedArchive:
    """Check an archive against the ledger's key, from nothing but its bytes.

    Raises:
        ValidationError: it is no archive, or its checkpoint is not signed by one of ``keys``.
        IntegrityError: something in it was changed.
    """
    content = _unpacked(data)
    line, _, rest = content.partition(b"\n")
    try:
        header = ArchiveHeader.model_validate_json(line)
    except pydantic.ValidationError:
        raise ValidationError("this is no archive of a ledger", remedy="give the file that the archive wrote") from None
    checkpoint = open_checkpoint(header.checkpoint, keys).checkpoint
    if checkpoint.origin != header.origin:
        raise IntegrityError(
            f"the archive says it is of {header.origin}, and its checkpoint is of {checkpoint.origin}",
            remedy="keep the file as evidence",
        )
    frontier = merkle.Frontier(header.first, [bytes.fromhex(one) for one in header.subtrees])
    named: set[str] = set()
    at = 0
    for index in range(header.first, header.stop):
        body, at = _part(rest, at, _ENTRY, f"entry {index}")
        entry = Entry.parse(body)
        entry.check_key()
        named.add(str(entry.data.get("bodyDigest", "")))
        frontier.add(merkle.leaf_hash(body))
    if sha256(rest[:at]) != header.entries:
        raise IntegrityError("the entries are not those that the header names", remedy="keep the file as evidence")
    proof = [bytes.fromhex(one) for one in header.proof]
    merkle.verify_consistency(header.stop, checkpoint.size, proof, frontier.root(), checkpoint.root)
    for digest in header.bodies:
        body, at = _part(rest, at, _BODY, f"body {digest}")
        if sha256(body) != digest or digest not in named:
            raise IntegrityError(f"the body {digest} is not what an entry names", remedy="keep the file as evidence")
    if at != len(rest):
        raise IntegrityError("something stands behind the last body", remedy="keep the file as evidence")
    return VerifiedArchive(header, checkpoint)


def entries_in(data: bytes) -> Iterator[bytes]:
    """The bodies of the entries of an archive, unchecked."""
    content = _unpacked(data)
    line, _, rest = content.partition(b"\n")
    header = json.loads(line)
    at = 0
    for index in range(header["first"], header["stop"]):
        body, at = _part(rest, at, _ENTRY, f"entry {index}")
        yield body


def _unpacked(data: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(data, MAX_ARCHIVE)
    except zlib.error as error:
        raise ValidationError(f"this is no archive: {error}", remedy="give the file that the archive wrote") from None
    if reader.unconsumed_tail or reader.unused_data or not reader.eof:
        raise ValidationError(
            "the archive is cut off, too large, or has something behind it", remedy="get it again from its source"
        )
    return content


def _part(data: bytes, at: int, length: int, what: str) -> tuple[bytes, int]:
    start = at + length
    end = start + int.from_bytes(data[at:start], "big")
    if end > len(data) or start > len(data):
        raise IntegrityError(f"the archive ends within {what}", remedy="get it again from its source")
    return data[start:end], end
