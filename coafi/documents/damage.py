"""Text that went through the wrong encoding, and what it was before.

UTF-8 that a program once read as Windows-1252 (or Latin-1) shows every character beyond ASCII as two to four others:
``â€“`` for ``–``. Reading it backwards repairs it. Almost every character of such a sequence is used in some language,
so a sequence counts when what it stands for is common, or when two of them follow each other.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_MAX_LINES = 20
_MAX_ROUNDS = 3


def _windows_1252(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:  # Five bytes stand for nothing; programs let them through.
        return chr(byte)


_BYTES = {
    **{chr(byte): byte for byte in range(0x80, 0x100)},
    **{_windows_1252(byte): byte for byte in range(0x80, 0x100)},
}
_FOLLOWING = "[" + "".join(sorted({re.escape(char) for char, byte in _BYTES.items() if byte < 0xC0})) + "]"
_LATIN_OR_SYMBOL = rf"(?:[\u00c2\u00c3]{_FOLLOWING}|[\u00e2\u00ef]{_FOLLOWING}{{2}}|\u00f0{_FOLLOWING}{{3}})"
_ANY = rf"(?:[\u00c2-\u00df]{_FOLLOWING}|[\u00e0-\u00ef]{_FOLLOWING}{{2}}|\u00f0{_FOLLOWING}{{3}})"
_MOJIBAKE = re.compile(rf"{_ANY}{{2,}}+|{_LATIN_OR_SYMBOL}")
_CONTROL = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]|(?<!^)\ufeff")
_LOST = re.compile("\ufffd+")
_LOST_BYTES = "\ufffd".encode()
_CONTROL_BYTES = bytes({*range(0x01, 0x20), 0x7F} - set(b"\t\n\f\r"))
_MAYBE = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\xc3[\x82-\xb4][\xc2-\xf4]",
        rb"\xc2[\x80-\x9f]",
        rb"\xe2\x80[\xaa-\xae]",
        rb"\xe2\x81[\xa6-\xa9]",
        rb"\xef\xbb\xbf",
    )
)
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged place.

    Attributes:
        rule: what kind of damage it is.
        offset: where, in characters.
        message: what is wrong.
        remedy: what to write instead, where that is known.
    """

    rule: str
    offset: int
    message: str
    remedy: str = ""


def may_be_damaged(text: str) -> bool:
    """Whether it is worth while to look closer. Ten times as fast, because bytes can be searched for a rare one."""
    data = text.encode("utf-8", "replace")
    return (
        len(data.translate(None, _CONTROL_BYTES)) != len(data)
        or _LOST_BYTES in data
        or any(one.search(data) for one in _MAYBE)
    )


def damages(text: str, on_purpose: Callable[[int], bool] = lambda _offset: False) -> Iterator[Damage]:
    """The damaged places of ``text``: of each kind at most one per line, and on at most 20 lines.

    Args:
        text: what to look at.
        on_purpose: whether what stands at an offset is to look like that.
    """
    if not may_be_damaged(text):
        return
    sequences = [found.span() for found in _MOJIBAKE.finditer(text)]
    within = [edge for span in sequences for edge in span]
    controls = (one for one in _controls(text) if bisect_right(within, one.offset) % 2 == 0)
    for found in (_mojibake(text, sequences), _lost(text), controls):
        yield from _first_of_lines((one for one in found if not on_purpose(one.offset)), text)


def repaired(damaged: str) -> str:
    """What a sequence that looks like mojibake stood for; empty when it stands for nothing."""
    text = damaged
    for _ in range(_MAX_ROUNDS):
        try:
            again = bytes(_BYTES[char] for char in text).decode("utf-8")
        except (KeyError, UnicodeDecodeError):
            break
        if again == text:
            break
        text = again
    return "" if text == damaged or any(_is_control(char) for char in text) else text


def _mojibake(text: str, sequences: Sequence[tuple[int, int]]) -> Iterator[Damage]:
    for start, end in sequences:
        whole = text[start:end]
        meant = repaired(whole)
        if meant:
            message = f"{whole[:_SHOWN]!r} is {_named(meant)} read in the wrong encoding"
            yield Damage("text/mojibake", start, message, f"write {_named(meant)}")


def _lost(text: str) -> Iterator[Damage]:
    for found in _LOST.finditer(text):
        count = len(found.group())
        what = "a character" if count == 1 else f"{count} characters"
        yield Damage("text/lost-character", found.start(), f"{what} got lost: U+FFFD stands in place of what was there")


def _controls(text: str) -> Iterator[Damage]:
    for found in _CONTROL.finditer(text):
        char = found.group()
        name = "a byte order mark" if char == "\ufeff" else f"the control character U+{ord(char):04X}"
        meant = ""
        if "\x80" <= char <= "\x9f":
            meant = _windows_1252(ord(char))
        if meant and meant != char:
            yield Damage(
                "text/control-character",
                found.start(),
                f"the text holds {name}, which is {meant!r} in Windows-1252",
                f"write {meant}",
            )
        else:
            yield Damage("text/control-character", found.start(), f"the text holds {name}, which nobody sees")


def _first_of_lines(found: Iterator[Damage], text: str) -> Iterator[Damage]:
    """One place per line, and an end after enough of them."""
    end = lines = 0
    for one in found:
        if one.offset < end:
            continue
        lines += 1
        if lines > _MAX_LINES:
            return
        yield one
        end = text.find("\n", one.offset)
        if end < 0:
            return


def _named(text: str) -> str:
    """``text`` as it can be shown: a character that nobody sees, by its number."""
    if text.isprintable() and not text.isspace():
        return text[:_SHOWN]
    return " ".join(f"U+{ord(char):04X}" for char in text[:8])


def _is_control(char: str) -> bool:
    return "\x7f" <= char <= "\x9f" or char < "\t"
