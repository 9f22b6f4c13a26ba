"""Names of files in a repository: bytes to git, text for people, and not all of them harmless."""

import unicodedata
from enum import StrEnum

from coafi.canonical import sha256

_MAX_COMPONENT = 255
_MAX_PATH = 4_096
_MAX_SHOWN = 4_096
"""Bytes of a path for people: an entry of the ledger holds it three times, and has 65,535 for everything."""

# What HFS+ ignores in names, so that ".g\u200cit" is ".git" there.
_IGNORED_BY_HFS = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_CONFUSING = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Omitted(StrEnum):
    """Why a file is listed without content."""

    DELETED = "deleted"
    SYMLINK = "symlink"
    SUBMODULE = "submodule"
    TOO_LARGE = "too-large"
    UNSAFE_PATH = "unsafe-path"
    PATH_NOT_UTF8 = "path-not-utf8"


def display_path(path: bytes) -> str:
    """``path`` for people: as it is when it is plain UTF-8, else with the odd bytes and characters escaped.

    Of what is longer than 4,096 bytes then, only the head is shown, ``…``, and the SHA-256 of the path.
    """
    text = path.decode("utf-8", "backslashreplace")
    shown = text
    if not text.isprintable():
        shown = "".join(
            character if not is_control(character) else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    encoded = shown.encode()
    if len(encoded) <= _MAX_SHOWN:
        return shown
    tail = f"…{sha256(path)}"
    return encoded[: _MAX_SHOWN - len(tail.encode())].decode("utf-8", "ignore") + tail


def judge_path(path: bytes) -> Omitted | None:
    """Why a file of this name must not be touched, if so.

    Unsafe are: absolute paths, empty, ``.``, ``..`` and ``.git`` components (also as HFS+ and NTFS fold them), a
    backslash, control and bidirectional characters, and what no file system holds.
    """
    if len(path) > _MAX_PATH:
        return Omitted.UNSAFE_PATH
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return Omitted.PATH_NOT_UTF8
    if "\\" in text or any(is_control(character) for character in text):
        return Omitted.UNSAFE_PATH
    if any(_is_unsafe(component) for component in text.split("/")):
        return Omitted.UNSAFE_PATH
    return None


def _is_unsafe(component: str) -> bool:
    if component in ("", ".", "..") or len(component.encode()) > _MAX_COMPONENT:
        return True
    folded = component.translate(_IGNORED_BY_HFS).casefold().partition(":")[0].rstrip(" .")
    return folded in (".git", "git~1")


def is_control(character: str) -> bool:
    """Whether a character does something to a terminal instead of being shown, or turns the order of the others."""
    return unicodedata.category(character) == "Cc" or character in _CONFUSING
