"""The statements that SQLite's driver takes as text do what the portable ones do."""

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from coafi.ledger import store
from coafi.ledger.store import EntryRow, LedgerStore, entry_table
from tests.coafi.ledger.making import draft, opened

ROWS = [
    EntryRow(index, bytes([index % 256]) * 31 + bytes([index // 256]), b"r" * 32, b"\x00" * 32, "é'?%s", "T", b"\xff%")
    for index in range(1_100)
]


@pytest.mark.parametrize("written_portably", [False, True])
@pytest.mark.parametrize("read_portably", [False, True])
def test_both_forms_write_and_find_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_portably: bool, read_portably: bool
) -> None:
    ledger_store, sqlite = LedgerStore(log_id=7), store._is_sqlite
    with opened(tmp_path) as ledger, ledger._database.write() as connection:
        assert sqlite(connection)
        monkeypatch.setattr(store, "_is_sqlite", lambda _connection: not written_portably)
        ledger_store.add_entries(connection, ROWS)
        with pytest.raises(IntegrityError):
            ledger_store.add_entries(connection, [ROWS[0]])
        monkeypatch.setattr(store, "_is_sqlite", lambda _connection: not read_portably)
        wanted = [*(row.key for row in ROWS[10:]), b"unknown"]
        assert ledger_store.with_keys(connection, wanted) == {row.key: row for row in ROWS[10:]}
        assert ledger_store.with_keys(connection, []) == {}
        assert LedgerStore(log_id=8).with_keys(connection, wanted) == {}
        assert ledger_store.entries(connection, 0, len(ROWS)) == ROWS


def test_the_text_names_the_columns_in_the_order_of_their_values() -> None:
    columns = ", ".join(EntryRow._fields)
    assert columns in store._SQLITE_WITH_KEYS
    assert f"(log_id, {columns})" in store._SQLITE_ADD_ENTRIES
    assert {column.name for column in entry_table.c} == {"log_id", *EntryRow._fields}


def test_a_ledger_written_portably_goes_on_in_the_other_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as portable, opened(tmp_path) as ledger:
        portable.setattr(store, "_is_sqlite", lambda _connection: False)
        first = ledger.append([draft(number) for number in range(300)])
    with opened(tmp_path) as ledger:
        again = ledger.append([draft(number) for number in range(310)])
        assert [one.index for one in again] == list(range(310))
        assert [one.body for one in again[:300]] == [one.body for one in first]
        assert not any(one.fresh for one in again[:300])
