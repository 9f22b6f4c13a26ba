"""YAML and JSON values as HTML that people can read: a tree that folds, tables for lists of alike objects."""

from collections.abc import Iterable
from html import escape

from pydantic import JsonValue

from coafi.artifacts.page import Entry
from coafi.canonical import JsonObject

_TEXT_LIMIT = 4_000
_TABLE_COLUMNS = 8
_FOLDED_BELOW = 3
_SHORT = 300
_LONG_TEXT = 400
_BEGINNING = 80
_SIDE_BY_SIDE = 16
_SHORT_TEXT = 40
_SCHEMA_DEPTH = 4


class Tree:
    """Writes values, up to a number of them.

    Args:
        budget: the most values that are shown; what is left out is said.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget
        self._short = True

    def document(self, value: JsonValue) -> str:
        """One document: a table where its list is one, otherwise a tree."""
        self._short = _size(value, _SHORT) < _SHORT
        if isinstance(value, list):
            columns = _columns(value)
            if columns:
                return self._table([item for item in value if isinstance(item, dict)], columns)
        if isinstance(value, dict | list) and value:
            return f'<ul class="tree">{self._items(value, 0)}</ul>'
        return f'<ul class="tree"><li class="leaf">{_leaf(value)}</li></ul>'

    def _items(self, value: JsonValue, depth: int) -> str:
        pairs: Iterable[tuple[str, JsonValue]]
        if isinstance(value, dict):
            pairs = ((f'<span class="key">{escape(key) or "&quot;&quot;"}</span>', item) for key, item in value.items())
            total = len(value)
        elif isinstance(value, list):
            pairs = ((f'<span class="index">[{number}] </span>', item) for number, item in enumerate(value))
            total = len(value)
        else:
            raise TypeError(type(value))
        out: list[str] = []
        for shown, (label, item) in enumerate(pairs):
            if self._left <= 0:
                out.append(f'<li class="leaf count">{total - shown} more, not shown here</li>')
                break
            self._left -= 1
            out.append(self._item(label, item, depth))
        return "".join(out)

    def _item(self, label: str, value: JsonValue, depth: int) -> str:
        if isinstance(value, list) and _is_short(value):
            self._left -= len(value)
            inner = ", ".join(map(_leaf, value))
            return f'<li class="leaf">{label}<span class="index">[</span>{inner}<span class="index">]</span></li>'
        if not isinstance(value, dict | list) or not value:
            return f'<li class="leaf">{label}{_leaf(value)}</li>'
        columns = _columns(value) if isinstance(value, list) else []
        if columns and isinstance(value, list):
            inner = self._table([item for item in value if isinstance(item, dict)], columns)
        else:
            inner = f"<ul>{self._items(value, depth + 1)}</ul>"
        state = " open" if self._short or depth < _FOLDED_BELOW else ""
        summary = f'<summary>{label}<span class="count">{_count(value)}</span></summary>'
        return f"<li><details{state}>{summary}{inner}</details></li>"

    def _table(self, rows: list[JsonObject], columns: list[str]) -> str:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
        body: list[str] = []
        for shown, row in enumerate(rows):
            if self._left <= 0:
                text = f"{len(rows) - shown} more rows, not shown here"
                body.append(f'<tr><td class="count" colspan="{len(columns)}">{text}</td></tr>')
                break
            self._left -= len(columns)
            cells = (_leaf(row[column]) if column in row else "" for column in columns)
            body.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        return (
            '<div class="scroll" role="group" aria-label="Records" tabindex="0"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )


class SchemaTables:
    """What a JSON Schema asks for, as tables of properties, up to a number of rows.

    Args:
        schema: a JSON Schema of any draft.
        budget: the most rows that are shown; what is left out is said.
    """

    def __init__(self, schema: JsonObject, budget: int) -> None:
        self._schema = schema
        self._left = budget
        self._definitions = _definitions(schema)
        self._numbers = {pointer: number for number, pointer in enumerate(self._definitions, 1)}
        self._tables = 0

    def sections(self) -> tuple[str, list[Entry]]:
        """Safe HTML with its headings: the properties, then the definitions that others refer to."""
        out: list[str] = []
        entries: list[Entry] = []
        described = self._schema.get("description")
        if isinstance(described, str):
            out.append(f'<p class="lede">{escape(_cut(described))}</p>')
        table = self._table(self._schema)
        if table:
            entries.append(Entry(2, "properties", "Properties"))
            out.append(f'<h2 id="properties">Properties</h2>{table}')
        if self._definitions:
            entries.append(Entry(2, "definitions", "Definitions"))
            out.append('<h2 id="definitions">Definitions</h2>')
        for number, (name, one) in enumerate(self._definitions.values(), 1):
            if self._left <= 0:
                out.append(f'<p class="note">{len(self._definitions) - number + 1} more are not shown here.</p>')
                break
            self._left -= 1
            anchor = f"definition-{number}"
            entries.append(Entry(3, anchor, name))
            out.append(f'<h3 id="{anchor}"><code>{escape(_cut(name))}</code></h3>')
            out.append(self._definition(one))
        return "".join(out), entries

    def _definition(self, schema: JsonValue) -> str:
        described = schema.get("description") if isinstance(schema, dict) else None
        meaning = f"<p>{escape(_cut(described))}</p>" if isinstance(described, str) else ""
        table = self._table(schema)
        return meaning + (table or f"<p>{self._constraints(schema) or 'anything'}</p>")

    def _table(self, schema: JsonValue) -> str:
        rows = self._rows(schema, "", 0)
        if not rows:
            return ""
        self._tables += 1
        closed = isinstance(schema, dict) and schema.get("additionalProperties") is False
        more = "<p>No other properties are allowed.</p>" if closed else ""
        return (
            f'<div class="scroll" role="group" aria-label="Properties, table {self._tables}" tabindex="0"><table>'
            '<thead><tr><th scope="col">Property</th><th scope="col">Value</th><th scope="col">Meaning</th></tr>'
            f"</thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
        )

    def _rows(self, schema: JsonValue, prefix: str, depth: int) -> list[str]:
        """A row for each property, and for those of objects within it: ``outer.inner``, ``list[].inner``."""
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(schema, dict) or not isinstance(properties, dict) or depth > _SCHEMA_DEPTH:
            return []
        required = schema.get("required")
        needed = {key for key in required if isinstance(key, str)} if isinstance(required, list) else set()
        rows: list[str] = []
        for shown, (key, one) in enumerate(properties.items()):
            if self._left <= 0:
                text = f"{len(properties) - shown} more, not shown here"
                rows.append(f'<tr><td class="count" colspan="3">{text}</td></tr>')
                break
            self._left -= 1
            rows.append(self._row(prefix + key, one, key in needed))
            rows += self._rows(one, f"{prefix}{key}.", depth + 1)
            items = one.get("items") if isinstance(one, dict) else None
            rows += self._rows(items, f"{prefix}{key}[].", depth + 1)
        return rows

    def _row(self, name: str, schema: JsonValue, required: bool) -> str:
        mark = ' <span class="req">required</span>' if required else ""
        described = schema.get("description") if isinstance(schema, dict) else None
        meaning = escape(_cut(described)) if isinstance(described, str) else ""
        constraints = self._constraints(schema)
        return f"<tr><td><code>{escape(_cut(name))}</code>{mark}</td><td>{constraints}</td><td>{meaning}</td></tr>"

    def _constraints(self, schema: JsonValue, depth: int = 0) -> str:
        """The keywords of one property in words; what is not known by name is left to the source below."""
        if not isinstance(schema, dict):
            return "anything" if schema is not False else "not allowed"
        out: list[str] = []
        kinds = _kinds(schema)
        items = schema.get("items")
        inner = self._constraints(items, depth + 1) if isinstance(items, dict) and depth < _SCHEMA_DEPTH else ""
        if kinds:
            out.append(f"{kinds} of {inner}" if kinds == "array" and inner else kinds)
        if "const" in schema:
            out.append(f"always {_leaf(schema['const'])}")
        listed = schema.get("enum")
        if isinstance(listed, list):
            out.append("one of " + ", ".join(_leaf(item) for item in listed[:30]) + (" …" if len(listed) > 30 else ""))
        for keyword, words in (("format", "format "), ("pattern", "")):
            said = schema.get(keyword)
            if isinstance(said, str):
                shown = escape(_cut(said))
                out.append(f"{words}{shown}" if words else f"<code>{shown}</code>")
        if isinstance(schema.get("$ref"), str):
            out.append(self._reference(str(schema["$ref"])))
        for low, high, what in (
            ("minimum", "maximum", ""),
            ("exclusiveMinimum", "exclusiveMaximum", ", bounds excluded"),
            ("minLength", "maxLength", " characters"),
            ("minItems", "maxItems", " items"),
        ):
            bounds = _bounds(schema.get(low), schema.get(high))
            if bounds:
                out.append(bounds + what)
        for keyword, words in (("anyOf", "any of: "), ("oneOf", "exactly one of: "), ("allOf", "all of: ")):
            several = schema.get(keyword)
            if isinstance(several, list) and depth < _SCHEMA_DEPTH:
                parts = [self._constraints(one, depth + 1) or "a form below" for one in several[:8]]
                out.append(words + "; ".join(parts) + (" …" if len(several) > 8 else ""))
        if "default" in schema:
            out.append(f"by default {_leaf(schema['default'])}")
        return ", ".join(out)

    def _reference(self, pointer: str) -> str:
        shown = f"<code>{escape(_cut(pointer))}</code>"
        number = self._numbers.get(pointer)
        return f"as {shown}" if number is None else f'as <a href="#definition-{number}">{shown}</a>'


def _definitions(schema: JsonObject) -> dict[str, tuple[str, JsonValue]]:
    """The definitions of a schema by the pointers that refer to them, with their names."""
    found: dict[str, tuple[str, JsonValue]] = {}
    for keyword in ("$defs", "definitions"):
        named = schema.get(keyword)
        if isinstance(named, dict):
            for name, one in named.items():
                found[f"#/{keyword}/{name.replace('~', '~0').replace('/', '~1')}"] = (name, one)
    return found


def _kinds(schema: JsonObject) -> str:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return " or ".join(escape(str(kind)) for kind in kinds[:10])
    return escape(kinds) if isinstance(kinds, str) else ""


def _bounds(low: JsonValue, high: JsonValue) -> str:
    least = _number(low) if isinstance(low, int | float) else ""
    most = _number(high) if isinstance(high, int | float) else ""
    if least and most:
        return f"{least} to {most}"
    return f"{least} or more" if least else f"up to {most}" if most else ""


def _columns(items: list[JsonValue]) -> list[str]:
    """The columns of a list of flat, alike objects; empty when it is not one."""
    if len(items) < 2:
        return []
    columns: dict[str, None] = {}
    for item in items:
        if not isinstance(item, dict) or any(isinstance(value, dict | list) for value in item.values()):
            return []
        columns.update(dict.fromkeys(item))
        if len(columns) > _TABLE_COLUMNS:
            return []
    return list(columns)


def _is_short(items: list[JsonValue]) -> bool:
    """Whether a list is a few short values, which read best side by side."""
    return 0 < len(items) <= _SIDE_BY_SIDE and all(
        (len(item) <= _SHORT_TEXT and "\n" not in item and "," not in item)
        if isinstance(item, str)
        else not isinstance(item, dict | list)
        for item in items
    )


def _size(value: JsonValue, limit: int) -> int:
    """How many values there are in ``value``; counting ends at the limit."""
    stack, seen = [value], 0
    while stack and seen < limit:
        inner = stack.pop()
        items = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
        seen += len(items)
        stack.extend(item for item in items if isinstance(item, dict | list))
    return seen


def _leaf(value: JsonValue) -> str:
    if isinstance(value, str):
        kind = "str lines" if "\n" in value.strip("\n") else "str"
        shown = f'<span class="{kind}">{escape(_cut(value)) or "&quot;&quot;"}</span>'
        if len(value) <= _LONG_TEXT:
            return shown
        beginning = escape(" ".join(value[:_BEGINNING].split()))
        summary = f'<span class="str">{beginning}…</span> <span class="count">{len(value)} characters</span>'
        return f'<details class="long"><summary>{summary}</summary>{shown}</details>'
    if value is None or isinstance(value, bool):
        return f'<span class="lit">{ {None: "null", True: "true", False: "false"}[value] }</span>'
    if isinstance(value, int | float):
        return f'<span class="num">{_number(value)}</span>'
    return f'<span class="count">{_count(value)}</span>'


def _number(value: float) -> str:
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(value)


def _count(value: list[JsonValue] | JsonObject) -> str:
    size, one = len(value), "key" if isinstance(value, dict) else "item"
    return f"{size} {one}{'' if size == 1 else 's'}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}… ({len(text) - _TEXT_LIMIT} more characters)"
