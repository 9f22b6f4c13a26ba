"""Ledger indices, as ranges."""

from collections.abc import Iterable

from coafi.events import Wire
from coafi.ledger.entry import Recorded


class Range(Wire):
    """A run of ledger indices, both ends included."""

    first: int
    last: int


def ranges_of(recorded: Iterable[Recorded]) -> tuple[Range, ...]:
    """The indices of entries as ascending ranges."""
    return merge_ranges(Range(first=one.index, last=one.index) for one in recorded)


def merge_ranges(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same indices in as few ascending ranges as possible."""
    merged: list[Range] = []
    for one in sorted(ranges, key=lambda item: item.first):
        if merged and one.first <= merged[-1].last + 1:
            merged[-1] = Range(first=merged[-1].first, last=max(one.last, merged[-1].last))
        else:
            merged.append(one)
    return tuple(merged)
