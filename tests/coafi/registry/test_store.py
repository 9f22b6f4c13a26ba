import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coafi.database import Database
from coafi.errors import IdempotencyConflict, ResourceNotFoundError
from coafi.registry.store import Registry, builtin_schemas
from coafi.registry.validation import Schema
from tests.postgresql import where


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


def test_the_schemas_of_the_package_are_published_once(database: Database) -> None:
    for _ in range(2):
        registry = Registry(database)
        registry.publish(builtin_schemas())
    assert (
        registry.schema("GitCommitEventPayload").digest
        == {s.schema_id: s for s in builtin_schemas()}["GitCommitEventPayload"].digest
    )


def test_the_newest_version_is_found_by_number_not_by_letter(database: Database) -> None:
    registry = Registry(database)
    registry.publish(tuple(Schema("x", version, {"title": version}) for version in ("1.2.0", "1.10.0", "1.9.9")))
    assert registry.schema("x").version == "1.10.0"
    registry.publish((Schema("x", "2.0.0", {}),))
    assert registry.schema("x").version == "2.0.0"


def test_a_published_version_never_changes(database: Database) -> None:
    registry = Registry(database)
    registry.publish((Schema("x", "1.0.0", {"title": "a"}),))
    with pytest.raises(IdempotencyConflict, match=r"x 1\.0\.0"):
        registry.publish((Schema("x", "1.0.0", {"title": "b"}),))


def test_an_unknown_schema_is_named(database: Database) -> None:
    assert Registry(database).find("nope") is None
    with pytest.raises(ResourceNotFoundError, match="nope"):
        Registry(database).schema("nope")


def test_every_schema_of_the_package_compiles_and_says_what_it_is() -> None:
    for schema in builtin_schemas():
        schema.violations({})
        assert schema.document["title"]
        assert json.dumps(schema.document)
