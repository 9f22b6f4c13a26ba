"""What a request to the API says: its route, its caller, its conditions, its query and its body."""

import asyncio
import re
from collections.abc import Mapping

from pydantic import JsonValue
from starlette.requests import Request

from coafi.api.requests import MAX_KEY
from coafi.api.routes import BY_ENDPOINT, Route
from coafi.canonical import MAX_DEPTH, JsonObject
from coafi.documents.json_syntax import parse_json
from coafi.documents.limits import DocumentLimits
from coafi.documents.source import Source
from coafi.errors import AuthorizationError, Refused, ResourceNotFoundError, ValidationError
from coafi.findings import Finding, Severity
from starters.answers import read_body

MAX_HEADERS = 32 * 1024
"""Bytes of a request's headers."""


LONGEST_WAIT = 60.0
"""Seconds that a caller can have us wait for an answer."""


_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"|([!#-~]+)')


_WAIT = re.compile(r"(?i)(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])")


_ASYNC = re.compile(r"(?i)(?:^|[,\s])respond-async(?=$|[,;\s])")


_ETAG = re.compile(r'"([0-9]{1,10})"')


_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")


_INTEGER = re.compile(r"-?[0-9]{1,15}")


_LIMITS = DocumentLimits(max_depth=MAX_DEPTH, max_nodes=100_000, max_findings=20)


_SMALL = 16 * 1024


class Unreadable(ValidationError):
    """What was sent cannot be read as a request at all."""


class WrongMediaType(ValidationError):
    """The body is no JSON by its own word."""


class HeadersTooLarge(ValidationError):
    """The headers are larger than any client of ours needs."""


class WrongMethod(Refused):
    """The endpoint is there, for other methods: those of ``allow``."""

    def __init__(self, message: str, *, remedy: str, allow: str) -> None:
        super().__init__(message, remedy=remedy)
        self.allow = allow


def route_of(request: Request) -> tuple[Route, str]:
    """What is asked for, and the id in its path.

    Raises:
        ResourceNotFoundError: there is no such endpoint.
        WrongMethod: there is, for another method.
    """
    prefix = "/api/" if request.scope["path"].startswith("/api/") else "/"
    path = request.scope["path"].removeprefix(prefix)
    if not path:
        raise WrongMethod(f"{request.method} is not for {prefix}", remedy="see Allow", allow="GET, HEAD")
    endpoint, name = path, ""
    methods = BY_ENDPOINT.get(path)
    if methods is None or any(one.takes_id for one in methods.values()):
        endpoint, slash, name = path.partition("/")
        methods = BY_ENDPOINT.get(endpoint) if slash and name else None
    if methods is None or any(one.takes_id != bool(name) or one.prefix != prefix for one in methods.values()):
        raise ResourceNotFoundError(f"there is no endpoint {prefix}{path[:200]}", remedy="see /api/")
    method = "GET" if request.method == "HEAD" else request.method
    if method not in methods:
        allow = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        raise WrongMethod(f"{request.method} is not for {prefix}{endpoint}", remedy="see Allow", allow=allow)
    return methods[method], name


def check_size(request: Request) -> None:
    """Refuse headers that are larger than any client of ours needs.

    Raises:
        HeadersTooLarge: they are.
    """
    if sum(len(name) + len(value) for name, value in request.headers.raw) > MAX_HEADERS:
        raise HeadersTooLarge(f"the headers have more than {MAX_HEADERS} bytes", remedy="send fewer, or shorter ones")


def authorization(request: Request) -> str:
    """The header that says who asks; empty if there is none.

    Raises:
        AuthorizationError: there are several: a proxy may have looked at another one than we would.
    """
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise AuthorizationError(f"the request has {len(given)} Authorization headers", remedy="send one")
    return given[0] if given else ""


