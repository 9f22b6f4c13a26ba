"""Which schemas are accepted: every one that is, is quick on whatever it is held against."""

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coafi.canonical import JsonObject
from coafi.errors import PolicyDenied, ValidationError
from coafi.registry.acceptance import DIALECT, MAX_PATTERNS, accept_schema, schema_of
from coafi.registry.builtin import builtin_schemas
from coafi.registry.effort import MAX_APPLIED, effort_findings, resolve, subschemas_of
from coafi.registry.validation import Schema
from tests.coafi.registry.making import Registers, schema
from tests.strength import examples

DEFINED = {"$ref": "#/$defs/a"}


def accepted(**document: Any) -> Schema:
    return accept_schema("part", schema("part", **document))


def doubling(levels: int) -> dict[str, Any]:
    """Definitions that each refer twice to the one before."""
    defs: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, levels + 1)}
    return {"$defs": {"a0": {}, **defs}, "$ref": f"#/$defs/a{levels}"}


def test_every_schema_of_the_package_would_be_accepted_but_some_are_reserved() -> None:
    for one in builtin_schemas():
        if one.schema_id.startswith("frontmatter."):
            assert accept_schema(one.schema_id, one.document).digest == one.digest
        else:
            with pytest.raises(PolicyDenied, match=one.schema_id):
                accept_schema(one.schema_id, one.document)
        subschemas = subschemas_of(one.document)
        assert resolve(subschemas) == effort_findings(subschemas) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"$schema": DIALECT, "$comment": "x", "x-note": {"$ref": "https://example.org/not/a/reference"}},
        {"properties": {"$ref": {"type": "string"}, "$id": {}, "pattern": {"pattern": "^a+$"}}},
        {
            "const": {"$ref": "https://example.org/data"},
            "enum": [{"$id": "x"}],
            "default": {"$ref": 5},
            "examples": [1],
        },
        {"$defs": {"a": {"$anchor": "here", "type": "string"}}, "$ref": "#here"},
        {"$defs": {"a": {"$dynamicAnchor": "n"}}, "$dynamicRef": "#n"},
        {"$defs": {"a b": {"type": "string"}, "c/d": {"$ref": "#/$defs/a%20b"}}, "$ref": "#/$defs/c~1d"},
        {"properties": {"next": {"$ref": "#"}}},
        {
            "$defs": {"t": {"properties": {"left": {"$ref": "#/$defs/t"}, "right": {"$ref": "#/$defs/t"}}}},
            "$ref": "#/$defs/t",
        },
        {"items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}, "properties": {"a": {"$ref": "#"}}},
        {"prefixItems": [{"$ref": "#"}, {"$ref": "#"}], "items": {"$ref": "#"}},
        {"pattern": "^(a+)+$", "patternProperties": {"^x-": True}},
        {"unused": 1, "$defs": {"never": doubling(2)["$defs"]["a1"], "a0": {}}},
        {"oneOf": [{"properties": {"kind": {"const": n}, "value": {"type": "string"}}} for n in range(300)]},
    ],
)
def test_what_is_safe_is_accepted(document: JsonObject) -> None:
    made = accepted(**document)
    assert (made.schema_id, made.version) == ("part", "1.0.0")
    made.violations({"a": [1, {"b": None}]})


