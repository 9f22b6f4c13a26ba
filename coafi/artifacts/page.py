"""The frame of every generated page: one file, no script, nothing loaded but images that lie beside it.

The policy in the page lets a browser apply the one style sheet whose hash it names, load images from where the page
itself is from, and nothing else: should the sanitiser ever miss something, the browser still refuses to run or load it.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources

from pydantic import JsonValue

from coafi.artifacts.compose import ORIGIN, PLACE
from coafi.canonical import JsonObject
from coafi.documents.frontmatter import KNOWN_KEYS

STYLE = resources.files("coafi.artifacts").joinpath("page.css").read_text(encoding="utf-8")
"""The style sheet, inlined into every page."""

_LABELS = {
    "document_id": "Document",
    "version": "Version",
    "author": "Author",
    "date": "Date",
    "infoCode": "Info code",
    "utids": "UTidS",
}
_SHOWN_ELSEWHERE = frozenset({"title", "status", "tags", "lang"})
_VALUE_LIMIT = 400
_SHOWN_KEYS = 30
_TONES = {"DRAFT": "draft", "PROPOSAL": "draft", "ACTIVE": "active", "RELEASE": "active"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table of contents.

    Attributes:
        level: of the heading, 2 to 6.
        anchor: id of the heading.
        text: plain text of the heading.
    """

    level: int
    anchor: str
    text: str


def page(
    *,
    title: str,
    language: str,
    kind: str,
    body: str,
    metadata: JsonObject | None = None,
    contents: Sequence[Entry] = (),
    style: str = STYLE,
) -> bytes:
    """A complete HTML page in UTF-8.

    Args:
        title: plain text; the page's only heading of level 1.
        language: BCP 47 tag.
        kind: what the page shows, in a word or two.
        body: safe HTML.
        metadata: front matter, shown below the title.
        contents: headings of ``body``; a table of contents appears from three of them on.
        style: its style sheet: ``STYLE``, and what else this kind of page needs.
    """
    toc = _toc(contents) if len(contents) >= 3 else ""
    parts = (
        "<!doctype html>",
        f'<html lang="{escape(language)}">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#coafi-content">Skip to the content</a>',
        f'<div class="page{" with-toc" if toc else ""}">',
        "<header>",
        PLACE,
        _heading(title, kind, metadata or {}),
        "</header>",
        toc,
        '<main id="coafi-content" tabindex="-1">',
        body,
        "</main>",
        ORIGIN,
        "</div>",
        "</body>",
        "</html>",
        "",
    )
    return "\n".join(part for part in parts if part or part is parts[-1]).encode("utf-8", "replace")


@cache
def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; base-uri 'none'; form-action 'none'"


def _heading(title: str, kind: str, metadata: JsonObject) -> str:
    status = metadata.get("status")
    badge = ""
    if isinstance(status, str) and status.strip():
        tone = _TONES.get(status, "other")
        badge = f'<span class="status {tone}"><span class="vh">Status: </span>{_plain(status)}</span>'
    lines = [f'<p class="kind">{escape(kind)}{badge}</p>', f"<h1>{escape(title)}</h1>"]
    ordered = [key for key in KNOWN_KEYS if key in metadata] + [key for key in metadata if key not in KNOWN_KEYS]
    rows = [
        f"<div><dt>{escape(_LABELS.get(key, key))}</dt><dd>{_value(metadata[key])}</dd></div>"
        for key in ordered[:_SHOWN_KEYS]
        if key not in _SHOWN_ELSEWHERE or (key == "status" and not badge)
    ]
    if rows:
        lines.append(f'<dl class="meta">{"".join(rows)}</dl>')
    tags = metadata.get("tags")
    if isinstance(tags, str):
        tags = [tags]
    if isinstance(tags, list) and tags:
        items = "".join(f"<li>{_value(tag)}</li>" for tag in tags[:_SHOWN_KEYS])
        lines.append(f'<ul class="tags" aria-label="Tags">{items}</ul>')
    return "\n".join(lines)


def _value(value: JsonValue) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value[:_SHOWN_KEYS]) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{_plain(key)}: {_value(value[key])}" for key in list(value)[:_SHOWN_KEYS]) or "–"
    return _plain(str(value))


def _plain(text: str) -> str:
    return escape(text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}…")


def _toc(contents: Sequence[Entry]) -> str:
    """A nested list of the headings, at most two levels deep: more is no overview."""
    top = min(entry.level for entry in contents)
    shown = [entry for entry in contents if entry.level <= top + 1]
    items: list[str] = []
    inside = False
    for entry in shown:
        link = f'<a href="#{escape(entry.anchor)}">{_plain(entry.text)}</a>'
        if entry.level > top:
            if not items:
                items.append("<li>")
            if not inside:
                items.append("<ul>")
            items.append(f"<li>{link}</li>")
            inside = True
            continue
        if items:
            items.append("</ul></li>" if inside else "</li>")
        items.append(f"<li>{link}")
        inside = False
    items.append("</ul></li>" if inside else "</li>")
    return (
        '<nav class="toc" aria-label="Table of contents"><details><summary>Contents</summary>'
        f"<ul>{''.join(items)}</ul></details></nav>"
    )
