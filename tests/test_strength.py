"""Whether suite and soak do as much as they say."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, is_hypothesis_test, settings
from hypothesis import strategies as st

from tests.strength import examples, some, thorough

ROOT = Path(__file__).parent.parent


def tried(**said: Any) -> int:
    """With how many examples a property is tried."""
    count = 0

    @settings(database=None, **said)
    @given(st.integers())
    def holds(_number: int) -> None:
        nonlocal count
        count += 1

    holds()
    return count


@pytest.mark.also_in_soak
def test_properties_are_tried_with_fewer_examples_in_the_suite_and_with_all_in_the_soak() -> None:
    assert (tried(), tried(max_examples=examples(300))) == ((100, 300) if thorough() else (10, 30))
    assert some({"a": 1, "b": 2}, "b") == ({"a": 1, "b": 2} if thorough() else {"b": 2})


@pytest.mark.also_in_soak
def test_the_soak_takes_every_property(request: pytest.FixtureRequest) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^SOAK := .*--hypothesis-profile=soak ", makefile, re.MULTILINE)
    assert re.search(r'^soak:.*\n\t\$\(SOAK\) -m "soak or also_in_soak or hypothesis" ', makefile, re.MULTILINE)
    properties = [one for one in request.session.items if is_hypothesis_test(getattr(one, "obj", None))]
    assert all(one.get_closest_marker("hypothesis") for one in properties)


def test_what_is_promised_is_not_tried_again() -> None:
    (said,) = re.findall(r"^PROMISED := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.match(said, "tests/guarantees/test_exactly_once.py::test_x")
    assert re.match(said, "tests/coafi/ledger/test_log.py::test_x")
    assert not re.match(said, "tests/starters/test_gateway.py::test_x")
    found = {"/".join(one.relative_to(ROOT).parts) for one in (ROOT / "tests").rglob("*/")}
    names = set(re.findall(r"\w+", said)) - {"tests", "coafi"}
    assert {one.rpartition("/")[2] for one in found if re.fullmatch(said, f"{one}/")} == names


def test_no_property_says_how_many_examples_it_has_whatever_runs() -> None:
    fixed = re.compile(r"max_examples=\d")
    files = {one for one in (ROOT / "tests").rglob("*.py") if fixed.search(one.read_text())}
    assert files == {ROOT / "tests/strength.py"}
