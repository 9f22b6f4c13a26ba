"""Which events a subscription matches, and what is wrong with a file of them."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coafi.bitt.event import BittEvent
from coafi.bitt.subscriptions import BUILT_IN, SubscriptionFile, Subscriptions, check_pattern, matches, parse
from coafi.compliance.findings import Weight
from coafi.errors import Unavailable, ValidationError
from coafi.names import EntryType

WORD = st.text("ABCab019._-", min_size=1, max_size=6).filter(lambda word: word[0] not in "._-")
TYPE = st.lists(WORD, min_size=1, max_size=5).map(":".join)


def told(event_type: str, **changes: object) -> BittEvent:
    values = {"timestamp": "2026-11-27T12:00:00Z", "source": "https://ledger.example.org", "details": {}, **changes}
    return BittEvent.model_validate({"event_type": event_type, "event_id": "1", **values})


def of(*wanted: dict[str, object]) -> Subscriptions:
    return parse(yaml.safe_dump(list(wanted)).encode(), Path("subscriptions.yaml"))


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("GAIA:COMPLIANCE:*", "GAIA:COMPLIANCE:FAILURE", True),
        ("GAIA:COMPLIANCE:*", "GAIA:COMPLIANCE", False),
        ("GAIA:COMPLIANCE:*", "GAIA:COMPLIANCE:FAILURE:LATE", False),
        ("GAIA:COMPLIANCE:**", "GAIA:COMPLIANCE:FAILURE:LATE", True),
        ("GAIA:COMPLIANCE:**", "GAIA:COMPLIANCE", False),
        ("GAIA:*:FAILURE", "GAIA:COMPLIANCE:FAILURE", True),
        ("GAIA:*:FAILURE", "GAIA:FAILURE", False),
        ("gaia:compliance:*", "GAIA:COMPLIANCE:FAILURE", False),
        ("**", "org.example.thing", True),
        ("*", "GAIA:COMPLIANCE", False),
        ("org.example.thing", "org.example.thing", True),
        ("org.example.thing", "orgXexampleXthing", False),
    ],
)
def test_a_pattern_is_compared_segment_by_segment(pattern: str, event_type: str, expected: bool) -> None:
    assert matches(pattern, event_type) is expected


@given(TYPE, st.data())
def test_a_type_matches_itself_with_any_segment_left_open_and_nothing_longer_or_shorter(
    event_type: str, data: st.DataObject
) -> None:
    segments = event_type.split(":")
    at = data.draw(st.integers(0, len(segments) - 1))
    opened = ":".join([*segments[:at], "*", *segments[at + 1 :]])
    for pattern in (event_type, opened, ":".join([*segments[:at], "**"])):
        check_pattern(pattern)
        assert matches(pattern, event_type)
    assert not matches(opened, f"{event_type}:more")
    assert not matches(f"{opened}:more", event_type)
    assert not matches(f"{event_type}:**", event_type)


@pytest.mark.parametrize("pattern", ["GAIA:FAIL*", "", "GAIA::X", "**:X", "GAIA:[AB]", ":GAIA", "COAFI:LEDGER:NO_SUCH"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^events: "):
        check_pattern(pattern)


def test_every_type_of_entry_can_be_subscribed_to() -> None:
    for entry_type in EntryType:
        check_pattern(f"COAFI:LEDGER:{entry_type}")
        assert of({"name": "x", "events": ["COAFI:LEDGER:*"], "notify": ["t"]}).wants_entries(entry_type)
        assert BUILT_IN.wants_entries(entry_type) is (entry_type is EntryType.PEER_SPLIT_VIEW)


def test_source_and_members_of_the_details_narrow_a_subscription() -> None:
    subscriptions = of(
        {
            "name": "x",
            "events": ["A:B"],
            "sources": ["https://ledger.*"],
            "where": {"severity": ["critical", "warning"], "data.n": [1], "data.flag": [True]},
            "notify": ["t"],
        }
    )
    good = {"severity": "warning", "data": {"n": 1, "flag": True}}
    assert subscriptions.asked(told("A:B", details=good)).names == ("x",)
    others: tuple[dict[str, object], ...] = (
        {"source": "https://other.example"},
        {"details": {**good, "severity": "info"}},
        {"details": {**good, "data": {"n": True, "flag": True}}},
        {"details": {**good, "data": {"n": 1, "flag": 1}}},
        {"details": {**good, "data": "1"}},
        {"details": {}},
    )
    for wrong in others:
        assert subscriptions.asked(told("A:B", **{"details": good, **wrong})).names == ()


def test_what_several_subscriptions_ask_for_is_put_together() -> None:
    subscriptions = of(
        {"name": "a", "events": ["A:*"], "open-findings": True, "severity": "info", "tell-peers": ["plant-b"]},
        {"name": "b", "events": ["A:B"], "open-findings": True, "severity": "critical", "tell-peers": ["plant-a"]},
        {"name": "c", "events": ["**"], "notify": ["t", "u"], "close-findings": True},
        {"name": "d", "events": ["A:C"], "open-findings": True, "tell-peers": "subscribed"},
    )
    asked = subscriptions.asked(told("A:B"))
    assert asked.names == ("a", "b", "c")
    assert (asked.severity, asked.peers, asked.topics) == (Weight.CRITICAL, ("plant-a", "plant-b"), frozenset("tu"))
    assert (asked.opens_findings, asked.closes_findings) == (True, False)
    assert subscriptions.asked(told("A:C")).peers == "subscribed"
    assert (subscriptions.asked(told("X")).peers, subscriptions.asked(told("X")).closes_findings) == ("none", True)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"name": "Bad Name", "events": ["A"], "notify": ["t"]}, "name"),
        ({"name": "x", "events": [], "notify": ["t"]}, "events"),
        ({"name": "x", "events": ["A*"], "notify": ["t"]}, "segment 1"),
        ({"name": "x", "events": ["A"]}, "asks for nothing"),
        ({"name": "x", "events": ["A"], "notify": ["Not A Topic"]}, "notify"),
        ({"name": "x", "events": ["A"], "notify": ["t"], "tell-peers": "subscribed"}, "tell-peers"),
        ({"name": "x", "events": ["A"], "open-findings": True, "close-findings": True}, "one of them"),
        ({"name": "x", "events": ["A"], "open_findings": True}, "open_findings"),
        ({"name": "x", "events": ["A"], "open-findings": True, "severity": "bad"}, "severity"),
        ({"name": "x", "events": ["A"], "notify": ["t"], "where": {"a": []}}, "where"),
        ("x", "subscription 1"),
    ],
)
def test_what_is_wrong_with_a_subscription_is_named(wanted: object, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse(yaml.safe_dump([wanted]).encode(), Path("subscriptions.yaml"))
    assert said in error.value.message
    assert "subscription 1" in error.value.message


def test_every_wrong_subscription_is_named_at_once() -> None:
    with pytest.raises(ValidationError, match=r"subscription 1 \(a\).*subscription 3 \(a\): name: another"):
        of(
            {"name": "a", "events": ["A*"], "notify": ["t"]},
            {"name": "a", "events": ["A"], "notify": ["t"]},
            {"name": "a", "events": ["A"], "notify": ["t"]},
        )


@pytest.mark.parametrize("content", [b"{}", b"- [", b"\xff", b"x", b"[" * 1_000])
def test_what_is_no_list_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError, match="the file of subscriptions"):
        parse(content, Path("subscriptions.yaml"))


@given(st.binary(max_size=200))
def test_no_file_makes_it_stumble(content: bytes) -> None:
    with contextlib.suppress(ValidationError):
        parse(content, Path("subscriptions.yaml"))


def test_a_file_counts_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions.yaml"
    file = SubscriptionFile(path)
    with pytest.raises(ValidationError, match="there is no file"):
        file.load()
    with pytest.raises(Unavailable):
        file.current()
    path.write_text("- {name: a, events: [A], notify: [t]}\n")
    assert [one.name for one in file.load().all] == ["a"]
    path.write_text("- {name: bb, events: [A], notify: [t]}\n")
    assert [one.name for one in file.current().all] == ["bb"]
    path.write_text("- {name: bb, events: [A*], notify: [t]}\n")
    with pytest.raises(Unavailable, match="segment 1"):
        file.current()
    assert SubscriptionFile(None).current() is BUILT_IN
