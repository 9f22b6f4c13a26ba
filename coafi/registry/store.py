"""Schemas by id and version, in the database: published by the package and by entries, and immutable from then on."""

import json
import threading
import time
from collections.abc import Callable

from sqlalchemy import Column, Connection, Table, func, select

from coafi.canonical import canonical_json
from coafi.database import Database, metadata, text
from coafi.database.statements import insert_missing
from coafi.errors import IdempotencyConflict, ResourceNotFoundError, Unavailable, ValidationError
from coafi.registry.builtin import builtin_schemas
from coafi.registry.tables import registry_entry
from coafi.registry.validation import CheckedSchema, Schema

__all__ = [
    "FRESH_SECONDS",
    "PublishedSchemas",
    "builtin_schemas",
    "publications",
    "publish_one",
    "refuse_outdated",
    "refuse_unpublishable",
    "schema_version",
]

FRESH_SECONDS = 1.0
"""How long a process may go on with the schemas that it knows before it asks whether there are newer ones."""

schema_version = Table(
    "schema_version",
    metadata,
    Column("schema_id", text(200), primary_key=True),
    Column("version", text(40), primary_key=True),
    Column("digest", text(64), nullable=False),
    Column("document", text(), nullable=False),
)


class PublishedSchemas:
    """The published schemas, for those who validate with them. Any number of threads may use it.

    Args:
        database: where published schemas are kept.
        clock: seconds that only grow.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[str, Schema] = {}
        self._count = 0
        self._fresh_until = float("-inf")

    def publish(self, schemas: tuple[Schema, ...]) -> None:
        """Add schemas of the package that are missing.

        Where the organisation has integrated a version of its own, the package's are left out: a new release must not
        change what holds for its documents.

        Raises:
            IdempotencyConflict: a published version would change.
        """
        with self._database.write() as connection:
            own = set(
                connection.scalars(
                    select(registry_entry.c.entry_id).where(
                        registry_entry.c.registry_id == "schemas", registry_entry.c.integrated_version > 0
                    )
                )
            )
            wanted = tuple(schema for schema in schemas if schema.schema_id not in own)
            insert_missing(connection, schema_version, [_row(schema) for schema in wanted])
            # Whoever else publishes at the same time was waited for: what is there now is what was published.
            for schema in wanted:
                _require_same(connection, schema)
        self.refresh()

    def find(self, schema_id: str) -> Schema | None:
        """The newest published version of a schema, or ``None``; what others publish is seen after ``FRESH_SECONDS``.

        Raises:
            Unavailable: the database is out of reach.
        """
        if self._clock() >= self._fresh_until:
            self._look()
        return self._latest.get(schema_id)

    def schema(self, schema_id: str) -> Schema:
        """The newest published version of a schema.

        Raises:
            ResourceNotFoundError: there is no such schema.
        """
        found = self.find(schema_id)
        if found is None:
            raise no_schema(schema_id)
        return found

    def published(self) -> tuple[CheckedSchema, ...]:
        """The newest version of every published schema, by id.

        Raises:
            Unavailable: the database is out of reach.
        """
        if self._clock() >= self._fresh_until:
            self._look()
        return tuple(schema.reference for _, schema in sorted(self._latest.items()))

    def version(self, schema_id: str, version: str) -> Schema:
        """A published version of a schema, the newest or one before: what a verdict says it was held against.

        Raises:
            ResourceNotFoundError: there is no such version.
            Unavailable: the database is out of reach.
        """
        newest = self.find(schema_id)
        if newest is not None and newest.version == version:
            return newest
        query = select(schema_version.c.document).where(
            schema_version.c.schema_id == schema_id, schema_version.c.version == version
        )
        with self._database.read() as connection:
            document = connection.execute(query).scalar_one_or_none()
        if document is None:
            raise no_version(schema_id, version)
        return Schema(schema_id, version, json.loads(document))

    def refresh(self) -> None:
        """See what was published up to now at the next look."""
        self._fresh_until = float("-inf")

    def _look(self) -> None:
        """Read what was published since the last look. Published schemas never change or go: counting them tells."""
        with self._lock:
            now = self._clock()
            if now < self._fresh_until:
                return  # another thread was quicker
            with self._database.read() as connection:
                count = connection.execute(select(func.count()).select_from(schema_version)).scalar_one()
                if count != self._count:
                    self._latest = self._load(connection)
                    self._count = count
            self._fresh_until = now + FRESH_SECONDS

    def _load(self, connection: Connection) -> dict[str, Schema]:
        """The newest of each; those that are known stay the same objects, which have been compiled."""
        keys = connection.execute(select(schema_version.c.schema_id, schema_version.c.version))
        newest: dict[str, str] = {}
        for schema_id, version in keys:
            if schema_id not in newest or ordered(version) > ordered(newest[schema_id]):
                newest[schema_id] = version
        found: dict[str, Schema] = {}
        for schema_id, version in newest.items():
            known = self._latest.get(schema_id)
            found[schema_id] = known if known and known.version == version else _read(connection, schema_id, version)
        return found


def no_schema(schema_id: str) -> ResourceNotFoundError:
    """The refusal of what needs a schema that there is not."""
    return ResourceNotFoundError(f"schema {schema_id} is not in the registry", remedy="publish it first")


def no_version(schema_id: str, version: str) -> ResourceNotFoundError:
    """The refusal of what needs a version of a schema that there is not."""
    return ResourceNotFoundError(
        f"schema {schema_id} {version} is not in the registry", remedy="ask for one that was published"
    )


def ordered(version: str) -> tuple[int, ...]:
    """A version as it is compared: by number, not by letter."""
    return tuple(int(part) for part in version.split("."))


def refuse_unpublishable(connection: Connection, schema: Schema) -> None:
    """Refuse a schema that could not be published now, within the caller's transaction.

    Raises:
        IdempotencyConflict: this version is published, with other content.
        ValidationError: a higher version is published.
    """
    table = schema_version.c
    rows = connection.execute(select(table.version, table.digest).where(table.schema_id == schema.schema_id))
    known: dict[str, str] = {row.version: row.digest for row in rows}
    if known.get(schema.version, schema.digest) != schema.digest:
        raise _changed(schema)
    newest = max(known, key=ordered, default=None)
    if newest is not None and ordered(newest) > ordered(schema.version):
        raise _late(schema, newest)


def refuse_after(schema: Schema, newest: Schema | None) -> None:
    """:func:`refuse_unpublishable` for a schema of which only the newest published version is known.

    Raises:
        IdempotencyConflict, ValidationError: as there.
    """
    if newest is None:
        return
    if newest.version == schema.version and newest.digest != schema.digest:
        raise _changed(schema)
    if ordered(newest.version) > ordered(schema.version):
        raise _late(schema, newest.version)


def publications(connection: Connection, prefix: str) -> int:
    """A number that grows whenever a schema is integrated whose id begins so; 0 while none was."""
    table = registry_entry.c
    query = select(func.sum(table.integrated_version)).where(
        table.registry_id == "schemas", table.entry_id.startswith(prefix, autoescape=True)
    )
    return int(connection.scalar(query) or 0)


def refuse_outdated(connection: Connection, schema_id: str, checked_with: CheckedSchema | None) -> None:
    """Refuse what was not held against the newest version of a schema, within the caller's transaction.

    Args:
        checked_with: what it was held against; ``None`` when there was no such schema.

    Raises:
        Unavailable: a version was published meanwhile.
    """
    query = select(schema_version.c.version).where(schema_version.c.schema_id == schema_id)
    newest = max(connection.scalars(query), key=ordered, default=None)
    if newest is not None and (checked_with is None or checked_with.version != newest):
        raise Unavailable(
            f"the schema {schema_id} {newest} was published after the check", remedy="nothing: it is checked again"
        )


def publish_one(connection: Connection, schema: Schema) -> None:
    """Publish a schema, within the caller's transaction. To publish it again changes nothing.

    Raises:
        IdempotencyConflict: this version is published, with other content.
    """
    insert_missing(connection, schema_version, [_row(schema)])
    _require_same(connection, schema)


def _row(schema: Schema) -> dict[str, str]:
    return {
        "schema_id": schema.schema_id,
        "version": schema.version,
        "digest": schema.digest,
        "document": canonical_json(schema.document).decode(),
    }


def _require_same(connection: Connection, schema: Schema) -> None:
    table = schema_version.c
    query = select(table.digest).where(table.schema_id == schema.schema_id, table.version == schema.version)
    if connection.execute(query).scalar_one() != schema.digest:
        raise _changed(schema)


def _late(schema: Schema, newest: str) -> ValidationError:
    return ValidationError(
        f"schema {schema.schema_id} {schema.version} comes after {newest}, which is published",
        remedy="raise the version in its $id above that",
    )


def _changed(schema: Schema) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"schema {schema.schema_id} {schema.version} is published with other content",
        remedy="a published schema never changes: raise the version in its $id",
    )


def _read(connection: Connection, schema_id: str, version: str) -> Schema:
    query = select(schema_version.c.document).where(
        schema_version.c.schema_id == schema_id, schema_version.c.version == version
    )
    return Schema(schema_id, version, json.loads(connection.execute(query).scalar_one()))
