"""The YAML front matter at the top of a Markdown document: where it is, what it says, what it should say.

A file has front matter when its first line is ``---``; it ends at the next line that is ``---`` or ``...``. The
values become JSON values (see ``coafi.documents.yaml_syntax``): dates stay text.

What the values must be is said by a schema of the registry: ``frontmatter.<infoCode>``, or ``frontmatter.general``
when the document names no code or one without its own schema. Beside the keywords of JSON Schema, these annotations
are understood in a schema for front matter:

``x-severity``
    of a property: how bad a breach of its subschema is, ``error`` (the default), ``warning`` or ``info``. Open lists
    are an ``enum`` with ``"x-severity": "warning"``.
``x-remedy``
    of a property: what to write instead, for the person who reads the finding.
``x-recommended``
    of the schema: keys whose absence is a warning, as ``required`` names those whose absence is an error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath

from pydantic import JsonValue

from coafi.canonical import JsonObject
from coafi.documents.limits import DocumentLimits
from coafi.documents.rules import RULES
from coafi.documents.source import Position, Source, line_spans, visible
from coafi.documents.yaml_syntax import parse_yaml
from coafi.errors import ValidationError
from coafi.findings import Finding, Severity
from coafi.registry.validation import Schema, SchemaLookup, Violation

GENERAL_SCHEMA = "frontmatter.general"
"""The schema of documents that name no ``infoCode``, or one that has no schema of its own."""

SCHEMA_RULES = frozenset(
    f"frontmatter/{name}"
    for name in ("required-key", "recommended-key", "value", "unusual-value", "no-schema", "unusable-schema")
)
"""The rules whose findings depend on the schema, and not on the text alone."""

KNOWN_KEYS = ("title", "document_id", "version", "status", "author", "date", "tags", "infoCode", "utids")
"""The keys in use, in the order in which people expect to see them."""

_INFO_CODE = re.compile(r"INFO-[A-Z0-9][A-Z0-9_-]{0,40}\Z")
_FENCE = re.compile(r"---[ \t]*\Z")
_END = re.compile(r"(?:---|\.\.\.)[ \t]*\Z")
_KEY_LINE = re.compile(r"[A-Za-z_][\w -]*:(?:\s|\Z)")
_KNOWN_KEY_LINE = re.compile(rf"(?:{'|'.join(KNOWN_KEYS)})[ \t]*:(?:\s|\Z)")
_CODE_FENCE = re.compile(r" {0,3}(```+|~~~+)")

_SEARCHED_LINES = 2_000
_MISPLACED_LINES = 60
_CUSTOMARY_WITHOUT = re.compile(
    "authors|changelog|changes|code_of_conduct|codeowners|contributing|issue_template|license|licence|notice|"
    "pull_request_template|readme|security|support"
)


class Place(StrEnum):
    """Where the front matter of a document is."""

    TOP = "top"
    MISSING = "missing"
    UNCLOSED = "unclosed"
    MISPLACED = "misplaced"


@dataclass(frozen=True, slots=True)
class Split:
    """A Markdown text, divided. Offsets count characters.

    Attributes:
        place: where the front matter is; only at the top does it count.
        yaml_start: offset of the first line of the front matter, behind ``---``, where there is one.
        yaml_end: offset of the line that closes it.
        body_start: offset where the document itself starts: 0 without front matter.
    """

    place: Place
    yaml_start: int = 0
    yaml_end: int = 0
    body_start: int = 0


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What the front matter of a document says.

    Attributes:
        metadata: its keys and values; ``None`` when it cannot be read or is not there.
        findings: what is wrong with it.
        schema: the schema that it was held against, if any.
        find: the place of a value, by its JSON Pointer; ``None`` where there is none.
        body_start: offset where the document itself starts.
    """

    metadata: JsonObject | None
    findings: tuple[Finding, ...]
    schema: Schema | None = None
    find: Callable[[str], Position | None] = lambda _pointer: None
    body_start: int = 0


