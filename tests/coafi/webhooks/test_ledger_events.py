"""CloudEvents from outside: whatever is in them, they are taken or refused."""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from coafi.bitt.event import BittEvent
from coafi.canonical import JsonObject
from coafi.compliance.entities import Entity, EntityKind, entity_of
from coafi.errors import AuthorizationError, ValidationError
from coafi.utids import entry_utids
from coafi.webhooks.ledger_events import SourceKey, event_of, verified_by
from tests.starters.ledger_events import OTHER_SECRET, SECRET, SOURCE, failure, signed

ANYBODY = (SourceKey("*", (SecretStr(SECRET),), "anybody"),)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
ATTRIBUTES = st.sampled_from(
    [*failure(), "causationid", "causationdepth", "traceparent", "datacontenttype", "data_base64"]
)


def event(body: bytes) -> object:
    return event_of(body, ANYBODY, received=datetime.now(UTC), own_source="bitt:here", max_depth=8)


@given(st.dictionaries(ATTRIBUTES, JSON, max_size=5))
def test_whatever_an_attribute_is_it_is_taken_or_refused(changes: JsonObject) -> None:
    body = json.dumps({**failure("1"), **changes}).encode()
    with contextlib.suppress(ValidationError, AuthorizationError):
        event(body)


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_they_are_taken_or_refused(body: bytes) -> None:
    with pytest.raises(ValidationError):
        event(body)


@given(st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(max_size=30)))
def test_whatever_the_headers_are_nobody_gets_in(changes: dict[str, str]) -> None:
    body = b"{}"
    headers = {name.lower(): value for name, value in signed(body, OTHER_SECRET).items()}
    with pytest.raises(AuthorizationError):
        verified_by(body, {**headers, **changes}, ANYBODY)


def test_who_signed_is_who_vouches() -> None:
    body = json.dumps(failure("1")).encode()
    keys = (
        SourceKey("https://other/*", (SecretStr(SECRET),), "other"),
        SourceKey("https://ledger.example.org/*", (SecretStr(OTHER_SECRET), SecretStr(SECRET)), "ledger"),
    )
    headers = {name.lower(): value for name, value in signed(body).items()}
    signers = verified_by(body, headers, keys)
    assert [one.principal for one in signers] == ["other", "ledger"]
    made = event_of(body, signers, received=datetime.now(UTC), own_source="bitt:here", max_depth=8)
    assert (made.principal, made.source, made.id) == ("ledger", SOURCE, "1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AERO/wing-12", Entity(kind=EntityKind.REGISTRY, id="AERO/wing-12")),
        ("AERO/", Entity(kind=EntityKind.DOCUMENT, id="AERO/")),
        ("NOWHERE/x", Entity(kind=EntityKind.DOCUMENT, id="NOWHERE/x")),
        (entry_utids("AERO", "x"), Entity(kind=EntityKind.UTIDS, id=entry_utids("AERO", "x"))),
        ("CIVIL-AV-42-003-v1p0-FR001", Entity(kind=EntityKind.DOCUMENT, id="CIVIL-AV-42-003-v1p0-FR001")),
        ({"id": "AERO/x", "kind": "document"}, Entity(kind=EntityKind.DOCUMENT, id="AERO/x")),
        ({"id": "AERO/x", "kind": "odd"}, Entity(kind=EntityKind.REGISTRY, id="AERO/x")),
        ({"kind": "document"}, None),
        ({"id": {"id": "AERO/x"}}, None),
        ("", None),
        ("x" * 401, None),
        (7, None),
    ],
)
def test_an_entity_is_known_by_what_its_id_looks_like(value: object, expected: Entity | None) -> None:
    assert entity_of(value) == expected  # type: ignore[arg-type]  # not all of it is JSON


def test_entities_are_named_once() -> None:
    details: JsonObject = {"affectedEntities": ["AERO/x", {"id": "AERO/x"}, "", "AERO/y"]}
    told = BittEvent(event_type="A:B", event_id="1", timestamp="t", source="s", details=details)
    assert [one.id for one in told.entities] == ["AERO/x", "AERO/y"]
    assert (told.rule, told.reason) == ("A:B", "A:B of s")
