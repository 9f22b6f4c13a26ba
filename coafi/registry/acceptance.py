"""Which JSON Schemas are accepted: what people submit is held against data for years, on the hot path."""

import re

from coafi.canonical import JsonObject
from coafi.errors import PolicyDenied, ValidationError
from coafi.findings import Finding
from coafi.registry.entry import finding
from coafi.registry.shipped import is_reserved
from coafi.registry.validation import Schema

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_URN = re.compile(
    rf"urn:coafi:schema:(?P<schema_id>[A-Za-z0-9][A-Za-z0-9._-]{{0,199}}):(?P<version>{_NUMBER}\.{_NUMBER}\.{_NUMBER})"
)


def accept_schema(schema_id: str, document: JsonObject) -> Schema:
    """The schema that is submitted as the entry ``schema_id``, if it may become valid here.

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
    schema.violations({})
    return schema


def schema_of(schema_id: str, document: JsonObject) -> Schema:
    """The schema that a document is, by the URN in its ``$id``.

    Raises:
        ValidationError: it has none, or one that names another entry.
    """
    match = _URN.fullmatch(str(document.get("$id")))
    if match is None or match["schema_id"] != schema_id:
        raise _refused(
            schema_id,
            (
                finding(
                    "schema/id",
                    f"this must be urn:coafi:schema:{schema_id}:<major>.<minor>.<patch>",
                    pointer="/data/$id",
                ),
            ),
        )
    return Schema(schema_id, match["version"], document)


def _refused(schema_id: str, findings: tuple[Finding, ...]) -> ValidationError:
    return ValidationError(
        f"the schema {schema_id} is not accepted: {findings[0].pointer}: {findings[0].message}",
        remedy="see docs/registry.md",
        findings=findings,
    )
