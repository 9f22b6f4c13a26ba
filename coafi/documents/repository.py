"""What a repository wants of its checks: ``.coafi.yaml`` and ``schemas.yaml`` at its root.

Both are files of the repository, and may be wrong: then the findings say so when the file itself is checked, and for
all other files the parts that make sense hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from coafi.canonical import JsonObject
from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Parsed
from coafi.documents.rules import RULES
from coafi.documents.source import Position, Source, visible
from coafi.documents.suggestions import nearest
from coafi.documents.tree import BINDINGS_FILE, SETTINGS_FILE
from coafi.documents.yaml_syntax import parse_yaml
from coafi.findings import Finding, Severity
from coafi.registry.builtin import BuiltinSchemas

_OFF = "off"
_CHECKED_WITH = {
    SETTINGS_FILE: ("RepositorySettings", "settings/value"),
    BINDINGS_FILE: ("SchemaBindings", "bindings/value"),
}
_LIMITS = DocumentLimits(max_bytes=256 * 1024, max_nodes=20_000)
_MAX_PATTERNS = 2_000
_LONGEST_PATTERN = 300
_SCHEMAS = BuiltinSchemas()


@dataclass(frozen=True, slots=True)
class Binding:
    """A line of ``schemas.yaml``.

    Attributes:
        schema: path of the schema from the root of the repository.
        files: patterns of the files that it holds for.
    """

    schema: str
    files: tuple[str, ...]


def severities_of(content: bytes | None) -> Mapping[str, Severity | None]:
    """How bad a repository finds which rule, by its ``.coafi.yaml``; ``None`` is off. Never raises."""
    rules = _mapping(content).get("rules")
    if not isinstance(rules, dict):
        return {}
    known = {**{severity.value: severity for severity in Severity}, _OFF: None}
    return {
        rule: known[wanted]
        for rule, wanted in rules.items()
        if rule in RULES and isinstance(wanted, str) and wanted in known
    }


def bindings_of(content: bytes | None) -> tuple[Binding, ...]:
    """Which schemas hold for which files, by a repository's ``schemas.yaml``. Never raises."""
    entries = _mapping(content).get("schemas")
    found: list[Binding] = []
    room = _MAX_PATTERNS
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            schema, files = entry.get("schema"), entry.get("files")
            if isinstance(schema, str) and isinstance(files, list):
                patterns = tuple(one for one in files[:room] if isinstance(one, str) and len(one) <= _LONGEST_PATTERN)
                room -= len(patterns)
                found.append(Binding(schema.strip("/"), patterns))
    return tuple(found)


def is_repository_file(path: str) -> bool:
    """Whether the file is one of the two that say what a repository wants."""
    return path in _CHECKED_WITH


def repository_findings(path: str, parsed: Parsed) -> list[Finding]:
    """What is wrong with a file that ``is_repository_file``.

    Args:
        path: which of the two.
        parsed: its content; nothing is found without values, as the syntax is wrong then.
    """
    schema_id, rule = _CHECKED_WITH[path]
    schema = _SCHEMAS.find(schema_id)
    if schema is None or not parsed.values:
        return []
    value = parsed.values[0]
    if value is None:
        return []  # Nothing but comments.
    violations = schema.violations(value)
    unknown = _unknown_rules(value) if path == SETTINGS_FILE else {}
    places = parsed.locate({*(violation.pointer for violation in violations), *unknown})
    found = [
        RULES[rule].finding(
            f"{violation.pointer or path}: {violation.message}",
            at=places.get(violation.pointer, Position(1, 1)),
            pointer=violation.pointer,
        )
        for violation in violations
    ]
    for pointer, name in unknown.items():
        near = nearest(name, RULES, 0.6)
        found.append(
            RULES["settings/unknown-rule"].finding(
                f"there is no rule {visible(name)!r}",
                at=places.get(pointer),
                pointer=pointer,
                remedy=f"did you mean {near}?" if near else "",
            )
        )
    return found


def without_own_words(path: str, findings: Sequence[Finding]) -> list[Finding]:
    """The findings of a settings file without those about ``off``: whoever reads this file is not in doubt."""
    return [one for one in findings if path != SETTINGS_FILE or one.rule != "yaml/ambiguous"]


def _unknown_rules(value: JsonValue) -> dict[str, str]:
    rules = value.get("rules") if isinstance(value, dict) else None
    names = rules if isinstance(rules, dict) else {}
    return {"/rules/" + name.replace("~", "~0").replace("/", "~1"): name for name in names if name not in RULES}


def _mapping(content: bytes | None) -> JsonObject:
    if content is None or len(content) > _LIMITS.max_bytes:
        return {}
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    values = parse_yaml(Source.of(text), _LIMITS).values
    return values[0] if values and isinstance(values[0], dict) else {}
