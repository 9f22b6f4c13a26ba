"""JSON Web Tokens (RFC 7519), after the advice of RFC 8725: what is read of one, and how one is made.

A token is believed when a trusted key verifies it with an algorithm of that key, and when its issuer, audience and
times are right. What it says about keys itself (``jwk``, ``jku``, ``x5u``, ``x5c``) is never looked at.
"""

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jws import CompactSignature

from coafi.auth.keys import ALGORITHMS, PinnedRegistry, TrustedKey
from coafi.errors import AuthorizationError

MAX_TOKEN: Final = 8_192
"""Characters of a token."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_TYPES = {"jwt", "at+jwt"}
_FAR = 2**40
"""A time (in seconds since 1970) beyond which nothing expires for real."""

_READER = PinnedRegistry(ALGORITHMS)
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Claims:
    """What a token that was verified says.

    Attributes:
        subject: who.
        expires: seconds since 1970.
        roles, scope: what they have been given.
    """

    subject: str
    expires: float
    roles: tuple[str, ...]
    scope: tuple[str, ...]


@dataclass(frozen=True)
class UnverifiedToken:
    """A token in its parts, of which nothing may be believed yet.

    Attributes:
        algorithm: that it wants to be verified with.
        kid: the name of the key, if it says one.
    """

    algorithm: str
    kid: str | None
    _signed: CompactSignature = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "UnverifiedToken":
        """The parts of a token.

        Raises:
            AuthorizationError: it is no signed token, or is one of a kind that is not taken here.
        """
        if len(text) > MAX_TOKEN:
            raise AuthorizationError(
                f"this token is longer than {MAX_TOKEN} characters", remedy="ask for one with fewer claims"
            )
        if _COMPACT.fullmatch(text) is None:
            raise _refused("this is neither a signed JSON Web Token nor an API key")
        try:
            signed = jws.extract_compact(text.encode(), registry=_READER)
            header = signed.headers()
            kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ")
        except _UNREADABLE:
            raise _refused("the token cannot be read: it is not Base64 of JSON") from None
        if "crit" in header or "b64" in header:
            raise _refused("the token demands an extension of JWS (crit), and none is taken")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _refused(f"the token's algorithm is none of {', '.join(ALGORITHMS)}")
        if not isinstance(kid, str | None) or not isinstance(kind, str | None):
            raise _refused("the token's header is wrong: kid and typ are text")
        if kind is not None and kind.lower().removeprefix("application/") not in _TYPES:
            raise _refused("the token is of another type than JWT or at+jwt")
        return cls(algorithm, kid, signed)

    def verify(self, keys: Iterable[TrustedKey]) -> bool:
        """Whether one of these keys that is meant has signed it."""
        return any(key.is_meant(self.kid, self.algorithm) and self._is_signed_by(key) for key in keys)

    def _is_signed_by(self, trusted: TrustedKey) -> bool:
        try:
            return jws.validate_compact(self._signed, trusted.key, registry=_registry(trusted.algorithms))
        except _UNREADABLE:
            return False

    def payload(self) -> dict[str, Any]:
        """The claims, which are to be believed only after :meth:`verify`.

        Raises:
            AuthorizationError: they are no JSON object.
        """
        try:
            claims = json.loads(self._signed.payload or b"")
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise _refused("the token cannot be read: its claims are no JSON object")
        return claims


@dataclass(frozen=True)
class TokenRules:
    """What the claims of a token must say.

    Attributes:
        issuer: its ``iss``.
        audience: its ``aud``, or one of them.
        skew: seconds that clocks may differ.
    """

    issuer: str
    audience: str
    skew: float = 30.0

    def check(self, payload: dict[str, Any], now: float) -> Claims:
        """The claims that count here. ``nbf`` and ``iat`` may be missing, and are held to if they are there.

        Raises:
            AuthorizationError: a claim is missing, of the wrong type, or says that the token is not for us or not for
                now.
        """
        registry = jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=int(self.skew),
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(payload)
        except MissingClaimError as error:
            raise _refused(f"the token lacks: {error.claim}") from None
        except ExpiredTokenError:
            raise AuthorizationError("the token has expired", remedy="get a new one") from None
        except InvalidClaimError as error:
            raise _refused(_PROBLEMS.get(error.claim, f"the token's {error.claim} is wrong")) from None
        expires = payload["exp"]
        if not 0 <= expires < _FAR:
            raise _refused(_PROBLEMS["exp"])
        roles, scope = payload.get("roles", []), payload.get("scope", "")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise _refused("the token's roles are no list of texts")
        if not isinstance(scope, str):
            raise _refused("the token's scope is no text of words between spaces")
        return Claims(payload["sub"], float(expires), tuple(roles), tuple(scope.split()))

    def issue(
        self,
        key: TrustedKey,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scope: Iterable[str] = (),
        seconds: float,
        now: float | None = None,
    ) -> str:
        """A token that these rules accept, signed by a key that is private or shared."""
        issued = int(time.time() if now is None else now)
        algorithm = next(one for one in ALGORITHMS if one in key.algorithms)
        header = {"alg": algorithm} | ({"kid": key.kid} if key.kid else {})
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "iat": issued,
            "nbf": issued,
            "exp": issued + int(seconds),
        }
        if listed := sorted(set(roles)):
            claims["roles"] = listed
        if words := sorted(set(scope)):
            claims["scope"] = " ".join(words)
        return jwt.encode(header, claims, key.key, registry=PinnedRegistry(key.algorithms))


_PROBLEMS = {
    "iss": "the token is from another issuer than the one that is trusted here (iss)",
    "aud": "the token is for another audience (aud)",
    "exp": "the token's exp is no time",
    "nbf": "the token is not valid yet, or its nbf is no time",
    "iat": "the token comes from the future, or its iat is no time",
    "sub": "the token names nobody (sub)",
}


@cache
def _registry(algorithms: frozenset[str]) -> PinnedRegistry:
    return PinnedRegistry(algorithms)


def _refused(problem: str) -> AuthorizationError:
    return AuthorizationError(problem, remedy="get another token; docs/auth.md says what is taken")
