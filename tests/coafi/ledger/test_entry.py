import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from coafi.canonical import JsonObject
from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.entry import MAX_BODY, MAX_DATA_DEPTH, Draft, Entry, Recorded, entry_key, timestamp
from tests.coafi.ledger.making import draft

TIME = "2026-11-23T20:03:29.123Z"
PART = st.text(st.characters(codec="utf-8"), max_size=8)


def test_a_body_reads_back_as_the_entry_that_was_drafted() -> None:
    made = draft(7, data={"path": "docs/ü.md", "findings": 0})
    entry = Entry.parse(made.body(TIME))
    assert (entry.version, entry.type, entry.time) == (1, "FILE_PROCESSED", TIME)
    assert (entry.key, entry.request) == (made.key, made.request_digest)
    assert (entry.event_id, entry.utids) == ("e1", "utids:test:1")
    assert (entry.namespace, entry.workflow_id, entry.step) == (made.namespace, made.workflow_id, made.step)
    assert entry.data == {"path": "docs/ü.md", "findings": 0}
    entry.check_key()


def test_a_body_is_canonical_json_under_wire_names() -> None:
    made = draft(1, data={"b": 1, "a": [True, None]})
    body = made.body(TIME)
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    assert set(json.loads(body)) == {
        *("version", "type", "time", "key", "request", "event"),
        *("utids", "namespace", "workflow", "step", "data"),
    }


@given(PART, PART, PART, PART, PART)
def test_a_body_is_what_the_canonicaliser_makes_of_all_of_it(
    namespace: str, workflow: str, step: str, event: str, utids: str
) -> None:
    made = replace(
        draft(1, data={"é\U0001f600": 1.5, "\ue000": utids}),
        namespace=namespace, workflow_id=workflow, step=step, event_id=event, utids=utids,
    )  # fmt: skip
    body = made.body(TIME)
    assert body == rfc8785.dumps(json.loads(body))
    entry = Entry.parse(body)
    assert (entry.namespace, entry.workflow_id, entry.step) == (namespace, workflow, step)
    assert (entry.event_id, entry.utids) == (event, utids)
    entry.check_key()


@pytest.mark.parametrize("made", [draft(1, event="\ud800"), replace(draft(1), utids="\ud800")])
def test_text_that_is_no_unicode_is_refused(made: Draft) -> None:
    with pytest.raises(ValidationError, match=r"FILE_PROCESSED of step .* has no canonical form"):
        made.body(TIME)


def test_the_key_is_the_digest_of_its_four_parts() -> None:
    expected = hashlib.sha256(b'["default","w","s","FILE_PROCESSED"]').hexdigest()
    assert entry_key("default", "w", "s", "FILE_PROCESSED") == expected


@given(st.tuples(PART, PART, PART, PART), st.tuples(PART, PART, PART, PART))
def test_different_parts_never_share_a_key(one: tuple[str, str, str, str], other: tuple[str, str, str, str]) -> None:
    assert (entry_key(*one) == entry_key(*other)) == (one == other)


def test_parts_cannot_be_shifted_into_one_another() -> None:
    assert entry_key("a", "b", "c", "d") != entry_key("a", 'b","c', "", "d")
    assert entry_key("ab", "c", "", "") != entry_key("a", "bc", "", "")


def test_the_request_digest_sees_the_inputs_only() -> None:
    one, other = draft(1, data={"result": 1}), draft(1, data={"result": 2})
    assert one.request_digest == other.request_digest
    assert one.request_digest != draft(1, inputs={"step": 2}).request_digest


def test_a_body_may_have_65535_bytes_and_not_one_more() -> None:
    room = MAX_BODY - len(draft("x", data={"x": ""}).body(TIME))
    assert len(draft("x", data={"x": "a" * room}).body(TIME)) == MAX_BODY
    with pytest.raises(ValidationError, match=r"FILE_PROCESSED of step 'files.process/x' .*65,536 bytes.*object store"):
        draft("x", data={"x": "a" * (room + 1)}).body(TIME)


