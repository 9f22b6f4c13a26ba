import re

from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.source import Position, Source, line_spans, visible

TEXT = st.text(st.sampled_from("ab\r\n\u2028é😀"), max_size=40)


def counted_naively(text: str, offset: int) -> Position:
    line, column, at = 1, 1, 0
    while at < offset:
        if text.startswith("\r\n", at):
            if at + 1 == offset:
                return Position(line, column)
            at += 2
            line, column = line + 1, 1
        elif text[at] in "\r\n":
            at += 1
            line, column = line + 1, 1
        else:
            at += 1
            column += 1
    return Position(line, column)


@given(TEXT, st.data())
def test_positions_agree_with_counting_character_by_character(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    assert Source.of(text).position(offset) == counted_naively(text, offset)


@given(TEXT, st.data())
def test_a_part_of_a_file_counts_from_the_start_of_the_file(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    part = Source(text, start, end)
    assert part.part == text[start:end]
    for offset in range(end - start + 1):
        assert part.position(offset) == Source.of(text).position(start + offset)


def test_a_position_outside_of_the_text_is_its_nearest_end() -> None:
    assert Source.of("ab\nc").position(99) == (2, 2)
    assert Source.of("ab").position(-3) == (1, 1)


@given(TEXT)
def test_lines_cover_the_text_and_end_where_editors_end_them(text: str) -> None:
    spans = line_spans(text, limit=1000)
    assert "".join(text[start:following] for start, _, following in spans) == text
    assert [text[start:end] for start, end, _ in spans] == re.split(r"\r\n|\n|\r", text)[: len(spans)]


def test_no_more_lines_than_asked_for() -> None:
    assert len(line_spans("a\n" * 10, limit=3)) == 3
    assert len(line_spans("a\nb", limit=1)) == 1


@given(st.text(max_size=200))
def test_quoted_text_is_short_and_printable(text: str) -> None:
    assert visible(text, 20).isprintable()
    assert len(visible("x" * 1000, 20)) == 21
