"""The outline of a Markdown text: where it can be linked to, and what it links to itself.

One pass over the parser's events, in time in proportion to the text. Raw HTML is not repaired, as the page generator
does with great care; it is searched for the few tags that matter here. For HTML that needs no repair the anchors are
those of the generated page.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import pyromark

from coafi.documents.anchors import take_anchor

MARKDOWN = pyromark.Markdown(
    options=pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_GFM
)
"""CommonMark with GitHub's extensions, as pages are rendered."""

MAX_ANCHORS = 10_000
"""Anchors of one document that are known; with so many, one that is not among them may exist."""

_MAX_EVENTS = 1_000_000

# A tag ends before the next "<": otherwise many unclosed tags would be read to the end, each one.
_HTML = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?P<raw>script|style)\b.*?(?:</(?P=raw)\s*>|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-z][a-z0-9]*)(?P<attributes>(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*+)>",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"(?<![\w-])(?P<name>href|src|id)\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\s\"'=<>`]+))",
    re.IGNORECASE,
)
_ID = re.compile(r"(?!coafi-)[\w.:-]{1,200}")
_HEADING = re.compile(r"h[1-6]")
# Text that was meant as a link: what is not escaped, and no index into an array, a[i][j].
_UNDEFINED = re.compile(
    rb"(?<![\w\]\\\x80-\xff])!?\[(?P<text>[^\[\]\\\n]{1,200})\]\[(?P<label>[^\[\]\\\n^]{0,200})\](?![\[(\w])"
)


@dataclass(frozen=True, slots=True)
class Link:
    """A link or an image.

    Attributes:
        target: its destination, with escapes and entities resolved, but not percent-encoding.
        start: where it starts, in bytes of UTF-8 from the start of the text.
        image: whether it is an image.
        reference: label of the definition that it refers to; empty when the destination stands in the link itself.
    """

    target: str
    start: int
    image: bool = False
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """What ``read_outline`` finds.

    Attributes:
        anchors: of headings and elements with an id; at most ``MAX_ANCHORS``.
        links: in the order of the text.
        undefined: where text refers to a definition that there is not, ``[text][label]``, and the label; at most
            ``MAX_ANCHORS``.
        code: where inline code is, as start and end in bytes.
        complete: whether the text was read to its end.
    """

    anchors: tuple[str, ...]
    links: tuple[Link, ...]
    undefined: tuple[tuple[int, str], ...]
    code: tuple[tuple[int, int], ...]
    complete: bool


def read_outline(body: str, title: str = "") -> Outline:
    """The outline of a Markdown text. Never raises; takes time in proportion to the text, up to a second or two.

    Args:
        body: Markdown without its front matter.
        title: of the document, as its front matter says it: a page leaves out a first heading that repeats it.
    """
    reader = _Reader(body.encode("utf-8", "replace"))
    complete = reader.read(body)
    return Outline(reader.anchors(title), tuple(reader.links), tuple(reader.undefined), tuple(reader.code), complete)


