"""Schemas by id and version, in the database: loaded from the package, immutable once they are there."""

import json

from sqlalchemy import Column, Table, select

from coafi.canonical import canonical_json
from coafi.database import Database, metadata, text
from coafi.database.statements import insert_missing
from coafi.errors import IdempotencyConflict, ResourceNotFoundError
from coafi.registry.builtin import builtin_schemas
from coafi.registry.validation import Schema

__all__ = ["Registry", "builtin_schemas", "schema_version"]

schema_version = Table(
    "schema_version",
    metadata,
    Column("schema_id", text(200), primary_key=True),
    Column("version", text(40), primary_key=True),
    Column("digest", text(64), nullable=False),
    Column("document", text(), nullable=False),
)


class Registry:
    """The registry in its first form: the JSON Schemas that the service validates with.

    Args:
        database: where published schemas are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._latest: dict[str, Schema] | None = None

    def publish(self, schemas: tuple[Schema, ...]) -> None:
        """Add the schemas that are missing.

        Raises:
            IdempotencyConflict: a published version would change.
        """
        rows = [
            {
                "schema_id": schema.schema_id,
                "version": schema.version,
                "digest": schema.digest,
                "document": canonical_json(schema.document).decode(),
            }
            for schema in schemas
        ]
        with self._database.write() as connection:
            # Whoever else publishes at the same time was waited for: what is there now is what was published.
            insert_missing(connection, schema_version, rows)
            known = {
                (row.schema_id, row.version): row.digest
                for row in connection.execute(
                    select(schema_version.c.schema_id, schema_version.c.version, schema_version.c.digest)
                )
            }
            for schema in schemas:
                if known[schema.schema_id, schema.version] != schema.digest:
                    raise IdempotencyConflict(
                        f"schema {schema.schema_id} {schema.version} is published with other content",
                        remedy="a published schema never changes: raise the version in its $id",
                    )
        self._latest = None

    def find(self, schema_id: str) -> Schema | None:
        """The newest published version of a schema, or ``None``."""
        if self._latest is None:
            self._latest = self._load()
        return self._latest.get(schema_id)

    def schema(self, schema_id: str) -> Schema:
        """The newest published version of a schema.

        Raises:
            ResourceNotFoundError: there is no such schema.
        """
        found = self.find(schema_id)
        if found is None:
            raise ResourceNotFoundError(f"schema {schema_id} is not in the registry", remedy="publish it first")
        return found

    def _load(self) -> dict[str, Schema]:
        with self._database.read() as connection:
            rows = connection.execute(select(schema_version)).all()
        rows = sorted(rows, key=lambda row: tuple(int(part) for part in row.version.split(".")))
        return {row.schema_id: Schema(row.schema_id, row.version, json.loads(row.document)) for row in rows}
