"""Deliveries: which run owns what a sender delivered, and how it ended. Survives Temporal's retention of runs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Column, Connection, Index, Row, Table, func, insert, or_, select, update

from coafi import names
from coafi.database import Database, metadata, storable, text
from coafi.events import Event, EventRef

MAX_SUBJECT = 500
"""Most characters of an event's subject."""

delivery = Table(
    "delivery",
    metadata,
    Column("source", text(512), primary_key=True),
    Column("delivery_id", text(512), primary_key=True),
    Column("event_type", text(100), nullable=False),
    Column("workflow_id", text(2000), nullable=False, unique=True),
    Column("run_id", text(64), nullable=False),
    Column("body_digest", text(64), nullable=False),
    Column("utids", text(40), nullable=False),
    Column("subject", text(), nullable=False),
    Column("received_at", text(32), nullable=False),
    Column("outcome", text(20)),
    Column("concluded_at", text(32)),
    Column("temporary_utids", text(40)),
    Index("delivery_received_at", "received_at"),
    Index("delivery_utids", "utids"),
    Index("delivery_temporary_utids", "temporary_utids"),
)


class ClaimResult(StrEnum):
    """What came of a claim."""

    OURS = "ours"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery as it is remembered.

    Attributes:
        outcome: the final phase; ``None`` while the run is at work.
        temporary_utids: the UTidS that it was given at ingress; ``utids`` is the permanent one once there is one.
    """

    source: str
    delivery_id: str
    event_type: str
    workflow_id: str
    run_id: str
    body_digest: str
    utids: str
    subject: str
    received_at: str
    outcome: str | None
    concluded_at: str | None
    temporary_utids: str | None


def claim(
    connection: Connection, event: Event, *, run_id: str, utids: str, subject: str
) -> tuple[ClaimResult, Delivery]:
    """Claim the delivery of ``event`` for a run, within the caller's transaction.

    A claim is ours when nobody has it, when this very run took it before (a retry, or a reset, which keeps the
    original run id), or when the run that had it is gone without having concluded: as only one run with a workflow
    id can be open, that one was terminated or lost with Temporal's own data, and its work must go on.

    Args:
        run_id: the original id of the run: a reset does not change it.
        utids: the UTidS to remember the event by.
        subject: one line that tells a person what this is about.

    Returns:
        What came of it, and the delivery as it now stands.
    """
    key = (delivery.c.source == event.source) & (delivery.c.delivery_id == event.id)
    known = connection.execute(select(delivery).where(key)).one_or_none()
    if known is None:
        fresh = Delivery(
            source=event.source,
            delivery_id=event.id,
            event_type=event.type,
            workflow_id=event.workflow_id,
            run_id=run_id,
            body_digest=event.bodydigest,
            utids=utids,
            subject=subject,
            received_at=_now(),
            outcome=None,
            concluded_at=None,
            temporary_utids=event.utids,
        )
        connection.execute(
            insert(delivery).values({name: getattr(fresh, name) for name in Delivery.__dataclass_fields__})
        )
        return ClaimResult.OURS, fresh
    found = _delivery(known)
    if found.body_digest != event.bodydigest or found.workflow_id != event.workflow_id:
        return ClaimResult.CONFLICT, found
    if found.run_id == run_id:
        return ClaimResult.OURS, found
    if found.outcome is not None:
        return ClaimResult.DUPLICATE, found
    connection.execute(update(delivery).where(key).values(run_id=run_id))
    return ClaimResult.OURS, found


def outcome_of(connection: Connection, event: Event | EventRef) -> str | None:
    """How the run of ``event`` ended, within the caller's transaction; ``None`` while it has not."""
    key = (delivery.c.source == event.source) & (delivery.c.delivery_id == event.id)
    return connection.execute(select(delivery.c.outcome).where(key)).scalar_one_or_none()


def newest_like(connection: Connection, source: str, prefix: str, word: str) -> Delivery | None:
    """The newest delivery of a source whose id begins like that, within the caller's transaction.

    ``None`` also if another one that has the word in its subject was claimed since, or at the same moment. It costs one
    look at the primary key where there is no such id, which is nearly always.

    Args:
        word: what stands between two spaces in the subject. One that was cut may have lost it, and counts.
    """
    like = (delivery.c.source == source, delivery.c.delivery_id >= prefix, delivery.c.delivery_id < f"{prefix}~")
    found = connection.execute(select(delivery).where(*like).order_by(delivery.c.received_at.desc()).limit(1)).first()
    if found is None:
        return None
    later = select(delivery.c.delivery_id).where(
        delivery.c.source == source,
        delivery.c.delivery_id != found.delivery_id,
        delivery.c.received_at >= found.received_at,
        or_(
            delivery.c.subject.contains(f" {storable(word)} ", autoescape=True),
            func.length(delivery.c.subject) >= MAX_SUBJECT,
        ),
    )
    return _delivery(found) if connection.execute(later.limit(1)).first() is None else None


def conclude(connection: Connection, event: Event | EventRef, outcome: names.Phase) -> None:
    """Note how the run of ``event`` ended, within the caller's transaction. Nothing undoes ``PROCESSED``."""
    connection.execute(
        update(delivery)
        .where(delivery.c.source == event.source, delivery.c.delivery_id == event.id)
        .where(or_(delivery.c.outcome.is_(None), delivery.c.outcome != names.Phase.PROCESSED))
        .values(outcome=str(outcome), concluded_at=_now())
    )


class DeliveryReader:
    """Looks deliveries up, for people and for the gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recent(self, limit: int, *, outcome: names.Phase | None = None) -> tuple[Delivery, ...]:
        """The newest deliveries first, at most ``limit``."""
        query = select(delivery).order_by(delivery.c.received_at.desc()).limit(limit)
        if outcome is not None:
            query = query.where(delivery.c.outcome == str(outcome))
        with self._database.read() as connection:
            return tuple(_delivery(row) for row in connection.execute(query))

    def get(self, source: str, delivery_id: str) -> Delivery | None:
        """The delivery that a sender named, if it has been claimed."""
        query = select(delivery).where(delivery.c.source == source, delivery.c.delivery_id == delivery_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _delivery(row)

    def find(self, name: str) -> tuple[Delivery, ...]:
        """The deliveries that ``name`` means: a delivery id, a workflow id or a UTidS, permanent or temporary."""
        known_as = (delivery.c.delivery_id, delivery.c.workflow_id, delivery.c.utids, delivery.c.temporary_utids)
        with self._database.read() as connection:
            rows = connection.execute(select(delivery).where(or_(*(column == name for column in known_as))))
            return tuple(_delivery(row) for row in rows)

    def by_utids(self, utids: str) -> Delivery | None:
        """The delivery with this UTidS, permanent or temporary."""
        query = select(delivery).where(or_(delivery.c.utids == utids, delivery.c.temporary_utids == utids)).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _delivery(row)


def _delivery(row: Row[tuple[object, ...]]) -> Delivery:
    return Delivery(**row._mapping)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
