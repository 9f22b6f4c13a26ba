"""Anchors of headings: what stands behind ``#`` in a link to a part of a document.

There is one algorithm, for the pages that are generated and for the links that are checked. It is GitHub's, as nobody
writes links by hand for anything else: lower case, punctuation and symbols left out, a dash for every space, and a
number behind what was there before.
"""

import re
from collections import Counter
from unicodedata import category

LONGEST = 300
"""Characters of an anchor that are kept; the heading itself has no limit."""

_MOST_READ = 10_000
_OTHER = re.compile(r"[^\w\- ]")


def take_anchor(text: str, taken: set[str], repeated: Counter[str]) -> str:
    """The anchor of the next heading of a document, which is noted in ``taken``.

    Args:
        text: what the heading says, without markup; runs of white space are one space.
        taken: the anchors and ids of the document so far.
        repeated: how often which base was needed again; kept between calls, because starting over for each of many
            equal headings would take quadratic time.
    """
    base = _OTHER.sub(_mark, text[:_MOST_READ].lower()).replace(" ", "-")[:LONGEST] or "section"
    if base.startswith("coafi-"):  # Ours, on every page.
        base = f"section-{base}"
    anchor = base
    while anchor in taken:
        repeated[base] += 1
        anchor = f"{base}-{repeated[base]}"
    taken.add(anchor)
    return anchor


def _mark(found: re.Match[str]) -> str:
    """Combining marks and connecting punctuation belong to words for GitHub; Python does not count them in."""
    kind = category(found.group())
    return found.group() if kind == "Pc" or kind[0] == "M" else ""
