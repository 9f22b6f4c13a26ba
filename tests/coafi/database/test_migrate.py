"""Versions of the tables, on both databases."""

import gzip
import importlib
import multiprocessing
import pkgutil
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

import coafi
from coafi.database import Database, PostgresqlAddress, migrate
from coafi.database.migrate import Standing, State
from coafi.deliveries import DeliveryReader
from coafi.errors import CoafiError, ResourceNotFoundError, Unavailable, ValidationError
from coafi.federation.witnessed import Grade, SplitView, WitnessRecord, keep_split_view
from coafi.ledger.fork import Fork
from coafi.ledger.verifier import verify_log
from coafi.objects.local import LocalObjectStore
from coafi.results import ResultReader
from coafi.trees.facts import FactsStore
from coafi.trees.listing import TreeFile
from coafi.trees.recorder import TreeRecorder
from coafi.utids import temporary_utids
from tests.coafi.ledger.making import SIGNER, draft, opened
from tests.postgresql import PostgresqlServer, where
from tests.processes import FORKS
from tests.strength import size

BEFORE = Path(__file__).parent / "before-versions"
"""What the last version without migrations made: a database, packed, and the checkpoint outside of it."""


UNDO_0003 = (
    "DROP TABLE registry_entry",
    "DROP TABLE registry_version",
    "DROP TABLE registry_tag",
    "DROP TABLE registry_reservation",
    "DROP TABLE api_answer",
    "DROP TABLE entry_verdict",
    "DROP INDEX delivery_temporary_utids",
    "ALTER TABLE delivery DROP COLUMN temporary_utids",
)

UNDO_0005 = (
    "DROP TABLE peer_sent",
    "DROP TABLE learned_directory",
    "DROP INDEX delivery_push",
    "DROP INDEX delivery_branch",
    *(f"ALTER TABLE delivery DROP COLUMN {name}" for name in ("push", "branch", "entry", "duplicate_of")),
    "DROP TABLE split_view",
    "CREATE TABLE split_view (origin TEXT, grade TEXT, peer TEXT NOT NULL, kept TEXT NOT NULL, shown TEXT NOT NULL,"
    " fork TEXT, problem TEXT NOT NULL, found TEXT NOT NULL, entry BIGINT, PRIMARY KEY (origin, grade))",
)

UNDO_0004 = (
    "DROP TABLE follower",
    "DROP TABLE entity_finding",
    "DROP TABLE peer",
    "DROP TABLE peer_key",
    "DROP TABLE peer_nonce",
    "DROP TABLE peer_object",
    "DROP TABLE peer_position",
    "DROP TABLE ledger_cosignature",
    "DROP TABLE witnessed",
    "DROP TABLE split_view",
    "DROP TABLE task_result",
    "DROP TABLE known_push",
    "DROP TABLE known_push_position",
)


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    yield made
    made.close()


