"""What the log asks of its store holds on both databases."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from coafi.database import Database
from coafi.ledger.store import EntryRow, Head, LedgerStore, entry_table, postgresql, sqlite, store_for
from coafi.ledger.tiles import Growth, TileId
from tests.postgresql import use_postgresql, where

ROWS = [
    EntryRow(index, bytes([index % 256]) * 31 + bytes([index // 256]), b"r" * 32, b"\x00" * 32, "é'?%s", "T", b"\xff%")
    for index in range(1_100)
]
FRESH = {TileId(0, 0): b"a" * 32, TileId(0, 2**40): b"b" * 32, TileId(1, 0): b""}
GROWN = {TileId(0, 0): b"c" * 64, TileId(1, 0): b"d" * 32}
BEFORE, AFTER = Head("o", 5, b"1"), Head("o", len(ROWS), b"2")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        use_postgresql(tmp_path, request.getfixturevalue("postgresql").create())
    made = Database(where(tmp_path))
    made.create_tables()
    with made.write() as connection:
        store = store_for(made)
        store.create_head(connection, Head("o", 0, b"0"))
        store.create_head(connection, Head("other", 0, b"0"))
        store.extend(connection, ROWS[:5], Growth(grown={}, fresh=FRESH, edge={}), BEFORE)
        store.extend(connection, ROWS[5:], Growth(grown=GROWN, fresh={}, edge={}), AFTER)
    yield made
    made.close()


def test_what_is_written_is_found(database: Database) -> None:
    store = store_for(database)
    with database.write() as connection:
        assert store.head(connection) == store.head(connection, lock=True) == AFTER
        assert store.last_index(connection) == len(ROWS) - 1
        assert store.entries(connection, 0, len(ROWS)) == ROWS
        wanted = [*(row.key for row in ROWS[10:]), b"unknown"]
        assert store.with_keys(connection, wanted) == {row.key: row for row in ROWS[10:]}
        assert store.with_keys(connection, []) == {}
        ids = [*FRESH, *(TileId(2, n) for n in range(1_000))]
        assert store.tiles(connection, ids) == {**FRESH, **GROWN}
        assert store.tiles(connection, []) == {}


def test_another_log_of_the_database_is_another(database: Database) -> None:
    other = type(store_for(database))(log_id=8)
    with database.write() as connection:
        assert other.head(connection) is None
        assert other.with_keys(connection, [ROWS[0].key]) == {}
        assert other.tiles(connection, FRESH) == {}
        other.create_head(connection, BEFORE)
        other.extend(connection, ROWS[:5], Growth(grown={}, fresh=FRESH, edge={}), BEFORE)
        other.extend(connection, ROWS[5:6], Growth(grown=GROWN, fresh={}, edge={}), Head("o", 6, b"3"))
        assert other.head(connection) == Head("o", 6, b"3")
        assert store_for(database).head(connection) == AFTER
        assert store_for(database).tiles(connection, FRESH) == {**FRESH, **GROWN}


@pytest.mark.parametrize(
    ("rows", "fresh"), [(ROWS[:1], {}), ([ROWS[0]._replace(idx=2_000)], {}), ([ROWS[0]._replace(key=b"k")], {}),
                        ([ROWS[0]._replace(idx=2_000, key=b"k")], {TileId(0, 0): b""})],
    ids=["entry", "key", "index", "tile"],
)  # fmt: skip
def test_what_is_there_is_not_written_over(
    database: Database, rows: list[EntryRow], fresh: dict[TileId, bytes]
) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        store_for(database).extend(connection, rows, Growth(grown={}, fresh=fresh, edge={}), BEFORE)
    with database.read() as connection:
        assert store_for(database).head(connection) == AFTER
        assert store_for(database).last_index(connection) == len(ROWS) - 1


def test_the_text_names_the_columns_in_the_order_of_their_values() -> None:
    columns = ", ".join(EntryRow._fields)
    for words in (sqlite, postgresql):
        assert columns in words._WITH_KEYS
    assert f"(log_id, {columns})" in sqlite._ADD_ENTRIES
    assert f"(log_id, {columns})" in postgresql._EXTEND
    assert {column.name for column in entry_table.c} == {"log_id", *EntryRow._fields}


def test_bytes_that_come_by_the_hundred_go_to_sqlite_in_the_type_that_it_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each ``bytes`` its driver looks for an adapter, which takes as long as to insert it."""
    given: list[object] = []
    driver = sqlite._driver

    class Spy:
        def __init__(self, connection: Connection) -> None:
            self._driver = driver(connection)

        def execute(self, statement: str, values: Sequence[object]) -> object:
            given.extend(values)
            return self._driver.execute(statement, values)

        def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> object:
            kept = list(rows)
            given.extend(value for row in kept for value in row)
            return self._driver.executemany(statement, kept)

    made = Database(tmp_path / "coafi.db")
    made.create_tables()
    with monkeypatch.context() as patch, made.write() as connection:
        patch.setattr(sqlite, "_driver", Spy)
        store = store_for(made)
        store.extend(connection, ROWS, Growth(grown={}, fresh={}, edge={}), AFTER)
        assert store.with_keys(connection, [row.key for row in ROWS]).keys() == {row.key for row in ROWS}
    assert [value for value in given if isinstance(value, bytes)] == [AFTER.root]
    with made.read() as connection:
        stored = connection.exec_driver_sql("SELECT DISTINCT typeof(key), typeof(body) FROM ledger_entry").all()
    assert stored == [("blob", "blob")]
    made.close()


def test_a_store_that_lacks_a_statement_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        LedgerStore()  # type: ignore[abstract]  # that is the point
