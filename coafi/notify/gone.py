"""Who wants no messages any more: who answered 410, until its URL changes or an operator says otherwise."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, Table, delete, select

from coafi.database import Database, metadata, text
from coafi.database.statements import insert_missing
from coafi.ledger.entry import timestamp
from coafi.notify.subscribers import Subscriber, Subscribers

gone_subscriber = Table(
    "gone_subscriber",
    metadata,
    Column("name", text(63), primary_key=True),
    Column("url_digest", text(64), primary_key=True),
    Column("since", text(32), nullable=False),
)


@dataclass(frozen=True)
class GoneSubscribers:
    """The subscribers that are gone, each by its name and the SHA-256 of its URL, which may hold a token."""

    database: Database

    def add(self, subscriber: Subscriber) -> None:
        """Note that a subscriber is gone.

        Raises:
            Unavailable: the database is out of reach.
        """
        row = {"name": subscriber.name, "url_digest": _digest(subscriber), "since": timestamp(datetime.now(UTC))}
        with self.database.write() as connection:
            insert_missing(connection, gone_subscriber, [row])

    def since(self, subscribers: Subscribers) -> dict[str, str]:
        """Since when those of ``subscribers`` who are gone are, by name.

        Raises:
            Unavailable: the database is out of reach.
        """
        digests = {one.name: _digest(one) for one in subscribers.all}
        with self.database.read() as connection:
            return {
                name: since
                for name, digest, since in connection.execute(select(gone_subscriber).order_by(gone_subscriber.c.name))
                if digests.get(name) == digest
            }

    def remove(self, subscriber: Subscriber) -> bool:
        """Send to a subscriber again; whether it was gone.

        Raises:
            Unavailable: the database is out of reach.
        """
        table = gone_subscriber.c
        with self.database.write() as connection:
            rows = connection.execute(
                delete(gone_subscriber).where(table.name == subscriber.name, table.url_digest == _digest(subscriber))
            )
            return rows.rowcount > 0


def _digest(subscriber: Subscriber) -> str:
    return hashlib.sha256(subscriber.url.get_secret_value().encode()).hexdigest()
