"""How far each peer was told: from where another run of its outbox would go on.

A position moves in the transaction that records a delivery, never before. What lies beyond it may have been sent
already, and is sent again then: the same bytes under the same ids (:mod:`coafi.federation.sent`), so the peer takes it
once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, Integer, Table, case, select, update

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_missing
from coafi.federation.sent import let_pass
from coafi.ledger.entry import timestamp

MAX_PROBLEM = 2_000

peer_position = Table(
    "peer_position",
    metadata,
    Column("peer", text(63), primary_key=True),
    Column("position", big_integer(), nullable=False),
    Column("reached", big_integer(), nullable=False),
    Column("delivered", big_integer(), nullable=False),
    Column("delivered_at", text(32)),
    Column("paused", text(1100), nullable=False),
    Column("problem", text(MAX_PROBLEM), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("failing_at", text(32)),
)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a peer was told.

    Attributes:
        position: index of the first ledger entry that may not have been dealt with.
        reached: index of the last one of which a delivery is on record, or one less than the first position.
        delivered: how many deliveries are on record, the last of them ``delivered_at``.
        paused: who paused the outbox, and why; empty if nobody did.
        problem: why the last try failed, ``tries`` times in a row, since ``failing_at``.
    """

    peer: str
    position: int
    reached: int
    delivered: int
    delivered_at: str | None
    paused: str
    problem: str
    tries: int
    failing_at: str | None


class Positions:
    """The positions of all peers.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Position]:
        """Every position, by peer."""
        with self._database.read() as connection:
            rows = connection.execute(select(peer_position).order_by(peer_position.c.peer)).all()
        return {row.peer: Position(**row._mapping) for row in rows}

    def get(self, peer: str) -> Position | None:
        """How far a peer was told, if it was ever looked for anything to tell it."""
        with self._database.read() as connection:
            row = connection.execute(select(peer_position).where(peer_position.c.peer == peer)).one_or_none()
        return None if row is None else Position(**row._mapping)

    def begin(self, peer: str, position: int) -> Position:
        """The position of a peer, which is this one if it is new."""
        row = {
            "peer": peer,
            "position": position,
            "reached": position - 1,
            "delivered": 0,
            "paused": "",
            "problem": "",
            "tries": 0,
        }
        with self._database.write() as connection:
            insert_missing(connection, peer_position, [row])
            made = connection.execute(select(peer_position).where(peer_position.c.peer == peer)).one()
        return Position(**made._mapping)

    def skip(self, peer: str, position: int) -> None:
        """Move on over entries that do not concern the peer."""
        with self._database.write() as connection:
            _move(connection, peer, position, {})

    def hold(self, peer: str, paused: str) -> None:
        """Keep why the outbox of a peer is paused, or that it goes on; that forgets what was in the way.

        Whoever lets a paused one go on has been told what the peer has under ids of ours, and lets that pass.
        """
        table = peer_position.c
        with self._database.write() as connection:
            known = select(table.paused).where(table.peer == peer)
            if not paused and connection.execute(known).scalar_one_or_none():
                let_pass(connection, peer)
            values = {"paused": paused, **({} if paused else _NO_PROBLEM)}
            connection.execute(update(peer_position).where(table.peer == peer).values(values))

    def failed(self, peer: str, problem: str) -> int:
        """Note why a try failed; how many in a row have."""
        table = peer_position.c
        with self._database.write() as connection:
            connection.execute(
                update(peer_position)
                .where(table.peer == peer)
                .values(
                    problem=problem[:MAX_PROBLEM],
                    tries=table.tries + 1,
                    failing_at=case((table.tries == 0, timestamp(datetime.now(UTC))), else_=table.failing_at),
                )
            )
            return connection.execute(select(table.tries).where(table.peer == peer)).scalar_one_or_none() or 1

    def worked(self, peer: str) -> None:
        """Note that a try did not fail."""
        known = self.get(peer)
        if known is not None and known.tries:
            self._set(peer, _NO_PROBLEM)

    def _set(self, peer: str, values: dict[str, str | int | None]) -> None:
        with self._database.write() as connection:
            connection.execute(update(peer_position).where(peer_position.c.peer == peer).values(values))


_NO_PROBLEM: dict[str, str | int | None] = {"problem": "", "tries": 0, "failing_at": None}


def advance(connection: Connection, peer: str, *, position: int, reached: int, fresh: int) -> None:
    """Move a position on, in the transaction that records deliveries. It never moves back.

    Args:
        reached: index of the last entry that is on record as delivered now.
        fresh: how many deliveries were not on record before.
    """
    table = peer_position.c
    values: dict[str, object] = {
        "reached": case((table.reached < reached, reached), else_=table.reached),
        "delivered": table.delivered + fresh,
    }
    if fresh:
        values["delivered_at"] = timestamp(datetime.now(UTC))
    _move(connection, peer, position, values)


def _move(connection: Connection, peer: str, position: int, values: dict[str, object]) -> None:
    table = peer_position.c
    values = {**values, "position": case((table.position < position, position), else_=table.position)}
    connection.execute(update(peer_position).where(table.peer == peer).values(values))
