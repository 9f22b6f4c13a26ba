"""YAML as JSON values, with the place of everything that is wrong.

The text is read with the scalars of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), which
is JSON's: ``null true false``, numbers, and everything else is text. A date stays the text it is, and so do ``no`` and
``12:30:45``, which YAML 1.1 turns into ``False`` and 45045. Wherever a program of YAML 1.1 would read another value, a
warning says so; only for dates and times it does not, because they differ in type alone.

PyYAML's C parser delivers events; they are put together here with a stack of our own, so that a limit acts before
the nesting does harm, and an alias is refused before anything is expanded.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml
from pydantic import JsonValue
from yaml.resolver import Resolver

from coafi.documents.limits import DocumentLimits
from coafi.documents.parsed import Collector, Parsed, Wanted, escape_pointer, exact_float, exact_integer
from coafi.documents.source import Position, Source, visible

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
# Noncharacters U+FFFE and U+FFFF and the byte order mark inside the text are not printable (YAML 1.2, section 5.1).

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = {**dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False)}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_LONGEST_NUMBER = 200
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")

_TAG: Final = "tag:yaml.org,2002:"
_STR, _INTEGER, _NUMBER, _BOOLEAN, _NONE = (_TAG + name for name in ("str", "int", "float", "bool", "null"))
_LIKE_TEXT = frozenset({_STR, _TAG + "timestamp", _TAG + "value", "!"})
_COLLECTIONS = frozenset({None, "!", _TAG + "map", _TAG + "seq"})

_yaml_1_1 = Resolver()


class _Stop(Exception):
    """What follows cannot be made sense of; the finding is already noted."""


@dataclass(slots=True)
class _Level:
    """One mapping or list that is still open.

    Attributes:
        into: the container that is filled.
        key: the key whose value is awaited, if any.
        filled: the key that got its value last.
        keys: the keys of a mapping with the offset of each.
        wanted: what is looked for in it, if anything is.
    """

    into: dict[str, JsonValue] | list[JsonValue]
    wanted: Wanted | None
    key: str | None = None
    filled: str = ""
    keys: dict[str, int] = field(default_factory=dict)


class _Reader:
    """Puts the events of one text together."""

    def __init__(
        self, source: Source, limits: DocumentLimits, wanted: Collection[str] = (), wanted_in: int = -1
    ) -> None:
        self.values: list[JsonValue] = []
        self.found = Collector(source, limits.max_findings)
        self.positions: dict[str, int] = {}
        self.inexact = ""
        self.unread = False
        self._text = source.part
        self._limits = limits
        self._wanted = Wanted(wanted)
        self._wanted_in = wanted_in
        self._stack: list[_Level] = []
        self._nodes = 0

    def read(self) -> None:
        """Read everything; afterwards ``values`` holds the documents, unless it is ``unread``: ``found`` says why."""
        bad = _NOT_YAML.search(self._text)
        if bad:
            self.found.add(
                "yaml/control-character", bad.start(), f"YAML does not allow the character U+{ord(bad.group()):04X}"
            )
            self.unread = True
            return
        try:
            for event in _events(self._text):
                self._take(event)
        except _Stop:
            self._give_up()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            context = f"{error.context}: " if error.context else ""
            at: int = getattr(mark, "index", 0)
            self.found.add("yaml/syntax", at, f"{context}{error.problem or 'this is not YAML'}")
            self._give_up()
        except (yaml.YAMLError, ValueError, UnicodeError) as error:
            self.found.add("yaml/syntax", 0, f"this is not YAML: {visible(str(error))}")
            self._give_up()

    def _give_up(self) -> None:
        self.unread = True
        self.values.clear()

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.NodeEvent):
            self._nodes += 1
            at = event.start_mark.index if event.start_mark else 0
            if self._nodes > self._limits.max_nodes:
                self.found.add("data/too-many-values", at, f"there are more than {self._limits.max_nodes} values")
                raise _Stop
            if isinstance(event, yaml.AliasEvent):
                self.found.add("yaml/alias", at, f"*{visible(event.anchor or '')} is an alias")
                raise _Stop
            if event.anchor is not None:
                self.found.add("yaml/alias", at, f"&{visible(event.anchor)} is an anchor")
            if isinstance(event, yaml.ScalarEvent):
                self._take_scalar(event, at)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, at)
        elif isinstance(event, yaml.CollectionEndEvent):
            level = self._stack.pop()
            if not self._stack:
                self.values.append(level.into)

    def _open(self, event: yaml.CollectionStartEvent, at: int) -> None:
        self._refuse_as_key(at)
        if len(self._stack) == self._limits.max_depth:
            self.found.add("data/too-deep", at, f"the data is nested deeper than {self._limits.max_depth} levels")
            raise _Stop
        if event.tag not in _COLLECTIONS:
            self.found.add("yaml/tag", at, f"the tag {visible(event.tag or '')} has no meaning in JSON and is ignored")
        into: dict[str, JsonValue] | list[JsonValue] = {} if isinstance(event, yaml.MappingStartEvent) else []
        wanted = self._note(at)
        if self._stack:
            self._attach(into)
        self._stack.append(_Level(into, wanted))

    def _take_scalar(self, event: yaml.ScalarEvent, at: int) -> None:
        level = self._stack[-1] if self._stack else None
        if level is not None and isinstance(level.into, dict) and level.key is None:
            self._take_key(level, event.value, at)
            return
        self._note(at)
        value = self._scalar(event, at)
        if level is None:
            self.values.append(value)
        else:
            self._attach(value)

    def _take_key(self, level: _Level, key: str, at: int) -> None:
        first = level.keys.setdefault(key, at)
        if first != at and not self.found.full("yaml/duplicate-key"):
            self.found.add(
                "yaml/duplicate-key",
                at,
                f"the key {visible(key)!r} appears again; it is first on line {self.found.line(first)}",
                pointer=f"{self._pointer()}/{escape_pointer(key)}",
            )
        elif key == "<<" and first == at:
            self.found.add("yaml/ambiguous", at, "<< merges mappings in YAML 1.1 and is a plain key in YAML 1.2")
        level.key = key

    def _refuse_as_key(self, at: int) -> None:
        level = self._stack[-1] if self._stack else None
        if level is not None and isinstance(level.into, dict) and level.key is None:
            self.found.add("yaml/key", at, "a key is a list or a mapping; JSON has no such keys")
            raise _Stop

    def _attach(self, value: JsonValue) -> None:
        level = self._stack[-1]
        if isinstance(level.into, list):
            level.into.append(value)
        elif level.key is not None:
            level.into.setdefault(level.key, value)
            level.filled, level.key = level.key, None

    def _pointer(self) -> str:
        """JSON Pointer to the innermost open container: the keys that each outer one waits to fill."""
        parts = [
            str(len(level.into) - 1) if isinstance(level.into, list) else level.filled for level in self._stack[:-1]
        ]
        return "".join("/" + escape_pointer(part) for part in parts)

    def _here(self) -> str:
        """JSON Pointer to the value that is about to be attached."""
        if not self._stack:
            return ""
        level = self._stack[-1]
        last = str(len(level.into)) if isinstance(level.into, list) else (level.key or "")
        return f"{self._pointer()}/{escape_pointer(last)}"

    def _note(self, at: int) -> Wanted | None:
        """Note the place of the value that is about to be attached; what is looked for in it."""
        if self._stack:
            level = self._stack[-1]
            if level.wanted is None:
                return None
            wanted = level.wanted.below(str(len(level.into)) if isinstance(level.into, list) else level.key or "")
        else:
            wanted = self._wanted if len(self.values) == self._wanted_in else None
        if wanted is not None and wanted.pointer is not None:
            self.positions.setdefault(wanted.pointer, at)
        return wanted

    def _scalar(self, event: yaml.ScalarEvent, at: int) -> JsonValue:
        text: str = event.value
        if event.tag is None and event.implicit[0]:
            return self._plain(text, at)
        if event.tag is None or event.tag in _LIKE_TEXT:
            return text
        value = _core(text)
        wanted = {
            _NONE: value is None,
            _BOOLEAN: isinstance(value, bool),
            _INTEGER: isinstance(value, int) and not isinstance(value, bool),
            _NUMBER: isinstance(value, int | float) and not isinstance(value, bool),
        }.get(event.tag)
        if wanted and not isinstance(value, _Inexact):
            return value
        if wanted is None:
            message = f"the tag {visible(event.tag)} has no meaning in JSON and is ignored"
        else:
            message = f"the value {visible(text)!r} is not what its tag {visible(event.tag)} says"
        if not self.found.full("yaml/tag"):
            self.found.add("yaml/tag", at, message, pointer=self._here())
        return text

    def _plain(self, text: str, at: int) -> JsonValue:
        value = _core(text)
        if isinstance(value, _Inexact):
            self.inexact = self.inexact or f"line {self.found.line(at)}: {value.why}"
            if not self.found.full("data/number"):
                self.found.add("data/number", at, value.why, pointer=self._here())
            return text
        if self.found.full("yaml/ambiguous"):
            return value
        older = _reading_of_1_1(text, value)
        if older:
            self.found.add(
                "yaml/ambiguous",
                at,
                f"{visible(text)} is {_describe(value)} in YAML 1.2 and here, {older} in YAML 1.1",
                pointer=self._here(),
            )
        return value


def parse_yaml(source: Source, limits: DocumentLimits) -> Parsed:
    """The documents of a YAML text as JSON values, and what is wrong with it. Never raises.

    A text that is empty or only comments has no documents. Nothing is returned of a text with a syntax error, an
    alias or a broken limit; with other findings the values are there.

    Args:
        source: the text; positions count from the start of its file.
        limits: ``max_depth``, ``max_nodes`` and ``max_findings`` hold here; ``max_bytes`` is the caller's.
    """
    reader = _Reader(source, limits)
    reader.read()

    def find(pointers: Collection[str], document: int) -> Mapping[str, Position]:
        again = _Reader(source, limits, pointers, document)
        again.read()
        return {pointer: source.position(offset) for pointer, offset in again.positions.items()}

    return Parsed(tuple(reader.values), reader.found.all(), reader.inexact, reader.unread, find)


def _events(text: str) -> Iterator[yaml.Event]:
    # Only the C parser: the one in Python takes forty times as long, and its own error texts.
    loader = yaml.CSafeLoader(text)
    try:
        while (event := loader.get_event()) is not None:
            yield event
    finally:
        loader.dispose()


@dataclass(frozen=True, slots=True)
class _Inexact:
    """A number that JSON cannot carry exactly."""

    why: str


def _core(text: str) -> bool | int | float | str | _Inexact | None:
    """A plain scalar by the YAML 1.2 core schema."""
    first = text[:1]
    if first not in "~.+-0123456789nNtTfF":
        return text
    if _NULL.match(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) or _OCTAL.match(text) or _HEX.match(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        whole = exact_integer(text if base == 10 else text[2:], base)
        return _Inexact(f"{visible(text)} is beyond ±(2^53-1)") if whole is None else whole
    if _FLOAT.match(text):
        number = exact_float(text)
        return _Inexact(f"{visible(text)} is too large for a number") if number is None else number
    if _NOT_FINITE.match(text):
        return _Inexact(f"{text} is no number in JSON")
    return text


def _reading_of_1_1(text: str, value: JsonValue) -> str:
    """What YAML 1.1 reads instead of ``value``, in words; empty when it reads the same."""
    if len(text) > _LONGEST_NUMBER:
        return ""  # Text. PyYAML's patterns would take half a gigabyte for megabytes of 1:1:1…
    if isinstance(value, int) and not isinstance(value, bool) and _LEADING_ZERO.match(text):
        return "an octal number"
    tag: str = _yaml_1_1.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # the stubs leave it out
    if tag in _LIKE_TEXT:
        tag = _STR
    if value is None:
        ours = _NONE
    elif isinstance(value, bool):
        ours = _BOOLEAN
    elif isinstance(value, int):
        ours = _INTEGER
    elif isinstance(value, float):
        ours = _NUMBER
    else:
        ours = _STR
    if tag == ours:
        return ""
    return {
        _STR: "text",
        _INTEGER: "an integer",
        _NUMBER: "a number",
        _BOOLEAN: "true or false",
        _TAG + "merge": "the key that merges mappings",
    }.get(tag, "another value")


def _describe(value: JsonValue) -> str:
    return "text" if isinstance(value, str) else f"the number {value}"
