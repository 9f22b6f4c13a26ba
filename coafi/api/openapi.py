"""The OpenAPI 3.1 document of the API, from the table of routes, the schemas of requests and the models of answers.

Nothing of it is written twice: what a request may be is said by the schema ``APIRequest.{endpoint}.{method}`` in its
newest published version, what an answer is by its model, and :mod:`coafi.api.words` adds the words.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import models_json_schema

from coafi.api.answers import problem_type
from coafi.api.bodies import AcceptedAnswer, ErrorPlace, Problem
from coafi.api.examples import Example, examples
from coafi.api.routes import ROUTES, Operation, Route
from coafi.api.words import (
    CREATED,
    ERRORS,
    KNOWN_VERSIONS,
    MEMBERS,
    OPERATIONS,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    SUMMARY,
    TAGS,
    TITLE,
    Header,
    Limits,
    errors_of,
    introduction,
)
from coafi.canonical import JsonObject
from coafi.registry.validation import Schema

OPENAPI = "3.1.1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PERMISSION = "x-coafi-permission"
SCHEMA = "x-coafi-schema"
SAMPLES = "x-codeSamples"
SECURITY = "bearer"

_REFERENCE = "#/components/schemas/"
_TAGGED = (Operation.READ_ENTRY, Operation.LIST_SCHEMAS)
"""What is only read, and has an ``ETag``."""

_PARTIAL = (Problem, ErrorPlace, AcceptedAnswer)
"""Models that are sent without what they have no value for; all others are sent whole."""


def openapi_document(schemas: Mapping[str, Schema], limits: Limits, version: str) -> JsonObject:
    """The document.

    Args:
        schemas: the schemas of requests, by id: see :func:`request_schemas`.
        limits: what the gateway lets through.
        version: of the API.
    """
    paths: dict[str, dict[str, JsonValue]] = {}
    for route in ROUTES:
        operation = _operation(route, schemas[route.schema_id])
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    text = "\n\n".join(f"## {heading}\n\n{paragraph}" for heading, paragraph in introduction(limits))
    return {
        "openapi": OPENAPI,
        "jsonSchemaDialect": DIALECT,
        "info": {"title": TITLE, "version": version, "summary": SUMMARY, "description": f"{SUMMARY}\n\n{text}"},
        "servers": [{"url": "/", "description": "The gateway that serves this document"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "security": [{SECURITY: []}],
        "paths": {**paths},
        "components": {
            "securitySchemes": {
                SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`coafi auth key add`), or a JSON Web Token.",
                }
            },
            "headers": {name: _header(header) for name, header in RESPONSE_HEADERS.items()},
            "responses": {error.name: _problem(status) for status, error in ERRORS.items()},
            "schemas": {**_models(), **_bodies(schemas)},
        },
    }


def request_schemas() -> Iterable[str]:
    """The ids of the schemas that the document is made from."""
    return (route.schema_id for route in ROUTES)


def component(model: str) -> str:
    """What a model is called in the document."""
    return model.removesuffix("Answer")


def curl(route: Route, example: Example) -> str:
    """A line of ``sh`` that sends an example, with the gateway's address in ``$GATEWAY`` and the key in ``$KEY``."""
    target, body = target_of(route, example)
    words = [f'curl -sS "$GATEWAY{target}"', '-H "Authorization: Bearer $KEY"']
    words += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in example.headers.items()]
    if body is not None:
        words.append("-H 'Content-Type: application/json'")
        words.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return " \\\n  ".join(words)


def target_of(route: Route, example: Example) -> tuple[str, JsonValue]:
    """Path and query of an example, and its body."""
    if route.takes_id:
        return route.path.replace("{id}", quote(str(example.asked["id"]), safe=":")), None
    if route.method == "GET":
        return f"{route.path}?{urlencode(example.asked, doseq=True)}", None
    return route.path, example.asked


# ---------------------------------------------------------------------- operations


def _operation(route: Route, schema: Schema) -> JsonObject:
    words, example = OPERATIONS[route.operation], examples()[route.operation]
    operation: JsonObject = {
        "operationId": words.id,
        "tags": [words.tag],
        "summary": route.summary,
        "description": f"{words.text}\n\nPermission: `{route.permission}`.",
        PERMISSION: route.permission,
        SCHEMA: _urn(schema),
        "security": [{SECURITY: [route.permission]}],
        "parameters": [*_parameters(route, schema, example)],
        "responses": _responses(route, example),
        SAMPLES: [{"lang": "Shell", "label": "curl", "source": curl(route, example)}],
    }
    if route.method == "POST":
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{_REFERENCE}{route.schema_id}"},
                    "examples": {"example": {"summary": route.summary, "value": example.asked}},
                }
            },
        }
    return operation


def _parameters(route: Route, schema: Schema, example: Example) -> Iterable[JsonObject]:
    if route.method == "GET":
        required = schema.document.get("required")
        for name, one in _objects(schema.document.get("properties")):
            parameter: JsonObject = {
                "name": name,
                "in": "path" if route.takes_id else "query",
                "required": name in (required if isinstance(required, list) else ()),
                "description": str(one["description"]),
                "schema": {key: value for key, value in one.items() if key != "description"},
            }
            if name in example.asked:
                parameter["example"] = example.asked[name]
            yield parameter
    if route.durable:
        wanted = ["Prefer", "Idempotency-Key"]
        if route.operation is not Operation.START_WORKFLOW:
            wanted += ["If-Match", "If-None-Match"]
        for name in wanted:
            yield _header_parameter(name, REQUEST_HEADERS[name], example.headers.get(name))
    if route.operation in _TAGGED:
        yield _header_parameter("If-None-Match", KNOWN_VERSIONS, None)


