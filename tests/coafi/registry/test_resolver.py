"""From a UTidS to what it names."""

from datetime import UTC, datetime
from typing import Any

import pytest

from coafi.canonical import JsonObject
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.events import Event, new_event
from coafi.names import EventType, Phase
from coafi.recording import Conclusion, EventRecorder, Failure, Range
from coafi.registry.entry import EntryUpdate
from coafi.registry.resolver import Resolver
from tests.coafi.registry.making import Registers

PAYLOAD: JsonObject = {
    "repositoryUrl": "https://git.example/acme/docs",
    "commitSha": "a" * 40,
    "branch": "main",
    "author": "ada",
}


def event(delivery: str = "d1", data: JsonObject | None = None) -> Event:
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://git.example/acme/docs",
        delivery_id=delivery,
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest="0" * 64,
        principal="github-webhook",
        data=PAYLOAD if data is None else data,
    )


@pytest.fixture
def recorder(books: Registers) -> EventRecorder:
    return EventRecorder(ledger=books.ledger, registry=books.schemas, namespace="default", build="1")


@pytest.fixture
def resolver(books: Registers) -> Resolver:
    return Resolver(books.database, books.ledger, "default")


def test_both_ids_of_an_event_lead_to_it(recorder: EventRecorder, resolver: Resolver) -> None:
    books_before = recorder.ledger.size()
    received = recorder.receive(event(), "run1")
    found = resolver.resolve(event().utids)
    assert found.utids == event().utids
    assert found.permanent == received.utids != event().utids
    assert found.model_copy(update={"utids": received.utids}) == resolver.resolve(received.utids)
    assert (found.kind, found.status, found.complete) == ("event", "open", False)
    assert found.names == {
        "type": "git.commit",
        "source": "https://git.example/acme/docs",
        "id": "d1",
        "subject": f"https://git.example/acme/docs main {'a' * 12}",
    }
    assert (found.origin.principal, found.origin.body_digest) == ("github-webhook", "0" * 64)
    assert (found.origin.workflow_id, found.origin.source) == (event().workflow_id, event().source)
    assert found.entries == (Range(first=books_before, last=books_before),)


def test_the_last_entry_of_an_event_leads_to_those_before_it(recorder: EventRecorder, resolver: Resolver) -> None:
    received = recorder.receive(event(), "run1")
    recorder.receive(event("other"), "run2")
    ref = event().ref(received.utids)
    parked = recorder.park(ref, Failure(step="git.fetch", sequence=1, error="Unavailable", message="gone"))
    assert resolver.resolve(received.utids).entries == (Range(first=0, last=0), Range(first=2, last=2))
    concluded = recorder.conclude(ref, Conclusion(phase=Phase.PROCESSED, entries=(*received.entries, parked)))
    found = resolver.resolve(received.utids)
    assert (found.status, found.complete, concluded.entry) == ("PROCESSED", True, 3)
    assert found.entries == (Range(first=0, last=0), Range(first=2, last=3))


def test_a_rejected_event_has_no_permanent_id(recorder: EventRecorder, resolver: Resolver) -> None:
    received = recorder.receive(event(data={**PAYLOAD, "commitSha": "none"}), "run1")
    found = resolver.resolve(event(data={**PAYLOAD, "commitSha": "none"}).utids)
    assert (found.permanent, found.status, found.complete) == (None, "REJECTED", True)
    assert found.entries == received.entries == (Range(first=0, last=1),)


def test_an_entry_leads_to_the_request_that_made_it_and_to_all_its_versions(
    books: Registers, recorder: EventRecorder, resolver: Resolver
) -> None:
    recorder.receive(event(), "run1")
    made = books.put("wing", {"n": 1}, run=event().workflow_id)
    books.put("tail", {})
    books.move("wing", "Review")
    found = resolver.resolve(made.utids)
    assert (found.kind, found.permanent, found.status) == ("entry", made.utids, "Review")
    assert found.names == {"registryId": "AERO", "entryId": "wing", "version": 2}
    assert (found.origin.principal, found.origin.body_digest) == ("key:ci", "0" * 64)
    assert (found.origin.workflow_id, found.origin.source) == (event().workflow_id, event().source)
    assert found.entries == (Range(first=1, last=1), Range(first=3, last=3))


@pytest.mark.parametrize("names", ["wing 12", {"part": "wing", "serial": "12"}])
def test_what_was_given_a_name_is_named(books: Registers, resolver: Resolver, names: Any) -> None:
    made = books.change(EntryUpdate.parse({"registryId": "UTIDS", "data": {"names": names}}))
    found = resolver.resolve(made.entry_id)
    assert found.names == {"registryId": "UTIDS", "entryId": made.entry_id, "version": 1, "names": names}
    assert (found.origin.workflow_id, found.origin.body_digest) == (made.workflow_id, None)


def test_a_schema_of_the_package_comes_from_nobodys_request(books: Registers, resolver: Resolver) -> None:
    found = resolver.resolve(books.get("frontmatter.general", "schemas").utids)
    assert found.names["entryId"] == "frontmatter.general"
    assert (found.origin.principal, found.origin.workflow_id, found.entries) == ("coafi", None, ())


@pytest.mark.parametrize("name", ["", "wing", "UTIDS-P-1", "utids-p-" + "0" * 26, "UTIDS-P-" + "0" * 26 + "\n", "\0"])
def test_what_is_no_utids_is_refused(books: Registers, resolver: Resolver, name: str) -> None:
    with pytest.raises(ValidationError, match="no UTidS"):
        resolver.resolve(name)


def test_an_id_that_names_nothing_here_is_not_found(resolver: Resolver) -> None:
    with pytest.raises(ResourceNotFoundError, match="names nothing here"):
        resolver.resolve("UTIDS-P-" + "0" * 26)
