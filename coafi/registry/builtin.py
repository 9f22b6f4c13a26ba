"""The schemas that ship with the package. Without a database: a check on a laptop needs nothing else."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import cast

from coafi.canonical import JsonObject
from coafi.registry.validation import Schema

_URN = re.compile(r"^urn:coafi:schema:(?P<schema_id>[A-Za-z0-9._-]+):(?P<version>\d+\.\d+\.\d+)$")


@cache
def builtin_schemas() -> tuple[Schema, ...]:
    """The schemas that ship with the package, one JSON file each, known by the URN in their ``$id``."""
    folder = files("coafi.registry") / "schemas"
    return tuple(
        _parse(item.name, cast("JsonObject", json.loads(item.read_text("utf-8"))))
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".json")
    )


class BuiltinSchemas:
    """Looks schemas up among those of the package: the newest of each, as there is only one."""

    def __init__(self) -> None:
        self._by_id = {schema.schema_id: schema for schema in builtin_schemas()}

    def find(self, schema_id: str) -> Schema | None:
        """The schema with this id, or ``None``."""
        return self._by_id.get(schema_id)


def _parse(file_name: str, document: JsonObject) -> Schema:
    match = _URN.fullmatch(str(document.get("$id")))
    if match is None or f"{match['schema_id']}.json" != file_name:
        raise ValueError(f"{file_name}: $id must be urn:coafi:schema:{file_name.removesuffix('.json')}:<version>")
    return Schema(match["schema_id"], match["version"], document)
