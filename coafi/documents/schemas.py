"""Data against the schema that it names, or that ``schemas.yaml`` binds it to; and schemas against their meta-schema.

A file names its schema by a key ``$schema`` at its top, or in YAML by a comment before the data, as editors know it:
``# yaml-language-server: $schema=<path>``. A path is relative to the file, or with a leading slash to the root of the
repository. Only schemas of the same tree are used: nothing is ever fetched.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import dirname, join, normpath
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin

from pydantic import JsonValue

from coafi.canonical import sha256
from coafi.documents.json_syntax import parse_json
from coafi.documents.kinds import FileKind, is_json_schema, kind_of_name
from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Parsed
from coafi.documents.patterns import matches
from coafi.documents.repository import Binding
from coafi.documents.rules import RULES
from coafi.documents.schema_engine import ENGINE, Unusable, UsableSchema
from coafi.documents.source import Position, Source, line_spans, visible
from coafi.documents.suggestions import nearest
from coafi.documents.tree import Tree, is_support_file
from coafi.documents.yaml_syntax import parse_yaml
from coafi.findings import Finding

DRAFTS = {
    "draft-03/schema": "draft 3",
    "draft-04/schema": "draft 4",
    "draft-06/schema": "draft 6",
    "draft-07/schema": "draft 7",
    "draft/2019-09/schema": "2019-09",
    "draft/2020-12/schema": "2020-12",
}
"""The meta-schemas that are known, by what follows ``json-schema.org/``."""

MAX_SCHEMA_BYTES = 512 * 1024
"""The largest schema of a repository that data is held against."""

_NEWEST = "draft/2020-12/schema"
_MAX_RESOURCES = 50
_MAX_REFUSED = 5
_COMMENT_LINES = 50
_COMMENT = re.compile(r"#.*?yaml-language-server:.*?\$schema=(\S+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ROOT = "https://repository.invalid/"
"""Base of the URIs of files, so that relative references between them can be resolved; nothing is asked for there."""

_LIMITS = DocumentLimits(max_bytes=MAX_SCHEMA_BYTES)


class _Named(NamedTuple):
    """A schema that a file names.

    Attributes:
        target: as it is written.
        at: where.
        path: of the schema; ``None`` when it is not in the repository.
    """

    target: str
    at: Position
    path: str | None


@dataclass
class SchemaStore:
    """The schemas of one tree, read when they are needed, each of them once.

    Attributes:
        tree: where they are.
        bindings: which of them holds for which files.
    """

    tree: Tree
    bindings: tuple[Binding, ...] = ()
    _usable: dict[str, UsableSchema | str] = field(default_factory=dict)
    _refused: int = 0

    def bound(self, path: str) -> str | None:
        """The schema that ``schemas.yaml`` binds a file to."""
        return next((one.schema for one in self.bindings if matches(path, one.files)), None)

    def usable(self, path: str) -> UsableSchema | str:
        """The schema at a path, or why it cannot be used."""
        if path not in self._usable:
            if self._refused >= _MAX_REFUSED:
                return "too many schemas of this repository take too long"
            self._usable[path] = self._load(path)
        return self._usable[path]

    def refuse(self, path: str, why: str) -> None:
        """Use a schema no more: thousands of files that are bound to it would take the same time again."""
        self._usable[path] = why
        self._refused += 1

    def _load(self, path: str) -> UsableSchema | str:
        if not is_support_file(path):
            return "it is not named as a schema: call it *.schema.json, or put it below a directory named schemas"
        document = self._read(path)
        if isinstance(document, str):
            return document
        resources: dict[str, JsonValue] = {}
        digests = [document.digest]
        waiting = [(path, document.value)]
        for at, value in waiting:
            for reference in _file_references(value):
                uri = urljoin(_uri(at), reference)
                target = _path_of(uri)
                if uri in resources or target is None or len(resources) == _MAX_RESOURCES:
                    continue
                other = self._read(target)
                if isinstance(other, str):
                    return f"it refers to {visible(reference)!r}: {other}"
                resources[uri] = other.value
                digests.append(other.digest)
                own = value.get("$id") if isinstance(value, dict) else None
                if isinstance(own, str):
                    resources[urljoin(own, reference)] = other.value
                waiting.append((target, other.value))
        key = sha256(repr((path, digests, sorted(resources))).encode())
        return UsableSchema(key, document.value, _uri(path), resources, _draft(document.value) == "draft-03/schema")

    def _read(self, path: str) -> "_Document | str":
        content = self.tree.read(path) if is_support_file(path) else None
        if content is None:
            return "it is not in the repository" if self.tree.kind(path) is None else "it cannot be read as a schema"
        if len(content) > MAX_SCHEMA_BYTES:
            return f"it has {len(content)} bytes; schemas up to {MAX_SCHEMA_BYTES} bytes are used"
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        parse = parse_yaml if kind_of_name(path) is FileKind.YAML else parse_json
        values = parse(Source.of(text), _LIMITS).values
        if len(values) != 1 or not isinstance(values[0], dict | bool):
            return "it is no readable JSON Schema"
        return _Document(values[0], sha256(content))


class _Document(NamedTuple):
    value: JsonValue
    digest: str


def schema_findings(
    path: str, kind: FileKind, source: Source, parsed: Parsed, store: SchemaStore | None
) -> list[Finding]:
    """What is wrong with data by its schema, or with a schema by its meta-schema. Nothing is known of unreadable data.

    Args:
        path: of the file.
        kind: what it is by its name and syntax.
        source: its text.
        parsed: its values.
        store: the schemas around it; without it only schemas are looked at.

    Raises:
        Unavailable: the machine cannot start a process.
    """
    if not parsed.values:
        return []
    first = parsed.values[0]
    if is_json_schema(first) or (_is_named_schema(path) and not _names_a_file(first)):
        return _by_meta_schema(parsed)
    if store is None:
        return []
    found: list[Finding] = []
    wanted: tuple[str, Position] | None = None
    named = _named(path, kind, source, parsed)
    if named is not None:
        if named.path is None:
            found.append(_elsewhere(named))
        elif store.tree.kind(named.path) is None:
            found.append(_missing(named.target, named.path, named.at, store.tree))
        else:
            wanted = named.path, named.at
    if wanted is None:
        bound = store.bound(path)
        if bound is None:
            return found
        if store.tree.kind(bound) is None:
            return [*found, _missing(bound, bound, Position(1, 1), store.tree, " by schemas.yaml")]
        wanted = bound, Position(1, 1)
    return [*found, *_by_schema(*wanted, parsed, store)]


def _by_schema(schema_path: str, at: Position, parsed: Parsed, store: SchemaStore) -> list[Finding]:
    usable = store.usable(schema_path)
    if isinstance(usable, str):
        return [RULES["schema/unusable"].finding(f"the schema {visible(schema_path)} cannot be used: {usable}", at=at)]
    try:
        return _violations("schema/violation", usable, parsed, f"by {visible(schema_path)}")
    except Unusable as error:
        if error.exhausted:
            store.refuse(schema_path, str(error))
        return [RULES["schema/unusable"].finding(f"the schema {visible(schema_path)} cannot be used: {error}", at=at)]


def _by_meta_schema(parsed: Parsed) -> list[Finding]:
    first = parsed.values[0]
    draft = _draft(first)
    if draft is None:
        named = first.get("$schema") if isinstance(first, dict) else None
        if named is not None:
            at = parsed.locate({"/$schema"}).get("/$schema")
            message = f"the draft {visible(str(named))} is not known, so the schema was not checked"
            return [RULES["schema/unknown-draft"].finding(message, at=at, pointer="/$schema")]
        draft = _NEWEST
    if draft == "draft-03/schema":
        meta = UsableSchema("meta " + draft, True, "", {}, draft3=True)
    else:
        uri = f"http{'s' if draft.startswith('draft/') else ''}://json-schema.org/{draft}"
        meta = UsableSchema("meta " + draft, {"$schema": uri, "$ref": uri}, "")
    try:
        return _violations("schema/invalid", meta, parsed, f"in JSON Schema {DRAFTS[draft]}")
    except Unusable as error:
        return [RULES["schema/unusable"].finding(f"the schema cannot be checked: {error}", at=Position(1, 1))]


def _violations(rule: str, schema: UsableSchema, parsed: Parsed, where: str) -> list[Finding]:
    found = ENGINE.violations(schema, parsed.values)
    places: dict[int, Mapping[str, Position]] = {
        number: parsed.locate({one.pointer for one in found if one.instance == number}, number)
        for number in {one.instance for one in found}
    }
    return [
        RULES[rule].finding(
            f"{one.pointer or 'the whole'}: {one.message} ({one.keyword} {where})",
            at=places[one.instance].get(one.pointer, Position(1, 1)),
            pointer=one.pointer,
        )
        for one in found
    ]


# ---------------------------------------------------------------------- which schema


def _named(path: str, kind: FileKind, source: Source, parsed: Parsed) -> _Named | None:
    """The schema that a file names itself."""
    first = parsed.values[0]
    target = first.get("$schema") if isinstance(first, dict) else None
    if isinstance(target, str):
        at = parsed.locate({"/$schema"}).get("/$schema", Position(1, 1))
        return _Named(target, at, _resolve(path, target))
    if kind is FileKind.YAML:
        for start, end, _ in line_spans(source.text, limit=_COMMENT_LINES):
            line = source.text[start:end]
            if line.strip() and not line.startswith(("#", "---", "%")):
                break
            comment = _COMMENT.match(line)
            if comment:
                target = comment[1]
                return _Named(target, source.position(start + comment.start(1)), _resolve(path, target))
    return None


def _resolve(path: str, target: str) -> str | None:
    """The path that a file means by ``target``; ``None`` when it is not within the repository."""
    if _SCHEME.match(target) or target.startswith("//") or len(target) > 1_000:
        return None
    place = unquote(target.partition("#")[0], errors="replace")
    resolved = normpath(place.lstrip("/") if place.startswith("/") else join(dirname(path), place))
    return None if resolved == ".." or resolved.startswith("../") else resolved


def _elsewhere(named: _Named) -> Finding:
    if _SCHEME.match(named.target) or named.target.startswith("//"):
        shown = visible(named.target)
        message = f"the schema {shown} is not in the repository, so the data was not checked: nothing is fetched"
        return RULES["schema/remote"].finding(message, at=named.at)
    message = f"the schema {visible(named.target)} is outside of the repository"
    return RULES["schema/missing"].finding(message, at=named.at)


def _missing(target: str, path: str, at: Position, tree: Tree, by: str = "") -> Finding:
    near = nearest(path.rpartition("/")[2], tree.names(dirname(path)))
    remedy = f"did you mean {join(dirname(path), near)}?" if near else ""
    return RULES["schema/missing"].finding(
        f"the schema {visible(target)}, named{by}, does not exist", at=at, remedy=remedy
    )


def _draft(value: JsonValue) -> str | None:
    """The meta-schema that a schema names, as in ``DRAFTS``."""
    named = value.get("$schema") if isinstance(value, dict) else None
    if not isinstance(named, str):
        return None
    place = named.removeprefix("https://").removeprefix("http://").removeprefix("json-schema.org/").rstrip("#")
    return place if place in DRAFTS else None


def _is_named_schema(path: str) -> bool:
    return path.endswith((".schema.json", ".schema.yaml", ".schema.yml"))


def _names_a_file(value: JsonValue) -> bool:
    """Whether it names a schema of its own: then it is data, whatever its name says."""
    named = value.get("$schema") if isinstance(value, dict) else None
    return isinstance(named, str) and not is_json_schema(value)


# ---------------------------------------------------------------------- references between schemas


def _uri(path: str) -> str:
    return _ROOT + quote(path, errors="replace")


def _path_of(uri: str) -> str | None:
    return unquote(uri.removeprefix(_ROOT).partition("#")[0]) if uri.startswith(_ROOT) else None


def _file_references(value: JsonValue) -> Iterator[str]:
    """The references of a schema to other files, without fragments."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for key, inner in one.items():
                if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                    place = inner.partition("#")[0]
                    if place and not _SCHEME.match(place):
                        yield place
                else:
                    waiting.append(inner)
        elif isinstance(one, list):
            waiting.extend(one)
