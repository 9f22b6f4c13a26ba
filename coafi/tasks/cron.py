"""Times in cron's words, as the ranges that Temporal takes: the server then has nothing to rewrite.

Five fields: minute, hour, day of month, month, day of week (0 or 7 is Sunday); ``*``, ``*/n``, ``a``, ``a-b``,
``a-b/n``, lists with commas, names of months and days. Other crons read a restricted day of month together with a
restricted day of week as "or", Temporal as "and": nobody would get what he means, so that is refused.
"""

import re
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?:\*|([a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?)(?:/(\d{1,2}))?")


class Span(NamedTuple):
    """The numbers ``start``, ``start + step``, … up to ``end``."""

    start: int
    end: int
    step: int


class Calendar(NamedTuple):
    """When a cron expression is due: in every minute that fits all fields."""

    minute: tuple[Span, ...]
    hour: tuple[Span, ...]
    day_of_month: tuple[Span, ...]
    month: tuple[Span, ...]
    day_of_week: tuple[Span, ...]


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def parse_cron(text: str) -> Calendar:
    """When ``text`` is due.

    Raises:
        ValueError: it is no cron expression of five fields; the message says which field, and why.
    """
    words = text.lower().split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{text!r} has {len(words)} fields; write minute, hour, day of month, month, day of week")
    spans = [_spans(field, word) for field, word in zip(_FIELDS, words, strict=True)]
    if words[2] != "*" and words[4] != "*":
        raise ValueError(f"{text!r} restricts both day of month and day of week; restrict one of them")
    minute, hour, day_of_month, month, days = spans
    return Calendar(minute, hour, day_of_month, month, _with_sunday(days))


def _spans(field: _Field, word: str) -> tuple[Span, ...]:
    return tuple(_span(field, item) for item in word.split(","))


def _span(field: _Field, item: str) -> Span:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"{field.name}: {item!r} is none of *, 5, 5-10, */15, 5-50/15")
    step = int(match[3] or 1)
    if match[1] is None:
        start, end = field.low, 6 if field.names is _DAYS else field.high
    else:
        start = _number(field, match[1])
        end = _number(field, match[2]) if match[2] else (field.high if match[3] else start)
    if not (field.low <= start <= end <= field.high) or step < 1:
        raise ValueError(f"{field.name}: {item!r} does not lie between {field.low} and {field.high}")
    return Span(start, end, step)


def _number(field: _Field, word: str) -> int:
    if word.isdecimal():
        return int(word)
    if word not in field.names:
        raise ValueError(f"{field.name}: {word!r} is no name" + (f": {', '.join(field.names)}" if field.names else ""))
    return field.names.index(word) + field.low


def _with_sunday(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Days of the week from 0 to 6: 7 is Sunday as well."""
    days = {day % 7 for span in spans for day in range(span.start, span.end + 1, span.step)}
    if days == set(range(7)):
        return (Span(0, 6, 1),)
    return tuple(Span(day, day, 1) for day in sorted(days))
