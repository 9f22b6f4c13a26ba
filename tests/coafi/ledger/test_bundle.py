import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.ledger.bundle import MAX_BUNDLE, encode_bundle, parse_bundle


def test_a_bundle_is_what_the_specification_says() -> None:
    assert encode_bundle([b"ab", b"", b"x" * 65_535]) == b"\x00\x02ab" + b"\x00\x00" + b"\xff\xff" + b"x" * 65_535
    assert len(encode_bundle([b"x" * 65_535] * 256)) == MAX_BUNDLE


@given(st.lists(st.binary(max_size=400), max_size=256))
def test_a_bundle_is_read_as_it_was_written(bodies: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(bodies)) == bodies


@given(st.binary(max_size=600))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    try:
        bodies = parse_bundle(data)
    except ValidationError:
        return
    assert encode_bundle(bodies) == data


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x01", b"\x00\x02a", b"\x00\x00" * 257])
def test_what_is_cut_off_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(ValidationError, match="not an entry bundle"):
        parse_bundle(data)
