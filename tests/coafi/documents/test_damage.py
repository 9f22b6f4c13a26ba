import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.damage import damages, may_be_damaged, repaired
from tests.coafi.documents.samples import GOOD, check

FINE = st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"], exclude_characters="\ufeff\ufffd")


@pytest.mark.parametrize(
    ("text", "rule", "offset", "said", "remedy"),
    [
        ("a â€“ b", "text/mojibake", 2, "'â€“' is –", "write –"),
        ("caf\u00c3\u00a9", "text/mojibake", 3, "is é", "write é"),
        ("Ã¢â‚¬â€œ", "text/mojibake", 0, "is –", "write –"),
        ("âœ… ok", "text/mojibake", 0, "is ✅", "write ✅"),
        ("ðŸš€", "text/mojibake", 0, "is 🚀", "write 🚀"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "text/mojibake", 0, "is Привет", "write Привет"),
        ("x\u00c2\u00a0y", "text/mojibake", 1, "is U+00A0", "write U+00A0"),
        ("ï»¿x", "text/mojibake", 0, "is U+FEFF", "write U+FEFF"),
        ("â€œqâ€\x9d", "text/mojibake", 0, "is “", "write “"),
        ("a\ufffdb", "text/lost-character", 1, "a character got lost", ""),
        ("a\ufffd\ufffdb", "text/lost-character", 1, "2 characters got lost", ""),
        ("1 \x96 2", "text/control-character", 2, "U+0096, which is '–' in Windows-1252", "write –"),
        ("a\x81", "text/control-character", 1, "U+0081, which nobody sees", ""),
        ("a\x1b[31m", "text/control-character", 1, "U+001B", ""),
        ("a\x7f", "text/control-character", 1, "U+007F", ""),
        ("a \u202etxt", "text/control-character", 2, "U+202E", ""),
        ("a\ufeff", "text/control-character", 1, "a byte order mark", ""),
    ],
)
def test_damage_is_found_and_what_to_write_is_said(text: str, rule: str, offset: int, said: str, remedy: str) -> None:
    (found,) = damages(text)
    assert (found.rule, found.offset, found.remedy) == (rule, offset, remedy)
    assert said in found.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain\r\n\ttext\f",
        "CAFÉ®, voilà», « AMANHà » Größe – “fine” … ° § ©",
        "Łódź, Ærø, Ðuro, naïve, Ação, Ñandú",
        "Å‚",  # one of a kind: somebody may have meant it
        "привет, 你好, नमस्ते, 🚀 e\u0301",
        "next\x85line, zero\u200dwidth\u200b joiner \ufe0f",
    ],
)
def test_text_in_any_language_is_not_damaged(text: str) -> None:
    assert list(damages(text)) == []


@given(
    st.text(FINE.filter(lambda char: char > "\u00bf" and unicodedata.category(char) != "Cf"), min_size=2, max_size=20)
)
def test_what_was_read_in_the_wrong_encoding_is_repaired(text: str) -> None:
    damaged = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())
    assert repaired(damaged) == text or repaired(text) == repaired(damaged)
    assert [one.rule for one in damages(damaged)] == ["text/mojibake"]


@given(st.text(max_size=30))
def test_nothing_is_found_where_nothing_may_be(text: str) -> None:
    assert may_be_damaged(text) or not list(damages(text))


def test_one_place_per_line_and_twenty_lines_are_enough() -> None:
    assert [one.offset for one in damages("â€“ â€“\n\nâ€“")] == [0, 9]
    assert len(list(damages("â€“\n" * 100 + "\x01\n" * 100))) == 40


def test_inline_code_may_look_damaged_and_the_rest_of_its_line_may_not() -> None:
    report = check("a.md", GOOD + "\n`â€“` stands for â€”\n\n    â€“ in a block\n")
    assert [(one.rule, one.line, one.column) for one in report.findings] == [
        ("text/mojibake", 15, 18),
        ("text/mojibake", 17, 5),
    ]


def test_front_matter_and_data_are_looked_at_too() -> None:
    report = check("a.md", GOOD.replace("GAIA Platforms", "GAIA â€“ Platforms"))
    assert [(one.rule, one.line, one.column) for one in report.findings] == [("text/mojibake", 6, 14)]
    assert [one.rule for one in check("a.json", '["â€“", "\x96"]').findings] == ["text/mojibake"]
    assert check("a.txt", "â€“").findings == ()


@pytest.mark.parametrize(
    "text",
    [
        "Ã" * 2**18,
        "â€" * 2**18,
        "Ð\x80" * 2**18 + "Ð",
        "â€“\n" * 2**18,
        "\x01" * 2**18,
        "à€à€" * 2**18,
        "\ufffd\n" * 2**18,
    ],
    ids=["leads", "halves", "unusable", "lines", "controls", "wrong", "lost"],
)
def test_much_damage_takes_bounded_time(text: str) -> None:
    start = time.process_time()
    assert len(list(damages(text))) <= 60
    assert time.process_time() - start < 20
