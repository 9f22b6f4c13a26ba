"""What goes wrong around a ledger: locks, full disks, kills, old copies and forgers."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pysqlite3.dbapi2
import pytest

from coafi.database import Database
from coafi.errors import IntegrityError, LedgerUnavailable, Unavailable, ValidationError
from coafi.ledger.checkpoint import open_checkpoint
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.ledger.merkle import leaf_hash
from coafi.ledger.verifier import verify_log
from tests.coafi.ledger.making import HANG, ORIGIN, SIGNER, draft, opened
from tests.coafi.ledger.test_log import execute, only_local, verified
from tests.processes import start


def sql(directory: Path, *statements: str, parameters: tuple[object, ...] = ()) -> None:
    """Write to the database behind the ledger's back, its guards removed."""
    with closing(pysqlite3.dbapi2.connect(str(directory / "coafi.db"))) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS ledger_entry_no_update")
        connection.execute("DROP TRIGGER IF EXISTS ledger_entry_no_delete")
        for statement in statements:
            connection.execute(statement, parameters)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as some other program would."""
    with closing(pysqlite3.dbapi2.connect(str(directory / "coafi.db"), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def fill(directory: Path, count: int) -> None:
    with opened(directory) as ledger:
        ledger.append([draft(i) for i in range(count)])


def copy(directory: Path, target: Path) -> None:
    """A backup of the database, taken with the ledger closed."""
    for suffix in ("", "-wal"):
        if (directory / f"coafi.db{suffix}").exists():
            shutil.copy(directory / f"coafi.db{suffix}", target / f"coafi.db{suffix}")
        else:
            (target / f"coafi.db{suffix}").unlink(missing_ok=True)


# --------------------------------------------------------------- outages


def test_a_locked_database_fails_all_who_wait_and_works_when_it_is_free(tmp_path: Path) -> None:
    with opened(tmp_path, lock_timeout=0.3) as ledger, ThreadPoolExecutor(300) as pool:
        ledger.append([draft("before")])
        with locked(tmp_path):
            began = time.monotonic()
            waiting = [pool.submit(ledger.append, [draft(i)]) for i in range(300)]
            for future in waiting:
                with pytest.raises(LedgerUnavailable, match="locked"):
                    future.result(HANG)
            assert time.monotonic() - began < HANG / 2
            assert ledger.size() == 1
        again = [pool.submit(ledger.append, [draft(i)]) for i in range(300)]
        assert sorted(future.result(HANG)[0].index for future in again) == list(range(1, 301))
        assert verified(ledger) == 301


def test_a_checkpoint_that_cannot_be_published_is_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path, publish_seconds=0.01, lock_timeout=0.1) as ledger:
        state = tmp_path / "state"
        shutil.rmtree(state)
        state.write_text("in the way")
        ledger.append([draft(0)])
        with pytest.raises(Unavailable, match="checkpoint file"):
            ledger.checkpoint(force=True)
        ledger.append([draft(1)])
        time.sleep(0.1)
        state.unlink()
        for _ in range(HANG * 100):
            if (state / "checkpoint").exists():
                break
            time.sleep(0.01)
        assert ledger.checkpoint(force=True).size == 2


def test_a_checkpoint_waits_for_the_process_that_writes_one_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coafi.ledger.signing.WRITE_LOCK_TIMEOUT", 0.1)
    with opened(tmp_path) as ledger:
        with ledger._signer._published.locked(1), pytest.raises(Unavailable, match="held by another process"):
            ledger.checkpoint()
        assert ledger.checkpoint().size == 0


@only_local
def test_a_defect_in_the_ledgers_thread_leaves_nobody_waiting(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(ledger._appender, "_flush", broken)
    with pytest.raises(ZeroDivisionError):
        ledger.append([draft(0)])
    with pytest.raises(LedgerUnavailable, match="closed"):
        ledger.append([draft(0)])
    ledger.close()
    recwarn.clear()


@only_local
def test_a_defect_in_a_group_is_told_to_its_callers_and_ends_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(ledger._appender, "_clock", lambda: 1 // 0)
        ledger.append([draft(0)])
    assert ledger.append([draft(0)])[0].fresh


def test_a_full_disk_is_all_or_nothing_and_space_heals_it(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    database = Database(tmp_path / "coafi.db")
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(count: int) -> None:
        held = [database._adapter.engine.connect() for _ in range(4)]
        for connection in held:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {count}")
            connection.close()

    ledger = Ledger(database, origin=ORIGIN, signer=SIGNER, state_directory=tmp_path / "state", publish_seconds=3600)
    limit(pages + 3)
    big = [draft(f"big{i}", data={"x": "a" * 5_000}) for i in range(50)]
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.append(big)
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.transact(execute("CREATE TABLE large AS SELECT randomblob(1000000) AS x"))
    assert ledger.size() == 10
    assert verified(ledger) == 10
    limit(1_000_000)
    assert all(recorded.fresh for recorded in ledger.append(big))
    assert verified(ledger) == 60
    ledger.close()
    database.close()


@contextmanager
def small_disk(directory: Path, *, owner: int = 0) -> Iterator[Path]:
    """A file system of one megabyte that a user owns, where this machine lets us have one."""
    if shutil.which("mount") is None:
        pytest.skip("no mount (Debian: mount): no disk can be made small here")
    mounted = directory / "disk"
    mounted.mkdir()
    options = f"size=1m,mode=0700,uid={owner}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", mounted], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"only root, on Linux, can make a disk small: {done.stderr.strip()}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


def test_a_disk_that_is_full_loses_nothing_and_space_heals_it(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        with opened(disk, publish_seconds=0.01) as ledger:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(200_000))
            kept = 0
            with pytest.raises(LedgerUnavailable, match=r"full|disk"):
                for kept in range(10_000):
                    ledger.append([draft(kept, data={"x": "a" * 2_000})])
            for _ in range(3):
                with pytest.raises(LedgerUnavailable):
                    ledger.append([draft("again", data={"x": "a" * 60_000})])
            with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while True:
                    filler.write(bytes(512))
            published = (disk / "state" / "checkpoint").read_bytes()
            with suppress(Unavailable):  # it may fit into what is left of a page
                ledger.checkpoint(force=True)
            assert open_checkpoint((disk / "state" / "checkpoint").read_bytes(), SIGNER.key).size <= ledger.size()
            assert published
            assert ledger.size() == kept
            ballast.unlink()
            (disk / "filler").unlink()
            assert ledger.append([draft(kept)])[0].index == kept
            assert verified(ledger) == kept + 1
        with opened(disk) as ledger:
            assert verified(ledger) == kept + 1


def fill_until_limited(directory: str) -> None:
    """In a process that may write no file of more than 1 MB, append until that fails, then checkpoint and read."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(Path(directory)) as ledger:
        try:
            for number in range(10_000):
                ledger.append([draft(number, data={"x": "a" * 2_000})])
        except LedgerUnavailable:
            sys.stdout.write(f"\nkept {ledger.size()}\n")


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """What a runner without privileges can do of a full disk."""
    program = f"from tests.coafi.ledger.test_log_failures import *; fill_until_limited({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=HANG)
    kept = int(done.stdout.partition("\nkept ")[2].split()[0])
    assert kept > 0
    with opened(tmp_path) as ledger:
        assert verified(ledger) == kept
        assert ledger.append([draft(kept)])[0].index == kept