def _header_parameter(name: str, header: Header, example: str | None) -> JsonObject:
    parameter: JsonObject = {
        "name": name,
        "in": "header",
        "required": False,
        "description": header.text,
        "schema": header.schema,
    }
    if example is not None:
        parameter["example"] = example
    return parameter


# ----------------------------------------------------------------------- responses


def _responses(route: Route, example: Example) -> JsonObject:
    found: dict[str, JsonValue] = {}
    if route.operation in CREATED:
        found["201"] = _success(route, CREATED[route.operation], 201, example)
    found["200"] = _success(route, OPERATIONS[route.operation].result, 200, example)
    if route.durable:
        found["202"] = {
            "description": "The request is being worked on; `Location` says what became of it.",
            "headers": _headers("Location", "Preference-Applied"),
            "content": {"application/json": {"schema": {"$ref": f"{_REFERENCE}{component('AcceptedAnswer')}"}}},
        }
    if route.operation in _TAGGED:
        found["304"] = {
            "description": "What the caller has is what is asked for.",
            "headers": _headers("ETag"),
        }
    for status in errors_of(route):
        found[str(status)] = {"$ref": f"#/components/responses/{ERRORS[status].name}"}
    return dict(sorted(found.items()))


def _success(route: Route, description: str, status: int, example: Example) -> JsonObject:
    headers = ["Coafi-Event", "Preference-Applied"] if route.durable else []
    if route.operation is Operation.START_WORKFLOW:
        headers.append("Location")
    if route.operation in (Operation.UPDATE_ENTRY, Operation.CHANGE_STATUS, *_TAGGED):
        headers.append("ETag")
    content: JsonObject = {"schema": {"$ref": f"{_REFERENCE}{component(route.result.__name__)}"}}
    if status == example.status:
        content["examples"] = {"example": {"summary": route.summary, "value": example.body}}
    response: JsonObject = {"description": description, "content": {"application/json": content}}
    if headers:
        response["headers"] = _headers(*sorted(headers))
    return response


def _problem(status: int) -> JsonObject:
    error = ERRORS[status]
    value: JsonObject = {
        "type": problem_type(error.kind),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.detail,
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        value["errors"] = [
            {"pointer": "", "detail": '"data" is a required property', "rule": "payload/required"},
            {"pointer": "/registryId", "detail": "this is none of the registries", "rule": "payload/enum"},
        ]
    response: JsonObject = {
        "description": f"{error.when} {error.remedy}",
        "content": {
            "application/problem+json": {
                "schema": {"$ref": f"{_REFERENCE}{component('Problem')}"},
                "examples": {"example": {"summary": HTTPStatus(status).phrase, "value": value}},
            }
        },
    }
    if error.headers:
        response["headers"] = _headers(*error.headers)
    return response


def _header(header: Header) -> JsonObject:
    return {
        "description": header.text,
        "required": header.required,
        "schema": header.schema,
        "example": header.example,
    }


def _headers(*names: str) -> JsonObject:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


# ------------------------------------------------------------------------- schemas


def _bodies(schemas: Mapping[str, Schema]) -> dict[str, JsonValue]:
    """The schemas of what is sent: as they are published, but for what says where they are."""
    sent = (schemas[route.schema_id] for route in ROUTES if route.method == "POST")
    return {
        schema.schema_id: {
            SCHEMA: _urn(schema),
            **{key: one for key, one in schema.document.items() if key not in ("$id", "$schema")},
        }
        for schema in sent
    }


def _urn(schema: Schema) -> str:
    return f"urn:coafi:schema:{schema.schema_id}:{schema.version}"


def _models() -> dict[str, JsonValue]:
    """The schemas of the answers, with the words for their members."""
    models: dict[type[BaseModel], None] = dict.fromkeys([*(route.result for route in ROUTES), AcceptedAnswer, Problem])
    _, found = models_json_schema(
        [(model, "serialization") for model in models],
        by_alias=True,
        ref_template=f"{_REFERENCE}{{model}}",
    )
    partial = {model.__name__ for model in _PARTIAL}
    made: dict[str, JsonValue] = {}
    for name, schema in found["$defs"].items():
        called = component(name)
        schema["description"] = _first_paragraph(schema.get("description", "Any value of JSON."))
        schema["title"] = called
        for member, one in schema.get("properties", {}).items():
            one.pop("title", None)
            one.pop("default", None)
            one["description"] = MEMBERS.get(f"{called}.{member}") or MEMBERS.get(member, "")
        if "properties" in schema and name not in partial:
            schema["required"] = list(schema["properties"])
        schema.pop("additionalProperties", None)  # members may be added
        made[called] = _renamed(schema)
    return made


def _first_paragraph(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].replace("``", "`").split())


def _renamed(value: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """A schema with references to what the models are called in the document."""
    if isinstance(value, dict):
        return {
            key: _REFERENCE + component(one.removeprefix(_REFERENCE)) if key == "$ref" else _renamed(one)
            for key, one in value.items()
        }
    return [_renamed(one) for one in value] if isinstance(value, list) else value


def _objects(value: JsonValue) -> Iterable[tuple[str, JsonObject]]:
    return ((name, one) for name, one in (value if isinstance(value, dict) else {}).items() if isinstance(one, dict))
