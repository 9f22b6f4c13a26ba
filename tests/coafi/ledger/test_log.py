import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from coafi.database import Database
from coafi.errors import (
    IdempotencyConflict,
    LedgerUnavailable,
    ResourceNotFoundError,
    ValidationError,
)
from coafi.ledger import merkle
from coafi.ledger.checkpoint import open_checkpoint
from coafi.ledger.entry import MAX_BODY, Recorded
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger as LocalLedger
from coafi.ledger.nodes import NodeCache
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.ledger.store import EntryRow
from coafi.ledger.verifier import verify_inclusion, verify_log
from tests.coafi.ledger.making import HANG, ORIGIN, SIGNER, draft, opened
from tests.postgresql import where
from tests.strength import examples

only_local = pytest.mark.parametrize("ledger", ["sqlite", "postgresql"], indirect=True)
"""What is about the database, or needs entries and rows to share a transaction."""


def verified(ledger: Ledger) -> int:
    """The number of entries, once all of them are verified against a checkpoint of now."""
    signed = ledger.checkpoint(force=True)
    report = verify_log(ledger.bodies(), signed.note, ledger.key, stored_tiles=ledger.tiles())
    assert report.beyond == 0
    return report.checkpoint.size


def execute(statement: str) -> Callable[[LedgerTransaction], None]:
    def unit(transaction: LedgerTransaction) -> None:
        transaction.connection.execute(text(statement))

    return unit


def rows(ledger: Ledger) -> list[int]:
    return ledger.transact(lambda t: [row[0] for row in t.connection.execute(text("SELECT n FROM note ORDER BY n"))])


# ---------------------------------------------------------------- append


def test_entries_get_contiguous_indices_in_order(ledger: Ledger) -> None:
    first = ledger.append([draft(0), draft(1)])
    second = ledger.append([draft(2)])
    assert [recorded.index for recorded in first + second] == [0, 1, 2]
    assert all(recorded.fresh for recorded in first + second)
    assert [recorded.entry.step for recorded in ledger.entries(0, 10)] == [f"files.process/{i}" for i in range(3)]
    assert ledger.append([]) == []
    assert verified(ledger) == 3


def test_the_first_write_wins_and_its_body_comes_back(ledger: Ledger) -> None:
    (first,) = ledger.append([draft(1, data={"try": 1})])
    again, other = ledger.append([draft(1, data={"try": 2}), draft(2)])
    assert (again.index, again.body, again.fresh) == (first.index, first.body, False)
    assert again.data == {"try": 1}
    assert (other.index, other.fresh) == (1, True)
    assert ledger.size() == 2


def test_other_inputs_under_the_same_key_conflict_and_nothing_is_written(ledger: Ledger) -> None:
    ledger.append([draft(0), draft(1, inputs={"blob": "a"})])
    with pytest.raises(
        IdempotencyConflict, match=r"step 'files.process/1' of workflow .* index 1.*coafi ledger show 1"
    ):
        ledger.append([draft(9), draft(1, inputs={"blob": "b"})])
    assert ledger.size() == 2


def test_the_same_key_twice_in_one_unit_is_one_entry(ledger: Ledger) -> None:
    one, two = ledger.append([draft(1), draft(1)])
    assert (one.index, two.index, one.body == two.body, one.fresh, two.fresh) == (0, 0, True, True, False)
    with pytest.raises(IdempotencyConflict):
        ledger.append([draft(2), draft(2, inputs={"other": 1})])

    def unit(transaction: LedgerTransaction) -> list[Recorded]:
        return transaction.append([draft(3)]) + transaction.append([draft(3)])

    assert [(recorded.index, recorded.fresh) for recorded in ledger.transact(unit)] == [(1, True), (1, False)]


def test_a_batch_beyond_one_lookup_and_many_tiles(ledger: Ledger) -> None:
    ledger.append([draft(i) for i in range(1_300)])
    again = ledger.append([draft(i) for i in range(1_200, 1_400)])
    assert [recorded.index for recorded in again] == list(range(1_200, 1_400))
    assert [recorded.fresh for recorded in again] == [False] * 100 + [True] * 100
    assert verified(ledger) == 1_400


