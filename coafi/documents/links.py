"""Links and images of a Markdown document: whether what they lead to is there.

Only what is within the repository is looked at; nothing is fetched. A link is read as GitHub reads it: relative to the
directory of its document, or with a leading slash from the root of the repository.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from posixpath import dirname, join, normpath, relpath, splitext
from urllib.parse import quote, unquote

from coafi.documents.kinds import FileKind, kind_of_name
from coafi.documents.outline import MARKDOWN, MAX_ANCHORS, Link, Outline
from coafi.documents.source import visible
from coafi.documents.suggestions import nearest
from coafi.documents.tree import EntryKind, Tree

MAX_TARGETS = 20_000
"""Different targets of one document that are looked up."""

MAX_STEPS = 5_000_000
"""Directories that are gone through for the links of one document, each as often as that is done: seconds."""

_MAX_SUGGESTIONS = 50
_LONGEST_TARGET = 1_000

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_ONE_MACHINE = re.compile(r"(?:[A-Za-z]:[\\/]|file:)", re.IGNORECASE)
_TEMPLATE = re.compile(r"\{\{|\$\{|\{%|<")
_LINES = re.compile(r"L[0-9]+(?:C[0-9]+)?(?:-L[0-9]+(?:C[0-9]+)?)?")
_ABOVE_REPOSITORY = re.compile(
    r"(?:actions|blob|commits?|compare|discussions|issues|labels|milestones?|projects|pulls?|raw|releases|security|tree"
    r"|wiki)(?:/.*)?"
)
"""Pages of GitHub that relative links reach from a repository's root: ``../../issues``."""


class _Enough(Exception):
    """The links of this document take too long."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A link that leads nowhere.

    Attributes:
        rule: why.
        start: where it is, in bytes from the start of the text: the link, or the definition that it refers to.
        message: what is wrong.
        remedy: what to do about it; empty for what the rule says.
    """

    rule: str
    start: int
    message: str
    remedy: str = ""


def broken_links(path: str, body: str, outline: Outline, tree: Tree, limit: int) -> list[Broken]:
    """What is wrong with the links of a document, in the order of the text.

    Args:
        path: of the document.
        body: its text without front matter.
        outline: of that text.
        tree: the files around it.
        limit: the most to find of each rule: which of them are errors is up to the repository.
    """
    checker = _Checker(path, outline, tree)
    found = _Found(limit)
    definitions: dict[str, int] | None = None
    if not outline.complete:
        message = "the document is too large: the links in its last part were not checked"
        found.add(Broken("link/not-checked", 0, message))
    for link in outline.links:
        if len(checker.known) >= MAX_TARGETS:
            message = f"there are more than {MAX_TARGETS} different links; from here on they were not checked"
            found.add(Broken("link/not-checked", link.start, message))
            break
        try:
            wrong = checker.look(link)
        except _Enough:
            message = "the links of this document take too long; from here on they were not checked"
            found.add(Broken("link/not-checked", link.start, message))
            break
        if wrong is None or found.full(wrong[0]):
            continue
        start = link.start
        if link.reference:
            # Where it can be mended: once, however often it is referred to.
            definitions = _definitions(body) if definitions is None else definitions
            start = definitions.get(_label(link.reference), start)
        found.add(Broken(wrong[0], start, wrong[1], wrong[2]))
    for start, label in outline.undefined[:limit]:
        shown = visible(label)
        message = f"this refers to [{shown}], which is defined nowhere in the document, so it is no link"
        found.add(Broken("link/undefined", start, message))
    return found.in_order()


