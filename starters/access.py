"""Who asks: tokens, compared in constant time, and whether a request comes from this machine."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from pydantic import SecretStr
from starlette.requests import Request

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def is_one_of(given: str, tokens: Iterable[SecretStr]) -> bool:
    """Whether ``given`` is one of these tokens. Every one is compared, and always in the same time."""
    matches = [hmac.compare_digest(_hash(given), _hash(token.get_secret_value())) for token in tokens]
    return any(matches) and bool(given)


def bearer_token(authorization: str) -> str:
    """The bearer token in a header; empty when there is none."""
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_from_here(request: Request) -> bool:
    """Whether a request that reached a loopback address was meant for one, and came through no proxy."""
    return is_loopback(request.url.hostname or "") and not any(name in request.headers for name in _FORWARDED)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
