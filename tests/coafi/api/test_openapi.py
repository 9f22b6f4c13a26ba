"""The OpenAPI document: valid for others, valid against itself, and true to the tables that it is made from."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from coafi.api.examples import examples, ordered
from coafi.api.openapi import PERMISSION, SCHEMA, openapi_document, request_schemas
from coafi.api.pages import reference_page
from coafi.api.requests import event_path
from coafi.api.routes import ROUTES, Operation
from coafi.api.words import ERRORS, MEMBERS, OPERATIONS, RESPONSE_HEADERS, TAGS, Limits, errors_of
from coafi.registry.builtin import builtin_schemas
from coafi.registry.validation import Schema
from starters import api

LIMITS = Limits(body=512 * 1024, headers=32 * 1024, body_seconds=30, wait=10, longest_wait=60, rate=50, burst=200)
SCHEMAS = {schema.schema_id: schema for schema in builtin_schemas()}


def made(schemas: dict[str, Schema] | None = None) -> Any:
    """A document of our own, to change and to look at."""
    return copy.deepcopy(openapi_document(schemas or SCHEMAS, LIMITS, "1.0.0"))


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def errors_in(document: Any, schema: Any, value: Any) -> list[str]:
    """What speaks against a value, after a schema of the document, by the reference implementation."""
    whole = {"components": document["components"], "allOf": [schema]}
    return [error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(value)]


def test_it_is_valid_by_the_official_meta_schema() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(made()).iter_errors()] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("openapi",), "3.0"),
        (("info", "title"), None),
        (("paths", "/api/event/{id}", "get", "parameters"), []),
        (("paths", "/utids/{id}", "get", "operationId"), "readEvent"),
        (("components", "responses", "Unreadable", "description"), 4),
    ],
)
def test_what_is_wrong_with_a_document_would_be_found(place: tuple[str, ...], value: object) -> None:
    document = made()
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    assert [*OpenAPIV31SpecValidator(document).iter_errors()]


def test_every_route_is_in_it_and_nothing_else() -> None:
    document = made()
    found = {(path, method): operation for path, method, operation in operations(document)}
    assert set(found) == {(route.path, route.method) for route in ROUTES}
    for route in ROUTES:
        operation = found[route.path, route.method]
        assert operation[PERMISSION] == route.permission
        assert operation["security"] == [{"bearer": [route.permission]}]
        assert f"`{route.permission}`" in operation["description"]
        assert operation[SCHEMA] == SCHEMAS[route.schema_id].document["$id"]
        assert ("requestBody" in operation) == (route.method == "POST")
        assert {int(status) for status in operation["responses"] if int(status) >= 400} == set(errors_of(route))
    assert set(OPERATIONS) == set(Operation) == {route.operation for route in ROUTES}
    assert set(TAGS) == {tag for operation in found.values() for tag in operation["tags"]}


def test_a_query_is_described_as_its_schema_has_it() -> None:
    for route in ROUTES:
        properties: Any = SCHEMAS[route.schema_id].document["properties"]
        (operation,) = [one for path, method, one in operations(made()) if (path, method) == (route.path, route.method)]
        shown = {one["name"]: one for one in operation["parameters"] if one["in"] in ("query", "path")}
        assert set(shown) == (set(properties) if route.method == "GET" else set())
        for name, one in shown.items():
            assert {**one["schema"], "description": one["description"]} == properties[name]
            assert one["required"] == (name in SCHEMAS[route.schema_id].document["required"])  # type: ignore[operator]


def test_a_newer_version_of_a_schema_is_what_is_shown() -> None:
    old = SCHEMAS["APIRequest.registry.status.POST"]
    properties: Any = old.document["properties"]
    newer = Schema(old.schema_id, "1.1.0", {**old.document, "properties": {**properties, "note": {"type": "string"}}})
    document = made({**SCHEMAS, old.schema_id: newer})
    assert "note" in document["components"]["schemas"][old.schema_id]["properties"]
    assert document["paths"]["/api/registry/status"]["post"][SCHEMA] == f"urn:coafi:schema:{old.schema_id}:1.1.0"
    assert set(request_schemas()) == {one for one in SCHEMAS if one.startswith("APIRequest.")}


def test_every_example_fits_the_document() -> None:
    document = made()
    bodies = parameters = answers = 0
    for _, _, operation in operations(document):
        for one in operation["parameters"]:
            if "example" in one:
                assert errors_in(document, one["schema"], one["example"]) == [], one
                parameters += 1
        contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        bodies += len(contents)
        contents += [one["content"] for one in operation["responses"].values() if "content" in one]
        for content in contents:
            for one in content.values():
                for example in one.get("examples", {}).values():
                    assert errors_in(document, one["schema"], example["value"]) == [], example
                    answers += 1
    for response in document["components"]["responses"].values():
        (content,) = response["content"].values()
        assert errors_in(document, content["schema"], content["examples"]["example"]["value"]) == []
    for header in document["components"]["headers"].values():
        assert errors_in(document, header["schema"], header["example"]) == []
    assert bodies == sum(route.method == "POST" for route in ROUTES)
    assert parameters > len(ROUTES)
    assert answers == bodies + len(ROUTES)
    assert len(examples()) == len(ordered()) == len(ROUTES)


def test_an_example_that_did_not_fit_would_be_found() -> None:
    document = made()
    body = examples()[Operation.UPDATE_ENTRY].body
    entry = {"$ref": "#/components/schemas/Entry"}
    assert errors_in(document, entry, body) == []
    for name in body:
        assert errors_in(document, entry, {key: one for key, one in body.items() if key != name}), name
    assert errors_in(document, entry, {**body, "version": "1"})


def test_every_member_has_its_words_and_no_words_are_left_over() -> None:
    document = made()
    shown: set[str] = set()
    for name, schema in document["components"]["schemas"].items():
        for member, one in schema.get("properties", {}).items():
            assert one.get("description"), f"{name}.{member}"
            shown |= {member, f"{name}.{member}"}
    assert {key for key in MEMBERS if key not in shown} == set()


def test_the_errors_are_those_that_the_gateway_gives() -> None:
    given = {*api._STATUS.values(), 405, 409, 500}
    assert set(ERRORS) == given
    assert {status for route in ROUTES for status in errors_of(route)} == given - {405}
    assert {name for error in ERRORS.values() for name in error.headers} <= set(RESPONSE_HEADERS)


def test_the_path_of_an_event_in_the_examples_is_the_one_that_is_answered() -> None:
    run = str(examples()[Operation.UPDATE_ENTRY].body["workflowId"])
    assert RESPONSE_HEADERS["Coafi-Event"].example == event_path(run)


def test_the_limits_in_the_text_are_those_of_the_gateway() -> None:
    text = json.dumps(openapi_document(SCHEMAS, Limits(3 * 2**20, 5 * 2**10, 7, 1, 59, 11, 13), "1"))
    for part in (
        "3 MiB",
        "5 KiB",
        "within 7 s",
        "answer: 1 s",
        "at most 59 s",
        "11 times a second",
        "13 times at once",
    ):
        assert part in text, part


def test_the_page_shows_every_operation_parameter_member_and_error() -> None:
    document = made()
    page = reference_page(document).decode()
    for path, method, operation in operations(document):
        assert f'<span class="method {method.lower()}">{method}</span> <code>{path}</code>' in page
        assert f"<code>{operation[PERMISSION]}</code>" in page
        assert page.count(f'id="{operation["operationId"]}"') == 1
        for one in operation["parameters"]:
            assert f"<code>{one['name']}</code>" in page
    for name, schema in document["components"]["schemas"].items():
        for member in schema.get("properties", {}):
            assert f"<code>{member}</code>" in page, f"{name}.{member}"
    for status in ERRORS:
        assert f'id="error-{status}"' in page


def test_the_page_takes_nothing_from_a_document_for_markup() -> None:
    schema = SCHEMAS["APIRequest.event.GET"]
    hostile: Any = copy.deepcopy(schema.document)
    hostile["properties"]["id"]["description"] = "<script>alert(1)</script> `<b>` &amp;"
    hostile["properties"]["id"]["pattern"] = "^<i>$"
    page = reference_page(made({**SCHEMAS, schema.schema_id: Schema(schema.schema_id, "1.0.0", hostile)})).decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code> &amp;amp;" in page
    assert "<script" not in page
    assert "<i>" not in page