@pytest.mark.parametrize("value", [2**53, float("nan"), "\ud800"])
def test_what_has_no_canonical_form_is_refused_and_its_step_named(value: float | str) -> None:
    with pytest.raises(ValidationError, match=r"data of the entry FILE_PROCESSED of step 'files\.process/1'"):
        draft(1, data={"x": value}).body(TIME)
    with pytest.raises(ValidationError, match="inputs of the entry"):
        _ = draft(1, inputs={"x": value}).request_digest


@pytest.mark.parametrize("value", [1e20, -1e20, 5e16, [1, 2.0**53]])
def test_a_number_whose_canonical_form_nobody_may_read_is_refused(value: JsonValue) -> None:
    with pytest.raises(ValidationError, match=r"data of the entry .*no canonical form"):
        draft(1, data={"x": value}).body(TIME)


@pytest.mark.parametrize("value", [2**53 - 1, 1e15, 1e21, 0.1234567890123456789, "1" * 64, -0.0])
def test_a_long_number_that_everybody_reads_alike_is_recorded(value: JsonValue) -> None:
    body = draft(1, data={"x": value}).body(TIME)
    Entry.parse(body).check_canonical(body)


def test_data_may_have_so_many_levels_that_they_can_be_read_back() -> None:
    data: JsonObject = {}
    for _ in range(MAX_DATA_DEPTH - 1):
        data = {"x": data}
    body = draft(1, data=data).body(TIME)
    Entry.parse(body).check_canonical(body)
    with pytest.raises(ValidationError, match=r"data of the entry .* levels deep"):
        draft(1, data={"x": data}).body(TIME)


def test_times_are_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 23, 22, 3, 29, 123999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-11-23T20:03:29.123Z"
    assert timestamp(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"


@given(st.binary(max_size=200))
def test_garbage_is_no_entry(garbage: bytes) -> None:
    with pytest.raises(ValidationError, match="not a ledger entry"):
        Entry.parse(garbage)


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 2), ("time", "2026-11-23"), ("type", "lower"), ("key", "x"), ("request", None), ("more", 1)],
)
def test_an_entry_of_another_form_is_refused_by_the_name_of_the_field(field: str, value: object) -> None:
    body = {**json.loads(draft(1).body(TIME)), field: value}
    with pytest.raises(ValidationError, match=field):
        Entry.parse(json.dumps(body).encode())


def test_an_endless_body_is_refused_unread() -> None:
    with pytest.raises(ValidationError, match="too long"):
        Entry.parse(b"[" * (MAX_BODY + 1))


def test_a_key_of_other_parts_is_found() -> None:
    body = json.loads(draft(1).body(TIME))
    forged = Entry.parse(json.dumps({**body, "step": "files.process/2"}).encode())
    with pytest.raises(IntegrityError, match="another's key"):
        forged.check_key()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"event":', b'"event":"other","event":'),
        (b'"n":7', b'"n":8,"n":7'),
        (b'"n":7', b'"n":7.0'),
        (b'"n":7', b'"n":9007199254740993'),
        (b'"n":7', b'"n": 7'),
        (b'"n":7', b'"n":-0'),
        (b'"n":7', b'"n":1e400'),
        (b'"n":7,"o":8', b'"o":8,"n":7'),
        ('"\U0001f600":1,"\ufb33":2'.encode(), '"\ufb33":2,"\U0001f600":1'.encode()),
        ("ä".encode(), b"\\u00e4"),
        (b"}", b"}\n"),
    ],
    ids=range(11),
)
def test_bytes_that_others_could_read_otherwise_are_found(old: bytes, new: bytes) -> None:
    body = draft(1, data={"n": 7, "o": 8, "\U0001f600": 1, "\ufb33": 2, "t": "ä"}).body(TIME)
    Entry.parse(body).check_canonical(body)
    assert old in body
    changed = new.join(body.rsplit(old, 1))
    with pytest.raises((IntegrityError, ValidationError), match=r"canonical|not a ledger entry"):
        Entry.parse(changed).check_canonical(changed)


def test_a_recorded_entry_gives_its_data() -> None:
    assert Recorded(3, draft(1, data={"n": 1}).body(TIME)).data == {"n": 1}
