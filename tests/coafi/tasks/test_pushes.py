"""Where a branch is as far as its deliveries tell, whatever order they came in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.tasks.pushes import Push
from coafi.tasks.reconcile import Branch, Standing, is_known, reconciled_event, tip_of
from tests.coafi.tasks.support import MOMENT

ZERO = "0" * 40


def pushes(*moves: str) -> list[Push]:
    """Pushes such as ``ab``: from commit a to commit b; ``0`` is no commit."""
    return [
        Push(entry, "https://x.example/r", "https://x.example/r", "main", sha(move[0]), sha(move[1]), "github-webhook")
        for entry, move in enumerate(moves)
    ]


def sha(letter: str) -> str:
    return letter * 40


@pytest.mark.parametrize(
    ("moves", "head", "known"),
    [
        (("0a", "ab"), "b", True),
        (("0a", "ab"), "c", False),
        (("0a", "ab"), "a", False),  # forced back, and nobody told
        (("0a", "ab", "ba"), "a", True),
        (("ab", "0a"), "b", True),  # late, in the wrong order
        (("cd", "ab", "bc"), "d", True),
        (("0a", "a0"), "0", True),  # deleted
        (("0a",), "0", False),
        (("0a", "a0", "0b"), "b", True),  # made again
        (("0a", "aa"), "a", True),  # submitted again
    ],
)
def test_a_head_is_known_or_missed(moves: tuple[str, ...], head: str, known: bool) -> None:
    assert is_known(pushes(*moves), sha(head)) is known


def test_the_tip_is_where_nothing_goes_on_from() -> None:
    assert tip_of(pushes("0a", "ab", "bc")) == sha("c")
    assert tip_of(pushes("bc", "0a", "ab")) == sha("c")
    assert tip_of(pushes("0a", "ab", "ba")) == sha("a")


@given(st.permutations([f"{a}{b}" for a, b in zip("0abcde", "abcdef", strict=True)]))
def test_pushes_in_any_order_leave_nothing_to_reconcile(moves: list[str]) -> None:
    found = pushes(*moves)
    assert tip_of(found) == sha("f")
    assert is_known(found, sha("f"))


@given(st.permutations(["0a", "ab", "bc"]))
def test_a_push_that_is_missing_at_the_end_is_missed(kept: list[str]) -> None:
    assert not is_known(pushes(*kept), sha("d"))
    assert tip_of(pushes(*kept)) == sha("c")


def test_the_event_is_the_same_whoever_finds_it_out_and_says_what_it_is() -> None:
    branch = Branch(
        repository="https://x.example/r", branch="main", before=sha("a"), after=sha("b"), standing=Standing.MISSED
    )
    one, body = reconciled_event(branch, MOMENT)
    other, _ = reconciled_event(branch.model_copy(update={"repository": "https://x.example/r.git"}), MOMENT)
    assert one.id == other.id
    assert one.id.startswith("reconciled-")
    assert one.principal == "reconciled"
    assert b'"before"' in body
    gone, _ = reconciled_event(branch.model_copy(update={"after": ZERO}), MOMENT)
    assert gone.data["deleted"] is True
