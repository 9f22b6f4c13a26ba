import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event

from coafi.database import Database
from coafi.errors import IdempotencyConflict, ResourceNotFoundError, Unavailable
from coafi.registry.store import FRESH_SECONDS, PublishedSchemas, builtin_schemas
from coafi.registry.validation import Schema
from tests.coafi.registry.making import Registers
from tests.postgresql import where


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


def test_the_schemas_of_the_package_are_published_once(database: Database) -> None:
    for _ in range(2):
        registry = PublishedSchemas(database)
        registry.publish(builtin_schemas())
    assert (
        registry.schema("GitCommitEventPayload").digest
        == {s.schema_id: s for s in builtin_schemas()}["GitCommitEventPayload"].digest
    )


def test_the_newest_version_is_found_by_number_not_by_letter(database: Database) -> None:
    registry = PublishedSchemas(database)
    registry.publish(tuple(Schema("x", version, {"title": version}) for version in ("1.2.0", "1.10.0", "1.9.9")))
    assert registry.schema("x").version == "1.10.0"
    registry.publish((Schema("x", "2.0.0", {}),))
    assert registry.schema("x").version == "2.0.0"


def test_a_published_version_never_changes(database: Database) -> None:
    registry = PublishedSchemas(database)
    registry.publish((Schema("x", "1.0.0", {"title": "a"}),))
    with pytest.raises(IdempotencyConflict, match=r"x 1\.0\.0"):
        registry.publish((Schema("x", "1.0.0", {"title": "b"}),))


def test_what_another_process_publishes_is_seen_within_a_second(database: Database) -> None:
    now = [100.0]
    here, there = PublishedSchemas(database, clock=lambda: now[0]), PublishedSchemas(database)
    there.publish((Schema("x", "1.0.0", {"title": "a"}), Schema("y", "1.0.0", {})))
    first, other = here.schema("x"), here.schema("y")
    there.publish((Schema("x", "1.1.0", {"title": "b"}),))
    now[0] += FRESH_SECONDS / 2
    assert here.schema("x") is first, "what is known is good for a second"
    now[0] += FRESH_SECONDS / 2
    assert here.schema("x").version == "1.1.0"
    assert here.schema("y") is other, "what is compiled stays so"


def test_schemas_that_are_known_are_not_asked_for_all_the_time(database: Database) -> None:
    now, looks = [0.0], []
    here = PublishedSchemas(database, clock=lambda: now[0])
    here.publish((Schema("x", "1.0.0", {}),))
    event.listen(database._adapter.engine, "before_cursor_execute", lambda *_: looks.append(now[0]))
    for _ in range(1_000):
        here.find("x")
        here.find("none")
        now[0] += FRESH_SECONDS / 100
    assert len([one for one in looks if one == looks[-1]]) == 1 + 2, "begin, count, rollback"
    assert len(set(looks)) == 10


def test_threads_that_look_at_the_same_time_all_find_it(database: Database) -> None:
    here = PublishedSchemas(database)
    here.publish((Schema("x", "1.0.0", {}),))
    here.refresh()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: here.schema("x").version, range(64))) == {"1.0.0"}


def test_a_database_that_is_gone_is_an_outage_and_not_an_old_answer(tmp_path: Path) -> None:
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    here = PublishedSchemas(database)
    here.publish((Schema("x", "1.0.0", {}),))
    assert here.find("x")
    database.close()
    (tmp_path / "coafi.db").rename(tmp_path / "elsewhere")
    (tmp_path / "coafi.db").mkdir()
    here.refresh()
    with pytest.raises(Unavailable):
        here.find("x")


def test_the_package_does_not_replace_what_the_organisation_has_integrated(books: Registers) -> None:
    own = books.publish("frontmatter.general", "5.0.0")
    newer = Schema("frontmatter.general", "6.0.0", {"title": "of a later release"})
    same = Schema("frontmatter.general", "5.0.0", {"title": "of a later release"})
    other = Schema("frontmatter.INFO-SPEC", "6.0.0", {"title": "of a later release"})
    for shipped in ((newer, other), (same, other)):
        books.schemas.publish(shipped)
        assert books.schemas.schema("frontmatter.general").digest == own.digest
        assert books.schemas.schema("frontmatter.INFO-SPEC").version == "6.0.0"


def test_an_unknown_schema_is_named(database: Database) -> None:
    assert PublishedSchemas(database).find("nope") is None
    with pytest.raises(ResourceNotFoundError, match="nope"):
        PublishedSchemas(database).schema("nope")


def test_every_schema_of_the_package_compiles_and_says_what_it_is() -> None:
    for schema in builtin_schemas():
        schema.violations({})
        assert schema.document["title"]
        assert json.dumps(schema.document)