def run(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_the_versions_make_exactly_the_tables_that_are_declared(database: Database) -> None:
    assert migrate.state_of(database).standing is Standing.EMPTY
    assert migrate.migrate(database) == State(Standing.EMPTY, None, migrate.VERSIONS)
    assert migrate.state_of(database) == State(Standing.CURRENT, migrate.NEWEST, ())
    assert migrate.differences(database) == []
    assert migrate.migrate(database).standing is Standing.CURRENT


def test_what_differs_is_named(database: Database) -> None:
    migrate.migrate(database)
    run(
        database,
        "DROP INDEX delivery_utids",
        "ALTER TABLE delivery ADD COLUMN odd INTEGER",
        "DROP TABLE artifact_cache",
    )
    found = " / ".join(migrate.differences(database))
    for word in ("delivery_utids", "odd", "artifact_cache"):
        assert word in found


def test_every_table_has_an_owner_that_is_known() -> None:
    modules = [one.name for one in pkgutil.walk_packages(coafi.__path__, "coafi.") if ".migrations" not in one.name]
    sources = {name: Path(str(importlib.import_module(name).__file__)).read_text() for name in modules}
    owners = {name for name, source in sources.items() if re.search(r"^\w+ = Table\(", source, re.MULTILINE)}
    assert owners == set(migrate.TABLE_OWNERS)


def test_the_versions_that_are_known_are_those_that_there_are() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert tuple(reversed([one.revision for one in script.walk_revisions()])) == migrate.VERSIONS


def test_text_on_postgresql_is_compared_byte_by_byte(postgresql: PostgresqlServer) -> None:
    database = Database(PostgresqlAddress.parse(postgresql.create()))
    migrate.migrate(database)
    query = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND collation_name IS DISTINCT FROM 'C' AND data_type IN ('text', 'character varying')"
    )
    with database.read() as connection:
        assert connection.execute(text(query)).all() == [("alembic_version", "version_num")]
    database.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A home of the last version without migrations."""
    shutil.copytree(BEFORE / "state", tmp_path / "state")
    (tmp_path / "coafi.db").write_bytes(gzip.decompress((BEFORE / "coafi.db.gz").read_bytes()))
    return tmp_path


def test_a_file_from_before_versions_is_adopted_with_all_it_holds(old: Path) -> None:
    database = Database(old / "coafi.db")
    assert migrate.state_of(database) == State(Standing.BEHIND, None, migrate.VERSIONS)
    with pytest.raises(ValidationError, match=r"at version none.*coafi database migrate"):
        migrate.require_current(database)
    migrate.migrate(database)
    migrate.require_current(database)
    assert migrate.differences(database) == []
    assert FactsStore(database).paths(["COAFI-X"], 10) == {"COAFI-X": ["docs/0.md", "docs/ä.md"]}
    assert [one.delivery_id for one in DeliveryReader(database).recent(9)] == ["d1"]
    assert (
        ResultReader(database).latest("https://example.org/a", "main", [("docs/0.md", "b" * 40)])["docs/0.md"].entry
        == 0
    )
    database.close()
    with opened(old) as ledger:
        first = replace(draft(0), namespace="default")
        assert [one.index for one in ledger.append([first, draft("more")])] == [0, 20]
        signed = ledger.checkpoint(force=True)
        assert verify_log(ledger.bodies(), signed.note, SIGNER.key, stored_tiles=ledger.tiles()).checkpoint.size == 21


def test_a_file_from_before_that_lacks_newer_tables_gets_them(old: Path) -> None:
    database = Database(old / "coafi.db")
    run(database, "DROP TABLE document_summary", "DROP TABLE document_path", "DROP INDEX delivery_utids")
    migrate.migrate(database)
    assert migrate.differences(database) == []
    database.close()


def test_a_migration_that_fails_leaves_all_as_it_was(old: Path) -> None:
    database = Database(old / "coafi.db")
    run(database, "CREATE TABLE document_path_before (n INTEGER)")
    with pytest.raises(Unavailable, match="document_path_before"):
        migrate.migrate(database)
    assert migrate.state_of(database).version is None
    run(database, "DROP TABLE document_path_before")
    migrate.migrate(database)
    assert FactsStore(database).paths(["COAFI-X"], 10) == {"COAFI-X": ["docs/0.md", "docs/ä.md"]}
    database.close()


def test_an_older_version_is_named_and_gets_what_is_missing(database: Database) -> None:
    migrate.migrate(database)
    run(
        database,
        "UPDATE alembic_version SET version_num = '0001'",
        *UNDO_0005,
        *UNDO_0004,
        *UNDO_0003,
        "DROP TABLE document_path",
        "CREATE TABLE document_path (document_id TEXT, path TEXT, PRIMARY KEY (document_id, path))",
    )
    assert migrate.state_of(database) == State(Standing.BEHIND, "0001", migrate.VERSIONS[1:])
    with pytest.raises(ValidationError, match=rf"at version 0001, and this software needs {migrate.NEWEST}"):
        migrate.require_current(database)
    migrate.migrate(database)
    assert migrate.differences(database) == []


def test_deliveries_from_before_are_found_by_their_temporary_utids(database: Database) -> None:
    migrate.migrate(database)
    run(database, "UPDATE alembic_version SET version_num = '0002'", *UNDO_0005, *UNDO_0004, *UNDO_0003)
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO delivery (source, delivery_id, event_type, workflow_id, run_id, body_digest, utids,"
                " subject, received_at) VALUES (:source, :id, 'git.commit', :id, 'r', :body, 'UTIDS-P-1', 's', 't')"
            ),
            [{"source": f"https://example.org/{n % 7}", "id": f"d{n}", "body": f"{n:064x}"} for n in range(2_500)],
        )
    migrate.migrate(database)
    assert migrate.differences(database) == []
    reader = DeliveryReader(database)
    for n in (0, 999, 1_000, 1_001, 2_499):
        source = f"https://example.org/{n % 7}"
        utids = temporary_utids("git.commit", source, f"d{n}", f"{n:064x}")
        found = reader.by_utids(utids)
        assert found is not None
        assert (found.source, found.delivery_id, found.temporary_utids) == (source, f"d{n}", utids)
        assert reader.find(utids) == (found,)


def test_trees_from_before_are_learned_once_more(database: Database, tmp_path: Path) -> None:
    """What was learned of them was noted by the listing alone, which says nothing of where it is, nor of a database."""
    migrate.migrate(database)
    trees = TreeRecorder(database, LocalObjectStore(tmp_path / "objects"))
    files = [TreeFile("docs/a.md", "100644", "a" * 40)]
    content = b"---\ndocument_id: COAFI-X\n---\n"
    root = trees.record(trees.plan(files), lambda blobs: ((one, content) for one in blobs))
    run(database, "UPDATE alembic_version SET version_num = '0004'", *UNDO_0005, "DELETE FROM document_path")
    migrate.migrate(database)
    assert not trees.has(root)
    plan = trees.plan(files)
    assert ([one.path for one in plan.new], plan.documents) == (["docs", ""], ())
    assert trees.record(plan, lambda _blobs: iter(())) == root
    assert FactsStore(database).paths(["COAFI-X"], 10) == {"COAFI-X": ["docs/a.md"]}
    assert trees.has(root)
    assert trees.plan(files).new == ()


def test_split_views_from_before_are_kept(database: Database) -> None:
    migrate.migrate(database)
    run(database, "UPDATE alembic_version SET version_num = '0004'", *UNDO_0005)
    insert = (
        "INSERT INTO split_view (origin, grade, peer, kept, shown, fork, problem, found, entry)"
        " VALUES ('log.example', :grade, 'plant-b', 'k', 's', :fork, 'p', 'f', :entry)"
    )
    fork = Fork(smaller="k", larger="s")
    with database.write() as connection:
        connection.execute(text(insert), {"grade": "proved", "fork": fork.model_dump_json(), "entry": 7})
        connection.execute(text(insert), {"grade": "unproved", "fork": None, "entry": None})
    migrate.migrate(database)
    assert migrate.differences(database) == []
    proof, doubt = WitnessRecord(database).split_views()
    assert proof == SplitView("log.example", Grade.PROVED, "plant-b", "k", "s", fork, "p", "f", entry=7, key="")
    assert (doubt.grade, doubt.key, doubt.entry) == (Grade.UNPROVED, "", None)
    with database.write() as connection:
        assert keep_split_view(connection, replace(proof, key="log.example+1+a"))
        assert not keep_split_view(connection, replace(proof, key="log.example+1+a", problem="another"))
    assert [one.key for one in WitnessRecord(database).split_views()] == ["", "log.example+1+a", ""]


def test_a_newer_database_is_refused_with_a_way_out(database: Database) -> None:
    migrate.migrate(database)
    run(database, "UPDATE alembic_version SET version_num = '9999'")
    for use in (migrate.migrate, migrate.require_current):
        with pytest.raises(ValidationError, match=r"version 9999.*newer software, or restore"):
            use(database)


def test_a_database_without_tables_is_not_read(database: Database) -> None:
    run(database, "CREATE TABLE somebody_elses (n INTEGER)")
    with pytest.raises(ResourceNotFoundError, match="has no tables"):
        migrate.require_current(database)


def _start(place: Path | PostgresqlAddress, answers: "multiprocessing.Queue[str]") -> None:
    database = Database(place)
    try:
        answers.put(migrate.migrate(database).standing.value)
    except CoafiError as error:
        answers.put(str(error))


@pytest.mark.also_in_soak
def test_processes_that_start_at_once_migrate_once(database: Database) -> None:
    answers: multiprocessing.Queue[str] = FORKS.Queue()
    processes = [FORKS.Process(target=_start, args=(database.where, answers)) for _ in range(size(2, soak=10))]
    for one in processes:
        one.start()
    said = sorted(answers.get(timeout=120) for _ in processes)
    for one in processes:
        one.join()
    assert said == ["current"] * (len(processes) - 1) + ["empty"]
    assert migrate.differences(database) == []