def test_an_entry_that_is_too_long_is_refused_and_the_rest_of_its_unit_undone(ledger: Ledger) -> None:
    with pytest.raises(ValidationError, match="65,5"):
        ledger.append([draft(0), draft(1, data={"x": "a" * 70_000})])
    assert ledger.size() == 0


@only_local  # a remote one refuses what is too long before it asks
def test_what_would_be_refused_comes_back_if_it_is_recorded(ledger: Ledger) -> None:
    """The first write wins, whatever the second one would record."""
    first = ledger.append([draft("a")])[0]
    assert ledger.append([draft("a", data={"x": "y" * MAX_BODY})]) == [Recorded(0, first.body)]
    with pytest.raises(ValidationError, match="bytes and may have"):
        ledger.append([draft("a"), draft("b", data={"x": "y" * MAX_BODY})])
    assert [one.index for one in ledger.append([draft("b"), draft("a"), draft("c")])] == [1, 0, 2]
    assert verified(ledger) == 3


@only_local
def test_keys_are_looked_up_only_when_one_may_be_recorded(ledger: LocalLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ledger._state.store
    asked: list[int] = []

    def with_keys(connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        asked.append(len(list(keys)))
        return type(store).with_keys(store, connection, keys)

    monkeypatch.setattr(store, "with_keys", with_keys)
    ledger.append([draft(i) for i in range(5)])
    assert asked == []
    assert [one.fresh for one in ledger.append([draft(5), draft(4), draft(6)])] == [True, False, True]
    assert asked == [3]
    ledger.transact(lambda transaction: transaction.append([draft(7)]))  # what it does may depend on the answer
    assert asked == [3, 1]
    assert verified(ledger) == 8


def test_sixteen_threads_racing_for_the_same_keys_write_each_once(ledger: Ledger) -> None:
    barrier = threading.Barrier(16)

    def race(thread: int) -> list[Recorded]:
        barrier.wait(HANG)
        return [ledger.append([draft(i, data={"by": thread})])[0] for i in range(20)]

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(race, range(16)))
    assert verified(ledger) == 20
    for step in range(20):
        answers = [result[step] for result in results]
        assert len({(answer.index, answer.body) for answer in answers}) == 1
        assert sum(answer.fresh for answer in answers) == 1


def test_racing_threads_with_different_inputs_have_one_winner(ledger: Ledger) -> None:
    barrier = threading.Barrier(16)

    def race(thread: int) -> str:
        barrier.wait(HANG)
        try:
            ledger.append([draft(1, inputs={"by": thread})])
        except IdempotencyConflict:
            return "conflict"
        return "recorded"

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(race, range(16))) == ["conflict"] * 15 + ["recorded"]
    assert ledger.size() == 1


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12))
def test_any_sequence_of_appends_keeps_the_first_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]
) -> None:
    expected: dict[int, int] = {}
    with opened(tmp_path_factory.mktemp("log")) as ledger:
        for batch in batches:
            found = ledger.append([draft(step) for step in batch])
            for step, recorded in zip(batch, found, strict=True):
                assert recorded.fresh == (step not in expected)
                assert recorded.index == expected.setdefault(step, len(expected))
        assert verified(ledger) == len(expected)


# ---------------------------------------------------------------- transact


def test_a_unit_writes_tables_and_entries_in_one_transaction(ledger: Ledger) -> None:
    ledger.transact(execute("CREATE TABLE note (n INTEGER PRIMARY KEY)"))

    def unit(transaction: LedgerTransaction) -> int:
        transaction.connection.execute(text("INSERT INTO note VALUES (1)"))
        return transaction.append([draft(1)])[0].index

    assert ledger.transact(unit) == 0
    assert rows(ledger) == [1]
    assert ledger.size() == 1


