"""Who wants no messages any more: who answered 410, until its URL changes or an operator says otherwise."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, String, Table, Text, delete, insert, select

from coafi.database import Database, metadata
from coafi.ledger.entry import timestamp
from coafi.notify.subscribers import Subscriber, Subscribers

gone_subscriber = Table(
    "gone_subscriber",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url_digest", String(64), primary_key=True),
    Column("since", String(32), nullable=False),
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
        row = {"name": subscriber.name, "url_digest": _digest(subscriber)}
        table = gone_subscriber.c
        known = select(table.since).where(table.name == row["name"], table.url_digest == row["url_digest"])
        with self.database.write() as connection:
            if connection.execute(known).first() is None:
                connection.execute(insert(gone_subscriber).values(**row, since=timestamp(datetime.now(UTC))))

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
