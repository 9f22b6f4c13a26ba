from datetime import UTC, datetime

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.commits import MAX_SOURCE, MAX_TEXT, bounded, cut, source_of, submitted_commit
from coafi.errors import ValidationError
from coafi.events import Event, new_event
from coafi.names import EventType, parse_workflow_id
from coafi.utids import PATTERN, permanent_utids, temporary_utids

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOSTILE = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def submitted(**changes: str) -> Event:
    values = {"repository_url": "https://example.org/a.git", "commit": "a" * 40, "branch": "main", **changes}
    event, _ = submitted_commit(before=None, author="ada", principal="submit:ada", received=NOW, **values)
    return event


def test_what_is_submitted_twice_has_one_workflow_id() -> None:
    assert submitted().workflow_id == submitted().workflow_id
    assert submitted().workflow_id != submitted(again="x").workflow_id
    assert submitted().workflow_id != submitted(branch="other").workflow_id
    assert submitted().workflow_id != submitted(commit="b" * 40).workflow_id


def test_the_body_of_a_submission_is_its_payload_without_the_person() -> None:
    event, body = submitted_commit(
        repository_url="https://example.org/a",
        commit="a" * 40,
        before=None,
        branch="main",
        author="ada",
        principal="submit:ada",
        received=NOW,
    )
    assert body == canonical_json({name: value for name, value in event.data.items() if name != "author"})
    assert event.bodydigest == sha256(body)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://github.com/acme/docs.git", "https://github.com/acme/docs"),
        ("https://user:secret@github.com/acme/docs.git", "https://github.com/acme/docs"),
        ("https://exämple.org/x", "https://ex%C3%A4mple.org/x"),
        (None, "unknown"),
        (17, "unknown"),
        ("\n\t ", "unknown"),
    ],
)
def test_the_source_of_a_repository(url: object, source: str) -> None:
    assert source_of(url) == source  # type: ignore[arg-type]  # hostile on purpose


@given(st.dictionaries(st.text(), HOSTILE))
def test_any_payload_becomes_small_and_storable(fields: JsonObject) -> None:
    data = bounded(fields)
    for value in data.values():
        assert not isinstance(value, str) or len(value) <= 2 * MAX_TEXT + 3
        assert not isinstance(value, dict | list) or not value
        if isinstance(value, str):
            value.encode()


@given(st.text())
def test_any_url_makes_a_workflow_id_that_temporal_takes(url: str) -> None:
    source = source_of(url)
    event = new_event(
        event_type=EventType.GIT_COMMIT,
        source=source,
        delivery_id="d" * 128,
        time=NOW,
        body_digest="0" * 64,
        principal="p",
        data={},
    )
    assert len(source) <= MAX_SOURCE
    assert len(event.workflow_id) <= 1000
    assert parse_workflow_id(event.workflow_id).source == source


def test_credentials_in_a_url_are_blanked() -> None:
    assert bounded({"repositoryUrl": "https://user:secret@host/x"}) == {"repositoryUrl": "https://***@host/x"}


def test_a_long_text_is_cut() -> None:
    shortened = cut("x" * 10_000)
    assert isinstance(shortened, str)
    assert len(shortened) == MAX_TEXT
    assert cut("short") == "short"
    assert cut(5) == 5


def test_an_event_travels_unchanged() -> None:
    event = submitted()
    assert Event.model_validate_json(event.model_dump_json()) == event


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a\nb"},
        {"type": "Git"},
        {"causationdepth": 9},
        {"bodydigest": "xyz"},
        {"traceparent": "nonsense"},
        {"utids": "TBD"},
        {"surplus": 1},
        {"time": "2026-11-23T00:00:00"},
    ],
)
def test_a_malformed_envelope_is_refused(change: JsonObject) -> None:
    with pytest.raises(pydantic.ValidationError):
        Event.model_validate({**submitted().model_dump(mode="json"), **change})


def test_utids_are_derived_and_say_what_they_are() -> None:
    temporary = temporary_utids("git.commit", "s", "1", "0" * 64)
    permanent = permanent_utids("git.commit", "s", "1", "0" * 64)
    assert temporary.startswith("UTIDS-T-")
    assert permanent.startswith("UTIDS-P-")
    assert PATTERN.match(temporary)
    assert PATTERN.match(permanent)
    assert temporary == temporary_utids("git.commit", "s", "1", "0" * 64)
    assert temporary[8:] != permanent[8:]
    # Fixed for ever: receipts out there carry it.
    assert temporary == "UTIDS-T-1ABJSH46SF90PPVGHNS7B7J21S"


@pytest.mark.parametrize("value", [2**60, float("nan"), "\ud800"])
def test_what_has_no_canonical_form_is_refused_with_advice(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        canonical_json({"x": value})  # type: ignore[dict-item]  # hostile on purpose
    assert caught.value.remedy
