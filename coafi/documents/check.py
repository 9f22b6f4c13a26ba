"""Check one file: what it is, whether it is valid, and everything that is wrong with it.

``check_file`` is total: for any path and any bytes it returns a report, in bounded time and memory.
"""

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256
from coafi.documents.context import CheckContext
from coafi.documents.frontmatter import SchemaLookup, read_front_matter
from coafi.documents.json_syntax import parse_json
from coafi.documents.kinds import DOCUMENTS, FileKind, Identified, identify, is_json_schema, kind_of_name
from coafi.documents.limits import DocumentLimits
from coafi.documents.rules import RULES
from coafi.documents.source import visible
from coafi.documents.yaml_syntax import parse_yaml
from coafi.findings import Finding, Severity
from coafi.registry.validation import Schema

__all__ = ["DELETED", "CheckedSchema", "DocumentLimits", "FileReport", "SchemaLookup", "Verdict", "check_file"]

DELETED = "deleted"
"""The change that leaves no content behind."""

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Verdict(StrEnum):
    """The outcome for one file.

    ``VALID`` and ``INVALID`` (it has a finding of severity error) are of files that were looked into; ``SKIPPED`` are
    those that no check fits or whose content is not at hand; ``DELETED`` are those that the commit removes.
    """

    VALID = "valid"
    INVALID = "invalid"
    SKIPPED = "skipped"
    DELETED = "deleted"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class CheckedSchema(_Wire):
    """The schema that front matter was held against: the verdict can be repeated with it."""

    schema_id: str
    version: str
    digest: Sha256


class FileReport(_Wire):
    """What the check of one file says. Its wire form is camelCase, without fields that are ``None``.

    Attributes:
        path: within the repository; bytes of it that are not UTF-8 appear escaped.
        kind: what the file is.
        verdict: the outcome.
        findings: by place, then by severity; at most ``DocumentLimits.max_findings``.
        metadata: the front matter of a Markdown document as JSON; ``None`` without readable front matter.
        schema_used: the schema of the front matter, ``schema`` on the wire.
        inexact: why the data has no canonical JSON; empty when it has.
    """

    path: str
    kind: FileKind
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    metadata: JsonObject | None = None
    schema_used: CheckedSchema | None = Field(default=None, alias="schema")
    inexact: str = ""

    def count(self, severity: Severity) -> int:
        """How many of the findings shown have this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def check_file(
    path: str,
    content: bytes | None,
    schemas: SchemaLookup,
    limits: DocumentLimits | None = None,
    omitted: str | None = None,
    change: str = "modified",
    context: CheckContext | None = None,
) -> FileReport:
    """Check one file. Never raises, whatever the path and the bytes are.

    The outcome depends on the arguments alone, and what ``schemas`` finds.

    Args:
        path: path within the repository.
        content: its bytes; ``None`` when it was deleted, or its content is not at hand.
        schemas: where schemas for front matter are found.
        limits: how much of it is looked at; ``DocumentLimits()`` by default.
        omitted: why the content is not at hand (a symbolic link, a submodule, too large), for a person.
        change: ``deleted`` for a file that is gone; everything else is checked.
        context: the files around it, and the settings of its repository; without it no rule about them is applied.
    """
    limits = limits or DocumentLimits()
    path = path.encode("utf-8", "backslashreplace").decode()
    if change == DELETED:
        return FileReport(path=path, kind=kind_of_name(path), verdict=Verdict.DELETED)
    if content is None:
        message = f"the content was not looked at: {omitted}" if omitted else ""
        return _skipped(path, kind_of_name(path), RULES["file/omitted"].finding(message))
    if len(content) > limits.max_bytes:
        message = f"the file has {len(content)} bytes; files up to {limits.max_bytes} bytes are checked"
        return _skipped(path, kind_of_name(path), RULES["file/too-large"].finding(message))
    return _Check(path, schemas, limits).run(identify(path, content))


class _Check:
    """The check of one file whose content is at hand."""

    def __init__(self, path: str, schemas: SchemaLookup, limits: DocumentLimits) -> None:
        self._path = path
        self._schemas = schemas
        self._limits = limits

    def run(self, file: Identified) -> FileReport:
        kind = file.kind
        if kind in (FileKind.BINARY, FileKind.UNKNOWN):
            what = "is not text" if kind is FileKind.BINARY else "is empty"
            return _skipped(
                self._path, kind, RULES["file/not-checked"].finding(f"the file {what}; there is no check for it")
            )
        found = list(file.findings)
        metadata: JsonObject | None = None
        schema: Schema | None = None
        inexact = ""
        if file.source is not None:
            if kind is FileKind.MARKDOWN:
                front = read_front_matter(self._path, file.source, self._schemas, self._limits)
                found.extend(front.findings)
                metadata, schema = front.metadata, front.schema
            elif kind in DOCUMENTS:
                parse = parse_yaml if kind is FileKind.YAML else parse_json
                parsed = parse(file.source, self._limits)
                found.extend(parsed.findings)
                inexact = parsed.inexact
                if kind is FileKind.JSON and parsed.values and is_json_schema(parsed.values[0]):
                    kind = FileKind.JSON_SCHEMA
        invalid = any(finding.severity is Severity.ERROR for finding in found)
        return FileReport(
            path=self._path,
            kind=kind,
            verdict=Verdict.INVALID if invalid else Verdict.VALID,
            findings=_arranged(found, self._path, self._limits.max_findings),
            metadata=metadata,
            schema_used=schema
            and CheckedSchema(schema_id=schema.schema_id, version=schema.version, digest=schema.digest),
            inexact=visible(inexact, 300),
        )


def _skipped(path: str, kind: FileKind, finding: Finding) -> FileReport:
    return FileReport(path=path, kind=kind, verdict=Verdict.SKIPPED, findings=_arranged([finding], path, 1))


def _arranged(found: Sequence[Finding], path: str, limit: int) -> tuple[Finding, ...]:
    """The findings of a file in the order of their places; of too many the worst ones, and one that says so."""
    kept = sorted(found, key=_by_place)
    if len(kept) > limit:
        kept = sorted(sorted(kept, key=lambda finding: _RANK[finding.severity])[: limit - 1], key=_by_place)
        kept.append(RULES["file/more-findings"].finding(f"there are more findings; the {limit - 1} worst are shown"))
    return tuple(finding.model_copy(update={"path": path}) for finding in kept)


def _by_place(finding: Finding) -> tuple[int, int, int, str, str, str]:
    return (
        finding.line or 0,
        finding.column or 0,
        _RANK[finding.severity],
        finding.rule,
        finding.pointer or "",
        finding.message,
    )
