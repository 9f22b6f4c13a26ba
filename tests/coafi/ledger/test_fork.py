"""Logs that fork, and logs that do not."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.fork import Fork, compare, fork_of, verify_fork
from coafi.ledger.keys import Signer
from tests.coafi.ledger.trees import MOST, SIGNER, Tree


@given(st.data())
def test_every_fork_is_proved_by_what_the_log_says_of_itself(data: st.DataObject) -> None:
    larger = data.draw(st.integers(1, MOST))
    smaller = data.draw(st.integers(1, larger))
    forked = data.draw(st.integers(0, smaller - 1))
    seen, shown = Tree(smaller).signed(), Tree(larger, forked)
    found = compare(seen, shown.signed(), shown)
    assert not found.consistent
    assert found.fork is not None
    assert [one.size for one in verify_fork(Fork.parse(found.fork.model_dump_json()), SIGNER.key)] == [smaller, larger]


@given(st.data())
def test_a_log_that_only_grows_is_never_accused(data: st.DataObject) -> None:
    larger = data.draw(st.integers(0, MOST))
    smaller = data.draw(st.integers(0, larger))
    tree = Tree(larger)
    found = compare(tree.signed(), tree.signed(smaller), tree)
    assert (found.consistent, found.fork) == (True, None)


@given(st.data())
def test_no_answer_makes_a_proof_against_a_log_that_only_grows(data: st.DataObject) -> None:
    """Whatever hashes somebody sends: nobody can frame a log."""
    larger = data.draw(st.integers(1, MOST))
    smaller = data.draw(st.integers(0, larger))
    hashes = st.lists(
        st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from(range(larger)).map(Tree(larger).leaf)),
        max_size=8,
    )

    @dataclass(frozen=True)
    class Liar:
        def consistency(self, _old: int, _new: int) -> Sequence[bytes]:
            return data.draw(hashes)

        def inclusion(self, _index: int, _size: int) -> Sequence[bytes]:
            return data.draw(hashes)

    one, other = Tree(larger).signed(), Tree(larger).signed(smaller)
    found = compare(one, other, Liar())
    assert found.fork is None
    prefix = data.draw(st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex))
    made = Fork(smaller=other.note, larger=one.note, prefix=prefix, hashes=tuple(h.hex() for h in data.draw(hashes)))
    with pytest.raises(IntegrityError):
        verify_fork(made, SIGNER.key)


def test_a_log_that_answers_nothing_has_proved_nothing() -> None:
    rolled_back = Tree(9, forked=3)
    found = compare(Tree(12).signed(), rolled_back.signed(), rolled_back)  # it has no tree of 12 entries any more
    assert (found.consistent, found.fork) == (False, None)
    assert "no such proof" in found.problem


def test_the_proof_of_a_submission_is_enough_where_the_size_is_no_power_of_two() -> None:
    shown = Tree(11, forked=2)
    seen = Tree(6).signed()
    assert fork_of(seen, shown.signed(), shown.consistency(6, 11)) is not None
    assert fork_of(seen, shown.signed(), []) is None
    assert fork_of(Tree(8).signed(), shown.signed(), shown.consistency(8, 11)) is None
    assert fork_of(Tree(6, forked=1).signed(), Tree(6).signed()) is not None
    assert fork_of(Tree(6).signed(), Tree(6).signed()) is None


def proof() -> Fork:
    found = compare(Tree(6).signed(), Tree(11, forked=2).signed(), Tree(11, forked=2)).fork
    assert found is not None
    return found


def test_a_proof_is_of_the_key_that_signed() -> None:
    with pytest.raises(ValidationError, match="not signed by"):
        verify_fork(proof(), Signer("log.example", bytes([1]) * 32).key)


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": None},
        {"prefix": "00" * 32},
        {"hashes": ()},
        {"smaller": Tree(11, forked=2).signed(6).note},
        {"larger": Tree(11).signed().note},
        {"larger": Tree(6).signed().note},
    ],
)
def test_a_proof_that_was_changed_proves_nothing(changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        verify_fork(proof().model_copy(update=changes), SIGNER.key)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_whatever_is_given_as_a_proof_is_read_or_refused(data: bytes | str) -> None:
    with pytest.raises(ValidationError, match="this is no proof of a split view"):
        Fork.parse(data)


def test_a_proof_that_is_too_long() -> None:
    with pytest.raises(ValidationError, match="too long"):
        Fork.parse(b" " * 300_000)
