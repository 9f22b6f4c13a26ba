"""JSON from outside: what an entrance takes, everything behind it can read."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.peers import PeerMessage, PeerRun, Shelved, Waiting
from coafi.canonical import MAX_DEPTH, canonical_json, is_deeper, stable_json
from coafi.cloudevents import json_object
from coafi.errors import ValidationError
from coafi.federation.messages import MAX_MESSAGE, ReceivedMessage, TooLarge, Via, event_of, parse_message
from coafi.ledger.entry import Entry
from coafi.webhooks import github
from tests.coafi.federation.making import NOW
from tests.coafi.ledger.making import draft
from tests.starters.federation_support import update

TIME = "2026-11-23T20:03:29.123Z"
SPELLED = ["1e20", "-1e17", "5e16", "1e15", "9007199254740991", "9007199254740992.0", "1e21", "-0.0", "1e400", "NaN"]
leaves = st.none() | st.booleans() | st.text(max_size=5) | st.integers() | st.floats() | st.sampled_from(SPELLED)


def nested(levels: int, inner: str = "1") -> bytes:
    """An object with so many levels."""
    return b'{"x":' + b"[" * (levels - 1) + inner.encode() + b"]" * (levels - 1) + b"}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Objects of any depth near the limit, with numbers as nobody writes them."""
    leaf = draw(leaves)
    spelled = leaf if leaf in SPELLED else json.dumps(leaf)
    return nested(draw(st.integers(1, 4) | st.integers(MAX_DEPTH - 2, 260)), str(spelled))


def decoded(value: Any, kind: type) -> Any:
    """A value after it has gone through Temporal."""
    converter = pydantic_data_converter.payload_converter
    (read,) = converter.from_payloads(converter.to_payloads([value]), [kind])
    return read


@given(bodies())
def test_what_an_entrance_takes_can_be_read_wherever_it_is_carried(body: bytes) -> None:
    try:
        message = parse_message(update("m-1").headers().items(), body)
    except ValidationError:
        return
    assert stable_json(json.loads(message.body)) == message.body
    assert decoded(PeerMessage(message=message), PeerMessage).message == message
    received = ReceivedMessage(peer="a.example", via=Via.HTTPS, keyid="k", message=message)
    waiting = Waiting(event=event_of(received, body_digest="a" * 64, time=datetime.now(UTC)))
    deepest = PeerRun(peer="a.example", waiting=(waiting,), later=(waiting,))
    assert decoded(deepest, PeerRun) == deepest
    shelved = Shelved(waiting=(waiting,))
    assert Shelved.model_validate_json(shelved.model_dump_json()) == shelved
    recorded = draft(1, data={"event": waiting.event.model_dump(mode="json")}).body(TIME)
    Entry.parse(recorded).check_canonical(recorded)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 196, 240, 900, 30_000])
def test_what_is_nested_too_deeply_is_refused(levels: int) -> None:
    with pytest.raises(ValidationError, match=r"the body is (nested more than 100 levels deep|no JSON)"):
        json_object(nested(levels))
    with pytest.raises(ValidationError, match=r"the body is (nested more than 100 levels deep|not JSON)"):
        github.parse_body(nested(levels), "application/json")


def test_the_levels_are_counted_exactly() -> None:
    assert json_object(nested(MAX_DEPTH)) == github.parse_body(nested(MAX_DEPTH), "application/json")
    some: list[object] = [1, [], {}, [1], [[]], {"x": {}}]
    assert [is_deeper(value, 1) for value in some] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("number", ["1e20", "-1e20", "[1,1e17]", "9007199254740992.0"])
def test_a_number_that_is_written_as_one_that_nobody_may_read_is_refused(number: str) -> None:
    with pytest.raises(ValidationError, match="no canonical form"):
        json_object(nested(2, number))


def test_a_message_that_is_too_large_only_as_canonical_json_is_refused() -> None:
    body = nested(2, ",".join(["1e15"] * 6_000))
    assert len(body) < MAX_MESSAGE < len(canonical_json(json.loads(body)))
    with pytest.raises(TooLarge, match="as canonical JSON"):
        parse_message(update("m-1").model_copy(update={"time": NOW}).headers().items(), body)
