"""Requests between peers, signed by our profile of HTTP Message Signatures (RFC 9421) and Content-Digest (RFC 9530).

A request has exactly one signature whose ``tag`` is ``coafi-federation``; others, of proxies for instance, are left
alone. That one covers ``"@method" "@authority" "@path" "@query"``, where there is a body also ``"content-type"
"content-digest"``, and every ``ce-*`` header of the request: these and no others, each once, in any order, without
parameters. It says ``created expires nonce keyid tag``, and ``alg`` only if that is the key's.

What is not left to the message: which algorithm (it belongs to the registered key), and which authority the request is
for (the receiver knows its own addresses, so a peer cannot pass on what another one sent to it).

The signature base is made and checked by the library ``http-message-signatures``. What it leaves to its user is here:
which components and parameters there must be, the clock, and what was signed before.
"""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import http_sf
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    ContentDigest,
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    MappingKeyResolver,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519
from sqlalchemy import delete

from coafi.database import Database
from coafi.database.statements import insert_if_missing
from coafi.errors import AuthorizationError
from coafi.federation.keys import FederationSigner, KeyAlgorithm, PeerKey, PublicKey
from coafi.federation.peers import Peer, PeerStatus
from coafi.federation.tables import peer_nonce

TAG: Final = "coafi-federation"
"""What a signature by this profile says that it is for."""

LABEL: Final = "coafi"
"""What we call our own signature; others may call theirs as they like."""

LIFETIME = timedelta(seconds=300)
"""How long a signature counts at most: ``expires`` less ``created``."""

SKEW = timedelta(seconds=60)
"""How far two clocks may be apart."""

KEPT = timedelta(days=1)
"""How long a nonce is remembered beyond the time from which on it would be refused anyway: our clock may jump."""

ALWAYS: Final = ("@method", "@authority", "@path", "@query")
WITH_BODY: Final = ("content-type", "content-digest")
EVENT_HEADERS: Final = "ce-"

PARAMETERS: Final = ("created", "expires", "nonce", "keyid", "tag")
"""What a signature must say."""

MAX_FIELD: Final = 8_192
"""Characters of the two fields of signatures together, of all signatures, at most."""

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_KEYID = re.compile(r"[A-Za-z0-9_-]{43}")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\t]*")
_ALGORITHMS: Mapping[KeyAlgorithm, type[HTTPSignatureAlgorithm]] = {
    KeyAlgorithm.ED25519: ED25519,
    KeyAlgorithm.ECDSA_P256: ECDSA_P256_SHA256,
}
_NOBODY = Ed25519PublicKey.from_public_bytes(
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
)
"""A key of RFC 8032's examples, in place of one that is not known: that takes as long to find out."""