# ------------------------------------------------------ processes and kills


class Appender:
    """A process that appends, and the file it tells what was acknowledged."""

    def __init__(self, directory: Path, first: int, count: int, batch: int) -> None:
        self._told = directory / f"told-{uuid.uuid4().hex}"
        self._errors = self._told.with_suffix(".errors")
        numbers = (str(number) for number in (first, count, batch))
        self.process = start(
            (sys.executable, "-m", "tests.coafi.ledger.making", str(directory), *numbers),
            os.environ,
            self._told,
            errors=self._errors,
        )

    def has_opened(self, path: Path) -> bool:
        """Whether it works with a file already."""
        return any(file.path == str(path) for file in psutil.Process(self.process.pid).open_files())

    def await_first(self) -> None:
        """Wait until something was acknowledged."""
        deadline = time.monotonic() + HANG
        while not self._told.exists() or not self.acknowledged():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def wait(self) -> None:
        """Wait until it has ended, and well."""
        assert self.process.wait(HANG) == 0, self._errors.read_text()

    def kill(self) -> None:
        """Kill it without warning."""
        self.process.kill()
        self.process.wait(HANG)

    def acknowledged(self) -> list[tuple[int, str, bool]]:
        """Index, step and freshness of each entry it was told of, up to the last whole line."""
        lines = [line.split() for line in self._told.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(int(index), step, fresh == "True") for index, step, fresh in lines]


