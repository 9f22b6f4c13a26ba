import multiprocessing
import threading
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError as ConstraintError

from coafi.database import Database
from coafi.errors import IntegrityError, Unavailable

scratch = Table("scratch", MetaData(), Column("n", Integer, primary_key=True))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(tmp_path / "x.db", write_lock_timeout=0.3)
    with made.write() as connection:
        scratch.create(connection)
    return made


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(select(scratch.c.n).order_by(scratch.c.n)))


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(KeyError), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        raise KeyError
    assert numbers(database) == []


def test_a_broken_rule_is_not_called_an_outage(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
    with pytest.raises(ConstraintError), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))


def test_a_second_writer_waits_its_turn_and_then_gives_up(database: Database) -> None:
    with database.write():
        with pytest.raises(Unavailable, match="locked") as caught, database.write():
            pass
        other = Database(database.where, write_lock_timeout=0.3)
        with pytest.raises(Unavailable, match="locked"), other.write():
            pass
    assert caught.value.remedy
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
    assert numbers(database) == [1]


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        assert numbers(database) == []
    assert numbers(database) == [1]


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


def _add(path: Path, start: int) -> None:
    database = Database(path, write_lock_timeout=30)
    for n in range(start, start + 50):
        with database.write() as connection:
            connection.execute(insert(scratch).values(n=n))


def test_threads_and_processes_write_side_by_side(database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(database.where, 1000 * n)) for n in range(2)]
    threads = [threading.Thread(target=_add, args=(database.where, 10_000 * n)) for n in range(1, 3)]
    workers: list[multiprocessing.process.BaseProcess | threading.Thread] = [*processes, *threads]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert len(numbers(database)) == 200
