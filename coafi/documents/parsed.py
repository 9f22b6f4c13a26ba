"""What the YAML and the JSON parser give back, and what they share."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from coafi.documents.rules import RULES
from coafi.documents.source import Position, Source
from coafi.findings import Finding

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON program keeps exactly (RFC 7493, section 2.2)."""

_LONGEST_POINTER = 8_192
"""Characters of a pointer in a finding: a key of megabytes would be repeated in each of hundreds."""


@dataclass(frozen=True)
class Parsed:
    """The data of a file.

    Attributes:
        values: its documents, as JSON values: one of a JSON file, any number of a YAML file; empty when it is unread.
            Numbers without exact form in JSON and values with foreign tags are kept as their text.
        findings: what is wrong.
        unread: whether an error ended the reading: then nothing can be made of the content.
        inexact: why the data has no canonical JSON although it may be valid; empty when it has one.
        find: positions of JSON Pointers within one document; use ``locate``.
    """

    values: tuple[JsonValue, ...]
    findings: tuple[Finding, ...]
    inexact: str = ""
    unread: bool = False
    find: Callable[[Collection[str], int], Mapping[str, Position]] = field(
        default=lambda _pointers, _document: {}, repr=False, compare=False
    )

    def locate(self, pointers: Collection[str], document: int = 0) -> Mapping[str, Position]:
        """Line and column of the values that JSON Pointers name; pointers that name nothing are left out.

        The text is read a second time for this: positions are rarely needed, and cost memory.
        """
        return self.find(pointers, document) if pointers else {}


class Wanted:
    """JSON Pointers that are looked for while a text is read, as a tree of their parts.

    Reading goes down in it as it goes down in the data. To write down the pointer of every value instead would take
    time and memory in proportion to depth and length of keys, for each of them.

    Attributes:
        pointer: the one that ends here; ``None`` when none does.
    """

    __slots__ = ("_below", "pointer")

    def __init__(self, pointers: Collection[str] = ()) -> None:
        self.pointer: str | None = None
        self._below: dict[str, Wanted] = {}
        for pointer in pointers:
            at = self
            for part in pointer.split("/")[1:]:
                at = at._below.setdefault(part.replace("~1", "/").replace("~0", "~"), Wanted())
            at.pointer = pointer

    def below(self, part: str) -> "Wanted | None":
        """Where a key or a number leads."""
        return self._below.get(part)


class Collector:
    """Findings, of every rule up to a limit: a hostile file must not turn into a million of them.

    The limit is not one for all rules together: which of them are errors is up to the repository, and an error must
    not be dropped because a thousand warnings came before it.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._findings: list[Finding] = []
        self._counts: dict[str, int] = {}

    def full(self, rule: str) -> bool:
        """Whether further findings of ``rule`` are dropped: then a message for them need not be made, which takes time.

        One more than the limit is kept, so that the report can tell that there are more.
        """
        return self._counts.get(rule, 0) > self._limit

    def add(self, rule: str, offset: int, message: str, *, pointer: str | None = None, remedy: str = "") -> None:
        """Note a finding of ``rule`` at ``offset`` of the source's part."""
        if not self.full(rule):
            self._counts[rule] = self._counts.get(rule, 0) + 1
            at = self._source.position(offset)
            if pointer is not None and len(pointer) > _LONGEST_POINTER:
                pointer = None
            self._findings.append(RULES[rule].finding(message, at=at, pointer=pointer, remedy=remedy))

    def line(self, offset: int) -> int:
        """The line at ``offset``, to refer to it in a message."""
        return self._source.position(offset).line

    def all(self) -> tuple[Finding, ...]:
        """What was found, in the order of finding."""
        return tuple(self._findings)


def exact_integer(text: str, base: int = 10) -> int | None:
    """The integer that ``text`` writes, or ``None`` when it is beyond ±(2^53-1).

    Long digits are refused before they are converted: conversion takes quadratic time.
    """
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > 60:
        return None
    value = int(text, base)
    return value if abs(value) <= MAX_SAFE_INTEGER else None


def exact_float(text: str) -> float | None:
    """The number that ``text`` writes, or ``None`` when it overflows."""
    value = float(text)
    return value if math.isfinite(value) else None


def escape_pointer(part: str) -> str:
    """One reference token of a JSON Pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1") if "~" in part or "/" in part else part
