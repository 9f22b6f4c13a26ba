"""Deliveries: which run owns what a sender delivered, and how it ended. Survives Temporal's retention of runs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Column, ColumnElement, Connection, Index, Row, Table, insert, or_, select, update

from coafi import names
from coafi.commits import PushKeys, push_keys
from coafi.database import Database, big_integer, metadata, storable, text
from coafi.events import Event, EventRef

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
    Column("push", text(64)),
    Column("branch", text(64)),
    Column("entry", big_integer()),
    Column("duplicate_of", text(512)),
    Index("delivery_received_at", "received_at"),
    Index("delivery_utids", "utids"),
    Index("delivery_temporary_utids", "temporary_utids"),
    Index("delivery_push", "push"),
    Index("delivery_branch", "branch", "entry"),
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
        push: of a commit: the push that it tells of, and ``branch`` where that is (:class:`coafi.commits.PushKeys`).
        entry: of a commit with a valid payload: index of its ``EVENT_RECEIVED``.
        duplicate_of: id of the delivery of the same source that told of the same push before.
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
    push: str | None = None
    branch: str | None = None
    entry: int | None = None
    duplicate_of: str | None = None


def claim(
    connection: Connection, event: Event, *, run_id: str, utids: str, subject: str
) -> tuple[ClaimResult, Delivery]:
    """Claim the delivery of ``event`` for a run, within the caller's transaction.

    A claim is ours when nobody has it, when this very run took it before (a retry, or a reset, which keeps the
    original run id), or when the run that had it is gone without having concluded: as only one run with a workflow
    id can be open, that one was terminated or lost with Temporal's own data, and its work must go on. The delivery of
    a push that another one told of is a duplicate, whoever asks for it (:func:`twin_of`).

    Args:
        run_id: the original id of the run: a reset does not change it.
        utids: the UTidS to remember the event by.
        subject: one line that tells a person what this is about.

    Returns:
        What came of it, and the delivery as it now stands, or the one that it is a duplicate of.
    """
    key = _key(event.source, event.id)
    keys = push_keys(event)
    known = connection.execute(select(delivery).where(key)).one_or_none()
    if known is None:
        twin = twin_of(connection, event.source, keys) if keys else None
        fresh = Delivery(
            source=event.source,
            delivery_id=event.id,
            event_type=event.type,
            workflow_id=event.workflow_id,
            run_id=run_id,
            body_digest=event.bodydigest,
            utids=event.utids if twin else utids,
            subject=subject,
            received_at=_now(),
            outcome=str(names.Phase.DUPLICATE) if twin else None,
            concluded_at=_now() if twin else None,
            temporary_utids=event.utids,
            push=keys.push if keys else None,
            branch=keys.branch if keys else None,
            duplicate_of=twin.delivery_id if twin else None,
        )
        connection.execute(
            insert(delivery).values({name: getattr(fresh, name) for name in Delivery.__dataclass_fields__})
        )
        return (ClaimResult.DUPLICATE, twin) if twin else (ClaimResult.OURS, fresh)
    found = _delivery(known)
    if found.body_digest != event.bodydigest or found.workflow_id != event.workflow_id:
        return ClaimResult.CONFLICT, found
    if found.duplicate_of is not None:
        other = connection.execute(select(delivery).where(_key(event.source, found.duplicate_of))).one()
        return ClaimResult.DUPLICATE, _delivery(other)
    if found.run_id == run_id:
        return ClaimResult.OURS, found
    if found.outcome is not None:
        return ClaimResult.DUPLICATE, found
    connection.execute(update(delivery).where(key).values(run_id=run_id))
    return ClaimResult.OURS, found


def outcome_of(connection: Connection, event: Event | EventRef) -> str | None:
    """How the run of ``event`` ended, within the caller's transaction; ``None`` while it has not."""
    return connection.execute(select(delivery.c.outcome).where(_key(event.source, event.id))).scalar_one_or_none()


def note_receipt(connection: Connection, event: Event, entry: int) -> None:
    """Note where the ``EVENT_RECEIVED`` of a valid commit is, within the caller's transaction.

    The entries are in one order whatever the clocks of the machines say.
    """
    connection.execute(update(delivery).where(_key(event.source, event.id)).values(entry=entry))


def twin_of(connection: Connection, source: str, keys: PushKeys) -> Delivery | None:
    """The delivery that told of a push before, within the caller's transaction; for a delivery that is not known yet.

    A push that was found missing was not, if more of the same are known by now than there were then. One that a host
    delivers was started already, if it was found missing; unless another delivery stands for that, or something else
    of its branch was received since: the branch may have gone away and come back. Nor if it was given up.

    It costs one look at an index where there is no such push, which is nearly always.
    """
    if keys.submitted:
        return None
    same = select(delivery).where(delivery.c.source == source, delivery.c.push == keys.push)
    rows = [_delivery(row) for row in connection.execute(same.order_by(delivery.c.entry))]
    taken = {row.duplicate_of for row in rows}
    rows = [row for row in rows if row.entry is not None]
    if keys.earlier is not None:
        found = rows[keys.earlier] if len(rows) > keys.earlier else None
    else:
        found = next((row for row in reversed(rows) if row.delivery_id.startswith(keys.push)), None)
        if found is not None and (found.delivery_id in taken or _moved_since(connection, found)):
            found = None
    return found if found is not None and found.outcome in (None, names.Phase.PROCESSED) else None


def _moved_since(connection: Connection, push: Delivery) -> bool:
    later = select(delivery.c.entry).where(delivery.c.branch == push.branch, delivery.c.entry > push.entry)
    return connection.execute(later.limit(1)).first() is not None


def conclude(connection: Connection, event: Event | EventRef, outcome: names.Phase) -> None:
    """Note how the run of ``event`` ended, within the caller's transaction. Nothing undoes ``PROCESSED``."""
    connection.execute(
        update(delivery)
        .where(_key(event.source, event.id))
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
        """The deliveries that ``name`` means: a workflow id, a UTidS, permanent or temporary, or a delivery id.

        In this order: senders choose the ids of their deliveries, and none may pass for something else that way.
        Several can have the same delivery id, of different sources.
        """
        name = storable(name)
        known_as = (
            delivery.c.workflow_id == name,
            or_(delivery.c.utids == name, delivery.c.temporary_utids == name),
            delivery.c.delivery_id == name,
        )
        with self._database.read() as connection:
            for condition in known_as:
                if found := connection.execute(select(delivery).where(condition)).all():
                    return tuple(_delivery(row) for row in found)
        return ()

    def by_workflow_id(self, workflow_id: str) -> Delivery | None:
        """The delivery that the runs with this workflow id are about."""
        query = select(delivery).where(delivery.c.workflow_id == workflow_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _delivery(row)

    def by_utids(self, utids: str) -> Delivery | None:
        """The delivery with this UTidS, permanent or temporary."""
        query = select(delivery).where(or_(delivery.c.utids == utids, delivery.c.temporary_utids == utids)).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _delivery(row)


def _key(source: str, delivery_id: str) -> ColumnElement[bool]:
    return (delivery.c.source == source) & (delivery.c.delivery_id == delivery_id)


def _delivery(row: Row[tuple[object, ...]]) -> Delivery:
    return Delivery(**row._mapping)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
