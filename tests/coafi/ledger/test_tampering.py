"""Every byte of a small ledger is flipped, one at a time: it is found at the start or by the audit, and named."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pysqlite3.dbapi2
import pytest
import structlog

from coafi.database import Database
from coafi.errors import IntegrityError, Unavailable, ValidationError
from coafi.ledger.audit import audit
from coafi.ledger.entry import Entry
from coafi.ledger.keyfile import HeldKey
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.ledger.merkle import leaf_hash
from coafi.ledger.rotation import rotate
from tests.coafi.ledger.making import ORIGIN, SIGNER, draft, opened
from tests.coafi.ledger.test_log_failures import fill, sql

ENTRIES = 4
NEXT = Signer(ORIGIN, bytes(range(1, 33)))

# What the message must name, by table; {} is the row.
COLUMNS = {
    ("ledger_head", "origin"): r"holds the log|origin",
    ("ledger_head", "root"): r"the ledger's head says root",
    ("ledger_entry", "key"): r"entry {} ",
    ("ledger_entry", "request"): r"entry {} ",
    ("ledger_entry", "leaf_hash"): r"entry {}\b",
    ("ledger_entry", "event_id"): r"entry {} ",
    ("ledger_entry", "type"): r"entry {} ",
    ("ledger_entry", "body"): r"entry {} ",
    ("ledger_tile", "hashes"): r"tile/0/000|its tiles give",
    ("ledger_checkpoint", "root"): r"checkpoint of {} entries|another root",
    (
        "ledger_checkpoint",
        "note",
    ): r"checkpoint of {} entries|in the database|column 'note'|signed by both keys",
}


def small(directory: Path) -> None:
    """A ledger with several entries and checkpoints, and two keys."""
    database = Database(directory / "coafi.db")
    database.create_tables()
    key = HeldKey(SIGNER, NEXT)
    ledger = Ledger(database, origin=ORIGIN, signer=key, state_directory=directory / "state", publish_seconds=3600)
    for number in range(ENTRIES - 1):
        ledger.append([draft(number)])
        if number % 2:
            ledger.checkpoint(force=True)
    rotate(ledger, NEXT)
    ledger.close()
    database.close()
    with closing(pysqlite3.dbapi2.connect(str(directory / "coafi.db"))) as connection, connection:
        connection.execute("DROP TRIGGER ledger_entry_no_update")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def look(directory: Path) -> None:
    """Start a ledger and audit it."""
    database = Database(directory / "coafi.db")
    try:
        ledger = Ledger(database, origin=ORIGIN, signer=NEXT, state_directory=directory / "state", publish_seconds=3600)
        try:
            audit(ledger)
        finally:
            ledger.close()
    finally:
        database.close()


def flips(data: bytes, every: int) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), every):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        yield at, bytes(changed)


def flip_everything(directory: Path, *, every: int) -> int:
    """Flip each byte of each column of each row in turn, and put it back; how many that were."""
    small(directory)
    look(directory)
    count = 0
    with closing(pysqlite3.dbapi2.connect(str(directory / "coafi.db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for (table, column), message in COLUMNS.items():
            name = {"ledger_entry": "idx", "ledger_checkpoint": "size"}.get(table, "log_id")
            query = f"SELECT rowid, {name}, CAST({column} AS BLOB), typeof({column}) FROM {table}"  # noqa: S608
            rows = connection.execute(query)
            for rowid, row, data, kind in rows.fetchall():
                put = f"UPDATE {table} SET {column} = CAST(? AS {kind}) WHERE rowid = ?"  # noqa: S608
                for at, changed in flips(data, every):
                    connection.execute(put, (changed, rowid))
                    with pytest.raises((IntegrityError, ValidationError)) as caught:
                        look(directory)
                    said = str(caught.value)
                    place = f"byte {at} of {column} in row {row} of {table}: {said}"
                    assert re.search(message.format(row), said), place
                    connection.execute(put, (data, rowid))
                    count += 1
    look(directory)
    return count


def test_flipped_bytes_of_every_column_are_found_and_named(tmp_path: Path) -> None:
    assert flip_everything(tmp_path, every=37) > 90


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_flipped_byte_of_every_column_is_found_and_named(tmp_path: Path) -> None:
    assert flip_everything(tmp_path, every=1) > 3_000


def test_every_flipped_byte_of_the_checkpoint_file_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    published = tmp_path / "state" / "checkpoint"
    good = published.read_bytes()
    for _, changed in flips(good, 1):
        published.write_bytes(changed)
        with pytest.raises(IntegrityError, match="state/checkpoint is not a checkpoint of this ledger"):
            fill(tmp_path, 0)
    published.write_bytes(good)
    fill(tmp_path, 0)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE ledger_entry SET idx = 99 WHERE idx = 1", "head says 4 entries"),
        ("UPDATE ledger_head SET size = 3", "head says 3 entries"),
        ("UPDATE ledger_tile SET n = 1", "tile/0/000 holds 0 bytes"),
        ("UPDATE ledger_tile SET level = 1", "tile/0/000 holds 0 bytes"),
        ("UPDATE ledger_checkpoint SET size = 3 WHERE size = 2", "stored as one of 3"),
        ("UPDATE ledger_checkpoint SET size = -3 WHERE size = 2", "stored as one of -3"),
        ("UPDATE ledger_checkpoint SET note = '' WHERE size = 2", "checkpoint of 2 entries"),
        ("INSERT INTO ledger_tile SELECT log_id, 1, 0, hashes FROM ledger_tile", "tile/1/000 is not that"),
        ("INSERT INTO ledger_tile SELECT log_id, 0, 7, hashes FROM ledger_tile", "tile/0/007 is not that"),
        ("UPDATE ledger_tile SET hashes = CAST(hashes || zeroblob(32) AS BLOB)", "hash 4 of tile/0/000"),
    ],
)
def test_rows_that_were_moved_added_or_emptied_are_found(tmp_path: Path, statement: str, message: str) -> None:
    small(tmp_path)
    sql(tmp_path, statement)
    with pytest.raises(IntegrityError, match=message):
        look(tmp_path)


def test_an_entry_that_says_a_member_twice_is_found(tmp_path: Path) -> None:
    """Other programs read the first of two members: signed or not, such bytes are no entry."""
    with opened(tmp_path) as ledger:
        ledger.append([draft(0)])
        body = ledger.entry(0).body
    double = body.replace(b'{"data"', b'{"event":"other","data"')
    assert Entry.parse(double).event_id == "e1"
    sql(tmp_path, "UPDATE ledger_entry SET body = ?, leaf_hash = ?", parameters=(double, leaf_hash(double)))
    with opened(tmp_path) as ledger, pytest.raises(IntegrityError, match="entry 0"):
        audit(ledger)


def test_times_that_go_back_are_counted_and_no_error(tmp_path: Path) -> None:
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 100, 40, 70, 200))
    with opened(tmp_path) as ledger:
        ledger._appender._clock = lambda: next(moments)
        for number in range(5):
            ledger.append([draft(number)])
        report = audit(ledger)
    assert report.steps_back == 2
    assert report.worst == (2, 60.0)


def test_a_time_that_is_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(0)])
        monkeypatch.setattr("coafi.ledger.appending.timestamp", lambda _: "2020-13-99T99:99:99.999Z")
        ledger.append([draft(1)])
        with pytest.raises(IntegrityError, match="entry 1 has the time '2020-13"):
            audit(ledger)


# ------------------------------------------------------ backups and the state


def test_a_backup_with_the_wal_of_a_later_day_is_refused(tmp_path: Path) -> None:
    """Half a restore: the old main file beside the newer log of writes, which SQLite applies or drops."""
    fill(tmp_path, 40)
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(tmp_path / "coafi.db", backup)
    with opened(tmp_path) as ledger:
        ledger.append([draft(f"more/{i}") for i in range(400)])
        ledger.checkpoint(force=True)
        shutil.copy(tmp_path / "coafi.db-wal", backup)
        ledger.append([draft(f"most/{i}") for i in range(400)])
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"coafi.db{suffix}").unlink(missing_ok=True)
    for with_wal in (False, True):
        shutil.copy(backup / "coafi.db", tmp_path)
        if with_wal:
            shutil.copy(backup / "coafi.db-wal", tmp_path)
        with pytest.raises(IntegrityError, match=r"old copy|holds no ledger|damaged"):
            fill(tmp_path, 0)


def test_a_link_or_a_pipe_in_the_place_of_the_checkpoint_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    published = tmp_path / "state" / "checkpoint"
    elsewhere = tmp_path / "elsewhere"
    published.rename(elsewhere)
    published.symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="checkpoint file"):
        fill(tmp_path, 0)
    published.unlink()
    os.mkfifo(published)
    with pytest.raises(IntegrityError, match="is not a checkpoint"):
        fill(tmp_path, 0)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    with opened(tmp_path) as ledger:
        (tmp_path / "state" / "checkpoint.new").symlink_to(precious)
        ledger.append([draft(0)])
        with pytest.raises(Unavailable, match="out of reach"):
            ledger.checkpoint(force=True)
        assert precious.read_text() == "precious"
        (tmp_path / "state" / "checkpoint.new").unlink()


def test_a_clock_set_back_delays_no_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(0)])
        ledger.checkpoint(force=True)
        ledger.append([draft(1)])
        os.utime(tmp_path / "state" / "checkpoint", (4e9, 4e9))  # written in the future, it seems
        assert ledger.checkpoint().size == 2


def test_the_state_of_another_machine_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for directory, count in ((one, 3), (other, 5)):
        directory.mkdir()
        fill(directory, count)
    with opened(other) as ledger:
        ledger.append([draft("more")])
    shutil.copytree(other / "state", one / "state", dirs_exist_ok=True)
    with pytest.raises(IntegrityError, match="3 entries, and a checkpoint of 6"):
        fill(one, 0)
    fill_more(one)
    with pytest.raises(IntegrityError, match="a fork"):
        fill(one, 0)


def fill_more(directory: Path) -> None:
    """Make it longer than the other machine's, without its state."""
    shutil.rmtree(directory / "state")
    with structlog.testing.capture_logs() as said, opened(directory) as ledger:
        ledger.append([draft(i) for i in range(100, 110)])
    assert [line["event"] for line in said] == ["ledger_state_missing"]
    shutil.copytree(directory.parent / "other" / "state", directory / "state", dirs_exist_ok=True)