@pytest.mark.soak  # in the suite two processes compete with the same and different keys, see below
def test_processes_that_append_to_one_file_leave_no_gap_and_no_double(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    # Three with entries of their own and two that overlap with the first.
    ranges = [(1_000, 60), (2_000, 60), (3_000, 60), (1_030, 60), (1_000, 60)]
    appenders = [Appender(tmp_path, first, count, 3) for first, count in ranges]
    for appender in appenders:
        appender.wait()
    told = [line for appender in appenders for line in appender.acknowledged()]
    with opened(tmp_path) as ledger:
        assert verified(ledger) == 1 + 60 + 60 + 60 + 30
        steps = {recorded.index: recorded.entry.step for recorded in ledger.entries(0, 1_000)}
    assert len(told) == 300
    assert all(steps[index] == step for index, step, _ in told)
    assert sorted(index for index, _, fresh in told if fresh) == list(range(1, 211))


def compete(directory: Path, *, processes: int, count: int) -> None:
    """Processes append at once, the same keys and others of their own: all get on, and each key is there once."""
    fill(directory, 1)
    with locked(directory):  # until all of them are there
        own = [Appender(directory, 10_000 * (number + 1), count, 2) for number in range(processes)]
        same = [Appender(directory, 1_000_000, count, 2) for _ in range(processes)]
        deadline = time.monotonic() + HANG
        while not all(appender.has_opened(directory / "coafi.db.lock") for appender in own + same):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    while all(appender.process.poll() is None for appender in own):
        time.sleep(0.005)
    assert min(len(appender.acknowledged()) for appender in own) > 0, "one was done before another had got anything"
    for appender in own + same:
        appender.wait()
    told = [line for appender in own + same for line in appender.acknowledged()]
    with opened(directory) as ledger:
        assert verified(ledger) == 1 + count * processes + count
        steps = {recorded.index: recorded.entry.step for recorded in ledger.entries(0, 10**6)}
    assert all(steps[index] == step for index, step, _ in told)
    assert sorted(index for index, _, fresh in told if fresh) == list(range(1, 1 + count * processes + count))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_eight_processes_with_the_same_and_different_keys_write_each_once(tmp_path: Path) -> None:
    compete(tmp_path, processes=8, count=200)


def test_processes_with_the_same_and_different_keys_write_each_once(tmp_path: Path) -> None:
    compete(tmp_path, processes=2, count=30)


def kill_appenders(directory: Path, *, rounds: int, at_once: int) -> None:
    """Kill processes while they append, and check that nothing that was acknowledged is lost.

    The log grows with every round: the whole of it is verified now and then, and at the end.
    """
    kept: dict[int, str] = {}
    for number in range(rounds):
        before = max(kept, default=-1) + 1
        first = 1 + 100_000 * number
        appenders = [Appender(directory, first + 4_500 * i, 9_000, random.choice([1, 7, 50])) for i in range(at_once)]
        for appender in appenders:
            appender.await_first()
            time.sleep(random.uniform(0, 0.1))
            appender.kill()
            kept |= {index: step for index, step, _ in appender.acknowledged()}
        published = open_checkpoint((directory / "state" / "checkpoint").read_bytes(), SIGNER.key)
        with opened(directory) as ledger:
            assert published.size <= ledger.size(), "a checkpoint never says more than the database holds"
            last = number == rounds - 1
            if last or number % 20 == 0:
                assert verified(ledger) > max(kept)
            steps = {one.index: one.entry.step for one in ledger.entries(0 if last else before, 10**9)}
        assert steps.keys() == set(range(0 if last else before, max(steps) + 1)), "there is no gap"
        assert {index: step for index, step in kept.items() if last or index >= before}.items() <= steps.items()
        assert len(set(steps.values())) == len(steps)


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    kill_appenders(tmp_path, rounds=2, at_once=2)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_hundreds_of_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    kill_appenders(tmp_path, rounds=70, at_once=3)


# --------------------------------------------------- old copies and forgers


def test_a_restored_backup_is_refused_with_a_way_out(tmp_path: Path) -> None:
    fill(tmp_path, 300)
    backup = tmp_path / "backup"
    backup.mkdir()
    copy(tmp_path, backup)
    with opened(tmp_path) as ledger:
        ledger.append([draft("more")])
    copy(backup, tmp_path)
    with pytest.raises(IntegrityError, match=r"300 entries, and a checkpoint of 301 .*old copy.*at least 301"):
        fill(tmp_path, 0)


def test_a_backup_that_went_on_by_itself_is_a_fork(tmp_path: Path) -> None:
    fill(tmp_path, 300)
    backup = tmp_path / "backup"
    backup.mkdir()
    copy(tmp_path, backup)
    with opened(tmp_path) as ledger:
        ledger.append([draft("one")])
    with opened(backup) as ledger:
        ledger.append([draft("another"), draft("and more")])
    copy(backup, tmp_path)
    with pytest.raises(IntegrityError, match=r"first 301 entries .* fork"):
        fill(tmp_path, 0)


def test_a_database_that_is_ahead_of_its_checkpoint_is_normal(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    old = (tmp_path / "state" / "checkpoint").read_bytes()
    with opened(tmp_path) as ledger:
        ledger.append([draft(i) for i in range(3, 400)])
    (tmp_path / "state" / "checkpoint").write_bytes(old)
    with opened(tmp_path) as ledger:
        assert verified(ledger) == 400


def test_an_emptied_database_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"coafi.db{suffix}").unlink(missing_ok=True)
    with pytest.raises(IntegrityError, match=r"holds no ledger.*at least 3"):
        fill(tmp_path, 0)


def test_a_lost_checkpoint_file_is_made_again_from_a_sound_database(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    published = tmp_path / "state" / "checkpoint"
    before = published.read_text()
    published.unlink()
    with opened(tmp_path):
        assert published.read_text() == before


def test_without_the_file_the_checkpoint_in_the_database_still_counts(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / "state" / "checkpoint").unlink()
    sql(tmp_path, "UPDATE ledger_checkpoint SET note = 'garbage'")
    with pytest.raises(IntegrityError, match="last checkpoint in the database is not a checkpoint of this ledger"):
        fill(tmp_path, 0)


@pytest.mark.parametrize("content", [b"", b"garbage", b"x" * 100_000])
def test_a_damaged_checkpoint_file_is_refused(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path, 3)
    (tmp_path / "state" / "checkpoint").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"state/checkpoint is not a checkpoint of this ledger.*do not delete"):
        fill(tmp_path, 0)


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    database = Database(tmp_path / "coafi.db")
    with pytest.raises(IntegrityError, match="not signed by"):
        Ledger(database, origin=ORIGIN, signer=Signer(ORIGIN, bytes(32)), state_directory=tmp_path / "state")
    database.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE ledger_head SET root = zeroblob(32)", "head says root 0000"),
        ("UPDATE ledger_head SET size = 299", "head says 299 entries, and the last one has index 299"),
        ("UPDATE ledger_tile SET hashes = zeroblob(length(hashes)) WHERE n = 1", "its tiles give"),
        ("UPDATE ledger_tile SET hashes = x'00' WHERE n = 1", r"tile/0/001 holds 1 bytes"),
        ("DELETE FROM ledger_tile WHERE level = 1", r"tile/1/000 holds 0 bytes"),
        ("DELETE FROM ledger_entry WHERE idx = 299", "the last one has index 298"),
        ("DELETE FROM ledger_head", "holds no ledger"),
    ],
)
def test_a_head_that_is_not_that_of_the_tree_is_refused(tmp_path: Path, statement: str, message: str) -> None:
    fill(tmp_path, 300)
    sql(tmp_path, statement)
    with pytest.raises(IntegrityError, match=message):
        fill(tmp_path, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_head",
        "DELETE FROM ledger_tile WHERE level = 0",
        "INSERT INTO ledger_entry SELECT log_id, 3, zeroblob(32), request, leaf_hash, event_id, type, body"
        " FROM ledger_entry WHERE idx = 0",
    ],
)
def test_a_ledger_that_is_changed_while_it_runs_is_not_extended(tmp_path: Path, statement: str) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(i) for i in range(3)])
        sql(tmp_path, statement)
        for _ in range(2):
            with pytest.raises(IntegrityError):
                ledger.append([draft("more")])


