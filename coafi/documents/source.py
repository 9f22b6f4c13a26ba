"""The text of a file, and where in it something is."""

import re
from dataclasses import dataclass
from typing import NamedTuple

_BREAK = re.compile(r"\r\n|\n|\r")


class Position(NamedTuple):
    """A place in a file as editors count it: 1-based line and 1-based column in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    """Decoded text without its byte order mark.

    A line ends with LF, CRLF or CR, as editors and git show it. YAML's further line breaks (NEL, LS, PS) are not
    counted: no editor agrees with them.

    Attributes:
        text: the decoded text.
        start: offset, in characters, of the part that is looked at.
        end: offset behind that part.
    """

    text: str
    start: int
    end: int

    @classmethod
    def of(cls, text: str) -> "Source":
        """All of ``text``."""
        return cls(text, 0, len(text))

    @property
    def part(self) -> str:
        """The characters from ``start`` to ``end``."""
        return self.text if self.start == 0 and self.end == len(self.text) else self.text[self.start : self.end]

    def position(self, offset: int) -> Position:
        """Line and column, in the whole file, of the character at ``offset`` of the part."""
        at = max(0, min(self.start + offset, len(self.text)))
        # Counting is done in C and only for findings; a table of lines would cost more memory than the text.
        line = 1 + self.text.count("\n", 0, at)
        begin = self.text.rfind("\n", 0, at) + 1
        if "\r" in self.text:
            line += self.text.count("\r", 0, at) - self.text.count("\r\n", 0, at)
            if at > 0 and self.text[at - 1] == "\r" and self.text[at : at + 1] == "\n":
                at -= 1  # Between CR and LF: still the line that they end together.
                line -= 1
                begin = self.text.rfind("\n", 0, at) + 1
            begin = max(begin, self.text.rfind("\r", 0, at) + 1)
        return Position(line, at - begin + 1)


def line_spans(text: str, *, limit: int) -> list[tuple[int, int, int]]:
    """The first lines of ``text`` as offsets: start, end without the break, end with it.

    Args:
        text: what to split.
        limit: the most lines to return.
    """
    spans: list[tuple[int, int, int]] = []
    start = 0
    for found in _BREAK.finditer(text):
        if len(spans) == limit:
            return spans
        spans.append((start, found.start(), found.end()))
        start = found.end()
    if start < len(text) and len(spans) < limit:
        spans.append((start, len(text), len(text)))
    return spans


def visible(text: str, limit: int = 80) -> str:
    """``text`` fit to be quoted in a message: cut in the middle when long, nothing invisible left in it."""
    short = text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)