@only_local
def test_a_failing_unit_loses_all_it_wrote_and_others_nothing(ledger: Ledger) -> None:
    ledger.transact(execute("CREATE TABLE note (n INTEGER PRIMARY KEY)"))
    started, release = threading.Event(), threading.Event()

    def first(transaction: LedgerTransaction) -> None:
        started.set()
        assert release.wait(HANG)
        transaction.append([draft("first")])

    def good(number: int) -> list[Recorded]:
        def unit(transaction: LedgerTransaction) -> list[Recorded]:
            transaction.connection.execute(text("INSERT INTO note VALUES (:n)"), {"n": number})
            return transaction.append([draft(number), draft("shared")])

        return ledger.transact(unit)

    def bad(number: int) -> None:
        def unit(transaction: LedgerTransaction) -> None:
            transaction.append([draft(number), draft("shared")])
            transaction.connection.execute(text("INSERT INTO note VALUES (:n)"), {"n": number})
            raise ZeroDivisionError(number)

        ledger.transact(unit)

    with ThreadPoolExecutor(21) as pool:
        blocker = pool.submit(ledger.transact, first)
        assert started.wait(HANG)
        bads = [pool.submit(bad, number) for number in range(100, 110)]
        goods = [pool.submit(good, number) for number in range(10)]
        release.set()
        blocker.result(HANG)
        for number, future in enumerate(bads, 100):
            with pytest.raises(ZeroDivisionError, match=str(number)):
                future.result(HANG)
        results = [future.result(HANG) for future in goods]
    assert rows(ledger) == list(range(10))
    assert verified(ledger) == 12
    assert sum(shared.fresh for _, shared in results) == 1
    assert len({shared.index for _, shared in results}) == 1


def test_a_units_own_constraint_error_is_its_own(ledger: Ledger) -> None:
    ledger.transact(execute("CREATE TABLE note (n INTEGER PRIMARY KEY)"))
    ledger.transact(execute("INSERT INTO note VALUES (1)"))
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        ledger.transact(execute("INSERT INTO note VALUES (1)"))
    ledger.append([draft(1)])
    assert ledger.size() == 1


@only_local
def test_a_unit_that_ends_the_transaction_fails_the_group_and_not_the_ledger(ledger: Ledger) -> None:
    def unit(transaction: LedgerTransaction) -> None:
        transaction.append([draft(1)])
        transaction.connection.exec_driver_sql("ROLLBACK")

    with pytest.raises(LedgerUnavailable):
        ledger.transact(unit)
    assert ledger.append([draft(1)])[0].fresh
    assert verified(ledger) == 1


@only_local
def test_a_database_that_gives_all_up_says_why_and_not_that_a_savepoint_is_gone(ledger: Ledger) -> None:
    def unit(transaction: LedgerTransaction) -> None:
        connection = transaction.connection
        connection.exec_driver_sql("ROLLBACK")  # as SQLite does by itself when a disk is full
        of_driver = psycopg.errors.DiskFull if connection.dialect.name == "postgresql" else sqlite3.OperationalError
        raise sqlalchemy.exc.OperationalError("INSERT", None, of_driver("database or disk is full"))

    with pytest.raises(LedgerUnavailable, match="disk is full"):
        ledger.transact(unit)
    assert ledger.append([draft(1)])[0].fresh


def test_a_unit_sees_the_callers_context(ledger: Ledger) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    variable.set("caller")
    assert ledger.transact(lambda _: variable.get()) == "caller"


def test_a_transaction_is_of_no_use_after_its_unit(ledger: Ledger) -> None:
    kept = ledger.transact(lambda transaction: transaction)
    with pytest.raises(RuntimeError, match="ended"):
        kept.append([draft(1)])
    with pytest.raises(RuntimeError, match="ended"):
        _ = kept.connection


@only_local
def test_a_unit_that_waits_for_the_ledger_is_told_so(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError, match="its own transaction"):
        ledger.transact(lambda _: ledger.append([draft(1)]))


