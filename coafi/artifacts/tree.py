"""YAML and JSON values as HTML that people can read: a tree that folds, tables for lists of alike objects."""

from collections.abc import Iterable
from html import escape

from pydantic import JsonValue

from coafi.canonical import JsonObject

_TEXT_LIMIT = 4_000
_TABLE_COLUMNS = 8
_FOLDED_BELOW = 3
_SHORT = 300


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
            pairs = ((f'<span class="k">{escape(key) or "&quot;&quot;"}</span>', item) for key, item in value.items())
            total = len(value)
        elif isinstance(value, list):
            pairs = ((f'<span class="i">[{number}] </span>', item) for number, item in enumerate(value))
            total = len(value)
        else:
            raise TypeError(type(value))
        out: list[str] = []
        for shown, (label, item) in enumerate(pairs):
            if self._left <= 0:
                out.append(f'<li class="leaf c">{total - shown} more, not shown here</li>')
                break
            self._left -= 1
            out.append(self._item(label, item, depth))
        return "".join(out)

    def _item(self, label: str, value: JsonValue, depth: int) -> str:
        if not isinstance(value, dict | list) or not value:
            return f'<li class="leaf">{label}{_leaf(value)}</li>'
        columns = _columns(value) if isinstance(value, list) else []
        if columns and isinstance(value, list):
            inner = self._table([item for item in value if isinstance(item, dict)], columns)
        else:
            inner = f"<ul>{self._items(value, depth + 1)}</ul>"
        state = " open" if self._short or depth < _FOLDED_BELOW else ""
        summary = f'<summary>{label}<span class="c">{_count(value)}</span></summary>'
        return f"<li><details{state}>{summary}{inner}</details></li>"

    def _table(self, rows: list[JsonObject], columns: list[str]) -> str:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
        body: list[str] = []
        for shown, row in enumerate(rows):
            if self._left <= 0:
                text = f"{len(rows) - shown} more rows, not shown here"
                body.append(f'<tr><td class="c" colspan="{len(columns)}">{text}</td></tr>')
                break
            self._left -= len(columns)
            cells = (_leaf(row[column]) if column in row else "" for column in columns)
            body.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        return (
            '<div class="scroll" role="region" aria-label="Records" tabindex="0"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )


def schema_summary(schema: JsonObject, budget: int) -> str:
    """What a JSON Schema asks for: its description, and its properties as a table."""
    out: list[str] = []
    if isinstance(schema.get("description"), str):
        out.append(f'<p class="lede">{escape(_cut(str(schema["description"])))}</p>')
    properties = schema.get("properties")
    if isinstance(properties, dict) and properties:
        required = schema.get("required")
        needed = {key for key in required if isinstance(key, str)} if isinstance(required, list) else set()
        rows = [_property(key, sub, key in needed) for key, sub in list(properties.items())[:budget]]
        if len(properties) > budget:
            rows.append(f'<tr><td class="c" colspan="3">{len(properties) - budget} more, not shown here</td></tr>')
        out.append(
            '<h2 id="properties">Properties</h2><div class="scroll" role="region" aria-label="Properties" tabindex="0">'
            '<table><thead><tr><th scope="col">Property</th><th scope="col">Value</th><th scope="col">Meaning</th></tr>'
            f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        )
    return "".join(out)


def _property(name: str, schema: JsonValue, required: bool) -> str:
    mark = ' <span class="req">required</span>' if required else ""
    described = schema.get("description") if isinstance(schema, dict) else None
    meaning = escape(_cut(described)) if isinstance(described, str) else ""
    return f"<tr><td><code>{escape(name)}</code>{mark}</td><td>{_constraints(schema)}</td><td>{meaning}</td></tr>"


def _constraints(schema: JsonValue) -> str:
    """The keywords of one property in words; what is not known by name is left to the source below."""
    if not isinstance(schema, dict):
        return "anything" if schema is not False else "not allowed"
    out: list[str] = []
    kinds = schema.get("type")
    if isinstance(kinds, str):
        out.append(escape(kinds))
    elif isinstance(kinds, list):
        out.append(" or ".join(escape(str(kind)) for kind in kinds[:10]))
    if "const" in schema:
        out.append(f"always {_leaf(schema['const'])}")
    listed = schema.get("enum")
    if isinstance(listed, list):
        out.append("one of " + ", ".join(_leaf(item) for item in listed[:30]) + (" …" if len(listed) > 30 else ""))
    if isinstance(schema.get("format"), str):
        out.append(f"format {escape(str(schema['format']))}")
    if isinstance(schema.get("pattern"), str):
        out.append(f"<code>{escape(_cut(str(schema['pattern'])))}</code>")
    if isinstance(schema.get("$ref"), str):
        out.append(f"as <code>{escape(_cut(str(schema['$ref'])))}</code>")
    for low, high, what in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        bounds = _bounds(schema.get(low), schema.get(high))
        if bounds:
            out.append(bounds + what)
    return ", ".join(out)


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
        kind = "s lines" if "\n" in value.strip("\n") else "s"
        return f'<span class="{kind}">{escape(_cut(value)) or "&quot;&quot;"}</span>'
    if value is None or isinstance(value, bool):
        return f'<span class="l">{ {None: "null", True: "true", False: "false"}[value] }</span>'
    if isinstance(value, int | float):
        return f'<span class="n">{_number(value)}</span>'
    return f'<span class="c">{_count(value)}</span>'


def _number(value: float) -> str:
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(value)


def _count(value: list[JsonValue] | JsonObject) -> str:
    size, one = len(value), "key" if isinstance(value, dict) else "item"
    return f"{size} {one}{'' if size == 1 else 's'}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}… ({len(text) - _TEXT_LIMIT} more characters)"