class _Found:
    """Broken links: of each rule up to a limit, and one at each place."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_rule: dict[str, dict[int, Broken]] = {}

    def full(self, rule: str) -> bool:
        """Whether no more of ``rule`` is kept."""
        return len(self._by_rule.get(rule, ())) >= self._limit

    def add(self, one: Broken) -> None:
        if not self.full(one.rule):
            self._by_rule.setdefault(one.rule, {}).setdefault(one.start, one)

    def in_order(self) -> list[Broken]:
        """All of them, in the order of the text."""
        return sorted((one for some in self._by_rule.values() for one in some.values()), key=lambda one: one.start)


def _definitions(body: str) -> dict[str, int]:
    """Where the definitions of a text are, by their labels."""
    found: dict[str, int] = {}
    for label, definition in MARKDOWN.reference_definitions(body).items():
        found.setdefault(_label(label), definition["span"]["start"])
    return found


def _label(text: str) -> str:
    return " ".join(text.split()).casefold()


_Wrong = tuple[str, str, str]


@dataclass
class _Checker:
    """Looks up the targets of one document, each of them once."""

    path: str
    outline: Outline
    tree: Tree
    known: dict[tuple[str, bool], _Wrong | None] = field(default_factory=dict)
    _steps: int = 0
    _suggestions: int = 0
    _anchors: dict[str, frozenset[str]] = field(default_factory=dict)

    def look(self, link: Link) -> _Wrong | None:
        """Rule, message and remedy when the link leads nowhere."""
        key = (link.target, link.image)
        if key not in self.known:
            self.known[key] = self._look(link.target.strip(), "image" if link.image else "link")
        return self.known[key]

    def _look(self, target: str, what: str) -> _Wrong | None:
        shown = visible(target)
        if not target:
            return "link/empty", f"the {what} has no target", ""
        if _ONE_MACHINE.match(target):
            return "link/outside", f"the {what} leads to {shown!r}, which exists on one machine only", ""
        if target.startswith("//") or _SCHEME.match(target) or _TEMPLATE.search(target):
            return None
        place, _, fragment = target.partition("#")
        place = place.partition("?")[0]
        if not place:
            return self._heading("", self.outline.anchors, fragment, shown)
        wanted = unquote(place, errors="replace")
        if len(wanted) > _LONGEST_TARGET:
            return "link/missing-file", f"the {what} leads to {shown!r}, which is too long for a path", ""
        path = self._resolve(wanted)
        if path is None:
            above = wanted.lstrip("./")
            if _ABOVE_REPOSITORY.fullmatch(above):
                return None
            return "link/outside", f"the {what} leads to {shown!r}, which is outside of the repository", ""
        kind = self._kind(path)
        if kind is None and wanted != place:
            literal = self._resolve(place)
            kind = self._kind(literal) if literal is not None else None
        if kind is None:
            return self._missing(wanted, path, fragment, what, shown)
        if kind is EntryKind.DIRECTORY and what == "image":
            return "link/missing-file", f"the image leads to {shown!r}, which is a directory", ""
        if not fragment or kind is not EntryKind.FILE or kind_of_name(path) is not FileKind.MARKDOWN:
            return None
        if path == self.path:
            return self._heading("", self.outline.anchors, fragment, shown)
        facts = self.tree.facts(path)
        return None if facts is None else self._heading(path, facts.anchors, fragment, shown)

    def _resolve(self, target: str, base: str | None = None) -> str | None:
        """The path that a target names, from a directory; ``None`` when it is outside of the repository."""
        if target.startswith("/"):
            joined = target.lstrip("/")
        else:
            joined = join(dirname(self.path) if base is None else base, target)
        path = normpath(joined) if joined else ""
        if path == ".." or path.startswith("../"):
            return None
        return "" if path == "." else path

    def _kind(self, path: str) -> EntryKind | None:
        """What stands at a path; what lies behind a symbolic link or in a submodule is a link, too."""
        self._count(2 * path.count("/") + 1)
        kind = self.tree.kind(path)
        if kind is None and self.tree.kind(dirname(path)) is EntryKind.DIRECTORY:
            return None
        at = path.find("/")
        depth = 1
        while kind is None and at >= 0:
            self._count(depth)
            depth += 1
            above = self.tree.kind(path[:at])
            if above is not EntryKind.DIRECTORY:
                return EntryKind.LINK if above is EntryKind.LINK else None
            at = path.find("/", at + 1)
        return kind

    def _count(self, steps: int) -> None:
        """Count directories that are gone through: a path of 2,000 of them has as many where a link may be meant."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise _Enough

    # ------------------------------------------------------------------ headings

    def _heading(self, path: str, anchors: Sequence[str], fragment: str, shown: str) -> _Wrong | None:
        wanted = unquote(fragment, errors="replace")
        if not wanted or wanted.lower() == "top" or wanted.startswith(":~:") or _LINES.fullmatch(wanted):
            return None
        if path not in self._anchors:
            self._anchors[path] = frozenset(anchors)
        if wanted in self._anchors[path] or len(anchors) >= MAX_ANCHORS:
            return None
        where = path or "this document"
        near = self._nearest_heading(wanted, anchors)
        remedy = f"did you mean #{near}?" if near else ""
        return "link/missing-heading", f"{visible(where)} has no heading #{visible(wanted)} (link to {shown!r})", remedy

    def _nearest_heading(self, wanted: str, anchors: Sequence[str]) -> str:
        if not self._may_suggest():
            return ""
        plain = _plain(wanted)
        for anchor in anchors:
            if plain and plain == _plain(anchor):
                return anchor
        return nearest(wanted, anchors)

    # ------------------------------------------------------------------ files

    def _missing(self, wanted: str, path: str, fragment: str, what: str, shown: str) -> _Wrong:
        here = dirname(self.path)
        for base, name in self._other_directories(wanted):
            other = self._resolve(wanted.lstrip("/"), base)
            if other and self._kind(other) is not None:
                message = f"the {what} to {shown!r} resolves from {name}, not from the document's own directory"
                if wanted.startswith("/"):
                    message = f"the {what} to {shown!r} resolves from {name}, not from the root of the repository"
                return "link/other-directory", message, f"write {self._written(other, fragment)}"
        near = self._nearest_path(path.replace("\\", "/"))
        remedy = f"did you mean {self._written(near, fragment)}?" if near else ""
        if not remedy and wanted.lower().startswith("www."):
            remedy = f"write https://{visible(wanted)}"
        where = f"{visible(here)}/" if here and not wanted.startswith("/") else "the root of the repository"
        return "link/missing-file", f"the {what} leads to {shown!r}, which does not exist (seen from {where})", remedy

    def _other_directories(self, wanted: str) -> Iterator[tuple[str, str]]:
        """The directories that the author may have had in mind, nearest first, with what to call them."""
        here = dirname(self.path)
        if wanted.startswith("/"):
            yield here, "the directory of the document"
        above, name = here, "the parent directory"
        while above:
            above = dirname(above)
            yield above, name
            name = f"the directory {visible(dirname(above))}" if dirname(above) else "the root of the repository"

    def _nearest_path(self, path: str) -> str:
        """The existing path that ``path`` may stand for; empty when none is close."""
        if not self._may_suggest():
            return ""
        # Part by part from the root, so that a slip in a directory's name is found as well.
        found = ""
        parts = path.split("/")
        for number, part in enumerate(parts):
            exact = join(found, part)
            if self.tree.kind(exact) is not None:
                found = exact
                continue
            names = self.tree.names(found)
            wanted = part.casefold()
            last = number == len(parts) - 1
            near = next((name for name in names if name.casefold() == wanted), "")
            if not near and last:
                near = next(
                    (name for name in names if splitext(name)[0].casefold() in (wanted, splitext(wanted)[0])), ""
                )
            near = near or nearest(part, names)
            if not near:
                return ""
            found = join(found, near)
        return found

    def _written(self, path: str, fragment: str) -> str:
        """``path`` as a link from the document."""
        link = quote(relpath("/" + path, "/" + dirname(self.path)), safe="/-_.~!$&'()*+,;=@", errors="replace")
        return visible(link + (f"#{fragment}" if fragment else ""), 200)

    def _may_suggest(self) -> bool:
        """Whether there is time for another search."""
        self._suggestions += 1
        return self._suggestions <= _MAX_SUGGESTIONS


def _plain(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