def split(text: str) -> Split:
    """Find the front matter of a Markdown text. Takes time in proportion to the text, whatever it holds."""
    lines = line_spans(text, limit=_SEARCHED_LINES)
    if not lines:
        return Split(Place.MISSING)
    if _FENCE.match(text, lines[0][0], lines[0][1]):
        for start, end, following in lines[1:]:
            if _END.match(text, start, end):
                return Split(Place.TOP, lines[0][2], start, following)
        content = next((span for span in lines[1:] if text[span[0] : span[1]].strip()), None)
        if content and _KEY_LINE.match(text, content[0], content[1]):
            return Split(Place.UNCLOSED, lines[0][2], len(text))
        # A thematic break: three dashes and then no key.
    at = _misplaced(text, lines)
    return Split(Place.MISSING) if at is None else Split(Place.MISPLACED, at, at)


def read_front_matter(path: str, source: Source, schemas: SchemaLookup, limits: DocumentLimits) -> FrontMatter:
    """The front matter of a Markdown document and what is wrong with it. Never raises for any text.

    Args:
        path: only its last part is looked at: a README needs no front matter.
        source: the whole text.
        schemas: where the schema for it is found.
        limits: for the size of the front matter and its YAML.
    """
    parts = split(source.text)
    if parts.place is Place.MISSING:
        return FrontMatter(None, (_missing(path),))
    if parts.place is Place.MISPLACED:
        at = source.position(parts.yaml_start)
        message = f"the front matter starts on line {at.line}, not on line 1, so nothing reads it"
        return FrontMatter(None, (RULES["frontmatter/misplaced"].finding(message, at=at),))
    if parts.place is Place.UNCLOSED:
        return FrontMatter(None, (RULES["frontmatter/unclosed"].finding(at=Position(1, 1)),))
    size = parts.yaml_end - parts.yaml_start
    if size > limits.max_front_matter_bytes:
        message = f"the front matter has {size} characters; {limits.max_front_matter_bytes} are allowed"
        large = RULES["frontmatter/too-large"].finding(message, at=Position(1, 1))
        return FrontMatter(None, (large,), body_start=parts.body_start)
    front = _check(Source(source.text, parts.yaml_start, parts.yaml_end), schemas, limits)
    return replace(front, body_start=parts.body_start)


def _misplaced(text: str, lines: list[tuple[int, int, int]]) -> int | None:
    """Offset of a ``---`` further down that looks like the start of front matter, outside of code."""
    fence = ""
    for number, (start, end, _) in enumerate(lines):
        code = _CODE_FENCE.match(text, start, end)
        if code:
            mark = code.group(1)
            if not fence:
                fence = mark
            elif mark.startswith(fence) and not text[code.end() : end].strip():
                fence = ""
            continue
        if fence or number == 0 or not _FENCE.match(text, start, end):
            continue
        known = 0
        for begin, stop, _ in lines[number + 1 : number + 1 + _MISPLACED_LINES]:
            if _END.match(text, begin, stop):
                if known >= 2:
                    return start
                break
            known += _KNOWN_KEY_LINE.match(text, begin, stop) is not None
    return None


def _missing(path: str) -> Finding:
    rule = RULES["frontmatter/missing"]
    customary = _CUSTOMARY_WITHOUT.fullmatch(PurePosixPath(path).stem.lower())
    return rule.finding(at=Position(1, 1), severity=Severity.INFO if customary else None)


def _check(block: Source, schemas: SchemaLookup, limits: DocumentLimits) -> FrontMatter:
    parsed = parse_yaml(block, limits)
    found = list(parsed.findings)
    if len(parsed.values) > 1:
        found.append(RULES["frontmatter/several"].finding(at=Position(1, 1)))
        return FrontMatter(None, tuple(found))
    if parsed.unread:
        return FrontMatter(None, tuple(found))
    # Nothing at all between the lines, or only comments: no keys, and the schema says which ones are missing.
    metadata = (parsed.values[0] if parsed.values else None) or {}
    if not isinstance(metadata, dict):
        found.append(RULES["frontmatter/not-a-mapping"].finding(at=block.position(0), pointer=""))
        return FrontMatter(None, tuple(found))

    def find(pointer: str) -> Position | None:
        return parsed.locate({pointer}).get(pointer)

    schema = schema_for(metadata, schemas)
    if schema is None:
        found.append(RULES["frontmatter/no-schema"].finding(at=Position(1, 1)))
        return FrontMatter(metadata, tuple(found), find=find)
    try:
        found.extend(metadata_findings(metadata, schema, parsed.locate))
    except ValidationError as error:
        found.append(RULES["frontmatter/unusable-schema"].finding(str(error.message), at=Position(1, 1)))
    return FrontMatter(metadata, tuple(found), schema, find)