def test_an_old_copy_that_appears_while_it_runs_is_not_extended(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with opened(tmp_path) as ledger:
        ledger.append([draft("more")])
        ledger.checkpoint(force=True)
        sql(
            tmp_path,
            "UPDATE ledger_head SET size = 5, root = (SELECT root FROM ledger_checkpoint WHERE size = 5)",
            "DELETE FROM ledger_entry WHERE idx = 5",
            "UPDATE ledger_tile SET hashes = substr(hashes, 1, 160)",
        )
        before = (tmp_path / "state" / "checkpoint").read_text()
        with pytest.raises(IntegrityError, match="old copy, or has lost entries"):
            ledger.checkpoint(force=True)
        with pytest.raises(IntegrityError, match="5 entries, and had 6 before"):
            ledger.append([draft("forged")])
    assert (tmp_path / "state" / "checkpoint").read_text() == before


def test_a_fork_that_appears_while_it_runs_is_not_signed(tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    forged.mkdir()
    with opened(forged) as ledger:
        ledger.append([draft(i, data={"path": "forged"}) for i in range(7)])
    with opened(tmp_path, publish_seconds=0.01) as ledger:
        ledger.append([draft(i) for i in range(6)])
        ledger.checkpoint(force=True)
        before = (tmp_path / "state" / "checkpoint").read_text()
        with closing(pysqlite3.dbapi2.connect(str(tmp_path / "coafi.db"), timeout=HANG)) as connection, connection:
            connection.execute("ATTACH ? AS forged", (str(forged / "coafi.db"),))
            for statement in (
                "DROP TRIGGER ledger_entry_no_delete",
                "DELETE FROM ledger_head",
                "DELETE FROM ledger_entry",
                "DELETE FROM ledger_tile",
                "INSERT INTO ledger_head SELECT * FROM forged.ledger_head",
                "INSERT INTO ledger_entry SELECT * FROM forged.ledger_entry",
                "INSERT INTO ledger_tile SELECT * FROM forged.ledger_tile",
            ):
                connection.execute(statement)
        with pytest.raises(IntegrityError, match="fork"):
            for number in range(HANG * 100):  # found by the publisher, before the first of them or soon after
                ledger.append([draft(f"after {number}")])
                time.sleep(0.01)
    assert (tmp_path / "state" / "checkpoint").read_text() == before


def test_units_that_wait_when_a_fork_is_found_are_told_so(tmp_path: Path) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        started.set()
        assert release.wait(HANG)

    with opened(tmp_path) as ledger, ThreadPoolExecutor(2) as pool:
        running = pool.submit(ledger.transact, slow)
        assert started.wait(HANG)
        waiting = pool.submit(ledger.append, [draft(0)])
        while not ledger._appender._queue:
            time.sleep(0.001)
        ledger._appender._break(IntegrityError("a fork", remedy="none"))
        with pytest.raises(IntegrityError, match="a fork"):
            waiting.result(HANG)
        release.set()
        running.result(HANG)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entry SET body = CAST('x' || substr(body, 2) AS BLOB) WHERE idx = 3",
        "UPDATE ledger_entry SET leaf_hash = zeroblob(32) WHERE idx = 3",
        "UPDATE ledger_entry SET key = zeroblob(32) WHERE idx = 3",
        "UPDATE ledger_entry SET request = zeroblob(32) WHERE idx = 3",
        "UPDATE ledger_entry SET event_id = 'OTHER' WHERE idx = 3",
        "UPDATE ledger_entry SET type = 'OTHER' WHERE idx = 3",
    ],
)
def test_reading_finds_an_entry_that_was_changed(tmp_path: Path, statement: str) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(i) for i in range(5)])
        sql(tmp_path, statement)
        with pytest.raises(IntegrityError, match="entry 3 "):
            list(ledger.bodies())
        if "body" in statement or "leaf_hash" in statement:
            with pytest.raises(IntegrityError, match="entry 3 was changed"):
                ledger.entry(3)


