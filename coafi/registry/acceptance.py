"""Which JSON Schemas are accepted: what people submit is held against data for years, on the hot path."""

import re
from collections.abc import Iterator
from functools import cache

import jsonschema_rs

from coafi.canonical import JsonObject
from coafi.errors import PolicyDenied, ValidationError
from coafi.findings import Finding
from coafi.json_pointers import pointer_to
from coafi.registry.effort import Subschema, effort_findings, resolve, subschemas_of
from coafi.registry.entry import finding
from coafi.registry.shipped import is_reserved
from coafi.registry.validation import PATTERNS, Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The meta-schema: JSON Schema 2020-12."""

MAX_PATTERNS = 200
"""Regular expressions of a schema; each may take a mebibyte when it is compiled."""

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_URN = re.compile(
    rf"urn:coafi:schema:(?P<schema_id>[A-Za-z0-9][A-Za-z0-9._-]{{0,199}}):(?P<version>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
)
_OF_THE_WHOLE = ("$id", "$schema", "$vocabulary")
_OF_OTHER_DRAFTS = ("$recursiveRef", "$recursiveAnchor")


def accept_schema(schema_id: str, document: JsonObject) -> Schema:
    """The schema that is submitted as the entry ``schema_id``, if it may become valid here.

    Its size and depth must be within the limits of an entry.

    Raises:
        PolicyDenied: only a release of this software can change it.
        ValidationError: it is no schema, or one that is not safe to use. Every place is a finding.
    """
    if is_reserved(schema_id):
        raise PolicyDenied(
            f"the schema {schema_id} says what this software itself reads and writes: only a release changes it",
            remedy="take another id; what documents and entries must look like is said by frontmatter.… and registry.…",
        )
    schema = schema_of(schema_id, document)
    found = list(_meta_findings(document))
    if not found:
        subschemas = subschemas_of(document)
        found += [one for each in subschemas for one in _keyword_findings(each)]
        found += _pattern_findings(subschemas)
        found += resolve(subschemas)
        found = found or effort_findings(subschemas)
    if found:
        raise _refused(schema_id, tuple(found[:50]))
    try:
        schema.violations({})
    except ValidationError as error:  # what the rules above know nothing of
        raise _refused(schema_id, (finding("schema/unusable", error.message, pointer="/data"),)) from error
    return schema


def schema_of(schema_id: str, document: JsonObject) -> Schema:
    """The schema that a document is, by the URN in its ``$id``.

    Raises:
        ValidationError: it has none, or one that names another entry.
    """
    match = _URN.fullmatch(str(document.get("$id")))
    if match is None or match["schema_id"] != schema_id:
        wanted = f"this must be urn:coafi:schema:{schema_id}:<major>.<minor>.<patch>"
        raise _refused(schema_id, (finding("schema/id", wanted, pointer="/data/$id"),))
    return Schema(schema_id, match["version"], document)


def _meta_findings(document: JsonObject) -> Iterator[Finding]:
    """Where a document is no schema at all."""
    dialect = document.get("$schema", DIALECT)
    if dialect != DIALECT:
        yield finding("schema/dialect", f"schemas are written in {DIALECT}", pointer="/data/$schema")
        return
    pointers: set[str] = set()
    for error in _meta_schema().iter_errors(document):
        pointer = pointer_to(error.instance_path, document)
        if pointer not in pointers:  # the parts of the meta-schema say the same thing several times
            pointers.add(pointer)
            yield finding(f"schema/{error.kind.name}", error.message[:300], pointer=f"/data{pointer}")
        if len(pointers) == 50:
            return


def _keyword_findings(one: Subschema) -> Iterator[Finding]:
    if one.pointer:
        for keyword in _OF_THE_WHOLE:
            if keyword in one.document:
                message = f"{keyword} stands at the top of a schema only: a schema is one document with one id"
                yield finding("schema/embedded", message, pointer=f"/data{one.pointer}/{keyword}")
    elif "$vocabulary" in one.document:
        yield finding("schema/embedded", "this is for meta-schemas", pointer="/data/$vocabulary")
    for keyword in _OF_OTHER_DRAFTS:
        if keyword in one.document:
            yield finding("schema/dialect", f"{keyword} is of another draft", pointer=f"/data{one.pointer}/{keyword}")


def _pattern_findings(subschemas: list[Subschema]) -> list[Finding]:
    """The regular expressions that the engine does not take: only those that it matches in linear time."""
    patterns = [found for one in subschemas for found in _patterns(one)]
    if len(patterns) > MAX_PATTERNS:
        message = f"{len(patterns)} regular expressions; {MAX_PATTERNS} are allowed"
        return [finding("schema/patterns", message, pointer="/data")]
    found = []
    for pointer, pattern in patterns:
        try:
            jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=PATTERNS)
        except (ValueError, jsonschema_rs.ValidationError):
            found.append(
                finding(
                    "schema/pattern",
                    f"{pattern[:200]!r} is no regular expression that can be matched in linear time",
                    pointer=f"/data{pointer}",
                    remedy="do without look-around, back-references and large repetitions; maxLength limits a length",
                )
            )
    return found


def _patterns(one: Subschema) -> Iterator[tuple[str, str]]:
    pattern, named = one.document.get("pattern"), one.document.get("patternProperties")
    if isinstance(pattern, str):
        yield f"{one.pointer}/pattern", pattern
    for name in named if isinstance(named, dict) else ():
        yield f"{one.pointer}/patternProperties", name


@cache
def _meta_schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": DIALECT})


def _refused(schema_id: str, findings: tuple[Finding, ...]) -> ValidationError:
    return ValidationError(
        f"the schema {schema_id} is not accepted: {findings[0].pointer}: {findings[0].message}",
        remedy="see docs/registry.md",
        findings=findings,
    )
