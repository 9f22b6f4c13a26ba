"""Messages after Standard Webhooks."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from coafi.bitt.event import BittEvent
from coafi.canonical import JsonObject, canonical_json, digest_of
from coafi.events import EventRef
from coafi.notify.message import (
    LONGEST_WAIT,
    MAX_DETAILS,
    EntryChange,
    EntryNotice,
    EventNotice,
    EventReport,
    Notification,
    headers,
    seconds_of,
)
from coafi.ranges import Range
from coafi.webhooks.ledger_events import SourceKey, check_media_type, event_of, verified_by

KEY = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def notification(**changes: object) -> Notification:
    values = {
        "subscriber": "portal",
        "time": "2026-11-24T00:00:00.000Z",
        "repository": "https://github.com/acme/docs",
        "branch": "main",
        "commit": "a" * 40,
        "generation": 3,
        "verdicts": {"valid": 2},
        "index_url": "https://docs.example.org/docs/github.com~acme~docs/main/",
        "commits": ("a" * 40,),
        "commit_count": 1,
        "entry": 7,
    }
    return Notification.model_validate({**values, **changes})


def test_the_published_example_gives_the_published_signature() -> None:
    moment = datetime.fromtimestamp(1614265330, UTC)
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', KEY, moment)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert made["webhook-timestamp"] == "1614265330"


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_whatever_a_message_says_the_library_verifies_it_and_nothing_else(branch: str) -> None:
    one = notification(branch=branch)
    body = one.body()
    made = headers(one.message_id, body, KEY, datetime.now(UTC))
    webhook = Webhook(KEY.get_secret_value())
    assert webhook.verify(body, made)["data"]["branch"] == branch
    with pytest.raises(WebhookVerificationError):
        webhook.verify(body + b" ", made)
    assert notification(branch=branch).message_id == one.message_id
    assert notification(branch=branch, generation=4).message_id != one.message_id


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999", LONGEST_WAIT),
        ("soon", None),
        ("-5", None),
        (format_datetime(NOW + timedelta(seconds=90)), 90.0),
        (format_datetime(NOW - timedelta(seconds=90)), 0.0),
        (format_datetime(NOW + timedelta(days=90)), LONGEST_WAIT),
        ("Tue, 24 Nov 2026 00:00:30", 30.0),
        ("9" * 400, LONGEST_WAIT),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
        ("Mon, 01 Jan 2026 00:00:00 +" + "9" * 40, None),
    ],
)
def test_what_a_subscriber_asks_us_to_wait_is_understood_and_bounded(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, NOW) == seconds


NUMBERS = st.integers().map(str) | st.text("0123456789", min_size=1, max_size=400)


@given(
    header=st.text()
    | NUMBERS
    | st.builds("Mon, 01 Jan {} {}:00:00 {}{}".format, NUMBERS, NUMBERS, st.sampled_from("+-"), NUMBERS)
)
def test_no_header_asks_for_a_wait_without_bounds(header: str) -> None:
    seconds = seconds_of(header, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT


def notice(subscriber: str = "portal", **changes: object) -> EntryNotice:
    change = {
        "registry_id": "AERO",
        "entry_id": "wing",
        "version": 3,
        "status": "Review",
        "entry_class": "Core",
        "digest": "d" * 64,
        "by": "key:ci",
        "ledger_entry": 7,
        "workflow_id": "api.request:urn:coafi:api:key%3Aci:k1",
        "entry_url": "https://docs.example.org/api/registry/entry?registryId=AERO&entryId=wing&version=3",
    }
    made = EntryChange.model_validate({**change, **changes})
    return EntryNotice(subscriber=subscriber, time="2026-11-24T00:00:00.000Z", change=made)


def test_each_change_is_another_message_to_each_subscriber_and_the_same_with_every_try() -> None:
    others = [
        notice("other"),
        notice(registry_id="SPACE"),
        notice(entry_id="tail"),
        notice(version=4),
        notice(workflow_id="another"),
    ]
    assert len({one.message_id for one in [notice(), *others]}) == 6
    assert (notice().message_id, notice().body()) == (notice().message_id, notice().body())
    assert notice().message_id.startswith("msg_")


def test_the_id_of_a_message_about_an_index_stays_what_it_was() -> None:
    assert notification().message_id == "msg_ad433308ea23565195761fa7d4eb9bcb"


def event_notice(**changes: object) -> EventNotice:
    """A message about an event of a ledger."""
    told = BittEvent(
        event_type="GAIA:COMPLIANCE:FAILURE",
        event_id="7f3c",
        timestamp="2026-11-27T12:00:00Z",
        source="https://ledger.example.org/bitt",
        details={"affectedEntities": ["AERO/wing-12"]},
    ).model_copy(update=changes)
    event = EventRef(id="7f3c", source=told.source, type="bitt.event", bodydigest="0" * 64, utids="UTIDS-P-1")
    entries = (Range(first=7, last=8),)
    report = EventReport.of(told, event, source="bitt:here/default", depth=1, entries=entries)
    return EventNotice(subscriber="portal", time=report.time, report=report)


def test_a_message_about_an_event_is_a_cloud_event_that_another_instance_takes() -> None:
    one = event_notice()
    body = one.body()
    made = headers(one.message_id, body, KEY, datetime.now(UTC), one.content_type)
    check_media_type(made["Content-Type"])
    key = SourceKey("bitt:here/*", (KEY,), "events-webhook:here")
    signers = verified_by(body, made, [key])
    event = event_of(body, signers, received=NOW, own_source="bitt:there/default", max_depth=8)
    assert (event.id, event.source) == (one.message_id, "bitt:here/default")
    assert (event.causationid, event.causationdepth) == (one.report.workflow_id, 1)
    payload = BittEvent.model_validate(event.data)
    assert (payload.event_type, [str(entity) for entity in payload.entities]) == (one.type, ["AERO/wing-12"])
    assert Webhook(KEY.get_secret_value()).verify(body, made)["data"] == one.report.details


def test_of_large_details_a_message_holds_the_digest() -> None:
    details: JsonObject = {"text": "x" * (MAX_DETAILS + 1)}
    one = event_notice(details=details)
    assert one.data() == {"digest": digest_of(details), "size": len(canonical_json(details))}
    assert event_notice(details={"text": "x" * (MAX_DETAILS - 20)}).data()["text"]
    assert event_notice().message_id != EventNotice(**{**dict(event_notice()), "subscriber": "other"}).message_id