@dataclass(slots=True)
class _Heading:
    level: int
    leads: bool
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it says, on one line. It is kept in pieces: to add one to a text copies all of it."""
        return " ".join("".join(self.said).split())


@dataclass
class _Reader:
    """Walks the events of one text."""

    source: bytes
    links: list[Link] = field(default_factory=list)
    undefined: list[tuple[int, str]] = field(default_factory=list)
    code: list[tuple[int, int]] = field(default_factory=list)
    _headings: list[_Heading] = field(default_factory=list)
    _ids: dict[str, None] = field(default_factory=dict)
    _open: _Heading | None = None
    _untouched: bool = True
    _in_code: bool = False
    _footnotes: dict[str, int] = field(default_factory=dict)

    def read(self, body: str) -> bool:
        """Take every event; whether all of them were taken."""
        count = 0
        for event, span in MARKDOWN.events_with_range(body, merge_text=True):
            count += 1
            if count > _MAX_EVENTS:
                return False
            # In the order of how often they come, without calls for the frequent ones: this is where the time goes.
            if isinstance(event, str):
                if self._open and event != "Rule":
                    self._open.said.append(" ")
            elif "Text" in event:
                text = event["Text"]
                if self._open:
                    self._open.said.append(text)
                if "][" in text and not self._in_code:
                    self._look_for_undefined(span["start"], span["end"])
            elif "End" in event:
                tag = event["End"]
                if isinstance(tag, dict):
                    if "Heading" in tag:
                        self._close(int(tag["Heading"][1]))
                elif tag == "CodeBlock":
                    self._in_code = False
                continue
            elif "Start" in event:
                self._start(event["Start"], span["start"], span["end"])
                continue
            elif "Html" in event:  # Taken with its block.
                continue
            else:
                self._rare(event, span["start"], span["end"])
            self._untouched = False
        return True

    def anchors(self, title: str) -> tuple[str, ...]:
        """The anchors of the page, and the one of its title: a browser goes to the top for that one."""
        headings = self._headings
        if self._open is not None:
            headings = headings[:-1]
        said = [heading.text for heading in headings]
        dropped = ""
        if headings and headings[0].leads:
            wanted = " ".join(title.split()).casefold()
            if not wanted or said[0].casefold() == wanted:
                dropped = said.pop(0)
        taken, repeated = set(self._ids), Counter[str]()
        found = dict(self._ids)
        for text in said:
            if len(found) == MAX_ANCHORS:
                break
            found[take_anchor(text, taken, repeated)] = None
        if dropped:
            found[take_anchor(dropped, set(), Counter())] = None
        return tuple(found)[:MAX_ANCHORS]

    def _start(self, tag: Any, start: int, end: int) -> None:  # noqa: ANN401  # an event's content
        if isinstance(tag, str):
            if tag == "HtmlBlock":
                self._html(self.source[start:end].decode("utf-8", "replace"), start)
                return
        elif "Heading" in tag:
            self._begin(int(tag["Heading"]["level"][1]))
        elif "Link" in tag:
            self._link(tag["Link"], start, image=False)
        elif "Image" in tag:
            self._link(tag["Image"], start, image=True)
        elif "CodeBlock" in tag:
            self._in_code = True
        elif "FootnoteDefinition" in tag:
            label = tag["FootnoteDefinition"]
            self._footnotes.setdefault(label, len(self._footnotes) + 1)
            self._note_id(label)
        self._untouched = False

    def _rare(self, event: Any, start: int, end: int) -> None:  # noqa: ANN401  # an event
        if "Code" in event:
            self.code.append((start, end))
            if self._open:
                self._open.said.append(event["Code"])
        elif "InlineHtml" in event:
            self._html(event["InlineHtml"], start)
        elif "FootnoteReference" in event:
            number = self._footnotes.setdefault(event["FootnoteReference"], len(self._footnotes) + 1)
            if self._open:
                self._open.said.append(str(number))

    def _look_for_undefined(self, start: int, end: int) -> None:
        for one in _UNDEFINED.finditer(self.source, start, end):
            if len(self.undefined) < MAX_ANCHORS:
                label = one["label"].strip() or one["text"]
                self.undefined.append((one.start(), label.decode("utf-8", "replace")))

    def _link(self, link: Any, start: int, *, image: bool) -> None:  # noqa: ANN401  # an event's content
        kind = link["link_type"]
        if kind not in ("Autolink", "Email"):
            self.links.append(Link(link["dest_url"], start, image, "" if kind == "Inline" else link["id"]))

    def _begin(self, level: int) -> None:
        if self._open is None:
            self._open = _Heading(level, leads=level == 1 and self._untouched)
            self._headings.append(self._open)
        self._untouched = False

    def _close(self, level: int) -> None:
        if self._open is not None and self._open.level == level:
            self._open = None

    def _html(self, text: str, start: int) -> None:
        """Take the tags that matter from raw HTML, and in an open heading what is between them."""
        at = 0
        block = text.strip()
        counted, offset = 0, start
        for tag in _HTML.finditer(text):
            if self._open:
                self._open.said.append(unescape(text[at : tag.start()]))
            at = tag.end()
            name = (tag["name"] or "").lower()
            if not name:
                continue
            if _HEADING.fullmatch(name):
                if tag["end"]:
                    self._close(int(name[1]))
                else:
                    self._begin(int(name[1]))
            elif not tag["end"]:
                offset += len(text[counted : tag.start()].encode("utf-8", "replace"))
                counted = tag.start()
                self._tag(name, tag["attributes"], offset)
            self._untouched = False
        if self._open:
            self._open.said.append(unescape(text[at:]))
        if not block.startswith("<!--"):
            self._untouched = False

    def _tag(self, name: str, attributes: str, offset: int) -> None:
        if name not in ("a", "div", "img"):
            return
        for one in _ATTRIBUTE.finditer(attributes):
            value = unescape(one["double"] or one["single"] or one["bare"] or "")
            match name, one["name"].lower():
                case ("a" | "div", "id"):
                    self._note_id(value)
                case ("a", "href") | ("img", "src"):
                    self.links.append(Link(value.strip(), offset, name == "img"))

    def _note_id(self, value: str) -> None:
        if _ID.fullmatch(value) and len(self._ids) < MAX_ANCHORS:
            self._ids[value] = None
