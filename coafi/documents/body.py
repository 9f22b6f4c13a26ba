"""The body of a Markdown document: damaged text, and links that lead nowhere."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from coafi.documents.damage import damages, may_be_damaged
from coafi.documents.frontmatter import FrontMatter
from coafi.documents.limits import DocumentLimits
from coafi.documents.links import broken_links
from coafi.documents.outline import read_outline
from coafi.documents.rules import RULES
from coafi.documents.source import Source
from coafi.documents.tree import Tree
from coafi.findings import Finding


def body_findings(
    path: str, source: Source, front: FrontMatter, tree: Tree | None, limits: DocumentLimits
) -> list[Finding]:
    """What is wrong with the text of a document. Inline code may show damaged text on purpose.

    Args:
        path: of the document.
        source: the whole text, front matter included.
        front: its front matter.
        tree: the files around it; without it links are not checked.
        limits: ``max_findings`` holds here.
    """
    damaged = may_be_damaged(source.text)
    if tree is None and not damaged:
        return []
    start = front.body_start
    body = source.text[start:]
    title = front.metadata.get("title") if front.metadata else None
    outline = read_outline(body, title if isinstance(title, str) else "")
    found: list[Finding] = []
    if damaged:
        code = _in_characters(body, (edge for span in outline.code for edge in span))
        found += [
            RULES[one.rule].finding(one.message, at=source.position(one.offset), remedy=one.remedy)
            for one in damages(source.text, lambda offset: bisect_right(code, offset - start) % 2 == 1)
        ]
    if tree is not None:
        broken = broken_links(path, body, outline, tree, limits.max_findings + 1)
        places = _in_characters(body, (one.start for one in broken))
        found += [
            RULES[one.rule].finding(one.message, at=source.position(start + place), remedy=one.remedy)
            for one, place in zip(broken, places, strict=True)
        ]
    return found


def _in_characters(text: str, offsets: Iterator[int]) -> Sequence[int]:
    """Ascending offsets in bytes of UTF-8 as offsets in characters."""
    if text.isascii():
        return list(offsets)
    data = text.encode("utf-8", "replace")
    found: list[int] = []
    at = characters = 0
    for offset in offsets:
        characters += len(data[at:offset].decode("utf-8", "replace"))
        at = offset
        found.append(characters)
    return found