def idempotency_key(request: Request) -> str:
    """The caller's ``Idempotency-Key``, bare or as a string of structured fields; empty if there is none."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return ""
    found = _KEY.fullmatch(given[0].strip()) if len(given) == 1 and len(given[0]) <= MAX_KEY else None
    key = "" if found is None else re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    if not key:
        raise Unreadable(
            f"the Idempotency-Key is no text of 1 to {MAX_KEY} printable ASCII characters", remedy="send a UUID"
        )
    return key


def if_match(request: Request) -> int | None:
    """The version that the caller has seen; 0 for ``If-None-Match: *``: there must be none."""
    given, none = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none is not None:
        if none.strip() != "*" or given is not None:
            raise Unreadable("If-None-Match is not *, or stands beside If-Match", remedy='send one: If-Match: "4"')
        return 0
    if given is None or given.strip() == "*":
        return None
    found = _ETAG.fullmatch(given.strip())
    if found is None:
        raise Unreadable("If-Match is not the ETag of one version", remedy='send it as you got it, such as "4"')
    return int(found[1])


def known_etags(request: Request) -> list[str]:
    """The versions that the caller has already, weak or not."""
    return [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]


def _parsed(raw: bytes) -> JsonValue:
    """The value of a body.

    Raises:
        Unreadable: it is no JSON; with the places where it is not.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8: byte {error.start}", remedy="send UTF-8") from None
    parsed = parse_json(Source.of(text), _LIMITS)
    if parsed.findings or not parsed.values:
        found = parsed.findings
        message = f"line {found[0].line}, column {found[0].column}: {found[0].message}" if found else "it is empty"
        raise Unreadable(f"the body is not JSON: {message}", remedy="correct it", findings=tuple(found))
    return parsed.values[0]


def query(request: Request, types: Mapping[str, str]) -> JsonObject:
    """The parameters of a query.

    Args:
        types: the JSON types that the endpoint's schema gives them, by name.

    Raises:
        ValidationError: one is given several times.
    """
    asked: JsonObject = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if types.get(name) == "array":
            asked[name] = [*values]
        elif len(values) > 1:
            raise ValidationError(
                f"the query names {name} {len(values)} times",
                remedy="give it once",
                findings=(_finding(f"{name} may be given once", f"/{name}"),),
            )
        elif types.get(name) == "integer" and _INTEGER.fullmatch(values[0]):
            asked[name] = int(values[0])
        else:
            asked[name] = values[0]
    return asked


async def json_body(request: Request, limit: int, seconds: float) -> JsonObject:
    """The body of a request.

    Args:
        limit: bytes at most.
        seconds: that the sender may take.

    Raises:
        WrongMediaType, Unreadable, ValidationError: it is no JSON, or no object.
        BodyTooLarge, BodyTooSlow: it is beyond the limits.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise WrongMediaType(
            f"the body is {media_type if _MEDIA_TYPE.fullmatch(media_type) else 'of no type that is named'}",
            remedy="send application/json",
        )
    raw = await read_body(request, limit, seconds, remedy="raise COAFI_API_MAX_BODY_BYTES")
    value = await asyncio.to_thread(_parsed, raw) if len(raw) > _SMALL else _parsed(raw)
    if not isinstance(value, dict):
        raise ValidationError("the body is no JSON object", remedy="send an object, as the endpoint's schema says")
    return value


def preferred_wait(request: Request, usual: float) -> tuple[float, dict[str, str]]:
    """How long to wait for the answer, in seconds, and the headers that say so (RFC 7240).

    Args:
        usual: for a caller who says nothing about it.
    """
    preferred = ", ".join(request.headers.getlist("prefer"))
    if (found := _WAIT.search(preferred)) is not None:
        seconds = min(float(found[1]), LONGEST_WAIT)
        return seconds, {"Preference-Applied": f"wait={seconds:.0f}"}
    if _ASYNC.search(preferred):
        return 0.0, {"Preference-Applied": "respond-async"}
    return usual, {}


def _finding(message: str, pointer: str) -> Finding:
    return Finding(severity=Severity.ERROR, rule="payload/query", message=message, remedy="correct it", pointer=pointer)
