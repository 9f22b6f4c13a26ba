"""What is kept of the ledgers of others: the last checkpoint that was cosigned, and what does not fit to it.

::

    witnessed   one row for each log: the checkpoint that every later one must continue
    split_view  of each key of a log one proof at most that it has signed two histories, and one doubt at most
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Row, Table, delete, select, update

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_if_missing, insert_missing
from coafi.ledger.checkpoint import Checkpoint, SignedCheckpoint
from coafi.ledger.fork import Fork

witnessed_table = Table(
    "witnessed",
    metadata,
    Column("origin", text(255), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", text(), nullable=False),
    Column("time", BigInteger, nullable=False),
)

split_view_table = Table(
    "split_view",
    metadata,
    Column("origin", text(255), primary_key=True),
    Column("grade", text(10), primary_key=True),
    Column("key", text(400), primary_key=True),
    Column("peer", text(200), nullable=False),
    Column("kept", text(), nullable=False),
    Column("shown", text(), nullable=False),
    Column("fork", text()),
    Column("problem", text(), nullable=False),
    Column("found", text(32), nullable=False),
    Column("entry", big_integer()),
)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The last checkpoint of a log that was cosigned here.

    Attributes:
        signed: the checkpoint; its note has the log's signatures and this witness's cosignature.
        time: of the cosignature, in seconds since 1970.
    """

    signed: SignedCheckpoint
    time: int

    @property
    def checkpoint(self) -> Checkpoint:
        """The state of the log."""
        return self.signed.checkpoint


class Grade(StrEnum):
    """What is known of two histories.

    ``PROVED`` convinces anybody. ``UNPROVED`` is what the log's keeper can still clear up: it has signed both
    checkpoints, and when it was asked how they belong together it gave no proof that they do.
    """

    PROVED = "proved"
    UNPROVED = "unproved"


@dataclass(frozen=True, slots=True)
class SplitView:
    """Two checkpoints of a log, both signed by its key, that do not fit together as far as is known.

    Attributes:
        kept: the note that was cosigned here.
        shown: the other one.
        fork: the proof, where there is one.
        problem: what is wrong, for a person.
        found: when, in ISO 8601.
        entry: index of its ``PEER_SPLIT_VIEW`` in the ledger; only what is proved has one.
        key: the vkey that signed both; empty where it was found before that was kept.
    """

    origin: str
    grade: Grade
    peer: str
    kept: str
    shown: str
    fork: Fork | None
    problem: str
    found: str
    entry: int | None = None
    key: str = ""


def last_witnessed(connection: Connection, origin: str) -> Witnessed | None:
    """The last checkpoint of a log that was cosigned."""
    row = connection.execute(select(witnessed_table).where(witnessed_table.c.origin == origin)).first()
    return None if row is None else _witnessed(row)


def advance(connection: Connection, expected: Witnessed | None, new: Witnessed) -> bool:
    """Put ``new`` in the place of ``expected``; whether that was still there, so that it was done.

    Whoever is in the way of another one waits for its commit: of two that expect the same, one goes on.
    """
    table, checkpoint = witnessed_table, new.checkpoint
    values = {"size": checkpoint.size, "root": checkpoint.root, "note": new.signed.note, "time": new.time}
    if expected is None:
        insert_missing(connection, table, [{"origin": checkpoint.origin, **values}])
        kept = last_witnessed(connection, checkpoint.origin)
        return kept == new
    old = expected.checkpoint
    statement = (
        update(table)
        .where(table.c.origin == old.origin, table.c.size == old.size, table.c.root == old.root)
        .values(values)
    )
    return connection.execute(statement).rowcount == 1


def forget(connection: Connection, kept: Witnessed) -> None:
    """Forget the checkpoint of a log that was cosigned last, unless another one has taken its place."""
    table, old = witnessed_table, kept.checkpoint
    where = (table.c.origin == old.origin, table.c.size == old.size, table.c.root == old.root)
    connection.execute(delete(table).where(*where))


@dataclass(frozen=True)
class WitnessRecord:
    """Reads what is kept."""

    database: Database

    def last(self, origin: str) -> Witnessed | None:
        """The last checkpoint of a log that was cosigned.

        Raises:
            Unavailable: the database is out of reach.
        """
        with self.database.read() as connection:
            return last_witnessed(connection, origin)

    def all(self) -> list[Witnessed]:
        """Of each log the last checkpoint that was cosigned, by name.

        Raises:
            Unavailable: the database is out of reach.
        """
        with self.database.read() as connection:
            rows = connection.execute(select(witnessed_table).order_by(witnessed_table.c.origin)).all()
        return [_witnessed(row) for row in rows]

    def split_views(self, origin: str | None = None) -> list[SplitView]:
        """What does not fit together, by log, proofs first; or of one log.

        Raises:
            Unavailable: the database is out of reach.
        """
        table = split_view_table
        query = select(table).order_by(table.c.origin, table.c.grade, table.c.found, table.c.key)
        if origin is not None:
            query = query.where(table.c.origin == origin)
        with self.database.read() as connection:
            return [_split_view(row) for row in connection.execute(query)]

    def suspects(self) -> dict[str, Grade]:
        """The peers whose ledgers show two histories, by id; ``UNPROVED`` where that is a doubt only.

        Raises:
            Unavailable: the database is out of reach.
        """
        found: dict[str, Grade] = {}
        for view in self.split_views():  # proofs come first
            found.setdefault(view.peer, view.grade)
            if view.grade is Grade.PROVED:
                found[view.peer] = view.grade
        return found


def keep_split_view(connection: Connection, view: SplitView) -> bool:
    """Keep what does not fit together, unless there is something of this key and grade already; whether it is new."""
    row = {
        "origin": view.origin,
        "grade": view.grade.value,
        "key": view.key,
        "peer": view.peer,
        "kept": view.kept,
        "shown": view.shown,
        "fork": view.fork.model_dump_json() if view.fork else None,
        "problem": view.problem,
        "found": view.found,
        "entry": view.entry,
    }
    return insert_if_missing(connection, split_view_table, row)


def clear_doubt(connection: Connection, origin: str, shown: str) -> bool:
    """Forget the doubt about a checkpoint, now that the log has proved that it fits; whether there was one."""
    table = split_view_table
    done = connection.execute(
        delete(table).where(table.c.origin == origin, table.c.grade == Grade.UNPROVED, table.c.shown == shown)
    )
    return done.rowcount > 0


def _witnessed(row: Row[tuple[object, ...]]) -> Witnessed:
    return Witnessed(SignedCheckpoint(Checkpoint(row.origin, row.size, row.root), row.note), row.time)


def _split_view(row: Row[tuple[object, ...]]) -> SplitView:
    return SplitView(
        origin=row.origin,
        grade=Grade(row.grade),
        peer=row.peer,
        kept=row.kept,
        shown=row.shown,
        fork=None if row.fork is None else Fork.parse(row.fork),
        problem=row.problem,
        found=row.found,
        entry=row.entry,
        key=row.key,
    )
