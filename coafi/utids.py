"""UTidS, the Unique Traceable ID System: temporary at ingest, permanent after validation.

No format was ever published; this one is ours: ``UTIDS-T-`` (temporary) or ``UTIDS-P-`` (permanent) and the first
128 bits of a SHA-256, as 26 digits of Crockford's Base32. Both are derived from what they name, so anyone who holds
the event can derive them again:

- temporary: SHA-256 over the canonical JSON of ``["utids", "temporary", type, source, id, body digest]``;
- permanent: the same with ``"permanent"`` and the digest of the validated payload's canonical JSON in the last place;
- of an entry of a registry, permanent: over ``["utids", "permanent", "registry", registry, entry id]``;
- of whatever else somebody gives a name to, permanent: over ``["utids", "permanent", "names", digest]``, with the
  digest of the canonical JSON of what it names.
"""

import re
from typing import Literal

from pydantic import JsonValue

from coafi.canonical import digest_of

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PATTERN = re.compile(rf"^UTIDS-[TP]-[0-7][{_ALPHABET}]{{25}}$")


def temporary_utids(event_type: str, source: str, event_id: str, body_digest: str) -> str:
    """The id that an event gets at ingest, before anything about it was checked but its sender."""
    return _utids("temporary", event_type, source, event_id, body_digest)


def permanent_utids(event_type: str, source: str, event_id: str, data_digest: str) -> str:
    """The id that an event gets when its payload was found valid."""
    return _utids("permanent", event_type, source, event_id, data_digest)


def entry_utids(registry_id: str, entry_id: str) -> str:
    """The id of an entry of a registry: the same for all its versions."""
    return _utids("permanent", "registry", registry_id, entry_id)


def naming_utids(names: JsonValue) -> str:
    """The id of what ``names`` names.

    Raises:
        ValidationError: it has no canonical JSON.
    """
    return _utids("permanent", "names", digest_of(names))


def _utids(kind: Literal["temporary", "permanent"], *parts: str) -> str:
    number = int(digest_of(["utids", kind, *parts])[:32], 16)
    digits = "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in range(25, -1, -1))
    return f"UTIDS-{kind[0].upper()}-{digits}"
