"""Requests to the registry of a running service, for tests of what follows from them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import httpx

from coafi.auth.apikeys import ApiKeyFile
from coafi.canonical import JsonObject
from tests.harness import Stack


@asynccontextmanager
async def api(stack: Stack, name: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API who may do everything, under a new name or one that is given."""
    name = name or f"test-{uuid.uuid4().hex[:8]}"
    _, key = ApiKeyFile(stack.settings.api_keys_path).add(name, ("admin",), expires=None)
    bearer = {"Authorization": f"Bearer {key.get_secret_value()}"}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=bearer, timeout=70) as client:
        yield client


def entry(registry: str = "AERO", **changes: Any) -> JsonObject:
    """What makes a new entry."""
    return {"registryId": registry, "entryId": f"E-{uuid.uuid4().hex}", "data": {"name": "wing"}, **changes}


async def updated(http: httpx.AsyncClient, asked: JsonObject, **headers: str) -> tuple[JsonObject, str]:
    """Make an entry, or a version of one: the version, and the workflow id of the run."""
    return _done(await http.post("/registry/update", json=asked, headers=headers))


async def moved(http: httpx.AsyncClient, of: JsonObject, status: str) -> tuple[JsonObject, str]:
    """Move an entry to another status."""
    asked = {"registryId": of["registryId"], "entryId": of["entryId"], "status": status}
    return _done(await http.post("/registry/status", json=asked))


async def integrated(http: httpx.AsyncClient, asked: JsonObject) -> JsonObject:
    """Update an entry and lead it to its integration; the last version."""
    made, _ = await updated(http, asked)
    for status in ("Review", "Approval", "Integration"):
        made, _ = await moved(http, made, status)
    return made


async def published(http: httpx.AsyncClient, schema_id: str, version: str, **document: Any) -> JsonObject:
    """Publish a schema; its entry."""
    data = {"$id": f"urn:coafi:schema:{schema_id}:{version}", "type": "object", **document}
    return await integrated(http, {"registryId": "schemas", "entryId": schema_id, "data": data})


def _done(response: httpx.Response) -> tuple[JsonObject, str]:
    assert response.status_code in (200, 201), response.text
    body: JsonObject = response.json()
    return body, unquote(response.headers["coafi-event"].removeprefix("/api/event/"))
