"""Every push that was delivered, by branch: what the ledger says, kept where it can be asked for.

The table is a projection of the ledger's ``EVENT_RECEIVED`` and can be dropped: it is filled again from the beginning.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Column, Index, Table, or_, select

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_missing, insert_or_replace
from coafi.deliveries import delivery
from coafi.ledger.entry import Recorded
from coafi.ledger.port import Ledger
from coafi.names import RECONCILED, EntryType, EventType

known_push = Table(
    "known_push",
    metadata,
    Column("entry", big_integer(), primary_key=True, autoincrement=False),
    Column("source", text(512), nullable=False),
    Column("url", text(2048), nullable=False),
    Column("branch", text(255), nullable=False),
    Column("before", text(64), nullable=False),
    Column("after", text(64), nullable=False),
    Column("principal", text(512), nullable=False),
    Index("known_push_branch", "source", "branch"),
)

known_push_position = Table(
    "known_push_position",
    metadata,
    Column("name", text(20), primary_key=True),
    Column("position", big_integer(), nullable=False),
)

_PAGE = 1_000
_LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Push:
    """A push that was delivered.

    Attributes:
        entry: index of its ``EVENT_RECEIVED``.
        source: the CloudEvents source of its event; ``url`` is the repository as the payload had it.
        before: tip before the push; empty where the sender did not say.
        after: tip after it; all zeros when the branch was deleted.
    """

    entry: int
    source: str
    url: str
    branch: str
    before: str
    after: str
    principal: str


@dataclass(frozen=True)
class KnownPushes:
    """The table, filled from a ledger.

    Attributes:
        namespace: of the entries that are ours.
    """

    database: Database
    ledger: Ledger
    namespace: str

    def catch_up(self, beat: Callable[[str], None] = lambda _text: None) -> int:
        """Read what the ledger has got since the last time; how many entries were read.

        Raises:
            Unavailable: ledger or database are out of reach.
        """
        position = self._position()
        size = self.ledger.size()
        for start in range(position, size, _PAGE):
            beat(f"reading entry {start:,} of {size:,}")
            stop = min(start + _PAGE, size)
            pushes = [push for one in self.ledger.entries(start, stop) if (push := self._push(one))]
            with self.database.write() as connection:
                insert_missing(connection, known_push, [_row(push) for push in pushes])
                insert_or_replace(connection, known_push_position, [{"name": _LEDGER, "position": stop}])
        return max(0, size - position)

    def sources(self) -> list[str]:
        """Every repository of which a push was delivered."""
        with self.database.read() as connection:
            return list(connection.scalars(select(known_push.c.source).distinct().order_by(known_push.c.source)))

    def of(self, source: str) -> list[Push]:
        """The pushes of a repository, in the order of the ledger."""
        query = select(known_push).where(known_push.c.source == source).order_by(known_push.c.entry)
        with self.database.read() as connection:
            return [Push(**row._mapping) for row in connection.execute(query)]

    def with_commit(self, commit: str) -> list[Push]:
        """The pushes that began or ended at a commit."""
        query = select(known_push).where(or_(known_push.c.before == commit, known_push.c.after == commit))
        with self.database.read() as connection:
            return [Push(**row._mapping) for row in connection.execute(query.order_by(known_push.c.entry))]

    def at_work(self) -> list[tuple[Push, str]]:
        """The pushes that were found missing and have not concluded, each with the id of its delivery."""
        query = (
            select(known_push, delivery.c.delivery_id)
            .join(delivery, (delivery.c.source == known_push.c.source) & (delivery.c.entry == known_push.c.entry))
            .where(known_push.c.principal == RECONCILED, delivery.c.outcome.is_(None))
            .order_by(known_push.c.entry)
        )
        with self.database.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        return [(Push(**{name: row[name] for name in Push.__dataclass_fields__}), row["delivery_id"]) for row in rows]

    def _position(self) -> int:
        with self.database.read() as connection:
            query = select(known_push_position.c.position).where(known_push_position.c.name == _LEDGER)
            return connection.execute(query).scalar_one_or_none() or 0

    def _push(self, recorded: Recorded) -> Push | None:
        entry = recorded.entry
        if entry.type != EntryType.EVENT_RECEIVED or entry.namespace != self.namespace:
            return None
        data, asked = entry.data, entry.data.get("parameters")
        if data.get("eventType") != EventType.GIT_COMMIT or not isinstance(asked, dict):
            return None  # without parameters it was rejected: nothing became of it
        return Push(
            entry=recorded.index,
            source=str(data["source"]),
            url=str(asked["repositoryUrl"]),
            branch=str(asked["branch"]),
            before=str(asked.get("before", "")),
            after=str(asked["commitSha"]),
            principal=str(data["principal"]),
        )


def _row(push: Push) -> dict[str, object]:
    return {name: getattr(push, name) for name in Push.__dataclass_fields__}