def test_a_closed_ledger_commits_what_waits_and_refuses_what_comes(place: Path) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(transaction: LedgerTransaction) -> int:
        started.set()
        assert release.wait(HANG)
        return transaction.append([draft("slow")])[0].index

    with opened(place) as ledger, ThreadPoolExecutor(10) as pool:
        running = pool.submit(ledger.transact, slow)
        assert started.wait(HANG)
        waiting = [pool.submit(ledger.append, [draft(i)]) for i in range(8)]
        while len(ledger._appender._queue) < 8:
            threading.Event().wait(0.001)
        closing = pool.submit(ledger.close)
        while not ledger._appender._closing:
            threading.Event().wait(0.001)
        with pytest.raises(LedgerUnavailable, match="closed"):
            ledger.append([draft("late")])
        release.set()
        closing.result(HANG)
        assert running.result(HANG) == 0
        assert sorted(future.result(HANG)[0].index for future in waiting) == list(range(1, 9))
        assert open_checkpoint((place / "state" / "checkpoint").read_bytes(), SIGNER.key).size == 9
        ledger.close()


# ----------------------------------------------------------------- reads


def test_entries_are_found_by_index_and_event(ledger: Ledger) -> None:
    ledger.append([draft(i, event=f"e{i % 2}") for i in range(6)])
    assert [recorded.index for recorded in ledger.by_event("e1")] == [1, 3, 5]
    assert ledger.by_event("none") == []
    assert ledger.entry(2).entry.step == "files.process/2"
    assert [recorded.index for recorded in ledger.entries(4, 100)] == [4, 5]
    assert ledger.entries(6, 100) == ledger.entries(3, 3) == ledger.entries(50, 60) == []
    for index in (-1, 6):
        with pytest.raises(ResourceNotFoundError, match=f"no entry {index}"):
            ledger.entry(index)


