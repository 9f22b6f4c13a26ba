"""Findings on entities: opened by what a ledger or a peer reports, closed by the same or by a person.

A finding is opened and closed in the transaction of its ledger entry. Both may be repeated: a finding's id derives from
the event that opened it, its rule and its entity, and what is closed stays so. While a finding is open, other events
that report the same of the same entity open no second one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import Column, Connection, Index, Row, Select, Table, select, update

from coafi.canonical import JsonObject, canonical_json
from coafi.compliance.entities import Entity, EntityKind
from coafi.database import Database, big_integer, metadata, storable, text
from coafi.database.statements import insert_missing
from coafi.errors import ResourceNotFoundError
from coafi.events import EventRef, Wire
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.port import LedgerTransaction
from coafi.names import FINDING_CHANGES, EntryType
from coafi.ranges import Range, ranges_of
from coafi.recording import Decision, EventRecorder
from coafi.utids import naming_utids

entity_finding = Table(
    "entity_finding",
    metadata,
    Column("id", text(32), primary_key=True),
    Column("kind", text(20), nullable=False),
    Column("entity", text(400), nullable=False),
    Column("rule", text(200), nullable=False),
    Column("severity", text(20), nullable=False),
    Column("message", text(), nullable=False),
    Column("source", text(512), nullable=False),
    Column("event_id", text(512), nullable=False),
    Column("workflow_id", text(2000), nullable=False),
    Column("detected", text(40), nullable=False),
    Column("opened", text(32), nullable=False),
    Column("opened_entry", big_integer(), nullable=False),
    Column("closed", text(32)),
    Column("closed_entry", big_integer()),
    Column("closed_by", text(500)),
    Column("reason", text(500)),
    Index("entity_finding_entity", "kind", "entity"),
    Index("entity_finding_opened", "opened_entry"),
)

MAX_FINDINGS = 100
"""Most findings that one event opens."""

MAX_MESSAGE = 2_000


class Weight(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


Peers = Literal["subscribed", "none"] | tuple[str, ...]
"""Which peers are told of a finding: those whose subscription matches, nobody, or these."""


class NewFinding(Wire):
    """What is wrong with an entity.

    Attributes:
        rule: which check or rule it breaks, as its source calls it.
        message: for people.
        detected: when its source found it, RFC 3339.
    """

    entity: Entity
    rule: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    severity: Weight
    message: str
    detected: str


class Origin(Wire):
    """Where findings come from.

    Attributes:
        event: whose run opens or closes them.
        source: who reports them: findings of different sources are different ones.
        depth: of the event, for those who are told of them.
        peers: which peers are told.
    """

    event: EventRef
    source: str
    depth: int = 0
    peers: Peers = "none"


class Opened(Wire):
    """What came of opening findings.

    Attributes:
        ids: of those that this event has opened.
        known: how many were open already, by another event.
        entries: where they were recorded.
    """

    ids: tuple[str, ...] = ()
    known: int = 0
    entries: tuple[Range, ...] = ()


class Closed(Wire):
    """What came of closing findings, likewise."""

    ids: tuple[str, ...] = ()
    entries: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class EntityFinding:
    """A finding as it is kept.

    Attributes:
        source: who reported it; ``event_id`` is the event that did.
        workflow_id: of the run that opened it.
        opened_entry: ledger index of ``COMPLIANCE_FINDING_OPENED``; ``closed_entry`` of its counterpart.
    """

    id: str
    kind: str
    entity: str
    rule: str
    severity: str
    message: str
    source: str
    event_id: str
    workflow_id: str
    detected: str
    opened: str
    opened_entry: int
    closed: str | None = None
    closed_entry: int | None = None
    closed_by: str | None = None
    reason: str | None = None


class FindingQuery(Wire):
    """Which findings somebody wants to see.

    Attributes:
        entity: those of this one alone.
        closed: the closed ones too.
        before: only those that were opened before this ledger entry, to go on where a page ended.
        limit: most.
    """

    entity: str = ""
    closed: bool = False
    before: int | None = Field(default=None, ge=0)
    limit: int = Field(default=50, ge=1, le=1_000)


@dataclass(frozen=True)
class Findings:
    """Opens and closes findings, within units of the ledger."""

    recorder: EventRecorder

    def open(self, origin: Origin, found: Sequence[NewFinding]) -> Opened:
        """Open findings in a unit of their own; see :meth:`open_in`."""
        return self.recorder.ledger.transact(lambda transaction: self.open_in(transaction, origin, found))

    def open_in(self, transaction: LedgerTransaction, origin: Origin, found: Sequence[NewFinding]) -> Opened:
        """Open findings within the caller's unit. Again, for the same event, gives the same answer."""
        wanted = {_finding_id(origin, one): one for one in found[:MAX_FINDINGS]}
        ours = _rows(transaction.connection, wanted)
        drafts: list[Draft] = []
        known = 0
        for name, one in wanted.items():
            if name not in ours and _open_elsewhere(transaction.connection, origin, one, name):
                known += 1
            else:
                drafts.append(self._opening(origin, name, one))
        recorded = transaction.append(drafts) if drafts else []
        rows = [_row(origin, one) for one in recorded]
        insert_missing(transaction.connection, entity_finding, rows)
        return Opened(ids=tuple(row["id"] for row in rows), known=known, entries=ranges_of(recorded))

    def close_in(self, transaction: LedgerTransaction, origin: Origin, rule: str, entities: Sequence[Entity]) -> Closed:
        """Close the open findings of a source about entities, within the caller's unit, because it says so."""
        table = entity_finding.c
        found: list[EntityFinding] = []
        for entity in entities[:MAX_FINDINGS]:
            query = (
                select(entity_finding)
                .where(table.kind == entity.kind, table.entity == storable(entity.id))
                .where(table.rule == storable(rule), table.source == storable(origin.source))
                .with_for_update()
            )
            found += _found(transaction.connection, query)
        # Those that this very event has closed before are asked for again: their entries come back.
        mine = [one for one in found if one.closed is None or one.closed_by == origin.event.workflow_id]
        drafts = [
            self.recorder.draft(
                origin.event,
                EntryType.COMPLIANCE_FINDING_CLOSED,
                step=f"finding/close/{one.id}",
                inputs={"finding": one.id},
                data=_closing(one, by=origin.event.workflow_id, reason=f"{origin.source} says so"),
            )
            for one in mine
        ]
        return _close(transaction, mine, drafts)

    def close(self, finding: EntityFinding, decision: Decision) -> Closed:
        """Close a finding because a person says so. What is closed stays as it was closed first.

        Raises:
            ResourceNotFoundError: there is no such finding any more.
        """

        def unit(transaction: LedgerTransaction) -> Closed:
            rows = _rows(transaction.connection, [finding.id])
            if finding.id not in rows:
                raise ResourceNotFoundError(f"there is no finding {finding.id}", remedy="see: coafi findings list")
            if rows[finding.id].closed is not None:
                return Closed()
            draft = Draft(
                namespace=self.recorder.namespace,
                workflow_id=FINDING_CHANGES,
                step=f"finding/close/{finding.id}",
                type=EntryType.COMPLIANCE_FINDING_CLOSED,
                event_id=FINDING_CHANGES,
                utids=naming_utids({"finding": finding.id}),
                inputs={"finding": finding.id},
                data=_closing(rows[finding.id], by=decision.by, reason=decision.reason),
            )
            return _close(transaction, [rows[finding.id]], [draft])

        return self.recorder.ledger.transact(unit)

    def _opening(self, origin: Origin, name: str, one: NewFinding) -> Draft:
        return self.recorder.draft(
            origin.event,
            EntryType.COMPLIANCE_FINDING_OPENED,
            step=f"finding/open/{name}",
            inputs={"finding": name, "entity": one.entity.id, "rule": one.rule},
            data={
                "findingId": name,
                "entity": {"kind": one.entity.kind, "id": storable(one.entity.id)},
                "rule": storable(one.rule),
                "severity": one.severity,
                "message": storable(one.message[:MAX_MESSAGE]),
                "source": storable(origin.source),
                "detected": one.detected,
                "peers": origin.peers if isinstance(origin.peers, str) else list(origin.peers),
                "causationDepth": origin.depth,
                "build": self.recorder.build,
            },
        )