@pytest.mark.parametrize(
    ("document", "rule", "pointer"),
    [
        ({"type": "nonsense"}, "schema/anyOf", "/data/type"),
        ({"properties": {"a": {"minimum": "1"}}}, "schema/type", "/data/properties/a/minimum"),
        ({"required": "a"}, "schema/type", "/data/required"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "schema/dialect", "/data/$schema"),
        ({"$schema": 5}, "schema/dialect", "/data/$schema"),
        ({"items": [{}]}, "schema/type", "/data/items"),
        ({"$ref": "https://example.org/schema"}, "schema/remote", "/data/$ref"),
        ({"$ref": "urn:coafi:schema:other:1.0.0"}, "schema/remote", "/data/$ref"),
        ({"$ref": "file:///etc/passwd"}, "schema/remote", "/data/$ref"),
        ({"$ref": "other.json#/a"}, "schema/remote", "/data/$ref"),
        ({"$ref": DIALECT}, "schema/remote", "/data/$ref"),
        ({"items": {"$dynamicRef": "https://example.org/x#a"}}, "schema/remote", "/data/items/$dynamicRef"),
        ({"$ref": "#/$defs/none"}, "schema/reference", "/data/$ref"),
        ({"$ref": "#none"}, "schema/reference", "/data/$ref"),
        ({"x-hidden": {"a": {"$ref": "https://x"}}, "$ref": "#/x-hidden/a"}, "schema/reference", "/data/$ref"),
        ({"const": {"type": "x"}, "$ref": "#/const"}, "schema/reference", "/data/$ref"),
        ({"$defs": {"a": {"$id": "urn:x:1"}, "b": {"$id": "urn:x:1"}}}, "schema/embedded", "/data/$defs/a/$id"),
        ({"$defs": {"a": {"$schema": DIALECT}}}, "schema/embedded", "/data/$defs/a/$schema"),
        ({"$vocabulary": {}}, "schema/embedded", "/data/$vocabulary"),
        ({"$recursiveRef": "#"}, "schema/dialect", "/data/$recursiveRef"),
        ({"$defs": {"a": {"$anchor": "z"}, "b": {"$anchor": "z"}}}, "schema/anchor", "/data/$defs/b/$anchor"),
        ({"pattern": "(a)\\1"}, "schema/pattern", "/data/pattern"),
        ({"pattern": "(?=a)"}, "schema/pattern", "/data/pattern"),
        ({"items": {"pattern": "("}}, "schema/pattern", "/data/items/pattern"),
        ({"pattern": "(.{1,100}){1,30}x$"}, "schema/pattern", "/data/pattern"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "schema/pattern", "/data/pattern"),
        ({"patternProperties": {"(?!a)": {}}}, "schema/pattern", "/data/patternProperties"),
        ({"properties": {f"p{n}": {"pattern": "a"} for n in range(MAX_PATTERNS + 1)}}, "schema/patterns", "/data"),
        ({"$ref": "#"}, "schema/endless", "/data"),
        ({"allOf": [{"anyOf": [{"$ref": "#"}]}]}, "schema/endless", "/data"),
        ({"$dynamicAnchor": "n", "$dynamicRef": "#n"}, "schema/endless", "/data"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": DEFINED}, **DEFINED}, "schema/endless", "/data/$defs/a"),
        (doubling(30), "schema/effort", "/data/$defs/a9"),
        (
            {"$defs": {"a": {"allOf": [{"properties": {"x": DEFINED}}] * 2}}, **DEFINED},
            "schema/effort",
            "/data/$defs/a",
        ),
        ({"anyOf": [{"items": {"$ref": "#"}}, {"contains": {"$ref": "#"}}]}, "schema/effort", "/data"),
        ({"patternProperties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}, "schema/effort", "/data"),
        ({"unevaluatedItems": {"$ref": "#"}}, "schema/effort", "/data"),
    ],
)
def test_what_is_not_is_refused_with_its_place(document: JsonObject, rule: str, pointer: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValidationError, match="part is not accepted") as caught:
        accepted(**document)
    assert (rule, pointer) in [(one.rule, one.pointer) for one in caught.value.findings]
    assert time.monotonic() - started < 10


def test_every_place_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        accepted(type="x", minimum="y", properties={"a": {"maxLength": -1}})
    assert {one.pointer for one in caught.value.findings} == {
        "/data/type",
        "/data/minimum",
        "/data/properties/a/maxLength",
    }


@pytest.mark.parametrize(
    "identifier",
    [
        None,
        5,
        "part",
        "https://example.org/part",
        "urn:coafi:schema:other:1.0.0",
        "urn:coafi:schema:part:1.0",
        "urn:coafi:schema:part:01.0.0",
        "urn:coafi:schema:part:1.0.0-rc1",
        "urn:coafi:schema:part:1.0.0\n",
        "urn:coafi:schema:part:9999999999.0.0",
        "urn:coafi:schema:part:٣.0.0",
    ],
)
def test_the_id_of_a_schema_says_what_it_is_and_which_version(identifier: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        schema_of("part", {"$id": identifier})
    assert [(one.rule, one.pointer) for one in caught.value.findings] == [("schema/id", "/data/$id")]


def test_nothing_hostile_gets_into_the_registry(books: Registers) -> None:
    deep: Any = {}
    for _ in range(10_000):
        deep = {"not": deep}
    huge = {f"p{n}": {"type": "string", "description": "x" * 100} for n in range(3_000)}
    for document in ({"not": deep}, {"properties": huge}, doubling(25), {"$ref": "http://127.0.0.1:1/x"}):
        with pytest.raises(ValidationError):
            books.put("part", schema("part", **document), registry="schemas")
    assert books.ledger.size() == 0


def test_the_count_itself_is_bounded() -> None:
    defs: dict[str, Any] = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(700)}
    defs["a700"] = {"properties": {f"p{n}": {"$ref": "#"} for n in range(5_000)}}
    started = time.monotonic()
    with pytest.raises(ValidationError):
        accepted(**{"$defs": defs, "$ref": "#/$defs/a0"})
    assert time.monotonic() - started < 20


def test_a_large_flat_schema_is_accepted() -> None:
    assert accepted(properties={f"p{n}": {"type": "string"} for n in range(5_000)}).violations({"p7": 1})


# --------------------------------------------------------------------- by chance

_names = st.sampled_from(["a", "b"])
_refs = st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}])
_leaves: st.SearchStrategy[Any] = st.sampled_from([{}, True, {"type": "integer"}, {"maxProperties": 1}]) | _refs


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "properties": st.dictionaries(_names, inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["a", "^."]), inner, max_size=2),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "items": inner,
            "prefixItems": several,
            "contains": inner,
            "unevaluatedItems": inner,
        },
    )


