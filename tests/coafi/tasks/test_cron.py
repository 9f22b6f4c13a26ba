"""Cron expressions: what they mean, held against every minute that they could mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.tasks.cron import Span, parse_cron


def numbers(spans: tuple[Span, ...]) -> set[int]:
    return {number for span in spans for number in range(span.start, span.end + 1, span.step)}


@pytest.mark.parametrize(
    ("text", "minute", "hour", "month", "days"),
    [
        ("17 3 * * *", {17}, {3}, set(range(1, 13)), set(range(7))),
        ("*/20 8-18/5 * * *", {0, 20, 40}, {8, 13, 18}, set(range(1, 13)), set(range(7))),
        ("5/25 0 * jan,DEC mon-fri", {5, 30, 55}, {0}, {1, 12}, {1, 2, 3, 4, 5}),
        ("0 0 * * 7", {0}, {0}, set(range(1, 13)), {0}),
        ("0 0 * * 5-7", {0}, {0}, set(range(1, 13)), {5, 6, 0}),
        ("0 0 * * 0-6", {0}, {0}, set(range(1, 13)), set(range(7))),
    ],
)
def test_what_an_expression_means(text: str, minute: set[int], hour: set[int], month: set[int], days: set[int]) -> None:
    found = parse_cron(text)
    assert (numbers(found.minute), numbers(found.hour)) == (minute, hour)
    assert (numbers(found.month), numbers(found.day_of_week)) == (month, days)
    assert numbers(found.day_of_month) == set(range(1, 32))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("* * * *", "4 fields"),
        ("@daily", "1 fields"),
        ("60 * * * *", "minute: '60'"),
        ("5-3 * * * *", "minute: '5-3'"),
        ("*/0 * * * *", "minute"),
        ("0 0 0 * *", "day of month: '0'"),
        ("0 0 * foo *", "month: 'foo'"),
        ("0 0 1 * mon", "restrict one of them"),
        ("0 0 * * 8", "day of week: '8'"),
        ("0,, 0 * * *", "minute: ''"),
    ],
)
def test_what_is_no_expression_is_refused_and_its_field_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        parse_cron(text)


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59), st.integers(1, 59)), min_size=1, max_size=5))
def test_ranges_mean_what_python_says(ranges: list[tuple[int, int, int]]) -> None:
    ordered = [(min(a, b), max(a, b), step) for a, b, step in ranges]
    text = ",".join(f"{start}-{end}/{step}" for start, end, step in ordered)
    wanted = {number for start, end, step in ordered for number in range(start, end + 1, step)}
    assert numbers(parse_cron(f"{text} * * * *").minute) == wanted


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        found = parse_cron(text)
    except ValueError:
        return
    assert numbers(found.minute) <= set(range(60))
    assert numbers(found.day_of_week) <= set(range(7))
