"""Patterns of paths, as in ``schemas.yaml``: ``*``, ``?`` and ``[…]`` within a name, ``**`` for any directories."""

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether the last of ``patterns`` that fits ``path`` is one without ``!`` in front.

    Takes time in proportion to the lengths of path and pattern, multiplied.
    """
    parts = path.split("/")
    fits = False
    for pattern in patterns:
        unwanted = pattern.startswith("!")
        if fits is unwanted and _fits(parts, pattern.removeprefix("!").strip("/").split("/")):
            fits = not unwanted
    return fits


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Compare name by name. Only the last ``**`` is ever tried again, which suffices, and keeps it quick."""
    at = ours = 0
    retry_at = retry_ours = -1
    while at < len(parts):
        if ours < len(pattern) and pattern[ours] == "**":
            retry_at, retry_ours = at, ours
            ours += 1
        elif ours < len(pattern) and _compiled(pattern[ours]).match(parts[at]):
            at, ours = at + 1, ours + 1
        elif retry_ours >= 0:
            retry_at += 1
            at, ours = retry_at, retry_ours + 1
        else:
            return False
    return all(part == "**" for part in pattern[ours:])


@lru_cache(maxsize=4096)
def _compiled(name: str) -> re.Pattern[str]:
    # The standard library translates to patterns that never go back over what a star took.
    try:
        return re.compile(translate(name))
    except re.error:  # A range that ends before it starts: [z-a].
        return re.compile(re.escape(name) + r"\Z")
