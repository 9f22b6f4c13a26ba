"""Keys that sign requests between peers: Ed25519, which everybody must have, or ECDSA on P-256.

A public key travels as ``<algorithm>:<base64>``: the 32 bytes of an Ed25519 key (RFC 8032), or the 33 bytes of a
compressed point on P-256 (SEC 1, 2.3.3). It is known by its JWK thumbprint (RFC 7638, SHA-256, base64url), which is the
``keyid`` of its signatures: who has the key knows its name, and nobody can give a key the name of another one.
"""

import base64
import contextlib
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import AwareDatetime, field_validator

from coafi.canonical import canonical_json
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.events import Wire
from coafi.ledger.keyfile import KeyFile
from coafi.ledger.keys import Signer, VerifierKey, decode_base64, generate_key

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


class KeyAlgorithm(StrEnum):
    """The algorithms by their names in RFC 9421, section 6.2. HMAC and RSA are none of ours."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256-sha256"


class PeerKey(Wire):
    """A public key of a peer, and when it counts.

    Attributes:
        public: its bytes in base64, see above.
        not_before, not_after: signatures made outside of this time count for nothing; ``None``: no limit.
    """

    algorithm: KeyAlgorithm
    public: str
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None

    @field_validator("public")
    @classmethod
    def _is_key(cls, value: str, info: object) -> str:
        algorithm = getattr(info, "data", {}).get("algorithm")
        if algorithm is not None:
            _read(algorithm, value)
        return value

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.public}"

    @classmethod
    def parse(
        cls, text: str, *, not_before: AwareDatetime | None = None, not_after: AwareDatetime | None = None
    ) -> "PeerKey":
        """The inverse of ``str()``.

        Raises:
            ValidationError: the text is no key, or one for which anybody can sign.
        """
        name, _, public = text.strip().partition(":")
        try:
            algorithm = KeyAlgorithm(name)
            _read(algorithm, public)
        except ValueError as error:
            raise ValidationError(
                f"this is no public key of a peer: {error}",
                remedy=f"copy it whole: {KeyAlgorithm.ED25519}:… or {KeyAlgorithm.ECDSA_P256}:…",
            ) from None
        return cls(algorithm=algorithm, public=public, not_before=not_before, not_after=not_after)

    @classmethod
    def of(cls, key: PublicKey) -> "PeerKey":
        """The key of ``cryptography``, without limits in time."""
        if isinstance(key, Ed25519PublicKey):
            return cls(algorithm=KeyAlgorithm.ED25519, public=_base64(key.public_bytes_raw()))
        point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return cls(algorithm=KeyAlgorithm.ECDSA_P256, public=_base64(point))

    @property
    def key(self) -> PublicKey:
        """The key of ``cryptography``."""
        return _read(self.algorithm, self.public)

    @cached_property
    def keyid(self) -> str:
        """The JWK thumbprint, 43 characters."""
        key = self.key
        if isinstance(key, Ed25519PublicKey):
            jwk = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
        else:
            numbers = key.public_numbers()
            x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
            jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        return _base64url(hashlib.sha256(canonical_json({**jwk})).digest())

    def counts_at(self, moment: AwareDatetime) -> bool:
        """Whether what is signed at ``moment`` counts."""
        return (self.not_before is None or self.not_before <= moment) and (
            self.not_after is None or moment <= self.not_after
        )


@dataclass(frozen=True)
class FederationSigner:
    """Our own key: an Ed25519 key in a file like that of the ledger, and the name that it signs under, our peer id."""

    signer: Signer

    @property
    def peer(self) -> str:
        """Our own peer id."""
        return self.signer.name

    @cached_property
    def private(self) -> Ed25519PrivateKey:
        """The private key."""
        return Ed25519PrivateKey.from_private_bytes(self.signer.seed)

    @cached_property
    def public(self) -> PeerKey:
        """What peers get to know."""
        return PeerKey.of(self.private.public_key())


class FederationKey:
    """Our own key in a file, made where it is missing; its successor waits in ``<file>.next`` until it takes its place.

    Args:
        path: of the file.
        peer: our own peer id.
    """

    def __init__(self, path: Path, peer: str) -> None:
        self.peer = peer
        self._file = KeyFile(path)

    def current(self) -> FederationSigner:
        """The key that signs now, read again when the file changed.

        Raises:
            AuthorizationError, ValidationError, Unavailable: as ``load_key``; or the file is another peer's.
        """
        try:
            signer = self._file.current()
        except ResourceNotFoundError:
            self._file.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(ValidationError):  # another process was quicker
                generate_key(self._file.path, self.peer)
            signer = self._file.current()
        if signer.name != self.peer:
            raise ValidationError(
                f"the key {self._file.path} is that of the peer {signer.name}, and this is {self.peer}",
                remedy="set COAFI_FEDERATION_ID back, or take another key",
            )
        return FederationSigner(signer)

    def successor(self) -> FederationSigner | None:
        """The key that is to follow, if there is one."""
        waiting = self._file.successor()
        return None if waiting is None else FederationSigner(waiting)

    def prepare(self) -> FederationSigner:
        """The key that is to follow; made unless it waits already. Peers must know it before it signs."""
        self.current()
        return FederationSigner(self._file.prepare())

    def promote(self) -> FederationSigner:
        """Sign with the successor from now on; the old key is destroyed.

        Raises:
            ResourceNotFoundError: there is no successor.
        """
        if self._file.successor() is None:
            raise ResourceNotFoundError(
                "there is no key to follow", remedy="make it with `coafi peers key --next`, and give it to the peers"
            )
        self._file.promote()
        return self.current()


def _read(algorithm: KeyAlgorithm, public: str) -> PublicKey:
    """The key in base64.

    Raises:
        ValueError: there is none.
    """
    data = decode_base64(public)
    if algorithm is KeyAlgorithm.ED25519:
        try:
            VerifierKey("peer", data)  # knows the keys for which anybody can sign
        except ValidationError as error:
            raise ValueError(error.message) from None
        return Ed25519PublicKey.from_public_bytes(data)
    if len(data) != 33:
        raise ValueError("a compressed point on P-256 has 33 bytes")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
