"""What the gateway's routes have in common: bodies read within limits, and problems (RFC 9457)."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import structlog
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coafi import metrics
from coafi.canonical import JsonObject
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IdempotencyConflict,
    Refused,
    Unavailable,
    ValidationError,
)

log = structlog.stdlib.get_logger()

RETRY_AFTER = 30.0
"""Seconds after which a sender may try again, where the error does not know better."""

_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


class BodyTooLarge(ValidationError):
    """The body is larger than the gateway reads."""


class BodyTooSlow(ValidationError):
    """The body took longer than the gateway waits."""


async def read_body(request: Request, limit: int, seconds: float, *, remedy: str) -> bytes:
    """The body of a request.

    Args:
        limit: bytes at most; what declares more is refused unread.
        seconds: that the sender may take.
        remedy: what to do about a body that is too large.

    Raises:
        BodyTooLarge, BodyTooSlow: it is beyond the limits.
        starlette.requests.ClientDisconnect: the sender left.
    """
    too_large = BodyTooLarge(f"the body is larger than {limit} bytes", remedy=remedy)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s", remedy="deliver it again") from None
    return bytes(body)


def problem(
    status: int,
    detail: str,
    *,
    type_: str = "about:blank",
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[JsonValue] = (),
) -> Response:
    """An error as ``application/problem+json``.

    Args:
        type_: a URI that stays the same for the same kind of problem.
        retry_after: seconds after which to try again.
        errors: places, as JSON Pointers, with what is wrong there.
    """
    more = {"Retry-After": str(max(1, round(retry_after)))} if retry_after else {}
    content: JsonObject = {"type": type_, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        content["errors"] = list(errors)
    return JSONResponse(content, status, headers={**(headers or {}), **more}, media_type="application/problem+json")


DELIVERY_STATUS: Mapping[type[CoafiError], int] = {
    AuthorizationError: 401,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    IdempotencyConflict: 409,
    Refused: 400,
    Unavailable: 503,
}
"""What an error means to whoever delivers an event; the first that fits."""


def refused_delivery(
    error: CoafiError, source: str, statuses: Mapping[type[CoafiError], int] = DELIVERY_STATUS
) -> Response:
    """The answer to a delivery that starts nothing: logged, counted, and asked for again where that may help.

    Args:
        source: which door it came to, for the metric.
        statuses: of HTTP, by error; the first that fits.
    """
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 500)
    metrics.REFUSED.labels(source, status).inc()
    log.warning("delivery refused", source=source, status=status, reason=str(error))
    retry_after = (error.retry_after or RETRY_AFTER) if isinstance(error, Unavailable) else None
    return problem(status, str(error), retry_after=retry_after)


def traceparent_of(request: Request) -> str | None:
    """The trace that a request says it belongs to (W3C Trace Context), if it says so in the right form."""
    value = request.headers.get("traceparent", "")
    return value if _TRACEPARENT.fullmatch(value) else None
