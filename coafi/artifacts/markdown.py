"""Markdown to HTML that is safe to show to anybody.

pyromark renders (CommonMark with GitHub's tables, task lists, footnotes, alerts), nh3 throws away everything that is
not on a short list, and a last pass gives headings their anchors, tables a frame that scrolls, and code its colours. It
also marks what leads to other places of the repository, for ``compose``; images from elsewhere become links, so that a
page loads nothing but images of its own repository.

Repairing hostile HTML is what costs: a browser's parser, and so nh3's, takes quadratic time over deep nesting, and
copies every open ``<b>`` into every following paragraph (70 KB of Markdown took 18 s and 3.9 GB). What would cost too
much is found by counting, and refused, before nh3 sees it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from html import escape, unescape

import nh3
import pyromark

from coafi.artifacts import links
from coafi.artifacts.compose import IMAGE, LINK
from coafi.artifacts.highlight import highlighted
from coafi.artifacts.model import GeneratorConfig
from coafi.artifacts.page import Entry
from coafi.documents.anchors import take_anchor

_MARKDOWN = pyromark.Markdown(
    options=pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_GFM
)

_TAGS = frozenset(
    re.findall(
        r"\w+",
        "a abbr b blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption figure h1 h2 "
        "h3 h4 h5 h6 hr i img input ins kbd li mark ol p pre q rp rt ruby s samp small span strong sub summary sup "
        "table tbody td tfoot th thead tr u ul var wbr",
    )
)
_ATTRIBUTES = {
    "a": {"href", "title", "id"},
    "abbr": {"title"},
    "blockquote": {"class"},
    "code": {"class"},
    "details": {"open"},
    "div": {"class", "id"},
    "img": {"alt", "height", "src", "title", "width"},
    "input": {"checked"},
    "ol": {"start"},
    "sup": {"class"},
    "td": {"colspan", "rowspan", "style"},
    "th": {"colspan", "rowspan", "scope", "style"},
}
_CLASSES = re.compile(r"footnote-(?:reference|definition(?:-label)?)|markdown-alert-[a-z]+|language-[A-Za-z0-9+#._-]+")
_ID = re.compile(r"(?!coafi-)[\w.:-]{1,200}")
_COUNT = re.compile(r"[1-9][0-9]{0,2}")
_LENGTH = re.compile(r"[1-9][0-9]{0,3}")

_FREE_BYTES = 256 * 1024
_FREE_TAGS = 1_000
_MAX_STEPS = 50_000_000
_MAX_COPIES = 1_000_000
_FREE_LENGTH = 100_000
_MAX_SEARCHED = 20_000_000_000
_SEARCHED_AGAIN = re.compile(r"&(?!lt;|gt;|quot;)|[\x80-\xbf]")
_RAW_TAG = re.compile(r"</?[A-Za-z][^<>]*")
_ANY_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_FORMATTING = re.compile(
    r"<(b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?:(\s*>)|(?![A-Za-z0-9]))", re.IGNORECASE
)
_VOID = frozenset({"br", "col", "hr", "img", "input", "wbr"})

_TAG = re.compile(r'<(/?)([a-z][a-z0-9]*)((?: [a-z-]+="[^"]*")*)>')
_ATTRIBUTE = re.compile(r' ([a-z-]+)="([^"]*)"')
_CODE = re.compile(r'<pre><code class="language-([^" ]+)">([^<]*)</code></pre>')
_LONG_CELL = 40
_ALIGNED = re.compile(r"\s*text-align\s*:\s*(right|center)\s*;?\s*")
_URL = re.compile(r"https?://[^\s<>\"'`]+")
_NO_LINKS_IN = frozenset({"a", "code", "pre", "kbd", "samp"})


class TooCostly(Exception):
    """The Markdown would take too much time or room; the text says why, for a person."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A Markdown text as HTML.

    Attributes:
        title: the first heading's text, or what was given.
        html: the body, without a heading that only repeats the title.
        headings: those that are left, in order, with their final levels.
    """

    title: str
    html: str
    headings: tuple[Entry, ...]


def render(text: str, title: str, config: GeneratorConfig) -> Rendered:
    """Render Markdown, safely.

    The same text gives the same HTML. The title is the page's only heading of the first level; the others follow with
    no level left out, as who hears a page read needs it.

    Args:
        text: Markdown without its front matter.
        title: of the document; empty takes the first heading.
        config: for the limits.

    Raises:
        TooCostly: the output, or the work, would be out of proportion.
    """
    html = _MARKDOWN.html(text)
    _refuse_explosion(text, html, config)
    _refuse_costly_repair(text, html, config)
    clean = _CLEANER.clean(html)
    _refuse_explosion(text, clean, config)
    return _Finisher(title, code_left=config.max_highlighted).finish(clean)


def _refuse_explosion(text: str, html: str, config: GeneratorConfig) -> None:
    if len(html) > max(_FREE_BYTES, config.max_ratio * len(text)) or len(html) > config.max_page_bytes:
        raise TooCostly(f"{len(text)} characters of Markdown would become a page of {len(html)}")


def _refuse_costly_repair(text: str, html: str, config: GeneratorConfig) -> None:
    """Bound the work of an HTML parser by what decides it: tags, nesting, and open formatting elements.

    Every tag may walk the open elements (depth × tags steps), and may open again those formatting elements that were
    not closed (formatting × tags copies; three at most of those without attributes, by the "Noah's Ark clause" of the
    HTML standard).
    Raw tags that do not match count as depth: what they close or leave open is not to be known without parsing.
    Each ampersand and each character of U+0080 to U+00BF (``§``, ``°``, a space that does not break) makes nh3 search
    the rest of its stretch of text for the other kind: 40,000 of them in 8 MB take it 7 s, so their product is bounded.
    """
    tags = html.count("<")
    raw = _RAW_TAG.findall(text) if "<" in text else []
    if raw and len(text) > config.max_markup_bytes:
        raise TooCostly(f"the Markdown holds HTML and is longer than {config.max_markup_bytes} characters")
    if len(html) > _FREE_LENGTH:
        # A tag that is raw may be one that the parser ignores, which parts no text.
        stretches = [html] if raw else html.split("<")
        searched = sum(len(_SEARCHED_AGAIN.findall(one)) * len(one) for one in stretches if len(one) > 1)
        if searched > _MAX_SEARCHED:
            raise TooCostly("the Markdown holds too many ampersands or symbols in one stretch of text")
    if tags <= _FREE_TAGS:
        return
    # Counted in the output, where no line prefix hides an attribute; only tags without attributes are surely equal.
    formatting = Counter((name.lower(), plain != "") for name, plain in _FORMATTING.findall(html)) if raw else {}
    copies = sum(min(3, count) if plain else count for (_, plain), count in formatting.items())
    if copies * tags > _MAX_COPIES:
        raise TooCostly(f"the Markdown holds {copies} different HTML formatting tags in {tags} tags")
    if (len(raw) + _depth(html)) * tags > _MAX_STEPS:
        raise TooCostly(f"the Markdown holds {len(raw)} HTML tags, or nests deeply, in {tags} tags")


def _depth(html: str) -> int:
    """The deepest nesting in HTML, by counting for every name what is open."""
    still_open: Counter[str] = Counter()
    depth = deepest = 0
    for closing, name in _ANY_TAG.findall(html):
        if name in _VOID:
            continue
        if not closing:
            still_open[name] += 1
            depth += 1
            deepest = max(deepest, depth)
        elif still_open[name]:
            still_open[name] -= 1
            depth -= 1
    return deepest


def _keep(tag: str, name: str, value: str) -> str | None:
    """nh3's question for every attribute: its value, or ``None`` to drop it."""
    match name:
        case "class":
            return " ".join(word for word in value.split() if _CLASSES.fullmatch(word)) or None
        case "id":
            return value if _ID.fullmatch(value) else None
        case "colspan" | "rowspan" | "start":
            return value if _COUNT.fullmatch(value) else None
        case "width" | "height":
            return value if _LENGTH.fullmatch(value) else None
        case "scope":
            return value if value in ("row", "col", "rowgroup", "colgroup") else None
        case _:
            return value