class Reason(StrEnum):
    """Why a request is refused; the last part of the problem's ``type``."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed-signature"
    COVERAGE = "wrong-coverage"
    SIGNATURE = "wrong-signature"
    DIGEST = "wrong-digest"
    EXPIRED = "expired"
    FUTURE = "not-yet-valid"
    REPLAYED = "replayed"
    DISABLED = "disabled"

    @property
    def status(self) -> int:
        """The HTTP status: what is not as it must be (400), nobody we know sent (401), or they may not (403)."""
        match self:
            case Reason.MALFORMED | Reason.COVERAGE | Reason.DIGEST:
                return 400
            case Reason.DISABLED:
                return 403
            case _:
                return 401


class SignatureRefused(AuthorizationError):
    """The request is none that a peer of ours has signed by the profile, or not now."""

    def __init__(self, reason: Reason, message: str, *, remedy: str = "see docs/federation.md") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


@dataclass(frozen=True)
class Verified:
    """Whose request it is.

    Attributes:
        peer: as it is known now.
        key: that signed.
        nonce: of the signature.
        created, expires: when it was made, and until when it counts.
    """

    peer: Peer
    key: PeerKey
    nonce: str
    created: datetime
    expires: datetime


@dataclass(frozen=True)
class _Request:
    """A request as the library wants it."""

    method: str
    url: str
    headers: Any


class _Lines:
    """Field lines in their order, which may repeat."""

    def __init__(self, lines: Sequence[tuple[str, str]]) -> None:
        self._lines = lines

    def items(self) -> Iterable[tuple[str, str]]:
        return self._lines


class _Verifier(HTTPMessageVerifier):
    """Leaves the clock to :func:`verify_request`."""

    def validate_created_and_expires(self, sig_input: object, max_age: object = None) -> None:
        """Is done elsewhere."""


def sign_request(
    signer: FederationSigner,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    now: datetime | None = None,
    nonce: str | None = None,
    lifetime: timedelta = LIFETIME,
) -> dict[str, str]:
    """The headers of a request with those that sign it. Sign anew for each try: a nonce is taken once.

    Args:
        url: in full, as it will be sent.
        headers: what is sent besides; of a request with a body, with its ``Content-Type``.
        body: the very bytes; ``None`` for a request without one.
        now: when it is signed.
        nonce: 16 to 64 letters, digits, dashes and underscores; by default random.

    Raises:
        ValueError: the request cannot be signed by the profile.
    """
    created = (now or datetime.now(UTC)).replace(microsecond=0)
    signed = {name: value for name, value in headers.items() if name.lower() not in ("signature", "signature-input")}
    if body is not None:
        signed = {name: value for name, value in signed.items() if name.lower() != "content-digest"}
        signed["Content-Digest"] = ContentDigest.create(body)
    covered = _must_cover([name.lower() for name in signed], has_body=body is not None)
    keyid = signer.public.keyid
    try:
        HTTPMessageSigner(
            signature_algorithm=ED25519,
            key_resolver=MappingKeyResolver(public_keys={}, private_keys={keyid: signer.private}),
        ).sign(
            _Request(method, url, signed),
            key_id=keyid,
            created=created,
            expires=created + lifetime,
            nonce=nonce or secrets.token_urlsafe(24),
            label=LABEL,
            tag=TAG,
            include_alg=False,
            covered_component_ids=covered,
            use_existing_digest=body is not None,
        )
    except HTTPMessageSignaturesException as error:
        raise ValueError(f"{method} {url} cannot be signed: {error}") from error
    return signed


def verify_request(
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    peer_of: Callable[[str], Peer | None],
    *,
    now: datetime | None = None,
) -> Verified:
    """Who signed a request.

    Nothing is remembered: whether its nonce was used before is for :class:`Nonces`, and only a request that passed here
    may use one up.

    Args:
        url: the address at which *we* are reached, with the path and the query that came; never from ``Host``.
        headers: every field line that came, in order.
        body: the bytes that came; empty for none.
        peer_of: finds the peer that has a key of this name.
        now: the time to compare with.

    Raises:
        SignatureRefused: nobody who may. The message is for the other side, and quotes nothing of the request.
    """
    moment = now or datetime.now(UTC)
    lines = _plain(headers)
    parameters, covered = _ours(lines)
    created, expires = _times(parameters)
    has_body = bool(body) or any(name in WITH_BODY for name, _ in lines)
    _check_coverage(covered, lines, has_body=has_body)
    keyid = str(parameters["keyid"])
    peer = peer_of(keyid) if _KEYID.fullmatch(keyid) else None
    key = None if peer is None else peer.key(keyid)
    public, algorithm = (_NOBODY, ED25519) if key is None else (key.key, _ALGORITHMS[key.algorithm])
    valid = _is_valid(_Request(method, url, _Lines(lines)), keyid, public, algorithm)
    if peer is None or key is None or not valid:
        raise _refuse(
            Reason.SIGNATURE,
            f"the signature is not that of a key that is known here, over this request to {_authority(url)}",
            "sign for this authority, with a key that was given to whoever runs this",
        )
    if has_body:
        _check_digest(next(value for name, value in lines if name == "content-digest"), body)
    _check_window(created, expires, moment)
    if not key.counts_at(created):
        raise _refuse(Reason.EXPIRED, "the key did not count when this was signed", "sign with a key that does")
    if peer.status is PeerStatus.DISABLED:
        raise _refuse(Reason.DISABLED, f"the peer {peer.id} is disabled here", "ask whoever runs this")
    return Verified(peer, key, str(parameters["nonce"]), created, expires)


class Nonces:
    """Which signatures were taken: each counts once, in all processes that share the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, verified: Verified, *, now: datetime | None = None) -> None:
        """Use the nonce of a request up.

        Raises:
            SignatureRefused: it was used before.
            Unavailable: the database is out of reach.
        """
        moment = int((now or datetime.now(UTC)).timestamp())
        row = {
            "keyid": verified.key.keyid,
            "nonce": verified.nonce,
            "expires": int((verified.expires + SKEW).timestamp()) + 1,
        }
        with self._database.write() as connection:
            connection.execute(delete(peer_nonce).where(peer_nonce.c.expires < moment - KEPT.total_seconds()))
            fresh = insert_if_missing(connection, peer_nonce, row)
        if not fresh:
            raise _refuse(Reason.REPLAYED, "this very request came before", "sign every try anew, with another nonce")

    def give_back(self, verified: Verified) -> None:
        """Let the same request come again, since nothing came of it.

        Raises:
            Unavailable: the database is out of reach.
        """
        with self._database.write() as connection:
            connection.execute(
                delete(peer_nonce).where(peer_nonce.c.keyid == verified.key.keyid, peer_nonce.c.nonce == verified.nonce)
            )


