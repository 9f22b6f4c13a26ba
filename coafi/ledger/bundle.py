"""Entry bundles (C2SP tlog-tiles): up to 256 entries, each after its length in bytes as a big-endian uint16."""

from collections.abc import Iterable

from coafi.errors import ValidationError
from coafi.ledger.entry import MAX_BODY
from coafi.ledger.tiles import WIDTH

_LENGTH = 2

MAX_BUNDLE = WIDTH * (_LENGTH + MAX_BODY)
"""Bytes of a bundle at most."""


def encode_bundle(bodies: Iterable[bytes]) -> bytes:
    """The bundle of these entries."""
    return b"".join(len(body).to_bytes(_LENGTH, "big") + body for body in bodies)


def parse_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValidationError: it ends within an entry, or holds too many.
    """
    bodies: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data) or len(bodies) == WIDTH:
            raise ValidationError(
                f"this is not an entry bundle: it ends within entry {len(bodies)}, or holds more than {WIDTH}",
                remedy="get it again from its source",
            )
        bodies.append(data[start:at])
    return bodies
