"""Check one file: what it is, whether it is valid, and everything that is wrong with it.

``check_file`` is total: for any path and any bytes it returns a report, in bounded time and memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject
from coafi.documents.body import body_findings
from coafi.documents.context import CheckContext
from coafi.documents.damage import damages
from coafi.documents.frontmatter import SCHEMA_RULES, metadata_findings, read_front_matter
from coafi.documents.identity import identity_findings
from coafi.documents.images import check_image, is_lfs_pointer
from coafi.documents.json_syntax import parse_json
from coafi.documents.kinds import DOCUMENTS, FileKind, identify, is_json_schema, kind_of_name
from coafi.documents.limits import DocumentLimits, in_turn
from coafi.documents.repository import is_repository_file, repository_findings, without_own_words
from coafi.documents.rules import RULES
from coafi.documents.schemas import schema_findings
from coafi.documents.source import Position, Source, visible
from coafi.documents.yaml_syntax import parse_yaml
from coafi.findings import Finding, Severity
from coafi.registry.validation import CheckedSchema, Schema, SchemaLookup

__all__ = ["DELETED", "CheckedSchema", "DocumentLimits", "FileReport", "SchemaLookup", "Verdict", "check_file"]

DELETED = "deleted"
"""The change that leaves no content behind."""

_MORE = "file/more-findings"
_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Verdict(StrEnum):
    """The outcome for one file.

    ``VALID`` and ``INVALID`` (it has a finding of severity error) are of files that were looked into; ``SKIPPED`` are
    those that no check fits, whose content is not at hand, or that cannot be read and their repository does not mind;
    ``DELETED`` are those that the commit removes.
    """

    VALID = "valid"
    INVALID = "invalid"
    SKIPPED = "skipped"
    DELETED = "deleted"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


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
    """Check one file, whatever its path and its bytes are.

    The outcome depends on the arguments alone, and what ``schemas`` and the tree of ``context`` hold.

    Args:
        path: path within the repository.
        content: its bytes; ``None`` when it was deleted, or its content is not at hand.
        schemas: where schemas for front matter are found.
        limits: how much of it is looked at; ``DocumentLimits()`` by default.
        omitted: why the content is not at hand (a symbolic link, a submodule, too large), for a person.
        change: ``deleted`` for a file that is gone; everything else is checked.
        context: the files around it, and the settings of its repository; without it no rule about them is applied.

    Raises:
        Unavailable: a schema is to be applied, and the machine cannot start a process for it.
    """
    path = path.encode("utf-8", "backslashreplace").decode()
    with in_turn(len(content or b"")):
        return _Check(path, schemas, limits or DocumentLimits(), context).run(content, omitted, change)


def recheck_front_matter(
    report: FileReport, schema: Schema, context: CheckContext, limits: DocumentLimits | None = None
) -> FileReport | None:
    """What the check of a Markdown document would say now, with another schema for its front matter.

    The text is not needed: the front matter is in the report. Places are known of what was found before; all else is
    on the first line.

    Args:
        report: with front matter, and valid or invalid.
        schema: that the front matter is to be held against.
        context: of the tree that the document is in.
        limits: that the document was checked with.

    Returns:
        The new report; ``None`` if the findings that were left out of the old one may matter.

    Raises:
        ValidationError: the schema cannot be used.
    """
    return _Check(report.path, _Only(schema), limits or DocumentLimits(), context).again(report, schema)


@dataclass(frozen=True)
class _Only:
    """One schema, and no other."""

    schema: Schema

    def find(self, schema_id: str) -> Schema | None:
        return self.schema if schema_id == self.schema.schema_id else None


class _Check:
    """The check of one file."""

    def __init__(
        self, path: str, schemas: SchemaLookup, limits: DocumentLimits, context: CheckContext | None = None
    ) -> None:
        self._path = path
        self._schemas = schemas
        self._limits = limits
        self._context = context
        self._tree = context.tree if context else None
        self._severities = context.severities if context else {}

    def run(self, content: bytes | None, omitted: str | None, change: str) -> FileReport:
        if change == DELETED:
            return FileReport(path=self._path, kind=kind_of_name(self._path), verdict=Verdict.DELETED)
        if content is None:
            message = f"the content was not looked at: {omitted}" if omitted else ""
            return self._skipped(kind_of_name(self._path), RULES["file/omitted"].finding(message))
        limit = self._limits.max_bytes
        if len(content) > limit:
            message = f"the file has {len(content)} bytes; files up to {limit} bytes are checked"
            return self._skipped(kind_of_name(self._path), RULES["file/too-large"].finding(message))
        file = identify(self._path, content)
        if file.kind is FileKind.IMAGE:
            return self._image(content)
        if file.kind in (FileKind.BINARY, FileKind.UNKNOWN):
            what = "is not text" if file.kind is FileKind.BINARY else "is empty"
            message = f"the file {what}; there is no check for it"
            return self._skipped(file.kind, RULES["file/not-checked"].finding(message))
        if file.source is None:
            unread = file.kind in DOCUMENTS and _has_error(file.findings)
            return self._report(file.kind, list(file.findings), unread=unread)
        if file.kind is FileKind.MARKDOWN:
            return self._markdown(file.source, list(file.findings))
        if file.kind in DOCUMENTS:
            return self._data(file.kind, file.source, list(file.findings))
        return self._report(file.kind, list(file.findings))

    def again(self, report: FileReport, schema: Schema) -> FileReport | None:
        own = [one for one in report.findings if one.rule in SCHEMA_RULES]
        others = [one for one in report.findings if one.rule not in SCHEMA_RULES and one.rule != _MORE]
        left_out = len(own) + len(others) < len(report.findings)
        if left_out and not _has_error(others) and all(one.severity is Severity.ERROR for one in own):
            return None  # the worst are shown: an error of another rule may be among those that are not
        places = {one.pointer or "": Position(one.line or 1, one.column or 1) for one in own}
        found = metadata_findings(report.metadata or {}, schema, lambda _pointers: places)
        return self._report(
            report.kind, [*others, *found], metadata=report.metadata, schema=schema, inexact=report.inexact
        )

    def _image(self, content: bytes) -> FileReport:
        if is_lfs_pointer(content):
            message = "the image is not in git: this is a pointer to where Git LFS keeps it"
            return self._skipped(FileKind.IMAGE, RULES["file/omitted"].finding(message))
        found = list(check_image(self._path, content, self._limits).findings)
        return self._report(FileKind.IMAGE, found, unread=_has_error(found))

    def _markdown(self, source: Source, found: list[Finding]) -> FileReport:
        front = read_front_matter(self._path, source, self._schemas, self._limits)
        found.extend(front.findings)
        found.extend(identity_findings(self._path, front.metadata or {}, front.find, self._tree))
        found.extend(body_findings(self._path, source, front, self._tree, self._limits))
        return self._report(FileKind.MARKDOWN, found, metadata=front.metadata, schema=front.schema)

    def _data(self, kind: FileKind, source: Source, found: list[Finding]) -> FileReport:
        parsed = (parse_yaml if kind is FileKind.YAML else parse_json)(source, self._limits)
        found.extend(without_own_words(self._path, parsed.findings))
        found.extend(
            RULES[one.rule].finding(one.message, at=source.position(one.offset), remedy=one.remedy)
            for one in damages(source.text)
            if one.rule != "text/control-character"  # The syntax of YAML and JSON says what is allowed.
        )
        if is_repository_file(self._path):
            found.extend(repository_findings(self._path, parsed))
        else:
            store = self._context.schemas if self._context else None
            found.extend(schema_findings(self._path, kind, source, parsed, store))
        if kind is FileKind.JSON and parsed.values and is_json_schema(parsed.values[0]):
            kind = FileKind.JSON_SCHEMA
        return self._report(kind, found, inexact=parsed.inexact, unread=parsed.unread)

    def _report(
        self,
        kind: FileKind,
        found: list[Finding],
        *,
        metadata: JsonObject | None = None,
        schema: Schema | None = None,
        inexact: str = "",
        unread: bool = False,
    ) -> FileReport:
        """The report; ``unread`` says that nothing can be made of the content."""
        shown = self._arranged(self._as_wanted(found))
        verdict = Verdict.VALID
        if _has_error(shown):
            verdict = Verdict.INVALID
        elif unread:  # The repository does not mind, but nothing can derive from it.
            verdict = Verdict.SKIPPED
        return FileReport(
            path=self._path,
            kind=kind,
            verdict=verdict,
            findings=shown,
            metadata=metadata,
            schema_used=schema and schema.reference,
            inexact=visible(inexact, 300),
        )

    def _skipped(self, kind: FileKind, finding: Finding) -> FileReport:
        found = self._arranged(self._as_wanted([finding]))
        return FileReport(path=self._path, kind=kind, verdict=Verdict.SKIPPED, findings=found)

    def _as_wanted(self, found: list[Finding]) -> list[Finding]:
        """The findings with the severities that the repository wants."""
        wanted = self._severities
        if not wanted:
            return found
        changed = ((one, wanted.get(one.rule, one.severity)) for one in found)
        return [
            one if severity is one.severity else one.model_copy(update={"severity": severity})
            for one, severity in changed
            if severity is not None
        ]

    def _arranged(self, found: list[Finding]) -> tuple[Finding, ...]:
        """The findings of a file in the order of their places; of too many the worst ones, and one that says so."""
        kept = sorted(found, key=_by_place)
        limit = self._limits.max_findings
        if len(kept) > limit:
            kept = sorted(sorted(kept, key=lambda finding: _RANK[finding.severity])[: limit - 1], key=_by_place)
            more = RULES[_MORE].finding(f"there are more findings; the {limit - 1} worst are shown")
            kept.extend(self._as_wanted([more]))
        return tuple(finding.model_copy(update={"path": self._path}) for finding in kept)


def _has_error(found: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in found)


def _by_place(finding: Finding) -> tuple[int, int, int, str, str, str]:
    return (
        finding.line or 0,
        finding.column or 0,
        _RANK[finding.severity],
        finding.rule,
        finding.pointer or "",
        finding.message,
    )
