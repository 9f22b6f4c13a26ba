"""What is known of contents, by git's name of them: it is learned once, whatever commit, path or branch they are on."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, bindparam, func, select

from coafi.database import Database, metadata, storable, text
from coafi.database.statements import insert_missing
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

    def remember(
        self,
        facts: Mapping[str, DocumentFacts],
        support: Mapping[str, str],
        paths: Iterable[tuple[str, str]],
    ) -> None:
        """Keep what was learned, in transactions short enough for other writers.

        Args:
            facts: by content.
            support: digests in the object store, by content.
            paths: ids of documents, each with a path that such a document has.
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
        for start in range(0, max(len(some) for _, some in rows), _ROWS):
            with self.database.write() as connection:
                for table, some in rows:
                    insert_missing(connection, table, some[start : start + _ROWS])


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _ROWS):
        yield list(items[start : start + _ROWS])


def place_key(document_id: str, path: str) -> bytes:
    """What names a document's being at a path: 32 bytes."""
    return hashlib.sha256(f"{document_id}\0{path}".encode()).digest()
