"""What can go wrong with a file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from coafi.database import Database
from coafi.errors import IntegrityError, Unavailable

scratch = Table("scratch", MetaData(), Column("n", Integer, primary_key=True))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "x.db", write_lock_timeout=0.3)
    with made.write() as connection:
        scratch.create(connection)
    yield made
    made.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(select(scratch.c.n).order_by(scratch.c.n)))


def test_a_full_disk_is_an_outage_and_leaves_nothing(database: Database) -> None:
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(Unavailable, match="full"), database.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
        connection.execute(insert(scratch), [{"n": n} for n in range(100_000)])
    assert numbers(database) == []


def test_a_lost_directory_is_an_outage(tmp_path: Path) -> None:
    database = Database(tmp_path / "nowhere" / "x.db")
    with pytest.raises(Unavailable), database.read():
        pass
    with pytest.raises(Unavailable), database.write():
        pass


def test_a_glance_waits_for_nobody(database: Database) -> None:
    ask = "SELECT n FROM scratch WHERE n > ? ORDER BY n"
    assert database.glance(ask, (0,)) == []
    with database.write() as connection:
        connection.execute(insert(scratch), [{"n": n} for n in range(3)])
        assert database.glance(ask, (0,)) == []  # a writer is at work: what is committed is what is seen
    assert database.glance(ask, (0,)) == [(1,), (2,)]
    database.close()
    assert database.glance(ask, (1,)) == [(2,)]
    with pytest.raises(Unavailable, match="at once"):
        database.glance("SELECT n FROM elsewhere", ())
    assert database.glance(ask, (1,)) == [(2,)]


def test_a_glance_does_not_wait_for_a_lock(database: Database) -> None:
    numbers(database)
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
    database.close()
    with sqlite.connect(str(database.where), isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            database.glance("SELECT n FROM scratch", ())
    other.close()
    assert database.glance("SELECT n FROM scratch", ()) == [(1,)]


def test_one_thread_at_a_time_glances(database: Database) -> None:
    database.glance("SELECT n FROM scratch", ())
    slow = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3000000) SELECT max(n) FROM r"
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(database.glance, slow, ())
        refused = 0
        while not under_way.done():
            try:
                database.glance("SELECT n FROM scratch", ())
            except Unavailable:
                refused += 1
        assert under_way.result() == [(3_000_000,)]
    assert refused


def test_a_damaged_file_is_not_called_an_outage(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch), [{"n": n} for n in range(10_000)])
    database.close()
    path = Path(str(database.where))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(IntegrityError, match="damaged") as caught:
        numbers(database)
    assert caught.value.remedy