def test_reading_finds_an_entry_that_was_made_up(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(i) for i in range(2)])
        garbage = b"garbage"
        sql(
            tmp_path,
            "UPDATE ledger_entry SET body = ?, leaf_hash = ? WHERE idx = 1",
            parameters=(garbage, leaf_hash(garbage)),
        )
        with pytest.raises(IntegrityError, match="entry 1 is not an entry"):
            list(ledger.bodies())


@pytest.mark.parametrize("index", [0, 2, 4])
def test_reading_finds_an_entry_that_is_missing(tmp_path: Path, index: int) -> None:
    with opened(tmp_path) as ledger:
        ledger.append([draft(i) for i in range(5)])
        sql(tmp_path, "DELETE FROM ledger_entry WHERE idx = ?", parameters=(index,))
        with pytest.raises(IntegrityError, match=f"entry {index} is missing"):
            ledger.entries(0, 5)
        with pytest.raises(IntegrityError, match=f"entry {index} is missing"):
            list(ledger.bodies())


def test_a_forger_without_the_key_cannot_make_another_history_pass(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    note = (tmp_path / "state" / "checkpoint").read_text()
    forged = tmp_path / "forged"
    forged.mkdir()
    with opened(forged) as ledger:
        ledger.append([draft(i, data={"path": "forged"}) for i in range(5)])
        with pytest.raises(IntegrityError, match="at least one of them was changed"):
            verify_log(ledger.bodies(), note, SIGNER.key)
    with pytest.raises(ValidationError):
        verify_log([], note.replace("\n5\n", "\n0\n"), SIGNER.key)