_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    attribute_filter=_keep,
    filter_style_properties={"text-align"},
    generic_attribute_prefixes=set(),
    link_rel="noopener noreferrer",
    url_schemes={"http", "https", "mailto"},
    strip_comments=True,
)


@dataclass(slots=True)
class _Heading:
    """A heading while the text is walked: where its tags are in the output, and what it says, in pieces."""

    level: int
    opened: int
    closed: int = -1
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it says, on one line."""
        return " ".join("".join(self.said).split())


@dataclass
class _Finisher:
    """The last pass over sanitised HTML, whose form is known exactly: ``<name a="…">``, everything escaped."""

    title: str
    code_left: int
    out: list[str] = field(default_factory=list)
    headings: list[_Heading] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    repeated: Counter[str] = field(default_factory=Counter)
    tables: int = 0
    _cell: int = -1
    """Where in the output the tag of the open table cell is."""
    _said: int = 0
    """How many characters of text that cell has."""
    _inside: Counter[str] = field(default_factory=Counter)

    def finish(self, html: str) -> Rendered:
        at = 0
        while tag := _TAG.search(html, at):
            if tag.start() > at:
                self._text(html[at : tag.start()])
            code = _CODE.match(html, tag.start()) if tag.group(2) == "pre" else None
            if code is None:
                self._tag(tag)
            else:
                self._code(code)
            at = (code or tag).end()
        self._text(html[at:])
        self._drop_title()
        entries = self._anchors()
        return Rendered(self.title, "".join(self.out).strip("\n"), entries)

    def _text(self, text: str) -> None:
        heading = self._open_heading()
        if heading is not None:
            heading.said.append(unescape(text))
        self._said += len(text)
        if "://" in text and not any(self._inside[name] for name in _NO_LINKS_IN):
            text = _URL.sub(_link, text)
        self.out.append(text)

    def _tag(self, tag: re.Match[str]) -> None:
        closing, name, attributes = tag.group(1) == "/", tag.group(2), tag.group(3)
        whole = tag.group()
        if name == "img":
            self._image(dict(_ATTRIBUTE.findall(attributes)))
        elif name == "input":
            sign, said = ("☑", "done") if " checked=" in attributes else ("☐", "to do")
            self.out.append(f'<span class="task" role="img" aria-label="{said}">{sign}</span>')
        elif name in _VOID:
            self.out.append(whole)
        else:
            self._inside[name] += -1 if closing else 1
            if attributes and " id=" in attributes:
                self.ids.update(value for key, value in _ATTRIBUTE.findall(attributes) if key == "id")
            if len(name) == 2 and name[0] == "h":
                self._heading(closing, int(name[1]), whole)
            elif name == "table":
                self._table(closing, whole)
            elif name == "a" and not closing:
                self._link(attributes, whole)
            elif name == "pre" and not closing:
                self.out.append('<pre tabindex="0">')
            elif name in ("td", "th"):
                self._table_cell(closing, name, attributes)
            else:
                self.out.append(whole)

    def _heading(self, closing: bool, level: int, whole: str) -> None:
        heading = self._open_heading()
        if closing and heading is not None and heading.level == level:
            heading.closed = len(self.out)
        elif not closing and heading is None:
            self.headings.append(_Heading(level, len(self.out)))
        self.out.append(whole)

    def _open_heading(self) -> _Heading | None:
        last = self.headings[-1] if self.headings else None
        return last if last is not None and last.closed < 0 else None

    def _table(self, closing: bool, whole: str) -> None:
        if closing:
            self.out.append(f"{whole}</div>")
            return
        self.tables += 1
        label = f"Table {self.tables}"
        self.out.append(f'<div class="scroll" role="group" aria-label="{label}" tabindex="0">{whole}')

    def _table_cell(self, closing: bool, name: str, attributes: str) -> None:
        """A cell; one with much text says so, that it may not be squeezed into a column of single words."""
        if closing:
            if self._cell >= 0 and self._said > _LONG_CELL:
                tag = self.out[self._cell]
                self.out[self._cell] = f'{tag[:3]} data-long=""{tag[3:]}'
            self._cell = -1
            self.out.append(f"</{name}>")
            return
        self._cell, self._said = len(self.out), 0
        self.out.append(_aligned(name, attributes) if attributes else f"<{name}>")

    def _code(self, code: re.Match[str]) -> None:
        language, text = code.groups()
        plain = unescape(text)
        coloured = highlighted(plain, language) if len(plain) <= self.code_left else None
        if coloured is not None:
            self.code_left -= len(plain)
            text = coloured
        heading = self._open_heading()
        if heading is not None:
            heading.said.append(plain)
        self.out.append(f'<pre tabindex="0"><code class="language-{language}">{text}</code></pre>')

    def _link(self, attributes: str, whole: str) -> None:
        given = dict(_ATTRIBUTE.findall(attributes))
        url = links.tidy(unescape(given.get("href", "")))
        if not links.is_within(url):
            self.out.append(whole)
            return
        others = "".join(f' {name}="{given[name]}"' for name in ("title", "id") if name in given)
        self.out.append(f'{LINK}{escape(url)}"{others}>' if len(url) <= links.MAX_LENGTH else f"<a{others}>")

    def _image(self, attributes: dict[str, str]) -> None:
        """An image of the repository; from elsewhere, what stands for it, with a link unless it is in one."""
        alt, url = attributes.get("alt", "").strip(), links.tidy(unescape(attributes.get("src", "")))
        heading = self._open_heading()
        if heading is not None:
            heading.said.append(unescape(alt))
        if links.is_within(url) and len(url) <= links.MAX_LENGTH:
            others = "".join(
                f' {name}="{attributes[name]}"' for name in ("title", "width", "height") if name in attributes
            )
            self.out.append(f'{IMAGE}{escape(url)}" alt="{alt}"{others} loading="lazy">')
            return
        said = f"Image: {escape(unescape(alt), quote=False)}" if alt else "Image"
        if not links.is_elsewhere(url):
            self.out.append(f'<span class="image">{said}</span>')
            return
        said = f'{said} <span class="from">({escape(links.host(url))})</span>'
        if self._inside["a"]:
            self.out.append(f'<span class="image">{said}</span>')
        else:
            self.out.append(f'<a class="image" href="{escape(url)}" rel="noopener noreferrer">{said}</a>')

    def _drop_title(self) -> None:
        """Leave out a first heading that says what the page's title says already."""
        first = self.headings[0] if self.headings else None
        if first is None or first.closed < 0:
            self.title = self.title or "Untitled document"
            return
        said = first.text
        leads = first.level == 1 and not "".join(self.out[: first.opened]).strip()
        if not self.title:
            self.title = said or "Untitled document"
        elif said.casefold() != " ".join(self.title.split()).casefold():
            return
        if leads:
            self.out[first.opened : first.closed + 1] = [""] * (first.closed + 1 - first.opened)
            del self.headings[0]

    def _anchors(self) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        above: list[int] = []
        for heading in self.headings:
            if heading.closed < 0:
                continue
            while above and above[-1] >= heading.level:
                above.pop()
            above.append(heading.level)
            text = heading.text
            level = min(6, len(above) + 1)
            anchor = take_anchor(text, self.ids, self.repeated)
            self.out[heading.opened] = f'<h{level} id="{escape(anchor)}">'
            link = f'<a class="anchor" href="#{escape(anchor)}" aria-label="Link to this section">#</a>'
            self.out[heading.closed] = f"{link}</h{level}>"
            entries.append(Entry(level, anchor, text or "Untitled section"))
        return tuple(entries)


def _link(found: re.Match[str]) -> str:
    """A bare web address as a link; punctuation that ends the sentence stays outside."""
    address = found.group().split("&lt;")[0].split("&gt;")[0]
    address = address.rstrip(".,:;!?*_~)]}")
    return f'<a href="{address}" rel="noopener noreferrer">{address}</a>{found.group()[len(address) :]}'


def _aligned(name: str, attributes: str) -> str:
    """A table cell with a class in place of its style: the page's policy allows no inline style."""
    kept: list[str] = []
    for key, value in _ATTRIBUTE.findall(attributes):
        if key != "style":
            kept.append(f' {key}="{value}"')
            continue
        side = _ALIGNED.fullmatch(value)
        if side:
            kept.append(f' class="{side.group(1)}"')
    return f"<{name}{''.join(kept)}>"
