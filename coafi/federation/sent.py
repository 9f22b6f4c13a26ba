"""The bodies under which messages went to a peer, until their deliveries are on record.

A message is made of what is known when it is sent, so whoever makes it again may make another body: the peer may have
been restricted since, or our own URL may be another one. What was sent once is therefore kept here, before the request,
and sent again byte for byte.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Column, Connection, Table, delete, or_, select, update

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_if_missing

peer_sent = Table(
    "peer_sent",
    metadata,
    Column("peer", text(63), primary_key=True),
    Column("message", text(128), primary_key=True),
    Column("digest", text(64), primary_key=True),
    Column("kept", text(64), nullable=False),
    Column("entry", big_integer(), nullable=False),
    Column("standing", text(10), nullable=False),
)


class Standing(StrEnum):
    """Where a body stands: it was sent; or the peer has it and we never sent it, which a person has let pass or not."""

    SENT = "sent"
    FOREIGN = "foreign"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class Body:
    """A body of a message.

    Attributes:
        message: id.
        digest: SHA-256 of the bytes of the request's body; of a foreign one empty where the peer proves none.
        kept: digest of the object that holds the whole message; empty of a foreign one.
        entry: index of the ledger entry that the message is made from.
    """

    message: str
    digest: str
    kept: str
    entry: int
    standing: Standing = Standing.SENT


class SentBodies:
    """The bodies that went, or may have gone, to peers.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, peer: str, messages: Collection[str]) -> dict[str, list[Body]]:
        """What is kept of these messages, by id."""
        if not messages:
            return {}
        table = peer_sent.c
        query = select(peer_sent).where(table.peer == peer, table.message.in_(messages)).order_by(table.digest)
        found: dict[str, list[Body]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                body = Body(row.message, row.digest, row.kept, row.entry, Standing(row.standing))
                found.setdefault(row.message, []).append(body)
        return found

    def note(self, peer: str, body: Body) -> bool:
        """Keep a body; whether it was not known."""
        row = {
            "peer": peer,
            "message": body.message,
            "digest": body.digest,
            "kept": body.kept,
            "entry": body.entry,
            "standing": body.standing.value,
        }
        with self._database.write() as connection:
            return insert_if_missing(connection, peer_sent, row)

    def forget(self, peer: str, message: str, digest: str) -> None:
        """Take out a body that the peer did not get."""
        table = peer_sent.c
        with self._database.write() as connection:
            connection.execute(
                delete(peer_sent).where(table.peer == peer, table.message == message, table.digest == digest)
            )


def forget_recorded(connection: Connection, peer: str, messages: Collection[str], position: int) -> None:
    """Take out messages whose deliveries are on record, and all before a position, in the transaction that says so."""
    table = peer_sent.c
    over = or_(table.message.in_(messages), table.entry < position)
    connection.execute(delete(peer_sent).where(table.peer == peer, over))


def let_pass(connection: Connection, peer: str) -> None:
    """Let pass what the peer has under ids of ours, whatever it is: a person has been told, and goes on."""
    table = peer_sent.c
    foreign = (table.peer == peer) & (table.standing == Standing.FOREIGN.value)
    connection.execute(update(peer_sent).where(foreign).values(standing=Standing.PASSED.value))
