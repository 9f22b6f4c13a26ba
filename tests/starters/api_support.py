"""Callers of the API: keys in the home of a running service, clients that send them, and what the document promises."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
from pydantic import JsonValue

from coafi.api import examples
from coafi.api.openapi import target_of
from coafi.api.routes import Route
from coafi.auth.apikeys import ApiKeyFile
from tests.harness import Stack

PROBLEM = "application/problem+json"


def key_for(stack: Stack, name: str = examples.NAME, *roles: str) -> str:
    """A new API key of the service, with the role ``admin`` unless others are named."""
    _, text = ApiKeyFile(stack.settings.api_keys_path).add(name, roles or ("admin",), expires=None)
    return text.get_secret_value()


@asynccontextmanager
async def caller(stack: Stack, name: str = examples.NAME, *roles: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends a key of its own."""
    headers = {"Authorization": f"Bearer {key_for(stack, name, *roles)}"}
    async with httpx.AsyncClient(base_url=stack.gateway, headers=headers, timeout=60) as client:
        yield client


async def send(client: httpx.AsyncClient, route: Route, example: examples.Example) -> httpx.Response:
    """Send an example."""
    target, body = target_of(route, example)
    return await client.request(route.method, target, json=body, headers=dict(example.headers))


@dataclass(frozen=True)
class Promise:
    """An OpenAPI document, to hold answers against."""

    document: Any

    def check(self, path: str, method: str, answer: httpx.Response) -> None:
        """Fail unless status, headers, media type and body of an answer are what the document says, and no more."""
        operation = self.document["paths"][path][method.lower()]
        assert str(answer.status_code) in operation["responses"], answer.text
        self._check(self._resolved(operation["responses"][str(answer.status_code)]), answer)

    def check_problem(self, name: str, answer: httpx.Response) -> None:
        """The same for an error that belongs to no operation."""
        self._check(self.document["components"]["responses"][name], answer)

    def _check(self, response: Any, answer: httpx.Response) -> None:
        declared = {name.lower(): self._resolved(header) for name, header in response.get("headers", {}).items()}
        known = {name.lower() for name in self.document["components"]["headers"]}
        assert {name for name in answer.headers if name in known} <= set(declared)
        for name, header in declared.items():
            if header["required"]:
                assert name in answer.headers
            if name in answer.headers:
                assert self.wrong(header["schema"], answer.headers[name]) == []
        if "content" not in response:
            assert answer.content == b""
            return
        media_type = answer.headers["content-type"].partition(";")[0]
        assert self.wrong(response["content"][media_type]["schema"], answer.json()) == []

    def wrong(self, schema: Any, value: Any) -> list[str]:
        """What speaks against a value; also members that the document does not know."""
        components = {"schemas": {name: _closed(one) for name, one in self.document["components"]["schemas"].items()}}
        validator = jsonschema.Draft202012Validator({"components": components, "allOf": [schema]})
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def _resolved(self, value: Any) -> Any:
        while "$ref" in value:
            _, _, kind, name = value["$ref"].split("/")
            value = self.document["components"][kind][name]
        return value


def settled(value: JsonValue) -> Any:
    """An answer without what differs each time."""
    if isinstance(value, dict):
        return {
            key: "…" if key in examples.VOLATILE and not _has_entries(key, one) else settled(one)
            for key, one in value.items()
        }
    return [settled(one) for one in value] if isinstance(value, list) else value


def _has_entries(key: str, value: JsonValue) -> bool:
    """Whether this is a page of entries of a registry, and not indices of the ledger."""
    return key == "entries" and isinstance(value, list) and "entryId" in str(value)


def _closed(schema: Any) -> Any:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema
