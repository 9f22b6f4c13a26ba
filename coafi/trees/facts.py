"""What is known of contents, by git's name of them: it is learned once, whatever commit, path or branch they are on."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, Table, bindparam, func, select, update

from coafi.database import Database, metadata, storable, text
from coafi.database.statements import insert_missing, insert_or_replace
from coafi.documents.facts import FACTS_VERSION, DocumentFacts

document_facts = Table(
    "document_facts",
    metadata,
    Column("blob", text(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("facts", text(), nullable=False),
)

document_path = Table(
    "document_path",
    metadata,
    # SHA-256 of the other two: a path can be longer than PostgreSQL allows a key to be.
    Column("key", LargeBinary, primary_key=True),
    Column("document_id", text(), nullable=False),
    Column("path", text(), nullable=False),
    Index("document_path_of", "document_id"),
)

support_object = Table(
    "support_object",
    metadata,
    Column("blob", text(64), primary_key=True),
    Column("digest", text(64), nullable=False),
)

learned_directory = Table(
    "learned_directory",
    metadata,
    # SHA-256 of path and listing: where documents were seen is learned of a path, and clean-up keeps what rows name.
    Column("key", LargeBinary, primary_key=True),
    # False when its listing, or an object that it leads to, could not be read: it is to be recorded again.
    Column("intact", Boolean, nullable=False),
)

_ROWS = 500

_NUMBERED = (
    select(
        document_path.c.document_id,
        document_path.c.path,
        func.row_number().over(partition_by=document_path.c.document_id, order_by=document_path.c.path).label("number"),
    )
    .where(document_path.c.document_id.in_(bindparam("ids", expanding=True)))
    .subquery()
)
# Built once: building it costs more than running it.
_PATHS = (
    select(_NUMBERED.c.document_id, _NUMBERED.c.path)
    .where(_NUMBERED.c.number <= bindparam("most", type_=Integer))
    .order_by(_NUMBERED.c.document_id, _NUMBERED.c.path)
)

Place = tuple[str, str]
"""A directory: its path, and the digest of its listing."""

T = TypeVar("T")


@dataclass(frozen=True)
class FactsStore:
    """Remembers what contents say, and where documents were seen."""

    database: Database

    def facts(self, blobs: Sequence[str]) -> dict[str, DocumentFacts]:
        """What is known of these contents."""
        table = document_facts.c
        found: dict[str, DocumentFacts] = {}
        if not blobs:
            return found
        with self.database.read() as connection:
            for some in _chunks(blobs):
                query = select(table.blob, table.facts).where(table.version == FACTS_VERSION, table.blob.in_(some))
                for row in connection.execute(query):
                    found[row.blob] = DocumentFacts.model_validate_json(row.facts)
        return found

    def support(self, blobs: Sequence[str]) -> dict[str, str]:
        """Digests of these contents in the object store, of those that are there."""
        table = support_object.c
        found: dict[str, str] = {}
        if not blobs:
            return found
        with self.database.read() as connection:
            for some in _chunks(blobs):
                rows = connection.execute(select(table.blob, table.digest).where(table.blob.in_(some)))
                found.update({row.blob: row.digest for row in rows})
        return found

    def paths(self, document_ids: Sequence[str], limit: int) -> dict[str, list[str]]:
        """Where documents of each of these ids were seen, in any commit; at most ``limit`` paths of each, sorted."""
        found: dict[str, list[str]] = {storable(one): [] for one in document_ids}
        with self.database.read() as connection:
            for some in _chunks(list(found)):
                for row in connection.execute(_PATHS, {"ids": some, "most": limit}):
                    found[row.document_id].append(row.path)
        return {one: found[storable(one)] for one in document_ids}

    def paths_after(self, document_id: str, path: str, limit: int) -> list[str]:
        """Where documents of an id were seen, in any commit, from behind ``path``; at most ``limit``, sorted."""
        table = document_path.c
        behind = select(table.path).where(table.document_id == storable(document_id), table.path > path)
        with self.database.read() as connection:
            return list(connection.scalars(behind.order_by(table.path).limit(limit)))

    def learned(self, directories: Iterable[Place]) -> set[Place]:
        """Those of the directories whose files were learned, and that nobody found damaged since."""
        table = learned_directory.c
        places = {_directory_key(path, digest): (path, digest) for path, digest in directories}
        found: set[Place] = set()
        with self.database.read() as connection:
            for some in _chunks(list(places)):
                rows = connection.execute(select(table.key).where(table.intact, table.key.in_(some)))
                found.update(places[row.key] for row in rows)
        return found

    def forget(self, directories: Iterable[Place]) -> None:
        """Have directories recorded again by whoever fetches a tree that they are in: they cannot be read."""
        table = learned_directory
        known = self.learned(directories)  # whoever finds the same damage once more need not write
        if known:
            with self.database.write() as connection:
                for key in sorted(_directory_key(path, digest) for path, digest in known):  # as others lock them
                    connection.execute(update(table).where(table.c.key == key).values(intact=False))

    def remember(
        self,
        facts: Mapping[str, DocumentFacts],
        support: Mapping[str, str],
        paths: Iterable[tuple[str, str]],
        directories: Iterable[Place] = (),
    ) -> None:
        """Keep what was learned, in transactions short enough for other writers.

        Args:
            facts: by content.
            support: digests in the object store, by content.
            paths: ids of documents, each with a path that such a document has.
            directories: those of which this is the rest; they count as learned when all of it is kept.
        """
        rows: list[tuple[Table, list[dict[str, object]]]] = [
            (
                document_facts,
                [
                    {"blob": blob, "version": FACTS_VERSION, "facts": one.model_dump_json()}
                    for blob, one in facts.items()
                ],
            ),
            (support_object, [{"blob": blob, "digest": digest} for blob, digest in support.items()]),
            (
                document_path,
                [
                    {"key": place_key(storable(document_id), path), "document_id": storable(document_id), "path": path}
                    for document_id, path in dict.fromkeys(paths)
                ],
            ),
        ]
        learned = [{"key": _directory_key(path, digest), "intact": True} for path, digest in dict.fromkeys(directories)]
        most = max(len(some) for _, some in rows)
        last = max(most - 1, 0) // _ROWS * _ROWS  # a directory is learned with the last of what is in it
        for start in range(0, max(most, last + len(learned)), _ROWS):
            with self.database.write() as connection:
                for table, some in rows:
                    insert_missing(connection, table, some[start : start + _ROWS])
                if start >= last:
                    insert_or_replace(connection, learned_directory, learned[start - last : start - last + _ROWS])


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _ROWS):
        yield list(items[start : start + _ROWS])


def place_key(document_id: str, path: str) -> bytes:
    """What names a document's being at a path: 32 bytes."""
    return hashlib.sha256(f"{document_id}\0{path}".encode()).digest()


def _directory_key(path: str, digest: str) -> bytes:
    return hashlib.sha256(f"{digest}\0{path}".encode()).digest()
