"""What somebody may have meant: the nearest of the names that exist."""

from collections.abc import Collection
from difflib import get_close_matches

_LONGEST = 100
_MOST = 1_000


def nearest(wanted: str, names: Collection[str], similar: float = 0.75) -> str:
    """The one of ``names`` that is most like ``wanted``, letter case aside; empty when none is like it.

    Comparing takes time in proportion to the square of a name's length: long names, and names beyond the first
    thousand, are not looked at.
    """
    if len(wanted) > _LONGEST:
        return ""
    by_lower = {name.casefold(): name for name in [name for name in names if len(name) <= _LONGEST][:_MOST]}
    near = get_close_matches(wanted.casefold(), by_lower, 1, similar)
    return by_lower[near[0]] if near else ""
