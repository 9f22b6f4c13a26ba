"""What the API can do, for programs at ``/openapi.json`` and for people at ``/api/``. Both are open to everybody."""

import asyncio
import json
from dataclasses import dataclass, field
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coafi.api.openapi import openapi_document, request_schemas
from coafi.api.pages import reference_page
from coafi.api.words import Limits
from coafi.canonical import sha256
from coafi.errors import CoafiError
from coafi.registry.port import Schemas
from starters.answers import problem

PACKAGE = "coafi-event-handlers"

_CACHING = "public, max-age=60"
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Made:
    """What was made from the schemas with these digests."""

    digests: tuple[str, ...]
    document: bytes
    page: bytes


@dataclass
class ApiPages:
    """The two routes, and what they are made from.

    Attributes:
        registry: has the schemas of requests; when one has a newer version, both are made anew.
        limits: of the gateway.
    """

    registry: Schemas
    limits: Limits
    _made: _Made | None = field(default=None, repr=False)

    def routes(self) -> list[Route]:
        """The routes, for the gateway: before those of the API."""
        return [Route("/openapi.json", self.document), Route("/api/", self.page)]

    async def document(self, request: Request) -> Response:
        """``GET /openapi.json``."""
        made = await self._current()
        return made if isinstance(made, Response) else _response(request, made.document, _JSON)

    async def page(self, request: Request) -> Response:
        """``GET /api/``."""
        made = await self._current()
        return made if isinstance(made, Response) else _response(request, made.page, _HTML)

    async def _current(self) -> _Made | Response:
        try:
            return await asyncio.to_thread(self._make)
        except CoafiError as error:
            return problem(503, str(error), retry_after=5)

    def _make(self) -> _Made:
        schemas = {schema_id: self.registry.schema(schema_id) for schema_id in request_schemas()}
        digests = tuple(schema.digest for schema in schemas.values())
        made = self._made
        if made is None or made.digests != digests:
            document = openapi_document(schemas, self.limits, version(PACKAGE))
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
            made = self._made = _Made(digests, text, reference_page(document))
        return made


def _response(request: Request, body: bytes, media_type: str) -> Response:
    etag = f'"{sha256(body)[:32]}"'
    headers = {"ETag": etag, "Cache-Control": _CACHING, "X-Content-Type-Options": "nosniff"}
    if media_type == _HTML:
        headers |= {
            "Content-Security-Policy": "frame-ancestors 'none'",  # the page has the rest of it
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)
