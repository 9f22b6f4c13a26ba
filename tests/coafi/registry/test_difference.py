"""The patch from one value to another, against the reference that applies it."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.canonical import canonical_json
from coafi.registry.difference import difference
from tests.strength import examples

values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab/~0", max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("ab/~0", max_size=3), inner, max_size=4),
    max_leaves=20,
)


def applied(patch: Any, old: Any) -> Any:
    return jsonpatch.JsonPatch(list(patch)).apply(old)


@given(values, values)
@settings(max_examples=examples(500))
def test_the_patch_leads_from_the_one_to_the_other(old: JsonValue, new: JsonValue) -> None:
    patch = difference(old, new)
    assert canonical_json(applied(patch, old)) == canonical_json(new)
    assert bool(patch) == (canonical_json(old) != canonical_json(new))


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 8), st.integers(0, 3))
def test_an_item_that_comes_or_goes_is_one_operation(items: list[int], place: int, value: int) -> None:
    longer = [*items[:place], value, *items[place:]]
    assert [one["op"] for one in difference([*items], [*longer])] == ["add"]
    assert [one["op"] for one in difference([*longer], [*items])] == ["remove"]


@pytest.mark.parametrize(
    ("old", "new"), [(True, 1), ([0], [False]), ({"a": [1]}, {"a": [True]}), (None, False), ("1", 1)]
)
def test_what_python_takes_for_equal_may_differ(old: JsonValue, new: JsonValue) -> None:
    assert len(difference(old, new)) == 1


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert difference([1, 0.0], [1.0, -0.0]) == ()


def test_large_values_are_compared_quickly() -> None:
    numbers: list[JsonValue] = list(range(40_000))
    assert len(difference(numbers, numbers[1:])) == 1
    assert len(difference(numbers, numbers[::-1])) == 40_000
    assert len(difference(numbers, [])) == 40_000
