"""A remote ledger, which records before the rows are written: whoever loses a race must leave no entry about it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from coafi.errors import LedgerUnavailable, PreconditionFailed, Unavailable
from coafi.registry.entry import EntryUpdate
from coafi.registry.reserving import RESERVED_SECONDS, reserved
from coafi.registry.tables import registry_reservation
from tests.coafi.ledger.making import HANG
from tests.coafi.ledger.serving import INSTANCE, remote, served
from tests.coafi.registry.making import Registers, registers

WING = EntryUpdate.parse({"registryId": "AERO", "entryId": "wing", "data": {}})


@pytest.fixture
def afar(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Registers]:
    """Registries here, whose ledger is another instance's."""
    with (
        registers(place) as books,
        served(tmp_path_factory.mktemp("there")) as there,
        remote(there, place) as ledger,
    ):
        yield Registers(books.database, ledger, books.schemas, namespace=f"{INSTANCE}/default")


def held(books: Registers) -> list[str]:
    with books.database.read() as connection:
        return list(connection.scalars(select(registry_reservation.c.workflow_id)))


def test_changes_work_as_they_do_with_a_ledger_of_ones_own(afar: Registers) -> None:
    assert not afar.ledger.atomic
    integrated = afar.integrate("wing", {"n": 1})
    assert integrated.ledger_entry is not None
    assert afar.ledger.entry(integrated.ledger_entry).data["version"] == 4
    assert afar.put("wing", {"n": 2}, run="again") == afar.put("wing", {"n": 2}, run="again")
    assert held(afar) == []


def test_what_is_refused_leaves_neither_entry_nor_reservation(afar: Registers) -> None:
    afar.put("wing", {}, expected=0)
    size = afar.ledger.size()
    with pytest.raises(PreconditionFailed):
        afar.put("wing", {}, expected=0)
    assert (afar.ledger.size(), held(afar)) == (size, [])


def test_of_writers_that_expect_the_same_version_one_leaves_an_entry(afar: Registers) -> None:
    size = afar.ledger.size()
    start, told = threading.Barrier(6), []

    def write(number: int) -> None:
        start.wait()
        until = time.monotonic() + HANG
        while time.monotonic() < until:
            try:
                afar.put("wing", {"n": number}, expected=0, run=f"run-{number}")
            except PreconditionFailed:
                told.append("lost")
                return
            except Unavailable:
                time.sleep(0.01)
            else:
                told.append("won")
                return

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["lost"] * 5 + ["won"]
    assert afar.ledger.size() == size + 1
    assert held(afar) == []


def test_a_run_keeps_an_entry_through_an_outage_and_goes_on(afar: Registers) -> None:
    mine, others = afar.origin("mine"), afar.origin("others")
    with pytest.raises(LedgerUnavailable), reserved(afar.ledger, afar.database, WING, mine):
        raise LedgerUnavailable("gone")
    assert held(afar) == ["mine"]
    with pytest.raises(Unavailable, match="mine"), reserved(afar.ledger, afar.database, WING, others):
        pytest.fail("it is mine")
    with reserved(afar.ledger, afar.database, WING, mine):
        assert held(afar) == ["mine"]
    with reserved(afar.ledger, afar.database, WING, others):
        assert held(afar) == ["others"]


def test_a_run_that_has_gone_keeps_an_entry_for_a_while_only(afar: Registers) -> None:
    now = 1_000_000.0
    mine, others = afar.origin("mine"), afar.origin("others")
    with pytest.raises(LedgerUnavailable), reserved(afar.ledger, afar.database, WING, mine, lambda: now):
        raise LedgerUnavailable("gone")
    later = now + RESERVED_SECONDS
    with pytest.raises(Unavailable), reserved(afar.ledger, afar.database, WING, others, lambda: later - 1):
        pass
    with reserved(afar.ledger, afar.database, WING, others, lambda: later):
        assert held(afar) == ["others"]


def test_nothing_is_reserved_where_entry_and_row_are_one_transaction(books: Registers) -> None:
    with reserved(books.ledger, books.database, WING, books.origin()):
        assert held(books) == []
