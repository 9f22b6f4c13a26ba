import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.names import parse_workflow_id, workflow_id


@given(st.tuples(*[st.text(st.characters(codec="utf-8"), min_size=1)] * 3))
def test_a_workflow_id_tells_what_it_was_made_of(parts: tuple[str, str, str]) -> None:
    assert parse_workflow_id(workflow_id(*parts)) == parts


def test_it_stays_readable() -> None:
    assert workflow_id("git.commit", "https://github.com/acme/docs", "72d3162e") == (
        "git.commit:https://github.com/acme/docs:72d3162e"
    )


@pytest.mark.parametrize("foreign", ["", "a", "a:b"])
def test_foreign_ids_are_refused(foreign: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_workflow_id(foreign)