def wanted_signature(*, has_body: bool) -> str:
    """``Accept-Signature`` (RFC 9421, section 5.1): what a request must be signed like."""
    covered = " ".join(f'"{name}"' for name in (*ALWAYS, *(WITH_BODY if has_body else ())))
    return f'{LABEL}=({covered});created;expires;nonce;keyid;tag="{TAG}"'


def _must_cover(names: Iterable[str], *, has_body: bool) -> tuple[str, ...]:
    events = sorted({name for name in names if name.startswith(EVENT_HEADERS)})
    return (*ALWAYS, *(WITH_BODY if has_body else ()), *events)


def _plain(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The field lines that matter, with names in lower case; none may be there twice, or hold what is not text.

    Two lines of one name are one value to some and two to others: what was signed would not be what is read.
    """
    lines = [
        (name.lower(), value)
        for name, value in headers
        if name.lower().startswith((EVENT_HEADERS, "signature", "content-"))
    ]
    counts = Counter(name for name, _ in lines)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise _refuse(Reason.MALFORMED, f"the header {twice[:100]!r} is there twice", "send it once")
    if any(_FIELD_VALUE.fullmatch(value) is None for _, value in lines):
        raise _refuse(Reason.MALFORMED, "a header holds other than printable ASCII", "percent-encode it (CloudEvents)")
    return lines


def _ours(lines: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], list[Any]]:
    """Parameters and covered components of the one signature by our profile."""
    fields = dict(lines)
    said, signed = fields.get("signature-input"), fields.get("signature")
    if said is None or signed is None:
        raise _refuse(Reason.UNSIGNED, "the request is not signed", "sign it after RFC 9421")
    if len(said) + len(signed) > MAX_FIELD:
        raise _refuse(Reason.MALFORMED, f"its signatures are longer than {MAX_FIELD} characters", "send one")
    inputs, values = (_dictionary(field) for field in (said, signed))
    ours = [
        label
        for label, member in inputs.items()
        if isinstance(member, tuple) and isinstance(member[0], list) and member[1].get("tag") == TAG
    ]
    if len(ours) != 1:
        kind = Reason.MALFORMED if ours else Reason.UNSIGNED
        raise _refuse(kind, f"{len(ours)} signatures have the tag {TAG}", "send one that has it")
    covered, parameters = inputs[ours[0]]
    value = values.get(ours[0])
    if not isinstance(value, tuple) or not isinstance(value[0], bytes) or value[1]:
        raise _refuse(Reason.MALFORMED, "Signature has no bytes for what Signature-Input announces", "send both")
    missing = [name for name in PARAMETERS if name not in parameters]
    if missing:
        raise _refuse(Reason.MALFORMED, f"the signature lacks {', '.join(missing)}", "say all of them")
    unknown = set(parameters) - {*PARAMETERS, "alg"}
    if unknown:
        raise _refuse(Reason.MALFORMED, "the signature has parameters that the profile does not know", "leave them out")
    if not isinstance(parameters["nonce"], str) or _NONCE.fullmatch(parameters["nonce"]) is None:
        raise _refuse(
            Reason.MALFORMED, "the nonce is not 16 to 64 letters, digits, dashes and underscores", "take a random one"
        )
    if not isinstance(parameters["keyid"], str):
        raise _refuse(Reason.MALFORMED, "keyid is no text", "name the key by its JWK thumbprint (RFC 7638)")
    return parameters, covered


def _dictionary(field: str) -> dict[str, Any]:
    def twice(_key: str, context: str) -> None:
        if context == "dictionary":
            raise ValueError("a label is there twice")

    try:
        parsed: Any = http_sf.parse(field.encode("ascii"), tltype="dictionary", on_duplicate_key=twice)
    except (ValueError, TypeError, RecursionError):
        raise _refuse(Reason.MALFORMED, "the signature is no structured field (RFC 8941)", "see RFC 9421") from None
    return dict(parsed)


def _times(parameters: Mapping[str, Any]) -> tuple[datetime, datetime]:
    created, expires = parameters["created"], parameters["expires"]
    if type(created) is not int or type(expires) is not int or not 0 <= created <= expires <= 2**40:
        raise _refuse(Reason.MALFORMED, "created and expires are no times, in this order", "say Unix seconds")
    if expires - created > LIFETIME.total_seconds():
        raise _refuse(
            Reason.MALFORMED,
            f"the signature would count for more than {LIFETIME.total_seconds():.0f} s",
            "let it expire sooner",
        )
    try:
        return datetime.fromtimestamp(created, UTC), datetime.fromtimestamp(expires, UTC)
    except (OverflowError, ValueError, OSError):
        raise _refuse(Reason.MALFORMED, "created and expires are no times", "say Unix seconds") from None


def _check_coverage(covered: Sequence[Any], lines: Sequence[tuple[str, str]], *, has_body: bool) -> None:
    if any(not isinstance(one, tuple) or not isinstance(one[0], str) or one[1] for one in covered):
        raise _refuse(Reason.COVERAGE, "a covered component is no plain name", "name components without parameters")
    names = [one[0] for one in covered]
    must = _must_cover([name for name, _ in lines], has_body=has_body)
    if sorted(names) != sorted(must):
        raise _refuse(
            Reason.COVERAGE,
            f"the signature must cover {' '.join(must)[:1_000]}, each once, and nothing else",
            "cover just these",
        )
    there = {name for name, _ in lines}
    absent = [name for name in must if not name.startswith("@") and name not in there]
    if absent:
        raise _refuse(Reason.COVERAGE, f"the request has no {', '.join(absent)[:1_000]}", "send it, and cover it")


def _is_valid(request: _Request, keyid: str, public: PublicKey, algorithm: type[HTTPSignatureAlgorithm]) -> bool:
    verifier = _Verifier(
        signature_algorithm=algorithm, key_resolver=MappingKeyResolver(public_keys={keyid: public}, private_keys={})
    )
    try:
        return len(verifier.verify(request, max_age=None, expect_tag=TAG)) == 1
    except HTTPMessageSignaturesException:  # InvalidSignature is one
        return False


def _check_digest(field: str, body: bytes) -> None:
    digests = _dictionary_of_digests(field)
    if "sha-256" not in digests:
        raise _refuse(Reason.DIGEST, "Content-Digest has no sha-256", "give it")
    try:
        ContentDigest.verify(field, body)
    except HTTPMessageSignaturesException:
        raise _refuse(
            Reason.DIGEST,
            "Content-Digest is not that of the body",
            "send what was signed; besides sha-256 only sha-512 may be there, and both must be right",
        ) from None


def _dictionary_of_digests(field: str) -> dict[str, Any]:
    try:
        parsed: Any = http_sf.parse(field.encode("ascii"), tltype="dictionary")
    except (ValueError, TypeError, RecursionError):
        raise _refuse(Reason.DIGEST, "Content-Digest is no structured field", "see RFC 9530") from None
    return dict(parsed)


def _check_window(created: datetime, expires: datetime, now: datetime) -> None:
    if created > now + SKEW:
        raise _refuse(Reason.FUTURE, f"it is {now:%Y-%m-%dT%H:%M:%SZ} here, and this was signed later", _CLOCK)
    if now > expires + SKEW:
        raise _refuse(Reason.EXPIRED, f"it is {now:%Y-%m-%dT%H:%M:%SZ} here, and this counted until before", _CLOCK)


_CLOCK = "sign anew, and let a time server set the clock"


def _authority(url: str) -> str:
    return urlsplit(url).netloc


def _refuse(reason: Reason, message: str, remedy: str) -> SignatureRefused:
    return SignatureRefused(reason, message, remedy=remedy)
