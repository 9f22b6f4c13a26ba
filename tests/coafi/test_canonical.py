"""Canonical JSON: what the quick way writes is what the reference writes, or it is not taken."""

import json
import struct
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from coafi.canonical import canonical_json
from coafi.errors import ValidationError

EDGES = '\x00\x1f\x7f"\\/\b\t\u0080\u2028\u2029\ud7ff\ud800\udfff\ue000\ufb33\ufffd\uffff\U00010000\U0001f600\U0010ffff'
SAFE = 2**53 - 1


class Word(StrEnum):
    """Text of a type of its own."""

    PLAIN = "FILE_PROCESSED"
    QUOTED = '"é"'


class Count(IntEnum):
    """Numbers of a type of their own."""

    ONE = 1
    TOO_LARGE = 2**53


class Text(str):
    """A text that says it is another."""

    def encode(self, *_arguments: object) -> bytes:
        """Something else than its characters."""
        return b"other"


texts = st.text() | st.text(st.sampled_from(EDGES)) | st.sampled_from(Word)
numbers = (
    st.integers()
    | st.sampled_from([SAFE, -SAFE, SAFE + 1, -SAFE - 1, -0.0, 1e21, 1e-7, 5e-324, 1.0, *Count])
    | st.floats()
)
strange = st.binary(max_size=2) | st.sampled_from([object, {1}, Text("x")])
keys = texts | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=2)


def values(of_keys: st.SearchStrategy[Any], leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.lists(inner, max_size=5).map(tuple)
            | st.dictionaries(of_keys, inner, max_size=5)
        ),
        max_leaves=20,
    )


def outcome(value: Any) -> bytes | str:
    try:
        return canonical_json(value)
    except ValidationError as error:
        return error.message


def reference(value: Any) -> bytes | str:
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        return f"this JSON has no canonical form: {error}"


@given(values(texts, st.none() | st.booleans() | texts | numbers))
@example({"\U0001f600": 1, "\ufb33": 2})
@example({"\ud800": 1})
@example({"": {"": []}, "a": (1, -0.0)})
@example({Word.PLAIN: Word.QUOTED})
def test_all_json_is_written_as_the_reference_writes_it(value: Any) -> None:
    assert outcome(value) == reference(value)


@given(values(keys, st.none() | texts | numbers | strange))
@example({True: 1})
@example({1: 1, "1": 2})
@example({None: 1})
@example([Text("x")])
@example({Text("x"): 1})
def test_what_is_no_json_is_refused_as_the_reference_refuses_it(value: Any) -> None:
    assert outcome(value) == reference(value)


@given(st.integers(0, 2**64 - 1))
def test_any_double_is_written_as_the_reference_writes_it(bits: int) -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    assert outcome([value]) == reference([value])


def test_every_character_is_written_as_the_reference_writes_it() -> None:
    for code in range(0x10000):
        assert outcome([chr(code)]) == reference([chr(code)]), hex(code)


def test_entries_go_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("rfc8785.dumps")
    assert canonical_json({"b": [Word.PLAIN, True, None, SAFE], "a\u2028": {"é": "\x7f\x1f"}}) == (
        '{"a\u2028":{"é":"\x7f\\u001f"},"b":["FILE_PROCESSED",true,null,9007199254740991]}'.encode()
    )
    with pytest.raises(AttributeError):
        canonical_json([0.5])


@pytest.mark.parametrize("depth", [99, 100, 101, 200])
def test_depth_makes_no_difference(depth: int) -> None:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    assert canonical_json(value) == json.dumps(value, separators=(",", ":")).encode()


def test_what_is_nested_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match="nested too deeply"):
        canonical_json(endless)
