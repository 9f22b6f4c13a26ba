"""Keys that tokens are verified with, each with the algorithms that it may be used for.

The algorithm is a property of the key here and never of the token: a token that names another one is refused, so nobody
can pass a public key off as a shared secret. What is published with a key (``alg``, ``use``, ``key_ops``) narrows it
further.

========  ===============  ============================
key       size             algorithms
========  ===============  ============================
OKP       Ed25519          EdDSA, Ed25519 (RFC 9864)
EC        P-256            ES256
RSA       2048–8192 bits   RS256, PS256
shared    32 bytes or more HS256
========  ===============  ============================
"""

import json
import os
import secrets
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from pydantic import SecretStr

from coafi.auth.watched import WatchedFile, check_private
from coafi.errors import Unavailable, ValidationError
from coafi.ledger.keys import sync_directory

MAX_KEYS: Final = 64
"""Keys of a set that are looked at."""

MAX_SET: Final = 256 * 2**10
"""Bytes of a set of keys."""

MIN_SECRET: Final = 32
"""Bytes of a shared secret (RFC 7518, section 3.2)."""

SHARED: Final = "HS256"
"""The algorithm of a shared secret, which is never published."""

ALGORITHMS: Final = ("EdDSA", "Ed25519", "ES256", "RS256", "PS256", SHARED)
"""All that are taken, with one key or another."""

_RSA_BITS = range(2048, 8193)
_PUBLIC = {"OKP": {"crv", "x"}, "EC": {"crv", "x", "y"}, "RSA": {"n", "e"}}
_ABOUT = {"kty", "kid", "alg", "use", "key_ops"}
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class TrustedKey:
    """A key, and what it may verify.

    Attributes:
        kid: its name, when it was published with one; else a token may call it what it likes.
        algorithms: that it may be used for.
    """

    key: Key = field(repr=False)
    kid: str | None
    algorithms: frozenset[str]

    def is_meant(self, kid: str | None, algorithm: str) -> bool:
        """Whether a token that names this key and algorithm may be verified with it."""
        return algorithm in self.algorithms and (kid is None or self.kid is None or kid == self.kid)


class PinnedRegistry(JWSRegistry):
    """The rules of JWS for one key: its algorithms and no other. Extensions (``crit``) are refused elsewhere."""

    max_header_length = 16_384
    max_payload_length = 16_384

    def __init__(self, algorithms: Iterable[str]) -> None:
        super().__init__(algorithms=frozenset(algorithms), strict_check_header=False)

    def get_alg(self, name: str) -> Any:  # noqa: ANN401  # joserfc does not export the type
        """The algorithm of this name, if the key is for it. Without the warning that EdDSA has newer names."""
        if not self.allowed or name not in self.allowed:
            raise UnsupportedAlgorithmError("this algorithm is not one of the key's")
        return self.algorithms[name]


def shared_key(secret: SecretStr) -> TrustedKey:
    """The key that a shared secret is.

    Raises:
        ValidationError: it is too short, or is a public key, which everybody has.
    """
    value = secret.get_secret_value().encode()
    if len(value) < MIN_SECRET:
        raise ValidationError(
            f"AUTH_SECRET has {len(value)} bytes, and needs {MIN_SECRET}", remedy="make one with: openssl rand -hex 32"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it looks like a key of another kind
            return TrustedKey(OctKey.import_key(value), None, frozenset({SHARED}))
    except (ValueError, UserWarning):
        raise ValidationError(
            "AUTH_SECRET is a public key or a file of one, which is no secret",
            remedy="make one with: openssl rand -hex 32; a public key goes into COAFI_AUTH_KEY_FILE",
        ) from None


def keys_of_set(content: bytes) -> tuple[TrustedKey, ...]:
    """The keys of a JWK set (RFC 7517) that tokens can be verified with; the others are left out, as it demands.

    Private parts and shared secrets are left out too: what is published can be no secret.

    Raises:
        ValidationError: it is no such set, or no key in it can be used.
    """
    remedy = 'it is JSON: {"keys": […]}'
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        raise ValidationError("this is no set of keys", remedy=remedy) from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValidationError(f"this is no set of up to {MAX_KEYS} keys", remedy=remedy)
    keys = tuple(key for one in listed if (key := _of_jwk(one)) is not None)
    if not keys:
        raise ValidationError("this set has no key that can verify tokens", remedy="see docs/auth.md for those it can")
    return keys


def keys_of_file(content: bytes, mode: int) -> tuple[TrustedKey, ...]:
    """The keys in a file: a JWK set, or one key as PEM, public or private.

    Raises:
        ValidationError: there is none that can be used, or one is private and others may read it.
    """
    if content.lstrip().startswith(b"{"):
        if b'"d"' in content or b'"k"' in content:
            check_private(mode)
        return keys_of_set(content)
    key = _of_pem(content)
    if key.is_private:
        check_private(mode)
    algorithms = _algorithms(key)
    if not algorithms:
        raise ValidationError("this key cannot be used for tokens", remedy="see docs/auth.md for those that can")
    return (TrustedKey(key, None, algorithms),)


def watched_keys(path: Path) -> WatchedFile[tuple[TrustedKey, ...]]:
    """The keys in a file, as they are now; none while there is none."""
    return WatchedFile(path, keys_of_file, missing=(), limit=MAX_SET)


def make_key_file(path: Path) -> None:
    """Make an Ed25519 key in a file (PEM, PKCS #8) that only its owner can read; a file that exists stays.

    Raises:
        Unavailable: the file cannot be written.
    """
    # Linked into place when it is whole: a crash leaves no half of a key under its name.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(OKPKey.generate_key("Ed25519").as_pem(private=True))
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)
        except FileExistsError:
            return
        finally:
            unfinished.unlink()
        sync_directory(path.parent)
    except OSError as error:
        raise Unavailable(f"the key file {path} cannot be written: {error}", remedy="check its directory") from error


def _of_jwk(value: object) -> TrustedKey | None:
    """The key, if it can be used."""
    if not isinstance(value, dict):
        return None
    kind = value.get("kty")
    if not isinstance(kind, str) or kind not in _PUBLIC or value.get("use", "sig") != "sig":
        return None
    public = {name: part for name, part in value.items() if name in _PUBLIC[kind] | _ABOUT}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a key that is too short is left out below
            key = JWKRegistry.import_key(public)
        key.check_key_op("verify")
        algorithms = _algorithms(key)
    except _UNREADABLE:
        return None
    alg = value.get("alg")
    if alg is not None:
        algorithms &= {alg}
    return TrustedKey(key, key.kid, algorithms) if algorithms else None


def _of_pem(content: bytes) -> Key:
    for kind in (OKPKey, ECKey, RSAKey):
        try:
            key: Key = kind.import_key(content)
            key.thumbprint()  # fails when it is a key of another kind
        except _UNREADABLE:
            continue
        return key
    raise ValidationError(
        "this is neither a key as PEM nor a JWK set", remedy="take Ed25519, EC P-256 or RSA, and without a password"
    )


def _algorithms(key: Key) -> frozenset[str]:
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        return frozenset({"EdDSA", "Ed25519"})
    if isinstance(key, ECKey) and key.curve_name == "P-256":
        return frozenset({"ES256"})
    if isinstance(key, RSAKey) and key.raw_value.key_size in _RSA_BITS:
        return frozenset({"RS256", "PS256"})
    return frozenset()
