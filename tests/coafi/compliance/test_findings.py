"""Findings on entities: opened and closed once, in the transaction of their entries, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.canonical import sha256
from coafi.compliance.entities import Entity, EntityKind
from coafi.compliance.findings import (
    EntityFinding,
    FindingQuery,
    FindingReader,
    Findings,
    NewFinding,
    Origin,
    Weight,
)
from coafi.database import Database
from coafi.errors import ResourceNotFoundError
from coafi.events import EventRef
from coafi.ledger.log import Ledger
from coafi.names import FINDING_CHANGES, EntryType
from coafi.recording import Decision, EventRecorder
from coafi.registry.store import PublishedSchemas
from coafi.utids import naming_utids
from tests.coafi.ledger.making import opened
from tests.postgresql import where

ADA = Decision(by="ada", reason="it was assessed")


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    with opened(place) as made:
        yield made


@pytest.fixture
def database(place: Path, ledger: Ledger) -> Iterator[Database]:
    made = Database(where(place))
    yield made
    made.close()


@pytest.fixture
def findings(ledger: Ledger, database: Database) -> Findings:
    recorder = EventRecorder(ledger=ledger, registry=PublishedSchemas(database), namespace="default", build="1")
    return Findings(recorder)


def origin(number: int = 1, *, source: str = "https://ledger.example.org") -> Origin:
    name = f"e-{number}"
    event = EventRef(
        id=name, source=source, type="bitt.event", bodydigest=sha256(name.encode()), utids=naming_utids({"e": number})
    )
    return Origin(event=event, source=source, depth=2, peers=("plant-b",))


def found(entity: str, rule: str = "CHECK-7", message: str = "no assessment") -> NewFinding:
    return NewFinding(
        entity=Entity(kind=EntityKind.REGISTRY, id=entity),
        rule=rule,
        severity=Weight.CRITICAL,
        message=message,
        detected="2026-11-27T12:00:00Z",
    )


def listed(database: Database, **asked: object) -> list[EntityFinding]:
    return FindingReader(database).find(FindingQuery.model_validate(asked))


def test_findings_are_opened_with_their_entries_and_only_once(
    findings: Findings, database: Database, ledger: Ledger
) -> None:
    wanted = [found("AERO/a"), found("AERO/b"), found("AERO/a"), found("AERO/a", "CHECK-8")]
    first = findings.open(origin(), wanted)
    assert len(first.ids) == 3
    assert findings.open(origin(), wanted) == first
    assert ledger.size() == 3
    for one in listed(database):
        entry = ledger.entry(one.opened_entry)
        assert entry.entry.type == EntryType.COMPLIANCE_FINDING_OPENED
        assert entry.data["findingId"] == one.id
        assert entry.data["entity"] == {"kind": "registry", "id": one.entity}
        assert (entry.data["peers"], entry.data["causationDepth"]) == (["plant-b"], 2)
        assert (one.opened, one.workflow_id) == (entry.entry.time, origin().event.workflow_id)
    # What was recorded first counts, also when a retry says it in other words.
    again = findings.open(origin(), [found("AERO/a", message="other words")])
    assert again.ids == first.ids[:1]
    assert {one.message for one in listed(database)} == {"no assessment"}


def test_the_same_of_another_event_opens_nothing_while_it_is_open(findings: Findings, database: Database) -> None:
    findings.open(origin(1), [found("AERO/a")])
    other = findings.open(origin(2), [found("AERO/a"), found("AERO/b")])
    assert (len(other.ids), other.known) == (1, 1)
    elsewhere = findings.open(origin(1, source="https://other.example"), [found("AERO/a")])
    assert (len(elsewhere.ids), elsewhere.known) == (1, 0)  # another source is another opinion
    (one,) = [one for one in listed(database, entity="AERO/a") if one.source == "https://ledger.example.org"]
    assert findings.close(one, ADA).ids == (one.id,)
    assert findings.open(origin(1), [found("AERO/a")]).known == 0  # its own event again: it stays closed
    (after,) = [each for each in listed(database, closed=True, entity="AERO/a") if each.id == one.id]
    assert (after.closed_by, after.reason) == ("ada", "it was assessed")
    assert len(findings.open(origin(3), [found("AERO/a")]).ids) == 1


def test_a_finding_is_closed_once_and_by_whoever_was_first(
    findings: Findings, database: Database, ledger: Ledger
) -> None:
    findings.open(origin(), [found("AERO/a")])
    (one,) = listed(database)
    closed = findings.close(one, ADA)
    assert findings.close(one, Decision(by="bob", reason="me too")).ids == ()
    assert listed(database) == []
    (after,) = listed(database, closed=True)
    assert after.closed_by == "ada"
    entry = ledger.entry(closed.entries[0].first)
    assert (entry.index, entry.entry.type) == (after.closed_entry, "COMPLIANCE_FINDING_CLOSED")
    assert (entry.entry.workflow_id, entry.data["reason"]) == (FINDING_CHANGES, "it was assessed")
    assert ledger.size() == 2


def test_an_event_closes_what_its_source_has_opened_and_gives_the_same_answer_again(
    findings: Findings, database: Database, ledger: Ledger
) -> None:
    findings.open(origin(1), [found("AERO/a"), found("AERO/b"), found("AERO/a", "CHECK-8")])
    findings.open(origin(1, source="https://other.example"), [found("AERO/a")])
    entities = [Entity(kind=EntityKind.REGISTRY, id="AERO/a")]

    def close() -> object:
        return ledger.transact(lambda transaction: findings.close_in(transaction, origin(2), "CHECK-7", entities))

    first = close()
    assert close() == first
    assert sorted((one.entity, one.rule, one.source[8:13]) for one in listed(database)) == [
        ("AERO/a", "CHECK-7", "other"),
        ("AERO/a", "CHECK-8", "ledge"),
        ("AERO/b", "CHECK-7", "ledge"),
    ]
    assert ledger.size() == 5


def test_what_is_undone_leaves_neither_row_nor_entry(findings: Findings, database: Database, ledger: Ledger) -> None:
    def unit(transaction: object) -> None:
        findings.open_in(transaction, origin(), [found("AERO/a")])  # type: ignore[arg-type]  # whatever it is
        raise RuntimeError("crash before the commit")

    with pytest.raises(RuntimeError):
        ledger.transact(unit)
    assert (ledger.size(), listed(database)) == (0, [])


def test_findings_are_found_by_page_entity_and_the_beginning_of_their_id(
    findings: Findings, database: Database
) -> None:
    for number in range(5):
        findings.open(origin(number), [found(f"AERO/{number}")])
    page = listed(database, limit=2)
    assert [one.entity for one in page] == ["AERO/4", "AERO/3"]
    rest = listed(database, before=page[-1].opened_entry)
    assert [one.entity for one in rest] == ["AERO/2", "AERO/1", "AERO/0"]
    reader = FindingReader(database)
    assert reader.get(page[0].id[:20]) == page[0]
    for name in ("", "%", "nothing"):
        with pytest.raises(ResourceNotFoundError):
            reader.get(name)


def test_what_no_database_takes_as_text_is_escaped(findings: Findings, database: Database) -> None:
    odd = findings.open(origin(), [found("AERO/\0", message="a \0 b")])
    assert findings.open(origin(), [found("AERO/\0", message="a \0 b")]) == odd
    assert findings.open(origin(2), [found("AERO/\0")]).known == 1
    (one,) = listed(database)
    assert one.message == "a \\x00 b"
