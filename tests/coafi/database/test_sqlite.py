"""What can go wrong with a file."""

from collections.abc import Iterator
from pathlib import Path

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