def test_every_proof_of_a_log_over_several_tiles_verifies(ledger: Ledger) -> None:
    ledger.append([draft(i) for i in range(700)])
    leaves = [merkle.leaf_hash(recorded.body) for recorded in ledger.entries(0, 700)]
    frontier = merkle.Frontier()
    at: list[bytes] = [frontier.root()]
    for leaf in leaves:
        frontier.add(leaf)
        at.append(frontier.root())
    assert ledger.head().root == at[700]
    for size in (1, 2, 255, 256, 257, 511, 512, 513, 699, 700):
        for index in {0, size // 3, size // 2, size - 1}:
            merkle.verify_inclusion(leaves[index], index, size, ledger.inclusion_proof(index, size), at[size])
        for old in {0, 1, size // 2, size - 1, size}:
            merkle.verify_consistency(old, size, ledger.consistency_proof(old, size), at[old], at[size])
    merkle.verify_inclusion(leaves[3], 3, 700, ledger.inclusion_proof(3), at[700])
    merkle.verify_consistency(3, 700, ledger.consistency_proof(3), at[3], at[700])


def test_proofs_of_what_is_not_there_are_refused(ledger: Ledger) -> None:
    ledger.append([draft(i) for i in range(3)])
    for index, size in ((3, None), (-1, None), (2, 2), (0, 4), (0, 0)):
        with pytest.raises(ResourceNotFoundError):
            ledger.inclusion_proof(index, size)
    for old, new in ((4, None), (3, 2), (-1, 3), (0, 4)):
        with pytest.raises(ResourceNotFoundError):
            ledger.consistency_proof(old, new)


@only_local
def test_a_proof_is_verified_offline_and_brings_its_checkpoint_up_to_date(ledger: Ledger) -> None:
    ledger.append([draft(0)])
    assert ledger.checkpoint().size == 1
    ledger.append([draft(1)])
    assert ledger.checkpoint().size == 1
    proof = ledger.prove(1)
    assert proof.size == 2
    found = verify_inclusion(type(proof).parse(proof.model_dump_json()), SIGNER.key)
    assert (found.index, found.entry.step) == (1, "files.process/1")
    with pytest.raises(ResourceNotFoundError):
        ledger.prove(2)


# ----------------------------------------------------------- checkpoints


@only_local
def test_a_checkpoint_is_signed_only_when_the_log_has_grown_and_time_has_passed(
    ledger: LocalLedger, tmp_path: Path
) -> None:
    empty = ledger.checkpoint()
    assert (empty.size, empty.checkpoint.root) == (0, merkle.EMPTY_ROOT)
    ledger.append([draft(0)])
    first = ledger.checkpoint()
    assert first.size == 1
    ledger.append([draft(1)])
    assert ledger.checkpoint() == first
    grown = ledger.checkpoint(force=True)
    assert (grown.size, grown.checkpoint.root) == (2, ledger.head().root)
    assert ledger.checkpoint(force=True) == grown
    assert (tmp_path / "state" / "checkpoint").read_text() == grown.note
    with ledger._state.database.read() as connection:
        kept = connection.execute(text("SELECT size, note FROM ledger_checkpoint ORDER BY size")).all()
    assert [tuple(row) for row in kept] == [(0, empty.note), (1, first.note), (2, grown.note)]


def test_the_ledger_publishes_by_itself(place: Path) -> None:
    published = place / "state" / "checkpoint"
    with opened(place, publish_seconds=0.05) as ledger:
        for number in range(3):
            ledger.append([draft(number)])
            deadline = threading.Event()
            for _ in range(HANG * 100):
                if published.exists() and open_checkpoint(published.read_bytes(), SIGNER.key).size == number + 1:
                    break
                deadline.wait(0.01)
            else:
                pytest.fail("no checkpoint was published")


def test_the_key_must_be_the_logs(place: Path) -> None:
    database = Database(where(place))
    database.create_tables()
    with pytest.raises(ValidationError, match=r"'test\.example/log', not of 'other'"):
        LocalLedger(database, origin="other", signer=SIGNER, state_directory=place / "state")
    LocalLedger(database, origin=ORIGIN, signer=SIGNER, state_directory=place / "state").close()
    other = Signer("other.example/log", bytes(32))
    with pytest.raises(ValidationError, match="holds the log"):
        LocalLedger(database, origin=other.name, signer=other, state_directory=place / "other")


@only_local
def test_entries_cannot_be_changed_or_removed_by_accident(ledger: LocalLedger) -> None:
    ledger.append([draft(0)])
    statements = ["UPDATE ledger_entry SET idx = 7", "DELETE FROM ledger_entry"]
    if ledger._state.database.dialect == "postgresql":
        statements.append("TRUNCATE ledger_entry")
    for statement in statements:
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="never changed or removed"):
            ledger.transact(execute(statement))
    assert verified(ledger) == 1


@only_local
def test_kept_tiles_give_the_same_proofs_as_read_ones_while_the_log_grows(ledger: LocalLedger) -> None:
    for size in range(200, 1_200, 100):
        ledger.append([draft(i) for i in range(size - 200, size)])
        with opened_again(ledger) as fresh:
            for index in (0, 1, 199, size // 2, size - 1):
                assert ledger.inclusion_proof(index, size) == fresh.inclusion_proof(index, size)
                assert ledger.consistency_proof(index, size) == fresh.consistency_proof(index, size)


@contextmanager
def opened_again(ledger: LocalLedger) -> Iterator[LocalLedger]:
    """The same log, with nothing kept."""
    with opened(ledger._state.evidence.parent.parent) as fresh:
        yield fresh


@only_local
def test_few_tiles_are_kept_and_any_is_read_again(ledger: LocalLedger) -> None:
    ledger.append([draft(i) for i in range(1_100)])
    small, large = NodeCache(capacity=2), NodeCache()
    read = ledger._reader.stored_tiles
    for index in (0, 300, 600, 1_099, 0, 300):
        proof = merkle.inclusion_proof(index, 1_100, lambda nodes: small.read(nodes, read))
        assert proof == merkle.inclusion_proof(index, 1_100, lambda nodes: large.read(nodes, read))
        assert len(small._rows) <= 2


def test_the_verifier_may_read_while_the_log_grows(ledger: Ledger) -> None:
    ledger.append([draft(i) for i in range(700)])
    signed = ledger.checkpoint(force=True)
    tiles = ledger.tiles()
    first = next(tiles)  # says of what size they are
    ledger.append([draft(i) for i in range(700, 1_500)])
    report = verify_log(ledger.bodies(), signed.note, ledger.key, stored_tiles=chain([first], tiles))
    assert (report.checkpoint.size, report.beyond) == (700, 800)
    report = verify_log(ledger.bodies(), signed.note, ledger.key, stored_tiles=ledger.tiles())
    assert (report.beyond, report.tiles) == (800, 7)
