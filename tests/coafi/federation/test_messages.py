"""Messages between peers: their headers, and what they say."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import JsonObject, digest_of
from coafi.cloudevents import UnsupportedMediaType
from coafi.errors import ValidationError
from coafi.federation.messages import (
    SAID,
    AffectedEntity,
    CheckpointPublished,
    ComplianceFailure,
    DocumentPublished,
    LedgerPlace,
    Message,
    MessageType,
    RegistryEntryChanged,
    Said,
    SystemUpdateNotification,
    is_from,
    new_message,
    parse_message,
)
from coafi.registry.builtin import BuiltinSchemas, builtin_schemas
from coafi.utids import entry_utids
from tests.coafi.federation.making import NOW

DATA: JsonObject = {"span": 35.8}
PLACE = LedgerPlace(origin="a.example/log", index=7)
WHOLE: tuple[Said, ...] = (
    SystemUpdateNotification(
        component="portal", version="2.0", summary="Two hours off.", severity="warning", effective=NOW, url="https://a"
    ),
    RegistryEntryChanged(
        registry_id="AERO",
        entry_id="wing-12",
        version=4,
        status="Review",
        entry_class="Core",
        digest=digest_of(DATA),
        utids=entry_utids("AERO", "wing-12"),
        data=DATA,
        url="https://a.example/api/registry/entry?registryId=AERO",
        ledger_entry=PLACE,
    ),
    DocumentPublished(
        document_id="COAFI-ENG-0001-SPEC-A",
        version=12,
        kind="page",
        digest="a" * 64,
        media_type="text/html",
        utids=entry_utids("x", "y"),
        title="Wing – left",
        repository="https://github.com/acme/docs",
        path="docs/a.md",
        commit="c" * 40,
        ledger_entry=PLACE,
    ),
    ComplianceFailure(
        failure_id="f-1",
        rule="front-matter/required",
        severity="critical",
        entities=(AffectedEntity(kind="registry", id="AERO/wing-12"),),
        detected=NOW,
        message="no author",
    ),
    CheckpointPublished(origin="a.example/log", size=20, root="b" * 64, note="a.example/log\n20\nAAAA\n\n— a AAAA\n"),
)
BARE: tuple[Said, ...] = (
    SystemUpdateNotification(component="portal", version="2.0", summary="Two hours off.", restricted=True),
    WHOLE[1].model_copy(update={"restricted": True, "data": None, "url": None}),
    WHOLE[2].model_copy(update={"restricted": True, "title": None, "repository": None, "path": None}),
    WHOLE[3].model_copy(update={"restricted": True, "message": None, "digest": "d" * 64}),
)


def test_every_type_has_what_it_says_and_a_schema_that_nobody_can_publish_over() -> None:
    assert set(SAID) == set(MessageType)
    ids = {one.schema_id for one in builtin_schemas() if one.schema_id.startswith("FederatedMessage.")}
    assert ids == {f"FederatedMessage.{one}.v1" for one in MessageType}


@pytest.mark.parametrize("said", [*WHOLE, *BARE], ids=lambda one: type(one).__name__)
def test_what_we_say_fits_its_schema_and_comes_through(said: Said) -> None:
    message = new_message("a.example", "log.7", said, time=NOW, subject="AERO/wing-12", causationdepth=2)
    schema = BuiltinSchemas().find(message.schema_id)
    assert schema is not None
    assert message.dataschema == f"urn:coafi:schema:{schema.schema_id}:{schema.version}"
    assert schema.violations(message.data) == ()
    assert parse_message(message.headers().items(), message.body) == message
    assert message.name == type(said).__name__
    assert is_from(message, "a.example")
    assert not is_from(message, "b.example")


@pytest.mark.parametrize("said", WHOLE, ids=lambda one: type(one).__name__)
def test_the_schemas_name_the_members_of_the_models(said: Said) -> None:
    schema = BuiltinSchemas().find(f"FederatedMessage.{type(said).__name__}.v1")
    assert schema is not None
    fields = type(said).model_fields
    assert set(schema.document["properties"]) == {str(field.alias) for field in fields.values()}  # type: ignore[arg-type]  # JSON
    assert set(schema.document["required"]) == {  # type: ignore[arg-type]  # JSON
        str(field.alias) for field in fields.values() if field.is_required()
    }
    missing = {**said.model_dump(mode="json", by_alias=True, exclude_none=True)}
    del missing[next(iter(missing))]
    assert schema.violations(missing) != ()
    assert schema.violations({**missing, "unknown": 1}) != ()


@pytest.mark.parametrize(
    ("said", "name"), [(BARE[1], "data"), (BARE[2], "title"), (BARE[2], "path"), (BARE[3], "message")]
)
def test_what_is_restricted_cannot_be_sent_with_its_content(said: Said, name: str) -> None:
    schema = BuiltinSchemas().find(f"FederatedMessage.{type(said).__name__}.v1")
    assert schema is not None
    data = said.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert schema.violations(data) == ()
    assert schema.violations({**data, name: {} if name == "data" else "text"}) != ()


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.integers(-9, 9), max_size=5),
)
def test_whatever_is_said_comes_through(subject: str, data: JsonObject) -> None:
    message = Message(id="1", source="urn:coafi:peer:a", type="x", time=NOW, subject=subject, data=data)
    headers = message.headers()
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert parse_message(headers.items(), message.body) == message


GOOD = {
    "Content-Type": "application/json; charset=utf-8",
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "urn:coafi:peer:a",
    "ce-type": "coafi.federation.Whatever.v12",
}


def test_what_only_needs_be_there_is_enough_and_extensions_are_left_alone() -> None:
    message = parse_message({**GOOD, "ce-myextension": "x", "other": "y"}.items(), b" {} ")
    assert (message.name, message.schema_id) == ("Whatever", "FederatedMessage.Whatever.v12")
    assert message.time is None


@pytest.mark.parametrize(
    ("changes", "body", "match"),
    [
        ({"ce-specversion": "0.3"}, b"{}", "specversion"),
        ({"ce-id": ""}, b"{}", "ce-id"),
        ({"ce-id": "a/b"}, b"{}", "ce-id"),
        ({"ce-id": "x" * 129}, b"{}", "ce-id"),
        ({"ce-source": "a%00b"}, b"{}", "ce-source"),
        ({"ce-source": "a%ff"}, b"{}", "UTF-8"),
        ({"ce-source": "a%f"}, b"{}", "encodes nothing"),
        ({"ce-source": "ä"}, b"{}", "ASCII"),
        ({"ce-time": "yesterday"}, b"{}", "ce-time"),
        ({"ce-time": "2026-11-27T12:00:00"}, b"{}", "ce-time"),
        ({"ce-type": "a b"}, b"{}", "ce-type"),
        ({"ce-causationdepth": "-1"}, b"{}", "causationdepth"),
        ({"ce-causationdepth": "99999"}, b"{}", "causationdepth"),
        ({"ce-traceparent": "x"}, b"{}", "traceparent"),
        ({"ce-data": "{}"}, b"[]", "no JSON object"),
        ({}, b"", "no JSON"),
        ({}, b"\xff", "no JSON"),
        ({}, b'{"a":1,"a":2}', "twice"),
        ({}, b'{"a":NaN}', "canonical"),
        ({}, b'{"a":9007199254740993}', "canonical"),
        ({}, b'{"a":"\\ud800"}', "canonical"),
        ({}, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "no JSON|canonical"),
    ],
)
def test_what_is_no_message_is_refused(changes: dict[str, str], body: bytes, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        parse_message({**GOOD, **changes}.items(), body)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/cloudevents+json", "application/json+x"])
def test_other_media_types_are_named(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse_message({**GOOD, "Content-Type": media_type}.items(), b"{}")


@given(st.binary(max_size=200), st.text(max_size=50))
def test_any_bytes_are_a_message_or_refused(body: bytes, value: str) -> None:
    with contextlib.suppress(ValidationError):
        parse_message({**GOOD, "ce-subject": value}.items(), body)


def test_a_message_is_given_its_time() -> None:
    before = datetime.now(UTC)
    time = new_message("a.example", "1", WHOLE[0]).time
    assert time is not None
    assert time >= before
