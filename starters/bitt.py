"""The ledger over HTTP, below ``/bitt/``: C2SP tlog-tiles (https://c2sp.org/tlog-tiles), entries, proofs, appends.

::

    public        GET  checkpoint                       the last signed checkpoint
                  GET  keys                             the keys it had, and how each followed
                  GET  tile/<L>/<N>[.p/<W>]             hashes
                  GET  proof/inclusion?index=&size=     the same as a proof, for who has no tiles
                  GET  proof/consistency?old=&new=
    with a token  GET  tile/entries/<N>[.p/<W>]         entry bundles
                  GET  entries?start=&end=              as JSON, start <= index < end, 256 at most
                  GET  entries?event=[&start=]          those of an event; ?key= the one with a key
                  GET  entries/<index>                  the exact bytes of one
                  GET  proof/<index>                    the whole proof, entry and checkpoint included
                  GET  head                             what is committed, signed or not
    other         POST entries                          append; all or none
    instances     POST checkpoint                       sign one now

Hashes and checkpoints tell nothing but that something was recorded. Entries may hold restricted data: see
:class:`BittAccess`.
"""

import gzip
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import pydantic
import structlog
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from coafi import metrics
from coafi.canonical import sha256
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IdempotencyConflict,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.ledger import tiles
from coafi.ledger.bundle import encode_bundle
from coafi.ledger.entry import Recorded
from coafi.ledger.log import PUBLISH_SECONDS, Ledger
from coafi.ledger.wire import (
    ERROR,
    MAX_REQUEST,
    PAGE,
    AppendRequest,
    EntriesAnswer,
    EntryMessage,
    HashesAnswer,
    HeadAnswer,
    KeysAnswer,
)
from coafi.names import EntryType
from starters.access import bearer_token, is_from_here, is_loopback, is_one_of
from starters.answers import BodyTooLarge, BodyTooSlow, problem, read_body

log = structlog.stdlib.get_logger()

RETRY_AFTER = 5.0
"""Seconds after which a request may be tried again that found the database away."""

_JSON = "application/json"
_BYTES = "application/octet-stream"
_FOREVER = "public, max-age=31536000, immutable"
_FOREVER_PRIVATE = "private, max-age=31536000, immutable"
_CHANGES = "private, no-cache"
_BRIEFLY = "public, max-age=1"


