"""Schemas by id and version, in the database: loaded from the package, immutable once they are there."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import cast

from sqlalchemy import Column, String, Table, Text, insert, select

from coafi.canonical import JsonObject, canonical_json
from coafi.database import Database, metadata
from coafi.errors import IdempotencyConflict, ResourceNotFoundError
from coafi.registry.validation import Schema

schema_version = Table(
    "schema_version",
    metadata,
    Column("schema_id", String(200), primary_key=True),
    Column("version", String(40), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("document", Text, nullable=False),
)

_URN = re.compile(r"^urn:coafi:schema:(?P<schema_id>[A-Za-z0-9._-]+):(?P<version>\d+\.\d+\.\d+)$")


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
        with self._database.write() as connection:
            known = {
                (row.schema_id, row.version): row.digest
                for row in connection.execute(
                    select(schema_version.c.schema_id, schema_version.c.version, schema_version.c.digest)
                )
            }
            for schema in schemas:
                existing = known.get((schema.schema_id, schema.version))
                if existing is None:
                    connection.execute(
                        insert(schema_version).values(
                            schema_id=schema.schema_id,
                            version=schema.version,
                            digest=schema.digest,
                            document=canonical_json(schema.document).decode(),
                        )
                    )
                elif existing != schema.digest:
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


@cache
def builtin_schemas() -> tuple[Schema, ...]:
    """The schemas that ship with the package, one JSON file each, known by the URN in their ``$id``."""
    folder = files("coafi.registry") / "schemas"
    return tuple(
        _parse(item.name, cast("JsonObject", json.loads(item.read_text("utf-8"))))
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".json")
    )


def _parse(file_name: str, document: JsonObject) -> Schema:
    match = _URN.fullmatch(str(document.get("$id")))
    if match is None or f"{match['schema_id']}.json" != file_name:
        raise ValueError(f"{file_name}: $id must be urn:coafi:schema:{file_name.removesuffix('.json')}:<version>")
    return Schema(match["schema_id"], match["version"], document)