_any_schema = st.recursive(_leaves, _schemas, max_leaves=10)


def _tall(levels: int) -> list[Any]:
    """Values that go down by names, by indexes, and by both."""
    named: Any = {}
    listed: Any = []
    mixed: Any = {}
    for level in range(levels):
        named = {"a": named, "b": 1}
        listed = [listed, 1]
        mixed = {"a": mixed} if level % 2 else [mixed, {"b": 1}]
    return [named, listed, mixed]


@given(st.dictionaries(_names, _any_schema, min_size=2, max_size=2), _any_schema)
@settings(max_examples=examples(60))
def test_whatever_is_accepted_is_quick_on_tall_values(defs: dict[str, Any], root: Any) -> None:
    document = {**(root if isinstance(root, dict) else {}), "$defs": defs}
    try:
        made = accepted(**document)
    except ValidationError:
        return
    for value in _tall(40):
        started = time.process_time()
        made.violations(value)
        assert time.process_time() - started < 2, json.dumps(document)


@given(_any_schema)
@settings(max_examples=examples(100))
def test_whatever_is_accepted_is_a_schema_to_the_reference_too(root: Any) -> None:
    document: JsonObject = schema("part", **(root if isinstance(root, dict) else {}))
    document["$defs"] = {"a": {}, "b": {}}
    try:
        accept_schema("part", document)
    except ValidationError:
        return
    jsonschema.Draft202012Validator.check_schema(document)


def test_the_limit_is_where_it_says() -> None:
    several = [{"type": "string"}] * (MAX_APPLIED - 1)
    accepted(allOf=several)
    with pytest.raises(ValidationError, match="2,000"):
        accepted(allOf=[*several, {}])
