"""The reference of the API as a page: the OpenAPI document, for people. One file, no script, nothing loaded."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import Any

from coafi.api.openapi import PERMISSION, SAMPLES, SCHEMA
from coafi.artifacts.highlight import highlighted
from coafi.artifacts.page import STYLE, Entry, page
from coafi.canonical import JsonObject

_STYLE = STYLE + resources.files("coafi.api").joinpath("api.css").read_text(encoding="utf-8")
_CODE = re.compile(r"`([^`]+)`")
_REFERENCE = "#/components/"
_READABLE = range(1, 46)
"""Lengths of regular expressions that tell a person anything."""

_NESTED = 3
"""Levels of objects within each other whose members are shown in the table of the outermost."""


def reference_page(document: JsonObject) -> bytes:
    """The page of an OpenAPI document as :func:`coafi.api.openapi.openapi_document` makes it."""
    return _Reference(document).page()


class _Reference:
    def __init__(self, document: JsonObject) -> None:
        self._document: Any = document  # ours, and shown to be valid by a test
        self._contents: list[Entry] = []

    def page(self) -> bytes:
        info = self._document["info"]
        body = "\n".join([*self._introduction(), *self._operations(), *self._errors(), *self._schemas()])
        return page(
            title=info["title"],
            language="en",
            kind="Reference",
            metadata={"version": info["version"]},
            body=body,
            contents=self._contents,
            style=_STYLE,
        )

    def _introduction(self) -> Iterable[str]:
        text, *sections = self._document["info"]["description"].split("\n\n## ")
        yield f'<p class="lede">{_text(text)}</p>'
        yield (
            '<p>For programs the same is at <a href="../openapi.json"><code>/openapi.json</code></a> (OpenAPI '
            f"{escape(self._document['openapi'])}). The examples are for <code>sh</code>; they take the gateway from "
            "<code>$GATEWAY</code> and an API key from <code>$KEY</code>:</p>"
        )
        yield _code("GATEWAY=http://127.0.0.1:8080\nKEY=$(coafi auth key add ci --role admin)", "bash")
        yield self._heading(2, "every-request", "For every request")
        for section in sections:
            heading, _, paragraph = section.partition("\n\n")
            yield f"<h3>{escape(heading)}</h3><p>{_text(paragraph)}</p>"

    def _operations(self) -> Iterable[str]:
        for tag in self._document["tags"]:
            yield self._heading(2, _anchor(tag["name"]), tag["name"])
            yield f"<p>{_text(tag['description'])}</p>"
            for path, methods in self._document["paths"].items():
                for method, operation in methods.items():
                    if tag["name"] in operation["tags"]:
                        yield '<section class="operation">'
                        yield from self._operation(path, method.upper(), operation)
                        yield "</section>"

    def _operation(self, path: str, method: str, operation: Any) -> Iterable[str]:  # noqa: ANN401
        name = operation["summary"]
        yield self._heading(3, operation["operationId"], name)
        yield (
            f'<p class="call"><span class="method {method.lower()}">{method}</span> <code>{escape(path)}</code>'
            f'<span class="permission">Permission: <code>{escape(operation[PERMISSION])}</code></span></p>'
        )
        description = operation["description"].partition("\n\nPermission:")[0]
        yield f"<p>{_text(description)}</p>"
        for place, heading in (("path", "In the path"), ("query", "Query"), ("header", "Headers")):
            rows = [
                self._row(one["name"], one["schema"], one["description"], _REQUIRED if one["required"] else "")
                for one in operation["parameters"]
                if one["in"] == place
            ]
            if rows:
                yield f"<h4>{heading}</h4>{_table(f'{heading}: {name}', _MEMBERS, rows, 'members')}"
        if (body := operation.get("requestBody")) is not None:
            content = body["content"]["application/json"]
            rows = list(self._members(content["schema"]))
            yield f"<h4>Body</h4>{_table(f'Body: {name}', _MEMBERS, rows, 'members')}"
        yield f"<p>Its schema is <code>{escape(operation[SCHEMA])}</code>.</p>"
        yield f"<h4>Example</h4>{_code(operation[SAMPLES][0]['source'], 'bash')}"
        answers = {status: self._resolved(one) for status, one in operation["responses"].items()}
        for status, one in answers.items():
            for media_type, content in one.get("content", {}).items():
                if media_type == "application/json" and "examples" in content:
                    value = json.dumps(content["examples"]["example"]["value"], indent=2, ensure_ascii=False)
                    yield f"<details><summary>Answer, {status}</summary>{_code(value, 'json')}</details>"
        rows = [_row(f"<code>{status}</code>", self._answer(status, one)) for status, one in answers.items()]
        yield f"<h4>Answers</h4>{_table(f'Answers: {name}', ('Status', 'Meaning'), rows, 'answers')}"

    def _answer(self, status: str, response: Any) -> str:  # noqa: ANN401
        if int(status) >= 400:
            error, _, _ = response["description"].partition(". ")
            return f'{_text(error.removesuffix("."))}. <a href="#error-{status}">More</a>'
        parts = [_text(response["description"])]
        parts += [f"Body: {self._type(content['schema'])}." for content in response.get("content", {}).values()]
        if headers := response.get("headers"):
            parts.append("Headers: " + ", ".join(f"<code>{escape(header)}</code>" for header in headers) + ".")
        return " ".join(parts)

    def _errors(self) -> Iterable[str]:
        components = self._document["components"]
        yield self._heading(2, "errors", "Errors")
        rows = []
        for one in components["responses"].values():
            example = one["content"]["application/problem+json"]["examples"]["example"]["value"]
            headers = "".join(f"<br><code>{escape(header)}</code>" for header in one.get("headers", ()))
            status = example["status"]
            rows.append(
                f'<tr id="error-{status}"><td><code>{status}</code></td><td>{escape(example["title"])}{headers}</td>'
                f"<td>{_text(one['description'])}</td></tr>"
            )
        yield _table("Errors", ("Status", "Title and headers", "When, and what to do"), rows, "answers")
        yield self._heading(2, "headers", "Headers of answers")
        rows = [
            _row(f"<code>{escape(name)}</code>", f"<code>{escape(one['example'])}</code>", _text(one["description"]))
            for name, one in components["headers"].items()
        ]
        yield _table("Headers of answers", ("Header", "Example", "Meaning"), rows, "members")

    def _schemas(self) -> Iterable[str]:
        yield self._heading(2, "bodies", "Bodies of answers")
        for name, schema in self._document["components"]["schemas"].items():
            if "properties" not in schema or SCHEMA in schema:
                continue
            yield f'<section class="operation"><h3 id="schema-{escape(name)}">{escape(name)}</h3>'
            yield f"<p>{_text(schema['description'])}</p>"
            rows = [
                self._row(member, one, one["description"], _OPTIONAL if member not in schema["required"] else "")
                for member, one in schema["properties"].items()
            ]
            yield f"{_table(name, _MEMBERS, rows, 'members')}</section>"

    def _members(self, schema: Any, before: str = "", levels: int = _NESTED) -> Iterable[str]:  # noqa: ANN401
        """Rows for the members of an object, and of the objects in it."""
        schema = self._resolved(schema)
        required = schema.get("required", ())
        for name, one in schema["properties"].items():
            yield self._row(f"{before}{name}", one, one["description"], _REQUIRED if name in required else "")
            if levels > 1 and "properties" in one:
                yield from self._members(one, f"{before}{name}.", levels - 1)

    def _row(self, name: str, schema: Any, description: str, mark: str) -> str:  # noqa: ANN401
        return _row(f"<code>{escape(name)}</code>{mark}", self._type(schema), _text(description))

    def _type(self, schema: Any) -> str:  # noqa: ANN401
        """What a value may be, in a few words of HTML."""
        if (reference := schema.get("$ref")) is not None:
            name = reference.rpartition("/")[2]
            target = self._resolved(schema)
            if "properties" in target:
                return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
            return self._type(target)
        if "anyOf" in schema:
            return " or ".join(self._type(one) for one in schema["anyOf"])
        if "enum" in schema:
            return " · ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
        if "const" in schema:
            return f"<code>{escape(str(schema['const']))}</code>"
        kind = schema.get("type", "anything")
        if kind == "array":
            return f"list of {self._type(schema.get('items', {}))}{_bounds(schema, 'Items', '')}"
        words = {"string": "text", "object": "object", "null": "<code>null</code>"}.get(kind, escape(kind))
        limits = _bounds(schema, "Length", " characters") + _range(schema)
        pattern = f" <code>{escape(schema['pattern'])}</code>" if len(schema.get("pattern", "")) in _READABLE else ""
        return f"{words}{limits}{pattern}"

    def _resolved(self, value: Any) -> Any:  # noqa: ANN401
        """What a reference leads to, or the value itself."""
        while isinstance(value, dict) and isinstance(reference := value.get("$ref"), str):
            kind, _, name = reference.removeprefix(_REFERENCE).partition("/")
            value = self._document["components"][kind][name]
        return value

    def _heading(self, level: int, anchor: str, text: str) -> str:
        self._contents.append(Entry(level=level, anchor=anchor, text=text))
        return (
            f'<h{level} id="{escape(anchor)}">{escape(text)}<a class="anchor" href="#{escape(anchor)}"'
            f' aria-label="Link to this section">#</a></h{level}>'
        )


_MEMBERS = ("Name", "Value", "Meaning")
_REQUIRED = ' <span class="req">required</span>'
_OPTIONAL = ' <span class="count">optional</span>'


def _bounds(schema: Mapping[str, Any], what: str, unit: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if high is not None:
        return f", {low} to {high}{unit}" if low else f", {high}{unit or ' '} at most".replace("  ", " ")
    return f", {low}{unit} at least" if low else ""


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", from {low}" if low is not None else ""


def _table(label: str, columns: Iterable[str], rows: Iterable[str], kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _text(text: str) -> str:
    """Our Markdown, which knows nothing but code in backticks."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _code(text: str, language: str) -> str:
    return f'<pre tabindex="0"><code>{highlighted(text, language) or escape(text)}</code></pre>'


def _anchor(name: str) -> str:
    return name.lower()