def schema_for(metadata: JsonObject, schemas: SchemaLookup) -> Schema | None:
    """The schema that front matter is held against: that of its info code, or else the general one."""
    code = metadata.get("infoCode")
    if isinstance(code, str) and _INFO_CODE.match(code):
        own = schemas.find(f"frontmatter.{code}")
        if own is not None:
            return own
    return schemas.find(GENERAL_SCHEMA)


def metadata_findings(
    metadata: JsonObject, schema: Schema, locate: Callable[[set[str]], Mapping[str, Position]] = lambda _pointers: {}
) -> tuple[Finding, ...]:
    """What is wrong with front matter that was read, after one schema.

    Args:
        locate: the places of values, by their JSON Pointers; what it does not know is on the first line.

    Raises:
        ValidationError: the schema cannot be used.
    """
    violations = schema.violations(metadata, of_each_member=True)  # of some, they are only warnings
    places = locate({violation.pointer for violation in violations})
    found = [
        _breach(violation, metadata, schema, places.get(violation.pointer, Position(1, 1)))
        for violation in violations
        if not (violation.keyword == "required" and violation.pointer == "")  # told one by one, below
    ]
    return (*found, *_missing_keys(metadata, schema))


def _missing_keys(metadata: JsonObject, schema: Schema) -> list[Finding]:
    found: list[Finding] = []
    for keyword, rule in (("required", "frontmatter/required-key"), ("x-recommended", "frontmatter/recommended-key")):
        keys = schema.document.get(keyword)
        for key in keys if isinstance(keys, list) else ():
            if isinstance(key, str) and key not in metadata:
                description, remedy = _annotation(schema, key, "description"), _annotation(schema, key, "x-remedy")
                found.append(
                    RULES[rule].finding(
                        f"the key {key!r} is missing" + (f": {description}" if description else ""),
                        at=Position(1, 1),
                        pointer="",
                        remedy=f"add {key!r} to the front matter" + (f": {remedy}" if remedy else ""),
                    )
                )
    return found


def _breach(violation: Violation, metadata: JsonObject, schema: Schema, at: Position) -> Finding:
    key = _unescape(violation.pointer.split("/")[1]) if violation.pointer else ""
    severity = _annotation(schema, key, "x-severity")
    softer = Severity(severity) if severity in ("warning", "info") else None
    value: JsonValue = metadata.get(key)
    # The engine's words repeat the pattern or the list; the schema's own remedy says it for people.
    remedy = _annotation(schema, key, "x-remedy")
    what = (
        _shown(value)
        if violation.pointer.count("/") == 1 and violation.keyword in ("pattern", "enum", "const", "format")
        else ""
    )
    message = (
        f"{key} is {what}, which {_BREACH[violation.keyword]}"
        if what
        else f"{key or 'the front matter'}: {violation.message}"
    )
    rule = RULES["frontmatter/value" if softer is None else "frontmatter/unusual-value"]
    return rule.finding(message, at=at, pointer=violation.pointer, severity=softer, remedy=remedy)


_BREACH = {
    "pattern": "has not the expected form",
    "enum": "is not in the list of known values",
    "const": "is not the expected value",
    "format": "is not in the expected format",
}


def _annotation(schema: Schema, key: str, name: str) -> str:
    """A text annotation of a property's subschema; empty when there is none."""
    properties = schema.document.get("properties")
    of_key = properties.get(key) if isinstance(properties, dict) else None
    value = of_key.get(name) if isinstance(of_key, dict) else None
    return value if isinstance(value, str) else ""


def _shown(value: JsonValue) -> str:
    return repr(visible(value)) if isinstance(value, str) else visible(str(value))


def _unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
