"""The schemas for front matter that ship with the package."""

import json
from datetime import date

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.documents.frontmatter import KNOWN_KEYS
from coafi.registry.store import builtin_schemas
from coafi.registry.validation import Schema

SCHEMAS = {schema.schema_id: schema for schema in builtin_schemas() if schema.schema_id.startswith("frontmatter.")}


def test_there_is_one_for_every_common_code_and_a_general_one() -> None:
    assert {"general", "INFO-SPEC", "INFO-REQ", "INFO-DD", "INFO-PLAN", "INFO-TEST", "INFO-RPT"} <= {
        schema_id.removeprefix("frontmatter.") for schema_id in SCHEMAS
    }


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_is_sound_self_contained_and_explains_itself(schema: Schema) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.document)
    assert schema.violations({"title": "x"}) is not None
    assert "$ref" not in json.dumps(schema.document)
    assert schema.document["title"]
    assert schema.document["description"]
    properties = schema.document["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(KNOWN_KEYS)
    for name, sub in properties.items():
        assert isinstance(sub, dict)
        assert sub["description"], name
        assert sub["x-remedy"], name
        assert sub.get("x-severity", "error") in ("error", "warning", "info")
    required, recommended = schema.document["required"], schema.document["x-recommended"]
    assert isinstance(required, list)
    assert isinstance(recommended, list)
    assert not set(map(str, required)) & set(map(str, recommended))
    assert set(map(str, required)) | set(map(str, recommended)) <= set(KNOWN_KEYS)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_key_means_the_same_in_every_schema(schema: Schema) -> None:
    general, own = SCHEMAS["frontmatter.general"].document["properties"], schema.document["properties"]
    assert isinstance(general, dict)
    assert isinstance(own, dict)
    for name in set(KNOWN_KEYS) - {"infoCode", "document_id"}:
        assert own[name] == general[name]
    code = schema.schema_id.removeprefix("frontmatter.")
    if code != "general":
        assert isinstance(own["infoCode"], dict)
        assert own["infoCode"]["const"] == code


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("document_id", "COAFI-SCHEMA-0001-SPEC-A", True),
        ("document_id", "COAFI-POL-0001-EVENT-A", True),
        ("document_id", "COAFI-REG-AERO-0001-SPEC-A", True),
        ("document_id", "COAFI-ENG-EVENT-HANDLERS-0002-PLAN-A", True),
        ("document_id", "GP-DOCS-0001-PROTOCOL-A", True),
        ("document_id", "COAFI-POL-1-EVENT-A", False),
        ("document_id", "coafi-pol-0001-event-a", False),
        ("version", "v0.1-DRAFT", True),
        ("version", "v1.0-RELEASE", True),
        ("version", "v1.0", True),
        ("version", "v0.9.2-PRELIMINARY", True),
        ("version", "1.0", False),
        ("version", 1.0, False),
        ("status", "PROPOSAL", True),
        ("status", "approved by all", False),
        ("date", "2025-04-27", True),
        ("date", "2025-13-01", False),
        ("author", ["A", "B"], True),
        ("author", [], False),
        ("tags", [], True),
        ("tags", ["a", "a"], False),
        ("tags", "COAFI", False),
        ("utids", "TBD", True),
    ],
)
def test_the_forms_of_the_domain_fit(key: str, value: JsonValue, fits: bool) -> None:
    instance = {"title": "x", key: value}
    violations = SCHEMAS["frontmatter.general"].violations(instance)
    assert (violations == ()) is fits


VALUES: st.SearchStrategy[JsonValue] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-100, 100),
    st.sampled_from(["", " ", "x", "DRAFT", "v1.0", "INFO-SPEC", "INFO-RPT", "2025-04-27", "COAFI-POL-0001-EVENT-A"]),
    st.dates(date(1990, 1, 1), date(2030, 1, 1)).map(str),
    st.lists(st.sampled_from(["a", "b", ""]), max_size=3),
)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@given(instance=st.dictionaries(st.sampled_from(KNOWN_KEYS), VALUES))
def test_the_fast_engine_and_the_reference_agree(schema: Schema, instance: dict[str, JsonValue]) -> None:
    reference = jsonschema.Draft202012Validator(
        schema.document, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    theirs = {
        ("".join(f"/{part}" for part in error.absolute_path), error.validator)
        for error in reference.iter_errors(instance)
    }
    ours = {(violation.pointer, violation.keyword) for violation in schema.violations(instance)}
    assert ours == theirs
