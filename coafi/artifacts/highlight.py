"""Colours for code: spans with the class names of Pygments, which the style sheet of the page knows.

Pygments' lexers are regular expressions, and some take time that grows with the square of what they are given: 8 KB of
blanks keep one busy for a second. Nothing can interrupt them and still give the same bytes on every machine, so what is
given to them is bounded instead: a short list of languages that were tried with hostile input, short blocks, short
lines, no long runs of blank lines. Any other code stays as it is, uncoloured.
"""

import re
from collections.abc import Mapping
from functools import cache
from html import escape

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import (
    Comment,
    Generic,
    Keyword,
    Literal,
    Name,
    Number,
    String,
    _TokenType,
)

MAX_BLOCK = 8 * 1024
"""The most characters of a block of code that is coloured."""

_MAX_LINE = 400
_MANY_BLANK_LINES = re.compile(r"\n(?:[ \t\v\f]*\n){12}")

LANGUAGES: Mapping[str, str] = {
    alias: aliases.split()[0]
    for aliases in (
        "ada ada95 ada2005",
        "bash sh shell zsh ksh",
        "c h",
        "cmake",
        "console shell-session shellsession sh-session terminal",
        "cpp c++ cxx hpp",
        "css",
        "diff patch udiff",
        "docker dockerfile",
        "fortran f90",
        "go golang",
        "graphql",
        "haskell hs",
        "html",
        "http",
        "ini cfg",
        "javascript js jsx mjs",
        "json jsonc json5 jsonld geojson",
        "kotlin kt",
        "lua",
        "make makefile",
        "matlab",
        "nginx",
        "php",
        "powershell ps1 pwsh",
        "properties",
        "protobuf proto",
        "pycon",
        "python py python3",
        "rst restructuredtext",
        "ruby rb",
        "rust rs",
        "scss",
        "sql",
        "swift",
        "tex latex",
        "toml",
        "turtle ttl",
        "typescript ts tsx",
        "vhdl",
        "xml svg xsd xsl",
        "yaml yml",
    )
    for alias in aliases.split()
}
"""The names of languages that get colours, each with the name of its lexer.

Java, C#, Scala, Perl and Terraform do not: their lexers took seconds over 16 KB.
"""

_CLASSES: dict[_TokenType, str] = {
    Comment: "c",
    Comment.Preproc: "cp",
    Keyword: "k",
    Keyword.Constant: "kc",
    Keyword.Type: "kt",
    Literal: "l",
    Number: "m",
    String: "s",
    String.Escape: "se",
    String.Interpol: "se",
    Name.Attribute: "na",
    Name.Builtin: "nb",
    Name.Class: "nc",
    Name.Constant: "kc",
    Name.Decorator: "nd",
    Name.Exception: "nc",
    Name.Function: "nf",
    Name.Tag: "nt",
    Name.Variable: "nv",
    Generic.Deleted: "gd",
    Generic.Emph: "ge",
    Generic.Heading: "gh",
    Generic.Inserted: "gi",
    Generic.Output: "go",
    Generic.Prompt: "gp",
    Generic.Strong: "gs",
    Generic.Subheading: "gu",
    Generic.Traceback: "gd",
}
CLASSES = frozenset(_CLASSES.values())
"""Every class that highlighted code can have."""


def highlighted(code: str, language: str) -> str | None:
    """Code as HTML, in which spans have the class of what they are; ``None`` when it is better left as it is.

    Args:
        code: plain text.
        language: as the author named it.
    """
    name = LANGUAGES.get(language.lower())
    if name is None or not _is_tame(code):
        return None
    try:
        tokens = [(kind, text) for _, kind, text in _lexer(name).get_tokens_unprocessed(code)]
    except Exception:
        # Lexers are written for code: what one of them stumbles over is none.
        return None
    if "".join(text for _, text in tokens) != code:  # Some leave out what they cannot place.
        return None
    out: list[str] = []
    run: list[str] = []
    current = ""
    for kind, text in tokens:
        named = _class_of(kind)
        # Blanks have no colour: they join what is around them, which saves spans.
        if named != current and not text.isspace():
            _flush(out, run, current)
            run, current = [], named
        run.append(text)
    _flush(out, run, current)
    return "".join(out)


def _is_tame(code: str) -> bool:
    return (
        len(code) <= MAX_BLOCK
        and max(map(len, code.split("\n"))) <= _MAX_LINE
        and _MANY_BLANK_LINES.search(code) is None
    )


def _flush(out: list[str], run: list[str], named: str) -> None:
    text = escape("".join(run), quote=False)
    out.append(f'<span class="{named}">{text}</span>' if named and text else text)


@cache
def _lexer(name: str) -> Lexer:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


@cache
def _class_of(kind: _TokenType) -> str:
    """The class of the nearest kind above that has one."""
    return next((_CLASSES[one] for one in reversed(kind.split()) if one in _CLASSES), "")
