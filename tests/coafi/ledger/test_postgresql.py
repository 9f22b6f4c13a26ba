"""The ledger on PostgreSQL: many machines, servers that crash, connections that are cut."""

import json
import os
import pwd
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, select, text

from coafi.database import Database
from coafi.deliveries import claim, delivery
from coafi.documents.facts import DocumentFacts
from coafi.errors import IntegrityError, LedgerUnavailable
from coafi.events import new_event
from coafi.index.pointers import IndexPointer, add_pointer, newest_generation
from coafi.ledger.group import LedgerTransaction
from coafi.ledger.log import Ledger
from coafi.names import EventType
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.trees.facts import FactsStore
from tests.coafi.ledger.making import HANG, draft, opened
from tests.coafi.ledger.racing import append_patiently
from tests.coafi.ledger.test_log import verified
from tests.coafi.ledger.test_log_failures import small_disk
from tests.postgresql import PostgresqlServer, running_server, use_postgresql, where
from tests.processes import start
from tests.strength import size

T = TypeVar("T")
MACHINES = 8


@pytest.fixture
def home(tmp_path: Path, postgresql: PostgresqlServer) -> Path:
    use_postgresql(tmp_path, postgresql.create())
    return tmp_path


@pytest.fixture
def machines(home: Path) -> Iterator[list[Ledger]]:
    """The same ledger on several machines: each has connections and a state directory of its own."""
    with ExitStack() as stack:
        ledgers = []
        for number in range(MACHINES):
            machine = home / str(number)
            machine.mkdir()
            shutil.copy(home / "postgresql-url", machine)
            ledgers.append(stack.enter_context(opened(machine, lock_timeout=HANG)))
        yield ledgers


