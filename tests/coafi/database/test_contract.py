"""What both databases promise."""

import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError as ConstraintError

from coafi.database import Database, PostgresqlAddress, storable, text
from coafi.database.statements import insert_missing, insert_or_replace
from coafi.errors import Unavailable
from tests.postgresql import where
from tests.processes import FORKS

scratch = Table("scratch", MetaData(), Column("n", Integer, primary_key=True))


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place), write_lock_timeout=0.3)
    with made.write() as connection:
        scratch.create(connection)
    yield made
    made.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(select(scratch.c.n).order_by(scratch.c.n)))


def lock(connection: Connection) -> None:
    """Make others wait: on SQLite every writer does so anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE scratch")


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
    other = Database(database.where, write_lock_timeout=0.3)
    with database.write() as connection:
        lock(connection)
        for one in (database, other):
            with pytest.raises(Unavailable, match="locked") as caught, one.write() as second:
                lock(second)
            assert caught.value.remedy
    other.close()
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
    assert numbers(database) == [1]


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        assert numbers(database) == []
    assert numbers(database) == [1]


def _add(place: Path | PostgresqlAddress, start: int) -> None:
    database = Database(place, write_lock_timeout=30)
    for n in range(start, start + 50):
        with database.write() as connection:
            connection.execute(insert(scratch).values(n=n))


def test_threads_and_processes_write_side_by_side(database: Database) -> None:
    processes = [FORKS.Process(target=_add, args=(database.where, 1000 * n)) for n in range(2)]
    threads = [threading.Thread(target=_add, args=(database.where, 10_000 * n)) for n in range(1, 3)]
    workers: list[multiprocessing.process.BaseProcess | threading.Thread] = [*processes, *threads]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert len(numbers(database)) == 200


def test_a_read_sees_one_state_however_long_it_takes(database: Database) -> None:
    with database.read() as connection:
        query = select(scratch.c.n)
        assert connection.execute(query).all() == []
        with database.write() as writer:
            writer.execute(insert(scratch).values(n=1))
        assert connection.execute(query).all() == []
    assert numbers(database) == [1]


def test_a_failed_statement_in_a_savepoint_is_undone_alone(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        connection.exec_driver_sql("SAVEPOINT unit")
        with pytest.raises(ConstraintError):
            connection.execute(insert(scratch), [{"n": 2}, {"n": 1}])
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unit")
        connection.execute(insert(scratch).values(n=3))
    assert numbers(database) == [1, 3]


def test_a_transaction_that_somebody_ended_is_not_taken_for_committed(database: Database) -> None:
    with pytest.raises(Unavailable), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        connection.exec_driver_sql("ROLLBACK")
    assert numbers(database) == []


def test_text_is_sorted_byte_by_byte_and_keeps_every_character(database: Database) -> None:
    names = Table("names", MetaData(), Column("name", text(), primary_key=True))
    words = ["b", "B", "a-b", "ab", "ä", "\u2028", "\U0001f600", storable("x\0\ud800")]
    with database.write() as connection:
        names.create(connection)
        insert_missing(connection, names, [{"name": word} for word in words])
        insert_missing(connection, names, [{"name": word} for word in words])
    with database.read() as connection:
        assert list(connection.scalars(select(names.c.name).order_by(names.c.name))) == sorted(words)


def test_the_last_writer_replaces(database: Database) -> None:
    pairs = Table("pairs", MetaData(), Column("a", Integer, primary_key=True), Column("b", text(20)))
    with database.write() as connection:
        pairs.create(connection)
        insert_or_replace(connection, pairs, [{"a": 2, "b": "x"}, {"a": 1, "b": "x"}])
        insert_or_replace(connection, pairs, [{"a": 1, "b": "y"}])
        insert_or_replace(connection, pairs, [])
        assert connection.execute(select(pairs).order_by(pairs.c.a)).all() == [(1, "y"), (2, "x")]
