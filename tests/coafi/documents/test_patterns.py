import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.patterns import matches


@pytest.mark.parametrize(
    ("path", "patterns", "fits"),
    [
        ("a.yaml", ["*.yaml"], True),
        ("x/a.yaml", ["*.yaml"], False),
        ("x/a.yaml", ["**/*.yaml"], True),
        ("a.yaml", ["**/*.yaml"], True),
        ("x/y/z/a.yaml", ["x/**/a.yaml"], True),
        ("x/a.yaml", ["x/**/a.yaml"], True),
        ("x/y/a.yaml", ["x/**"], True),
        ("x", ["x/**"], True),
        ("x/y", ["x"], False),
        ("x/y/x/z", ["**/x/*"], True),
        ("a/b/a/b/c", ["**/a/b/c"], True),
        ("a/b/a/b/d", ["**/a/b/c"], False),
        ("a1.yaml", ["/a?.yaml"], True),
        ("ab.yaml", ["a[b-c].yaml"], True),
        ("A.yaml", ["a.yaml"], False),
        ("[z-a]", ["[z-a]"], False),
        ("x/a.yaml", ["x/*", "!x/a.yaml"], False),
        ("x/a.yaml", ["!x/a.yaml", "x/*"], True),
        ("x/a.yaml", ["x/*", "!x/*", "x/a*"], True),
        ("a", [], False),
        ("a", [""], False),
    ],
)
def test_patterns(path: str, patterns: list[str], fits: bool) -> None:
    assert matches(path, patterns) is fits


@given(st.text(max_size=20), st.lists(st.text(st.sampled_from("a*?[]!/-z\n"), max_size=8), max_size=4))
def test_every_pattern_is_understood(path: str, patterns: list[str]) -> None:
    assert matches(path, patterns) in (True, False)


def test_hostile_patterns_take_bounded_time() -> None:
    start = time.process_time()
    assert not matches("a" * 3000 + "b", ["*a" * 150])
    assert not matches("a/" * 1500 + "b", ["**/a/" * 50 + "c"])
    assert time.process_time() - start < 2
