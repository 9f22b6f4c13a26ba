import re
import time
from collections.abc import Iterator
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers import get_all_lexers
from pygments.token import Token

from coafi.artifacts import highlight
from coafi.artifacts.highlight import CLASSES, LANGUAGES, MAX_BLOCK, highlighted
from coafi.artifacts.page import STYLE

NAMES = sorted(LANGUAGES)


def plain(html: str) -> str:
    return unescape(re.sub(r'</?span(?: class="\w+")?>', "", html))


@pytest.mark.parametrize(
    ("language", "code", "part"),
    [
        ("python", "def f(): pass  # c", '<span class="nf">f</span>(): <span class="k">pass  </span>'),
        ("JSON", '{"a": [1, true, "x"]}', '<span class="nt">&quot;a&quot;</span>'.replace("&quot;", '"')),
        ("yaml", "a: b # c", '<span class="nt">a</span>'),
        ("sh", "echo $HOME", '<span class="nv">$HOME</span>'),
        ("c++", "int x = 1;", '<span class="kt">int </span>'),
        ("diff", "-a\n+b\n", '<span class="gi">+b\n</span>'),
        ("console", "$ ls\na\n", '<span class="gp">$ </span>'),
        ("sql", "SELECT 1", '<span class="k">SELECT </span><span class="m">1</span>'),
        ("html", "<b a='c'>", '&lt;<span class="nt">b </span><span class="na">a</span>='),
    ],
)
def test_code_has_spans(language: str, code: str, part: str) -> None:
    assert part in (highlighted(code, language) or "")


@pytest.mark.parametrize("language", ["", "nonsense", "java", "text", "python3000", "../python"])
def test_other_languages_are_left_plain(language: str) -> None:
    assert highlighted("def f(): pass", language) is None


@pytest.mark.parametrize(
    "code", ["x" * (MAX_BLOCK + 1), "x\n" * MAX_BLOCK, "a" * 401, "a\n" + " \n" * 20 + "b", "\n" * 20]
)
def test_code_that_may_take_long_is_left_plain(code: str) -> None:
    assert highlighted(code, "python") is None


def test_the_limits_leave_room_for_real_code() -> None:
    assert highlighted("x = 1  # a comment of some length\n" * 240, "python") is not None
    assert highlighted("a" * 400 + "\n\n\n\n\nb", "python") is not None


def test_every_language_is_one_of_pygments() -> None:
    known = {alias for _, aliases, _, _ in get_all_lexers() for alias in aliases}
    assert set(LANGUAGES.values()) <= known
    assert all(highlighted("x\n", name) is not None for name in NAMES)


@pytest.mark.parametrize("failing", [IndexError, None])
def test_code_that_its_lexer_cannot_read_is_left_plain(failing: type[Exception] | None, monkeypatch: Any) -> None:
    def tokens(code: str) -> Iterator[tuple[int, Any, str]]:
        yield 0, Token, code[:-1]
        if failing:
            raise failing

    monkeypatch.setattr(highlight, "_lexer", lambda _: SimpleNamespace(get_tokens_unprocessed=tokens))
    assert highlighted("x = 1", "python") is None


def test_every_class_has_a_colour() -> None:
    for name in CLASSES:
        assert re.search(rf"pre \.{name}\b", STYLE), name


WORDS = re.findall(
    r"\S+",
    r"""/* */ // <!-- --> # " ' ` << ${ } {{ (( )) a a.b 0x1 1e5 :: => <a </a> <? ?> &a; R"( s{ % @ [a] >>> é \ '''""",
)
SPACES = [
    "\n",
    "\n\n",
    "\\\n",
    "  ",
    "\t",
    "<<a\n",
    "def f",
    "if ",
    "- a:",
    "$ ls",
    "\u0301",
    "\u2028",
    "\x00",
    "\ud800",
    '"' * 3,
]
FRAGMENTS = st.sampled_from([*WORDS, *SPACES])


@given(st.sampled_from(NAMES), st.lists(st.one_of(FRAGMENTS, st.text(max_size=5)), max_size=40).map("".join))
def test_no_character_is_lost_or_left_unescaped(language: str, code: str) -> None:
    html = highlighted(code, language)
    if html is not None:
        assert plain(html) == code
        assert "<" not in re.sub(r'<span class="\w+">|</span>', "", html)
        assert set(re.findall(r'class="(\w+)"', html)) <= CLASSES


# What kept one lexer or another busiest, of some thousands of texts that were tried with each of them.
PUMPS = ["<!--", "a b", "{", 'R"(', "/* x", "a\n", "`", "integer/*", "1.", "\u016b"]


# In the suite some languages do, and in the soak all.
EACH = [
    pytest.param(language, marks=[pytest.mark.soak] if number % 6 else [])
    for number, language in enumerate(sorted(set(LANGUAGES.values())))
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("language", EACH)
def test_hostile_code_takes_bounded_time(language: str) -> None:
    worst = 0.0
    for pump in PUMPS:
        line = (pump * 399)[:399] if "\n" not in pump else pump * 3
        code = f"{line}\n" * (MAX_BLOCK // (len(line) + 1))
        start = time.process_time()
        highlighted(code, language)
        worst = max(worst, time.process_time() - start)
    assert worst < 2  # about 0.15 s on an idle machine
