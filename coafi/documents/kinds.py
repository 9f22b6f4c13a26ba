"""What a file is, by its name and its content."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from pydantic import JsonValue

from coafi.documents.images import format_of_content, format_of_name
from coafi.documents.rules import RULES
from coafi.documents.source import Source
from coafi.findings import Finding, Severity


class FileKind(StrEnum):
    """The kinds of files that are told apart."""

    MARKDOWN = "markdown"
    YAML = "yaml"
    JSON = "json"
    JSON_SCHEMA = "json-schema"
    IMAGE = "image"
    TEXT = "text"
    BINARY = "binary"
    UNKNOWN = "unknown"


DOCUMENTS = frozenset({FileKind.MARKDOWN, FileKind.YAML, FileKind.JSON, FileKind.JSON_SCHEMA})
"""The kinds that are read as documents, and have pages."""

SHOWN = DOCUMENTS | {FileKind.IMAGE}
"""The kinds from which artifacts derive."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TEXT_SUFFIXES = _words(
    ".adoc .bash .bat .c .cc .cfg .conf .cpp .cs .css .csv .dockerfile .env .go .gql .graphql .h .hcl .hpp .htm .html "
    ".ini .ipynb .java .js .jsonc .json5 .jsonl .jsx .kt .less .log .lock .lua .mjs .php .pl .proto .ps1 .py .pyi .r "
    ".rb .rs .rst .scala .scss .sh .sql .swift .tex .tf .tfvars .toml .ts .tsv .tsx .txt .vue .xml .xsd .xsl .zsh"
)
_TEXT_NAMES = _words(
    ".dockerignore .editorconfig .gitattributes .gitignore .gitmodules authors changelog codeowners contributing "
    "dockerfile gemfile jenkinsfile license makefile notice procfile readme"
)
_BY_SUFFIX = {
    **dict.fromkeys(_words(".md .markdown .mdown .mkd"), FileKind.MARKDOWN),
    **dict.fromkeys(_words(".yaml .yml"), FileKind.YAML),
    **dict.fromkeys(_words(".json .geojson .jsonld .webmanifest"), FileKind.JSON),
    **dict.fromkeys(_TEXT_SUFFIXES, FileKind.TEXT),
}

_NOT_TEXT = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))

_BOMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@dataclass(frozen=True, slots=True)
class Identified:
    """What a file turned out to be.

    Attributes:
        kind: its kind; a JSON file is a JSON Schema by its name here, by its content only after parsing.
        source: its text without byte order mark; ``None`` when it is not text.
        findings: what is wrong with its encoding.
    """

    kind: FileKind
    source: Source | None
    findings: tuple[Finding, ...] = ()


def kind_of_name(path: str) -> FileKind:
    """The kind that the name claims; ``UNKNOWN`` when it claims none."""
    name = PurePosixPath(path).name.lower()
    if name.endswith(".schema.json"):
        return FileKind.JSON_SCHEMA
    if name in _TEXT_NAMES:
        return FileKind.TEXT
    if format_of_name(name):
        return FileKind.IMAGE
    return _BY_SUFFIX.get(PurePosixPath(name).suffix, FileKind.UNKNOWN)


def identify(path: str, content: bytes) -> Identified:
    """The kind of a file and its text.

    A name that claims text and bytes that are none give that kind, no text and a finding with the place of the first
    wrong byte. Without such a claim the bytes decide between image, text and binary.
    """
    claimed = kind_of_name(path)
    if claimed is FileKind.IMAGE or (claimed is FileKind.UNKNOWN and format_of_content(content)):
        return Identified(FileKind.IMAGE, None)
    body = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        if claimed is FileKind.UNKNOWN:
            return Identified(FileKind.BINARY, None)
        nul = body.find(0, 0, error.start)
        return Identified(claimed, None, (_encoding_finding(claimed, body, error.start if nul < 0 else nul),))
    if claimed is FileKind.UNKNOWN:
        if not body:
            return Identified(FileKind.UNKNOWN, None)
        # Like git and file(1): control characters that no text has make a file binary.
        if len(body.translate(None, _NOT_TEXT)) != len(body):
            return Identified(FileKind.BINARY, None)
        return Identified(FileKind.TEXT, Source.of(text))
    if "\x00" in text:
        return Identified(claimed, None, (_encoding_finding(claimed, body, body.index(0)),))
    found: tuple[Finding, ...] = ()
    if len(body) != len(content):
        found = (RULES["file/bom"].finding(at=Source.of(text).position(0)),)
    return Identified(claimed, Source.of(text), found)


def is_json_schema(value: JsonValue) -> bool:
    """Whether a JSON document says, by ``$schema``, that it is a JSON Schema of any draft.

    Other uses of ``$schema``, that name the schema of the document itself, do not count.
    """
    if not isinstance(value, dict):
        return False
    named = value.get("$schema")
    if not isinstance(named, str):
        return False
    place = named.removeprefix("https://").removeprefix("http://").rstrip("#")
    return place.startswith("json-schema.org/") and place.rsplit("/", 1)[-1] in {"schema", "hyper-schema"}


def _encoding_finding(kind: FileKind, body: bytes, offset: int) -> Finding:
    rule = RULES["file/encoding"]
    severity = rule.severity if kind in DOCUMENTS else Severity.WARNING
    for mark, name in _BOMS:
        if body.startswith(mark):
            return rule.finding(f"the file is {name}, not UTF-8", at=Source.of("").position(0), severity=severity)
    # Decoding what lies before the wrong byte never fails: it is the first one.
    before = body[:offset].decode("utf-8", "replace")
    source = Source.of(before)
    wrong = body[offset]
    what = "a NUL byte" if wrong == 0 else f"the byte 0x{wrong:02x}, which is not UTF-8 here"
    older = bytes([wrong]).decode("cp1252", "ignore") if wrong >= 0x80 else ""
    remedy = f"save it as UTF-8; if it is Windows-1252 now, this byte is {older!r}" if older.strip() else ""
    return rule.finding(f"the text holds {what}", at=source.position(len(before)), severity=severity, remedy=remedy)