class BadRequest(ValidationError):
    """The request is not one of those above; with the places where it is not."""

    def __init__(self, message: str, *, remedy: str = "", errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.errors = errors


_STATUS: Mapping[type[CoafiError], int] = {
    BadRequest: 400,
    AuthorizationError: 401,
    PolicyDenied: 403,
    ResourceNotFoundError: 404,
    BodyTooSlow: 408,
    IdempotencyConflict: 409,
    BodyTooLarge: 413,
    ValidationError: 422,
    Unavailable: 503,
}


@dataclass(frozen=True)
class BittAccess:
    """Who may read entries, and who may append.

    As soon as there is a token of either kind, a reader needs one. Without any, whoever is on this machine may read:
    the gateway must listen on a loopback address, be asked by one, and not through a proxy. To append always takes a
    token, and the token says whose entries: those of an instance, in namespaces that begin with its name.

    Attributes:
        readers: tokens that may read.
        instances: tokens that may append, and read, by the name of the instance.
        host: address that the gateway listens on.
    """

    readers: tuple[SecretStr, ...]
    instances: Mapping[str, tuple[SecretStr, ...]]
    host: str

    def check_reader(self, request: Request) -> None:
        """Let a request read entries, or raise.

        Raises:
            AuthorizationError: it has no token, or a wrong one.
            PolicyDenied: there are no tokens, and it is not from this machine.
        """
        tokens = (*self.readers, *(token for one in self.instances.values() for token in one))
        if tokens:
            if not is_one_of(_token(request), tokens):
                raise AuthorizationError("the ledger's entries are read with a token", remedy="give it as bearer")
        elif not is_loopback(self.host) or not is_from_here(request):
            raise PolicyDenied(
                "the ledger's entries are open to this machine alone",
                remedy="whoever runs the gateway has to set COAFI_BITT_TOKENS",
            )

    def instance(self, request: Request) -> str:
        """The name of the instance that appends.

        Raises:
            AuthorizationError: it has no token, or a wrong one.
            PolicyDenied: the token only reads, or nobody may append.
        """
        given = _token(request)
        found = [name for name, tokens in self.instances.items() if is_one_of(given, tokens)]
        if found:
            return found[0]
        if not self.instances or is_one_of(given, self.readers):
            raise PolicyDenied(
                "this token may not append to the ledger" if given else "nobody may append to the ledger from outside",
                remedy="whoever runs the gateway has to name the instance in COAFI_BITT_APPEND_TOKENS",
            )
        raise AuthorizationError("instances append to the ledger with a token", remedy="give it as bearer")


@dataclass(frozen=True)
class _Content:
    """What is answered.

    Attributes:
        cache: for ``Cache-Control``.
        compressed: whether a client that takes gzip gets it.
    """

    body: bytes
    media_type: str = _JSON
    cache: str = _CHANGES
    compressed: bool = False


@dataclass(frozen=True)
class BittApi:
    """The routes below ``/bitt/``, and what they need.

    Attributes:
        ledger: the one that is kept here.
        body_timeout: seconds that a sender may take for a body.
    """

    ledger: Ledger
    access: BittAccess
    body_timeout: float = 30.0
    _checkpoints: "_Checkpoints" = field(init=False, repr=False, default_factory=lambda: _Checkpoints())

    def routes(self) -> list[Route]:
        """The routes, for the gateway. What is more special comes first."""
        return [
            self._read("checkpoint", self._checkpoint),
            self._read("keys", self._keys),
            self._read("tile/entries/{path:path}", self._bundle, restricted=True),
            self._read("tile/{path:path}", self._tile),
            self._read("entries", self._entries, restricted=True),
            self._read("entries/{index}", self._entry, restricted=True),
            self._read("proof/inclusion", self._inclusion),
            self._read("proof/consistency", self._consistency),
            self._read("proof/{index}", self._proof, restricted=True),
            self._read("head", self._head, restricted=True),
            self._write("entries", self._append),
            self._write("checkpoint", self._sign),
        ]

    def _read(self, path: str, answer: Callable[[Request], _Content], *, restricted: bool = False) -> Route:
        """A route that reads: blocking, so it runs on a thread."""
        name = path.partition("{")[0].rstrip("/")

        def endpoint(request: Request) -> Response:
            try:
                if restricted:
                    self.access.check_reader(request)
                return _counted(name, _response(request, answer(request)))
            except CoafiError as error:
                return _counted(name, _refusal(request, error))

        return Route(f"/bitt/{path}", endpoint, methods=["GET"])

    def _write(self, path: str, answer: Callable[[Request, str], Awaitable[_Content]]) -> Route:
        """A route that changes the ledger."""
        name = f"POST {path}"

        async def endpoint(request: Request) -> Response:
            try:
                instance = self.access.instance(request)  # before the body: a stranger's is not read
                content = await answer(request, instance)
            except CoafiError as error:
                return _counted(name, _refusal(request, error))
            except ClientDisconnect:
                return _counted(name, problem(400, "client left before its body was read"))
            return _counted(name, Response(content.body, media_type=content.media_type, headers=_headers(_CHANGES)))

        return Route(f"/bitt/{path}", endpoint, methods=["POST"])

    # ------------------------------------------------------------------ hashes

    def _checkpoint(self, _request: Request) -> _Content:
        return _Content(self._checkpoints.last(self.ledger).encode(), "text/plain; charset=utf-8", _BRIEFLY)

    def _keys(self, _request: Request) -> _Content:
        # Not kept here: whoever has a checkpoint of a new key must find the hand-over to it.
        return _Content(_json(KeysAnswer.of(self.ledger.key, self.ledger.hand_overs())), cache=_BRIEFLY)

    def _tile(self, request: Request) -> _Content:
        return _Content(self.ledger.tile(_tile(f"tile/{request.path_params['path']}")), _BYTES, _FOREVER)

    def _inclusion(self, request: Request) -> _Content:
        hashes = self.ledger.inclusion_proof(_number(request, "index"), _number(request, "size"))
        return _Content(_hashes(hashes), cache=_FOREVER)

    def _consistency(self, request: Request) -> _Content:
        hashes = self.ledger.consistency_proof(_number(request, "old"), _number(request, "new"))
        return _Content(_hashes(hashes), cache=_FOREVER)

    # ----------------------------------------------------------------- entries

    def _bundle(self, request: Request) -> _Content:
        tile = _tile(f"tile/0/{request.path_params['path']}")
        first = tile.n * tiles.WIDTH
        found = self.ledger.entries(first, first + tile.width)
        if len(found) < tile.width:
            raise ResourceNotFoundError("the ledger has no such bundle yet", remedy="ask for what its checkpoint says")
        return _Content(encode_bundle(one.body for one in found), _BYTES, _FOREVER_PRIVATE, compressed=True)

    def _entries(self, request: Request) -> _Content:
        query = request.query_params
        if (key := query.get("key")) is not None:
            return _Content(_recorded(self._with_key(key)))
        start = _number(request, "start", 0)
        if (event := query.get("event")) is not None:
            return _Content(_recorded(self.ledger.by_event(event, start=start, limit=PAGE)))
        end = _number(request, "end", start + PAGE)
        if end < start:
            raise BadRequest("end is before start", remedy="give the first index, and the one after the last")
        return _Content(_recorded(self.ledger.entries(start, min(end, start + PAGE))))

    def _with_key(self, key: str) -> list[Recorded]:
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise BadRequest("key is not 64 hexadecimal digits", remedy="give the key of an entry")
        index = self.ledger.index_of(key)
        return [] if index is None else [self.ledger.entry(index)]

    def _entry(self, request: Request) -> _Content:
        return _Content(self.ledger.entry(_index(request)).body, _JSON, _FOREVER_PRIVATE)

    def _proof(self, request: Request) -> _Content:
        return _Content(self.ledger.prove(_index(request)).model_dump_json().encode())

    def _head(self, _request: Request) -> _Content:
        head = self.ledger.head()
        return _Content(_json(HeadAnswer(origin=head.origin, size=head.size, root=head.root.hex())))

    # ------------------------------------------------------------------ writes

    async def _append(self, request: Request, instance: str) -> _Content:
        body = await read_body(request, MAX_REQUEST, self.body_timeout, remedy="append fewer entries at a time")
        return await run_in_threadpool(self._record, body, instance)

    def _record(self, body: bytes, instance: str) -> _Content:
        try:
            drafts = [one.draft for one in AppendRequest.model_validate_json(body).drafts]
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[:20]
            raise BadRequest(
                f"this is not a request to append: {found[0]['msg']}",
                remedy="both sides may run different versions: upgrade the older one",
                errors=tuple(("/" + "/".join(str(part) for part in one["loc"]), one["msg"]) for one in found),
            ) from None
        for draft in drafts:
            if not draft.namespace.startswith(f"{instance}/"):
                raise PolicyDenied(
                    f"instance {instance} may not write in namespace {draft.namespace[:100]!r}",
                    remedy=f"set COAFI_INSTANCE={instance} there, or give it a token of its own",
                )
            if draft.type == EntryType.LEDGER_KEY_CHANGED:
                raise PolicyDenied(
                    f"instance {instance} may not record a change of the ledger's keys",
                    remedy="run `coafi ledger keys rotate` where the ledger is kept",
                )
        return _Content(_recorded(self.ledger.append(drafts)))

    async def _sign(self, _request: Request, _instance: str) -> _Content:
        signed = await run_in_threadpool(self.ledger.checkpoint, force=True)
        self._checkpoints.replace(signed.note)
        return _Content(signed.note.encode(), "text/plain; charset=utf-8")


class _Checkpoints:
    """The last checkpoint. However many ask for it, the ledger is asked once in a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._found: str | CoafiError = ""

    def last(self, ledger: Ledger) -> str:
        """Its note.

        Raises:
            IntegrityError, Unavailable: as the ledger says.
        """
        with self._lock:
            if time.monotonic() - self._asked >= PUBLISH_SECONDS:
                try:
                    self._found = ledger.checkpoint().note
                except CoafiError as error:
                    self._found = error
                self._asked = time.monotonic()
            found = self._found
        if isinstance(found, CoafiError):
            raise found
        return found

    def replace(self, note: str) -> None:
        """Show this one from now on."""
        with self._lock:
            self._found, self._asked = note, time.monotonic()


def _token(request: Request) -> str:
    return bearer_token(request.headers.get("authorization", ""))


def _tile(path: str) -> tiles.Tile:
    try:
        return tiles.parse_path(path)
    except ValidationError as error:
        raise ResourceNotFoundError(error.message, remedy=error.remedy) from None


def _index(request: Request) -> int:
    text = request.path_params["index"]
    number = _parsed(text)
    if number is None:
        raise ResourceNotFoundError(f"{text[:40]!a} is not the index of an entry", remedy="an index is a number from 0")
    return number


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name)
    number = default if text is None else _parsed(text)
    if number is None:
        raise BadRequest(f"{name} is {'missing' if text is None else 'not a number'}", remedy="give a number from 0")
    return number


def _parsed(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _json(answer: pydantic.BaseModel) -> bytes:
    return answer.model_dump_json().encode()


def _recorded(found: list[Recorded]) -> bytes:
    return _json(EntriesAnswer.model_construct(entries=tuple(EntryMessage.of(one) for one in found)))


def _hashes(hashes: list[bytes]) -> bytes:
    return _json(HashesAnswer(hashes=tuple(one.hex() for one in hashes)))


def _headers(cache: str) -> dict[str, str]:
    return {
        "Cache-Control": cache,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding" if cache.startswith("public") else "Accept-Encoding, Authorization",
    }


def _response(request: Request, content: _Content) -> Response:
    """The answer with its headers; without its body, if the client has it."""
    headers, body, tag = _headers(content.cache), content.body, sha256(content.body)
    if content.compressed and _takes_gzip(request):
        body, tag = gzip.compress(body, 6, mtime=0), f"{tag}-gzip"
        headers["Content-Encoding"] = "gzip"
    headers["ETag"] = f'"{tag}"'
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known or "*" in known:
        headers.pop("Content-Encoding", None)
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=content.media_type)


def _takes_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _refusal(request: Request, error: CoafiError) -> Response:
    """An error as a problem (RFC 9457), whose type stays the same."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    detail = str(error)
    if status == 500:
        log.error("ledger not served", path=request.url.path, reason=detail)
        detail = "this is a defect of the ledger or of the service; its log says more"
    elif request.method == "POST":
        log.warning("append refused", status=status, reason=detail)
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="BITT"'
    return problem(
        status,
        detail,
        type_=f"{ERROR}{error.kind}",
        retry_after=(getattr(error, "retry_after", None) or RETRY_AFTER) if status == 503 else None,
        headers=headers,
        errors=[{"pointer": at, "detail": text} for at, text in getattr(error, "errors", ())],
    )


def _counted(route: str, response: Response) -> Response:
    metrics.LEDGER_REQUESTS.labels(route, response.status_code).inc()
    return response