class FindingReader:
    """Looks findings up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, asked: FindingQuery) -> list[EntityFinding]:
        """The findings that are asked for, the newest first."""
        table = entity_finding.c
        query = select(entity_finding).order_by(table.opened_entry.desc(), table.id).limit(asked.limit)
        if asked.entity:
            query = query.where(table.kind.in_(list(EntityKind)), table.entity == asked.entity)  # so the index serves
        if not asked.closed:
            query = query.where(table.closed.is_(None))
        if asked.before is not None:
            query = query.where(table.opened_entry < asked.before)
        with self._database.read() as connection:
            return _found(connection, query)

    def get(self, name: str) -> EntityFinding:
        """One finding, by its id or a beginning of it that no other has.

        Raises:
            ResourceNotFoundError: there is none, or more than one.
        """
        with self._database.read() as connection:
            query = select(entity_finding).where(entity_finding.c.id.startswith(name, autoescape=True)).limit(2)
            found = _found(connection, query)
        if len(found) != 1 or not name:
            raise ResourceNotFoundError(
                f"{'more than one finding begins' if len(found) > 1 else 'no finding begins'} with {name!r}",
                remedy="see: coafi findings list",
            )
        return found[0]


def _finding_id(origin: Origin, one: NewFinding) -> str:
    parts = [origin.event.workflow_id, one.entity.kind, one.entity.id, one.rule]
    return hashlib.sha256(canonical_json([storable(part) for part in parts])).hexdigest()[:32]


def _open_elsewhere(connection: Connection, origin: Origin, one: NewFinding, name: str) -> bool:
    """Whether another event has reported the same, and that is still open."""
    table = entity_finding.c
    query = (
        select(table.id)
        .where(table.kind == one.entity.kind, table.entity == storable(one.entity.id))
        .where(table.rule == storable(one.rule), table.source == storable(origin.source))
        .where(table.closed.is_(None), table.id != name)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _rows(connection: Connection, ids: Iterable[str]) -> dict[str, EntityFinding]:
    """Findings by id, locked until the unit ends."""
    query = select(entity_finding).where(entity_finding.c.id.in_(list(ids))).with_for_update()
    return {one.id: one for one in _found(connection, query)}


def _row(origin: Origin, recorded: Recorded) -> dict[str, object]:
    """The row of an entry; what was recorded first counts."""
    data = recorded.entry.data
    entity = data["entity"]
    assert isinstance(entity, dict)  # noqa: S101  # so it was written
    return {
        "id": data["findingId"],
        "kind": entity["kind"],
        "entity": entity["id"],
        **{name: data[name] for name in ("rule", "severity", "message", "source", "detected")},
        "event_id": origin.event.id,
        "workflow_id": origin.event.workflow_id,
        "opened": recorded.entry.time,
        "opened_entry": recorded.index,
    }


def _closing(finding: EntityFinding, *, by: str, reason: str) -> JsonObject:
    return {
        "findingId": finding.id,
        "entity": {"kind": finding.kind, "id": finding.entity},
        "rule": finding.rule,
        "opened": finding.opened_entry,
        "by": storable(by),
        "reason": storable(reason[:500]),
    }


def _close(transaction: LedgerTransaction, findings: Sequence[EntityFinding], drafts: Sequence[Draft]) -> Closed:
    recorded = transaction.append(drafts) if drafts else []
    for finding, one in zip(findings, recorded, strict=True):
        transaction.connection.execute(
            update(entity_finding)
            .where(entity_finding.c.id == finding.id, entity_finding.c.closed.is_(None))
            .values(
                closed=one.entry.time,
                closed_entry=one.index,
                closed_by=one.entry.data["by"],
                reason=one.entry.data["reason"],
            )
        )
    return Closed(ids=tuple(one.id for one in findings), entries=ranges_of(recorded))


def _found(connection: Connection, query: Select[tuple[object, ...]]) -> list[EntityFinding]:
    return [_finding(row) for row in connection.execute(query)]


def _finding(row: Row[tuple[object, ...]]) -> EntityFinding:
    return EntityFinding(**row._mapping)
