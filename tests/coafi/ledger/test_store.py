"""The statements in SQLite's own words do what the portable ones do."""

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from coafi.ledger.store import EntryRow, LedgerStore, entry_table, sqlite
from coafi.ledger.store.sqlite import SqliteLedgerStore
from tests.coafi.ledger.making import opened

ROWS = [
    EntryRow(index, bytes([index % 256]) * 31 + bytes([index // 256]), b"r" * 32, b"\x00" * 32, "é'?%s", "T", b"\xff%")
    for index in range(1_100)
]


@pytest.mark.parametrize("writer", [LedgerStore, SqliteLedgerStore])
@pytest.mark.parametrize("reader", [LedgerStore, SqliteLedgerStore])
def test_both_forms_write_and_find_the_same_rows(
    tmp_path: Path, writer: type[LedgerStore], reader: type[LedgerStore]
) -> None:
    with opened(tmp_path) as ledger, ledger._state.database.write() as connection:
        assert isinstance(ledger._state.store, SqliteLedgerStore)
        writer(log_id=7).add_entries(connection, ROWS)
        with pytest.raises(IntegrityError):
            writer(log_id=7).add_entries(connection, [ROWS[0]])
        wanted = [*(row.key for row in ROWS[10:]), b"unknown"]
        assert reader(log_id=7).with_keys(connection, wanted) == {row.key: row for row in ROWS[10:]}
        assert reader(log_id=7).with_keys(connection, []) == {}
        assert reader(log_id=8).with_keys(connection, wanted) == {}
        assert reader(log_id=7).entries(connection, 0, len(ROWS)) == ROWS


def test_the_text_names_the_columns_in_the_order_of_their_values() -> None:
    columns = ", ".join(EntryRow._fields)
    assert columns in sqlite._WITH_KEYS
    assert f"(log_id, {columns})" in sqlite._ADD_ENTRIES
    assert {column.name for column in entry_table.c} == {"log_id", *EntryRow._fields}
