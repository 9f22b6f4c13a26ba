"""JSON after RFC 8259, strictly, with the place of everything that is wrong.

The interpreter's C parser reads the values. Only when it finds something odd, or when somebody asks for a place, a
scanner of our own reads the text again: it knows where everything is, and says in stable words what is wrong.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from pydantic import JsonValue

from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Collector, Parsed, Wanted, escape_pointer, exact_float, exact_integer
from coafi.documents.source import Position, Source, visible

_SPACE = re.compile(r"[ \t\n\r]*")
# Possessive quantifiers: no text makes these patterns go back and try again.
_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,40}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]|[,:]', re.DOTALL)
_LITERALS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}


def parse_json(source: Source, limits: DocumentLimits) -> Parsed:
    """The value of a JSON text and what is wrong with it. Never raises.

    No value is returned of a text with a syntax error or a broken limit. Of a key that appears twice the first value
    counts; numbers that JSON cannot carry exactly are kept as text, halves of surrogate pairs become U+FFFD.

    Args:
        source: the text, without byte order mark.
        limits: ``max_depth``, ``max_nodes`` and ``max_findings`` hold here; ``max_bytes`` is the caller's.
    """
    text = source.part
    found = Collector(source, limits.max_findings)
    if not _within_limits(text, limits, found):
        return Parsed((), found.all(), unread=True)

    def find(pointers: Collection[str], _document: int) -> Mapping[str, Position]:
        scanner = _Scanner(text, Collector(source, limits.max_findings), pointers)
        scanner.scan()
        return {pointer: source.position(offset) for pointer, offset in scanner.positions.items()}

    hooks = _Hooks()
    try:
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.number,
            parse_constant=hooks.constant,
        )
    except (ValueError, RecursionError) as error:
        _Scanner(text, found).scan()
        if not found.all():
            found.add("json/syntax", getattr(error, "pos", 0), f"this is not JSON: {error}")
        return Parsed((), found.all(), unread=True)
    half = _SURROGATE_ESCAPE.search(text) is not None
    if not (hooks.odd or half):
        return Parsed((value,), (), find=find)
    scanner = _Scanner(text, found)
    scanner.scan()
    if half:
        value = _without_surrogates(value)
    return Parsed((value,), found.all(), scanner.inexact, find=find)


def _within_limits(text: str, limits: DocumentLimits, found: Collector) -> bool:
    """Whether nesting and number of values are within the limits: what the parser may be given."""
    openings = text.count("[") + text.count("{")
    if openings <= limits.max_depth and text.count(",") + text.count(":") + openings < limits.max_nodes:
        return True
    depth = nodes = 0
    for token in _STRUCTURE.finditer(text):
        char = text[token.start()]
        if char in "[{":
            depth += 1
            nodes += 1
            if depth > limits.max_depth:
                message = f"the data is nested deeper than {limits.max_depth} levels"
                found.add("data/too-deep", token.start(), message)
                return False
        elif char in "]}":
            depth -= 1
        elif char in ",:":
            nodes += 1
        if nodes >= limits.max_nodes:
            found.add("data/too-many-values", token.start(), f"there are more than {limits.max_nodes} values")
            return False
    return True


@dataclass(slots=True)
class _Hooks:
    """Watches the C parser for what it lets pass.

    Attributes:
        odd: whether the scanner has something to find.
    """

    odd: bool = False

    def pairs(self, pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        value = dict(pairs)
        if len(value) != len(pairs):
            self.odd = True
            value = dict(reversed(pairs))
            return {key: value[key] for key, _ in pairs}
        return value

    def integer(self, text: str) -> int | str:
        value = exact_integer(text)
        if value is None:
            self.odd = True
            return text
        return value

    def number(self, text: str) -> float | str:
        value = exact_float(text)
        if value is None:
            self.odd = True
            return text
        return value

    def constant(self, text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON")


class _Wrong(Exception):
    """A syntax error; the finding is already noted."""


@dataclass(slots=True)
class _Level:
    """One object or list that is still open.

    Attributes:
        keys: the keys of an object with the offset of each; ``None`` of a list.
        wanted: what is looked for in it, if anything is.
        size: values so far, of a list.
        part: the key or number of the value that is read.
    """

    keys: dict[str, int] | None
    wanted: Wanted | None
    size: int = 0
    part: str = ""


@dataclass(slots=True)
class _Scanner:
    """Reads JSON text with its places, up to the first syntax error."""

    text: str
    found: Collector
    wanted: Collection[str] = ()
    positions: dict[str, int] = field(default_factory=dict)
    inexact: str = ""
    _stack: list[_Level] = field(default_factory=list)

    def scan(self) -> None:
        """Fill ``found``, ``positions`` and ``inexact``."""
        try:
            at = self._skip(0)
            if at == len(self.text):
                self._fail(0, "the file is empty: JSON needs a value")
            at = self._skip(self._values(at))
            if at < len(self.text):
                self._fail(at, "there is more text behind the end of the JSON value")
        except _Wrong:
            return

    def _values(self, at: int) -> int:
        """Read one value with all that is in it; its end."""
        stack = self._stack
        wanted: Wanted | None = Wanted(self.wanted)
        while True:
            at = self._value(at, wanted)
            # Behind a value or an opening bracket: find where the next value starts.
            while True:
                if not stack:
                    return at
                level = stack[-1]
                at = self._skip(at)
                char = self.text[at : at + 1]
                fresh = not level.keys and level.size == 0
                if char == ("]" if level.keys is None else "}"):
                    stack.pop()
                    at += 1
                    continue
                if not fresh:
                    at = self._comma(at, level)
                if level.keys is None:
                    level.part = str(level.size)
                    level.size += 1
                else:
                    at = self._key(at, level)
                wanted = level.wanted and level.wanted.below(level.part)
                break

    def _comma(self, at: int, level: _Level) -> int:
        kind, end = ("list", "]") if level.keys is None else ("object", "}")
        if self.text[at : at + 1] != ",":
            self._fail(at, f"a comma or {end} is expected here, after a value of the {kind}")
        behind = self._skip(at + 1)
        if self.text[behind : behind + 1] == end:
            self._fail(at, f"the last value of the {kind} is followed by a comma", remedy="remove the comma")
        return behind

    def _key(self, at: int, level: _Level) -> int:
        """Read a key and its colon; the start of the value."""
        if self.text[at : at + 1] != '"':
            self._fail(at, "a key in double quotes is expected here")
        end, key = self._string(at, is_key=True)
        keys = level.keys if level.keys is not None else {}
        level.part = key
        first = keys.setdefault(key, at)
        if first != at and not self.found.full("json/duplicate-key"):
            message = f"the key {visible(key)!r} appears again; it is first on line {self.found.line(first)}"
            self.found.add("json/duplicate-key", at, message, pointer=self._pointer())
        end = self._skip(end)
        if self.text[end : end + 1] != ":":
            self._fail(end, f"a colon is expected here, after the key {visible(key)!r}")
        return self._skip(end + 1)

    def _pointer(self) -> str:
        """JSON Pointer to the value that is read."""
        return "".join("/" + escape_pointer(level.part) for level in self._stack)

    def _value(self, at: int, wanted: Wanted | None) -> int:
        """Read a scalar, or open an object or list; the place behind it."""
        at = self._skip(at)
        if wanted is not None and wanted.pointer is not None:
            self.positions.setdefault(wanted.pointer, at)
        char = self.text[at : at + 1]
        if char in ("{", "["):
            self._stack.append(_Level({} if char == "{" else None, wanted))
            return at + 1
        if char == '"':
            return self._string(at)[0]
        if char == "-" or "0" <= char <= "9":
            return self._number(at)
        word = _WORD.match(self.text, at)
        if word is None or word.group() not in _LITERALS:
            self._fail(at, *_no_value(char, word.group() if word else ""))
        return word.end()

    def _string(self, at: int, *, is_key: bool = False) -> tuple[int, str]:
        match = _STRING.match(self.text, at)
        if match is None:
            self._bad_string(at)
        raw = match.group()
        value: str = json.loads(raw) if "\\" in raw else raw[1:-1]
        half = _SURROGATE.search(value) if "\\" in raw else None
        if half:
            message = f"the text has the half {half.group().encode('unicode_escape').decode()} of a surrogate pair"
            if not self.found.full("json/surrogate"):
                self.found.add("json/surrogate", at, message, pointer=None if is_key else self._pointer())
            self.inexact = self.inexact or f"line {self.found.line(at)}: {message}"
        return match.end(), value

    def _bad_string(self, at: int) -> NoReturn:
        place = at + 1
        while True:
            place = _PLAIN.match(self.text, place).end()  # type: ignore[union-attr]  # it also matches nothing
            char = self.text[place : place + 1]
            if char == "\\":
                escape = _ESCAPE.match(self.text, place)
                if escape is None:
                    shown = visible(self.text[place : place + 2])
                    self._fail(place, f"{shown} is no escape in JSON", remedy="write a backslash as two")
                place = escape.end()
            elif char and char in "\n\r":
                self._fail(at, "the text has no closing quote on its line", remedy="close it; write line breaks as \\n")
            elif char:
                self._fail(place, f"the control character U+{ord(char):04X} must be escaped in text")
            else:
                self._fail(at, "the text has no closing quote")

    def _number(self, at: int) -> int:
        match = _NUMBER.match(self.text, at)
        if match is None:
            self._fail(at, "a minus sign without a number")
        text, end = match.group(), match.end()
        following = self.text[end : end + 1]
        if following and following in ".0123456789eE+-_xX":
            remedy = "write numbers like -12, 0.5 or 1e6: no leading zeros, a digit on both sides of the point"
            self._fail(at, f"{visible(self.text[at : end + 1])}… is no number in JSON", remedy=remedy)
        whole = match.group(1) is None and match.group(2) is None
        if (exact_integer(text) if whole else exact_float(text)) is None:
            why = "is beyond ±(2^53-1)" if whole else "is too large for a number"
            if not self.found.full("data/number"):
                self.found.add("data/number", at, f"{visible(text)} {why}", pointer=self._pointer())
            self.inexact = self.inexact or f"line {self.found.line(at)}: {visible(text)} {why}"
        return end

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def _fail(self, at: int, message: str, remedy: str = "") -> NoReturn:
        if at >= len(self.text) and self.text.strip(" \t\n\r"):
            message = f"the file ends too early: {message}"
        self.found.add("json/syntax", at, message, remedy=remedy)
        raise _Wrong


def _no_value(char: str, word: str) -> tuple[str, str]:
    """What to say about something that is no value, and what to do."""
    if char == "'":
        return "text needs double quotes in JSON", 'write "text"'
    if char == "/" or char == "#":
        return "JSON has no comments", "remove the comment"
    if word in ("NaN", "Infinity"):
        return f"{word} is no number in JSON", "write null, or text"
    if word:
        return f"{word} is no value in JSON", "put text in double quotes; words are only true, false and null"
    if not char:
        return "a value is expected here", ""
    return f"{visible(char)} starts no value in JSON", ""


def _without_surrogates(value: JsonValue) -> JsonValue:
    """``value`` with U+FFFD for every half of a surrogate pair. Its depth is limited before."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value
