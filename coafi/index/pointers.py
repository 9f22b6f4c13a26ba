"""Which index of a branch is the newest: one row per generation, and the highest is the pointer.

A row is added within the ledger transaction of its ``INDEX_UPDATED``; its primary key is what makes that a
compare-and-swap: of two writers that saw the same generation, one finds its successor taken.
"""

from dataclasses import asdict, dataclass

from sqlalchemy import Boolean, Column, Connection, Index, Integer, Row, Table, func, insert, select

from coafi.database import Database, big_integer, metadata, text

documentation_index = Table(
    "documentation_index",
    metadata,
    Column("repository", text(), primary_key=True),
    Column("branch", text(), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("commit", text(64), nullable=False),
    Column("tree", text(64), nullable=False),
    Column("index_digest", text(64), nullable=False),
    Column("page_digest", text(64), nullable=False),
    Column("entry", big_integer(), nullable=False),
    Column("updated_at", text(32), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Index("documentation_index_commit", "repository", "commit"),
)


@dataclass(frozen=True, slots=True)
class IndexPointer:
    """One generation of the index of a branch.

    Attributes:
        repository: canonical URL.
        generation: 1 for the first.
        commit: the tip; empty, like the three digests, when the branch was found gone (``deleted``).
        entry: index of its ledger entry.
        updated_at: time of that entry.
    """

    repository: str
    branch: str
    generation: int
    commit: str
    tree: str
    index_digest: str
    page_digest: str
    entry: int
    updated_at: str
    deleted: bool


def add_pointer(connection: Connection, pointer: IndexPointer) -> None:
    """Make ``pointer`` the newest, within the caller's transaction."""
    connection.execute(insert(documentation_index).values(asdict(pointer)))


def newest_generation(connection: Connection, repository: str, branch: str) -> int:
    """The generation of the newest index; 0 when there is none."""
    table = documentation_index.c
    query = select(func.max(table.generation)).where(table.repository == repository, table.branch == branch)
    return connection.scalar(query) or 0


class IndexReader:
    """Finds indexes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, repository: str, branch: str) -> IndexPointer | None:
        """The newest index of a branch; its row stays when the branch is gone."""
        table = documentation_index.c
        query = (
            select(documentation_index)
            .where(table.repository == repository, table.branch == branch)
            .order_by(table.generation.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return _pointer(connection.execute(query).one_or_none())

    def generation(self, repository: str, branch: str, number: int) -> IndexPointer | None:
        """One generation."""
        table = documentation_index.c
        query = select(documentation_index).where(
            table.repository == repository, table.branch == branch, table.generation == number
        )
        with self._database.read() as connection:
            return _pointer(connection.execute(query).one_or_none())

    def of_commit(self, repository: str, commit: str) -> IndexPointer | None:
        """The newest index, of whichever branch, that had this commit as its tip."""
        table = documentation_index.c
        query = (
            select(documentation_index)
            .where(table.repository == repository, table.commit == commit)
            .order_by(table.entry.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return _pointer(connection.execute(query).one_or_none())

    def all(self) -> list[IndexPointer]:
        """The newest index of every branch that is there, by repository and branch."""
        table = documentation_index.c
        newest = (
            select(table.repository, table.branch, func.max(table.generation).label("generation"))
            .group_by(table.repository, table.branch)
            .subquery()
        )
        query = (
            select(documentation_index)
            .join(
                newest,
                (table.repository == newest.c.repository)
                & (table.branch == newest.c.branch)
                & (table.generation == newest.c.generation),
            )
            .where(table.deleted.is_(False))
            .order_by(table.repository, table.branch)
        )
        with self._database.read() as connection:
            return [IndexPointer(**row._mapping) for row in connection.execute(query)]


def _pointer(row: Row[tuple[object, ...]] | None) -> IndexPointer | None:
    return None if row is None else IndexPointer(**row._mapping)