def at_once(calls: list[Callable[[], T]]) -> list[T]:
    """What each call returns; all begin together."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], T]) -> T:
        barrier.wait(HANG)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(HANG) for future in [pool.submit(one, call) for call in calls]]


# ---------------------------------------------------------------------- many at once


@pytest.mark.also_in_soak
def test_processes_that_race_write_each_entry_once_and_none_starves(home: Path) -> None:
    count = size(25, soak=40)
    names = [f"p{number}" for number in range(size(4, soak=8))]
    racers = [
        start(
            (sys.executable, "-m", "tests.coafi.ledger.racing", str(home), name, str(count)), os.environ, home / "log"
        )
        for name in names
    ]
    deadline = time.monotonic() + 2 * HANG
    while not all((home / f"ready-{name}").exists() for name in names):
        assert time.monotonic() < deadline
        assert not any(racer.poll() for racer in racers)
        time.sleep(0.01)
    (home / "go").touch()
    for racer in racers:
        assert racer.wait(2 * HANG) == 0
    told = {name: json.loads((home / f"told-{name}").read_text()) for name in names}
    with opened(home) as ledger:
        assert verified(ledger) == count * (len(names) + 1)
        steps = [one.entry.step.removeprefix("files.process/") for one in ledger.entries(0, 10_000)]
    fresh = [index for lines in told.values() for index, _, fresh in lines if fresh]
    assert sorted(fresh) == list(range(count * (len(names) + 1)))
    assert all(steps[index] == step for lines in told.values() for index, step, _ in lines)
    # While all were at work, from the last first entry to the first last one, each got its share.
    own = {name: [index for index, step in enumerate(steps) if step.startswith(f"{name}/")] for name in names}
    begin, end = max(indices[0] for indices in own.values()), min(indices[-1] for indices in own.values())
    shares = Counter({name: sum(begin <= index <= end for index in own[name]) for name in names})
    assert min(shares.values()) * 4 >= sum(shares.values()) / len(names), shares


def test_machines_find_each_others_entries_and_sign_one_history(machines: list[Ledger]) -> None:
    answers = at_once([lambda one=one: one.append([draft(n) for n in range(30)]) for one in machines])  # type: ignore[misc]
    assert len({tuple((recorded.index, recorded.body) for recorded in answer) for answer in answers}) == 1
    assert sum(recorded.fresh for answer in answers for recorded in answer) == 30
    notes = {one.checkpoint(force=True).note for one in machines}
    assert len(notes) == 1
    assert verified(machines[0]) == 30


def test_a_delivery_is_claimed_once_by_machines_that_race(machines: list[Ledger]) -> None:
    event = new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://example.org/a",
        delivery_id="d1",
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest="0" * 64,
        principal="p",
        data={},
    )

    def claimed(ledger: Ledger) -> str:
        def unit(transaction: LedgerTransaction) -> str:
            return claim(transaction.connection, event, run_id="one run", utids="u", subject="s")[0]

        return ledger.transact(unit)

    assert at_once([lambda one=one: claimed(one) for one in machines]) == ["ours"] * MACHINES  # type: ignore[misc]
    with machines[0]._state.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(delivery)) == 1


def test_of_machines_that_saw_the_same_generation_one_moves_the_pointer(machines: list[Ledger]) -> None:
    def moved(ledger: Ledger) -> bool:
        def unit(transaction: LedgerTransaction) -> bool:
            if newest_generation(transaction.connection, "r", "main") != 0:
                return False
            (recorded,) = transaction.append([draft("index")])
            add_pointer(
                transaction.connection, IndexPointer("r", "main", 1, "c", "t", "i", "p", recorded.index, "", False)
            )
            return True

        return ledger.transact(unit)

    assert sorted(at_once([lambda one=one: moved(one) for one in machines])) == [False] * 7 + [True]  # type: ignore[misc]


def test_caches_that_many_fill_with_the_same_do_not_lock_each_other_out(home: Path) -> None:
    databases = [Database(where(home), write_lock_timeout=HANG) for _ in range(MACHINES)]
    databases[0].create_tables()

    def fill(database: Database) -> None:
        blobs = [f"{number:040x}" for number in range(600)]
        random.shuffle(blobs)
        facts = {blob: DocumentFacts(document_id=blob, anchors=()) for blob in blobs}
        FactsStore(database).remember(facts, dict.fromkeys(blobs, "d" * 64), [(blob, "a.md") for blob in blobs])
        PublishedSchemas(database).publish(builtin_schemas())

    at_once([lambda one=one: fill(one) for one in databases])  # type: ignore[misc]
    assert len(FactsStore(databases[0]).facts([f"{number:040x}" for number in range(600)])) == 600
    assert PublishedSchemas(databases[0]).find("GitCommitEventPayload") is not None
    for one in databases:
        one.close()


# ---------------------------------------------------------------------- outages


@pytest.mark.also_in_soak
def test_a_crashing_server_loses_nothing_that_was_acknowledged_and_appends_go_on(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    outages = Counter[int]()
    ending = threading.Event()
    with running_server() as server:
        use_postgresql(tmp_path, server.create())
        with opened(tmp_path, publish_seconds=0.02) as ledger, ThreadPoolExecutor(6) as pool:

            def work(worker: int) -> None:
                number = 0
                while not ending.is_set():
                    step = f"{worker}/{number}"
                    try:
                        recorded = ledger.append([draft(step)])[0]
                    except LedgerUnavailable:
                        outages[worker] += 1
                        time.sleep(0.01)
                        continue
                    acknowledged[step] = recorded.index
                    number += 1

            working = [pool.submit(work, worker) for worker in range(6)]
            crashes = size(2, soak=4)
            for _ in range(crashes):
                before, failed = len(acknowledged), outages.total()
                while len(acknowledged) < before + 100:
                    time.sleep(0.005)
                server.stop("immediate")
                while outages.total() < failed + 6:
                    time.sleep(0.005)
                server.start()
            before = len(acknowledged)
            while len(acknowledged) < before + 50:
                time.sleep(0.005)
            ending.set()
            for one in working:
                one.result(HANG)
            assert all(outages[worker] for worker in range(6))
            count = verified(ledger)
            steps = {one.entry.step.removeprefix("files.process/"): one.index for one in ledger.entries(0, count)}
            assert len(steps) == count
            assert acknowledged.items() <= steps.items()
            assert count - len(acknowledged) <= 6 * crashes, "committed, and not told: what was in flight at a crash"


def test_a_killed_backend_fails_its_group_and_the_next_goes_on(home: Path, postgresql: PostgresqlServer) -> None:
    def kill(transaction: LedgerTransaction) -> None:
        number = transaction.connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with postgresql.connect() as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (number,))
        transaction.append([draft("lost")])

    with opened(home) as ledger:
        ledger.append([draft("before")])
        with pytest.raises(LedgerUnavailable):
            ledger.transact(kill)
        assert [recorded.fresh for recorded in ledger.append([draft("before"), draft("lost")])] == [False, True]
        assert verified(ledger) == 2


def test_a_head_that_another_session_holds_fails_all_who_wait(home: Path, postgresql: PostgresqlServer) -> None:
    name = str(where(home)).split(" ", maxsplit=1)[0]
    with opened(home, lock_timeout=0.2) as ledger, ThreadPoolExecutor(20) as pool:
        with postgresql.connect(name) as other, other.transaction():
            other.execute("SELECT * FROM ledger_head FOR UPDATE")
            waiting = [pool.submit(ledger.append, [draft(i)]) for i in range(20)]
            for future in waiting:
                with pytest.raises(LedgerUnavailable, match="locked"):
                    future.result(HANG)
            assert ledger.size() == 0
        assert append_patiently(ledger, "after").fresh
        assert verified(ledger) == 1


def test_a_unit_that_waits_for_a_lock_in_vain_fails_alone(home: Path, postgresql: PostgresqlServer) -> None:
    name = str(where(home)).split(" ", maxsplit=1)[0]
    started, release = threading.Event(), threading.Event()

    def first(_: LedgerTransaction) -> None:
        started.set()
        assert release.wait(HANG)

    def blocked(transaction: LedgerTransaction) -> None:
        transaction.append([draft("blocked")])
        transaction.connection.execute(text("LOCK TABLE delivery"))

    with opened(home, lock_timeout=0.2) as ledger, ThreadPoolExecutor(3) as pool:
        with postgresql.connect(name) as other, other.transaction():
            other.execute("LOCK TABLE delivery")
            running = pool.submit(ledger.transact, first)
            assert started.wait(HANG)
            waiting = pool.submit(ledger.transact, blocked), pool.submit(ledger.append, [draft("good")])
            release.set()
            running.result(HANG)
            with pytest.raises(LedgerUnavailable):
                waiting[0].result(HANG)
            assert waiting[1].result(HANG)[0].fresh
        assert ledger.append([draft("blocked")])[0].fresh
        assert verified(ledger) == 2


def test_a_disk_of_the_server_that_is_full_loses_nothing_and_space_heals_it() -> None:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coafi-small-")))
        root.chmod(0o755)  # the server runs as another user
        disk = stack.enter_context(small_disk(root, owner=pwd.getpwnam("nobody").pw_uid))
        server = stack.enter_context(running_server())
        use_postgresql(root, server.create())
        with opened(root):
            pass
        with server.connect(str(where(root)).split(" ", maxsplit=1)[0]) as owner:
            owner.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            owner.execute("ALTER TABLE ledger_entry SET TABLESPACE small")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(300_000))
        with opened(root, publish_seconds=0.01) as ledger:
            kept = 0
            with pytest.raises(LedgerUnavailable, match=r"short of disk or memory: .*No space left"):
                for kept in range(10_000):
                    ledger.append([draft(kept, data={"x": random.randbytes(800).hex()})])
            for _ in range(3):
                with pytest.raises(LedgerUnavailable):
                    ledger.append([draft("large", data={"x": random.randbytes(30_000).hex()}), draft("with it")])
            assert 0 < kept == verified(ledger)
            ballast.unlink()
            assert ledger.append([draft("with it")])[0].index == kept
        with opened(root) as ledger:
            assert verified(ledger) == kept + 1


def test_a_restored_backup_is_refused(home: Path, postgresql: PostgresqlServer) -> None:
    with opened(home) as ledger:
        ledger.append([draft(i) for i in range(5)])
    name = str(where(home)).split(" ", maxsplit=1)[0]
    with postgresql.connect() as owner:
        owner.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
    with opened(home) as ledger:
        ledger.append([draft("more")])
    use_postgresql(home, postgresql.url(f"{name}_backup"))
    with pytest.raises(IntegrityError, match=r"5 entries, and a checkpoint of 6 .*old copy"), opened(home):
        pass
