"""The fast engine against the reference, and what no schema may do."""

from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.canonical import JsonObject
from coafi.errors import ValidationError
from coafi.registry.store import builtin_schemas
from coafi.registry.validation import MAX_VIOLATIONS, Schema

SCHEMAS = {schema.schema_id: schema for schema in builtin_schemas()}
WORDS = st.sampled_from(
    [
        "",
        "main",
        "a" * 40,
        "0" * 64,
        "A" * 40,
        "2025-04-27",
        "DRAFT",
        "v1.0",
        "INFO-SPEC",
        "COAFI-ENG-0001-SPEC-A",
        "x" * 300,
    ]
)
# Python alone takes these for white space, in ``\\S`` of the reference engine.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x1c\x1d\x1e\x1f"), max_size=5)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def instances(schema: Schema) -> st.SearchStrategy[JsonObject]:
    names: list[str] = list(schema.document["properties"])  # type: ignore[arg-type]  # every schema of ours has properties
    keys: st.SearchStrategy[str] = st.sampled_from(names) | st.text(max_size=3)
    return st.dictionaries(keys, VALUES, max_size=len(names))


def forbidding(schema: Any) -> Any:
    """The same schema for the reference, which says of a property that is ``false`` that its object is wrong."""
    if isinstance(schema, list):
        return [forbidding(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    forbidden: dict[str, Any] = {
        name: {"not": {}} for name, one in schema.get("properties", {}).items() if one is False
    }
    kept = {name: forbidding(one) for name, one in schema.items()}
    return {**kept, "properties": {**kept["properties"], **forbidden}} if forbidden else kept


@pytest.mark.parametrize("schema_id", sorted(SCHEMAS))
@given(data=st.data())
def test_both_engines_agree(schema_id: str, data: st.DataObject) -> None:
    schema = SCHEMAS[schema_id]
    instance = data.draw(instances(schema))
    reference = jsonschema.Draft202012Validator(
        forbidding(schema.document), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    expected = {(_pointer(error.absolute_path), error.validator) for error in reference.iter_errors(instance)}
    found = {(violation.pointer, violation.keyword) for violation in schema.violations(instance)}
    assert {pointer for pointer, _ in found} == {pointer for pointer, _ in expected}
    assert bool(found) == bool(expected)


def test_a_property_that_is_forbidden_is_named() -> None:
    schema = Schema("x", "1.0.0", {"properties": {"a": {"properties": {"b": False}}}})
    assert [(one.pointer, one.keyword) for one in schema.violations({"a": {"b": 1}})] == [("/a/b", "falseSchema")]
    (error,) = jsonschema.Draft202012Validator(forbidding(schema.document)).iter_errors({"a": {"b": 1}})
    assert _pointer(error.absolute_path) == "/a/b"


def test_a_violation_says_where_and_what() -> None:
    violations = SCHEMAS["GitCommitEventPayload"].violations({"commitSha": "xyz", "repositoryUrl": 5, "branch": "main"})
    assert {(one.pointer, one.keyword) for one in violations} == {
        ("/commitSha", "pattern"),
        ("/repositoryUrl", "type"),
        ("", "required"),
    }


def test_long_values_and_long_lists_are_cut() -> None:
    schema = Schema("x", "1.0.0", {"items": {"type": "integer"}})
    violations = schema.violations(["x" * 100_000] * 1000)
    assert len(violations) == MAX_VIOLATIONS
    assert all(len(one.message) < 400 for one in violations)


def test_many_breaches_of_one_member_do_not_hide_those_of_another() -> None:
    schema = Schema("x", "1.0.0", {"properties": {"tags": {"items": {"enum": ["a"]}}, "version": {"type": "string"}}})
    instance: JsonObject = {"tags": ["x"] * 100, "version": 1}
    assert {one.pointer.split("/")[1] for one in schema.violations(instance)} == {"tags"}
    found = Counter(one.pointer.split("/")[1] for one in schema.violations(instance, of_each_member=True))
    assert found == {"tags": MAX_VIOLATIONS, "version": 1}
    assert len(schema.violations(["x"] * 3, of_each_member=True)) == 0
    assert len(Schema("x", "1.0.0", {"type": "string"}).violations(instance, of_each_member=True)) == 1


def test_pointers_are_escaped() -> None:
    schema = Schema("x", "1.0.0", {"additionalProperties": {"type": "integer"}})
    assert schema.violations({"a/b~c": "x"})[0].pointer == "/a~1b~0c"


@pytest.mark.parametrize("name", ["0", "00", "+1", "-1", " 1", "1_0", "１"])
def test_a_member_whose_name_looks_like_a_number_is_pointed_to_by_its_name(name: str) -> None:
    schema = Schema("x", "1.0.0", {"additionalProperties": {"items": {"type": "integer"}}})
    assert schema.violations({name: [1, "x"]})[0].pointer == f"/{name}/1"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "nonsense"},
        {"pattern": "(a)\\1"},
        {"pattern": "(?=a)"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.org/schema"},
        {"$ref": "file:///etc/passwd"},
    ],
)
def test_a_schema_that_cannot_be_trusted_is_refused(document: JsonObject) -> None:
    with pytest.raises(ValidationError, match=r"x 1\.0\.0 cannot be used") as caught:
        Schema("x", "1.0.0", document).violations({})
    assert caught.value.remedy


def test_a_slow_pattern_is_quick() -> None:
    assert Schema("x", "1.0.0", {"pattern": "^(a+)+$"}).violations("a" * 50_000 + "!")


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            paths.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()


def test_no_reference_is_fetched(visited: tuple[str, list[str]]) -> None:
    url, paths = visited
    with pytest.raises(ValidationError):
        Schema("x", "1.0.0", {"$ref": f"{url}/schema"}).violations({})
    assert paths == []


def _pointer(path: object) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)  # type: ignore[attr-defined]  # a deque
