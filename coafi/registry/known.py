"""What is known and a schema may concern: the documents of the newest indexes, and the entries of a registry."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, Literal

import structlog
from sqlalchemy import Connection, select, tuple_

from coafi.documents.check import FileReport
from coafi.documents.frontmatter import GENERAL_SCHEMA
from coafi.errors import IntegrityError
from coafi.objects import ObjectStore
from coafi.processing import read_reports
from coafi.registry.entry import Entry, RegistryId
from coafi.registry.rows import COLUMNS, DATA, entry_of
from coafi.registry.store import publications
from coafi.registry.tables import registry_entry, registry_version

DOCUMENTS: Final = "documents"
"""Stands for documents where a registry stands for its entries."""

_REPORTS = 64
_HEADS = registry_entry.join(
    registry_version,
    (registry_version.c.registry_id == registry_entry.c.registry_id)
    & (registry_version.c.entry_id == registry_entry.c.entry_id),
)
_WANTED = (registry_version.c.version == registry_entry.c.version) | (
    registry_version.c.version == registry_entry.c.integrated_version
)

log = structlog.get_logger(__name__)


def concerned_by(schema_id: str) -> RegistryId | Literal["documents"] | None:
    """What a schema concerns: documents, the entries of a registry, or nothing that is known."""
    kind, _, of = schema_id.partition(".")
    if kind == GENERAL_SCHEMA.partition(".")[0] and of:
        return DOCUMENTS
    return RegistryId(of) if kind == "registry" and of in set(RegistryId) else None


def publications_for_documents(connection: Connection) -> int:
    """A number that grows whenever a schema for documents is published by an entry; 0 while none was."""
    return publications(connection, GENERAL_SCHEMA.partition(".")[0] + ".")


def reports_from(objects: ObjectStore) -> Callable[[str], dict[str, FileReport]]:
    """What finds the reports of an object by path; the last ones are remembered, and of lost ones nothing is there."""

    @lru_cache(_REPORTS)
    def reports_of(digest: str) -> dict[str, FileReport]:
        try:
            return {report.path: report for report in read_reports(objects, digest)}
        except (IntegrityError, ValueError) as error:
            log.warning("reports are lost", reports=digest, reason=str(error)[:300])
            return {}

    return reports_of


def versions_of(
    connection: Connection, registry_id: RegistryId, entry_ids: Iterable[str]
) -> dict[tuple[str, int], str]:
    """The digests of the data of some entries, by id and version: the newest and the integrated version of each."""
    head, version = registry_entry.c, registry_version.c
    query = (
        select(version.entry_id, version.version, version.digest)
        .select_from(_HEADS)
        .where(head.registry_id == registry_id.value, head.entry_id.in_(list(entry_ids)), _WANTED)
    )
    return {(row.entry_id, row.version): row.digest for row in connection.execute(query)}


def entries_after(connection: Connection, registry_id: RegistryId, after: tuple[str, int], limit: int) -> list[Entry]:
    """Some of the entries of a registry: the newest version of each, and the integrated one where that is another.

    Args:
        after: the id and the version that were the last before; ``("", -1)`` to begin.
    """
    head, version = registry_entry.c, registry_version.c
    query = (
        select(*COLUMNS, DATA)
        .select_from(_HEADS)
        .where(head.registry_id == registry_id.value, _WANTED)
        .where(tuple_(version.entry_id, version.version) > after)
        .order_by(version.entry_id, version.version)
        .limit(limit)
    )
    return [entry_of(row) for row in connection.execute(query)]
