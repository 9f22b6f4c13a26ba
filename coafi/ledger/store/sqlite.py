"""The ledger's statements that run for every entry, in SQLite's own words: its driver takes the values as they are."""

from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import Connection

from coafi.ledger.store.statements import CHUNK, LedgerStore
from coafi.ledger.store.tables import EntryRow

_WITH_KEYS = (
    "SELECT idx, key, request, leaf_hash, event_id, type, body FROM ledger_entry WHERE log_id = ? AND key IN (?%s)"
)
_ADD_ENTRIES = (
    "INSERT INTO ledger_entry (log_id, idx, key, request, leaf_hash, event_id, type, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class SqliteLedgerStore(LedgerStore):
    """See :class:`LedgerStore`."""

    def with_keys(self, connection: Connection, keys: Iterable[bytes]) -> dict[bytes, EntryRow]:
        """See :meth:`LedgerStore.with_keys`."""
        found: dict[bytes, EntryRow] = {}
        rest = iter(keys)
        while chunk := list(islice(rest, CHUNK)):
            statement = _WITH_KEYS % (", ?" * (len(chunk) - 1))
            for row in connection.exec_driver_sql(statement, (self._log_id, *chunk)):
                found[row.key] = EntryRow._make(row)
        return found

    def add_entries(self, connection: Connection, rows: Sequence[EntryRow]) -> None:
        """See :meth:`LedgerStore.add_entries`."""
        connection.exec_driver_sql(_ADD_ENTRIES, [(self._log_id, *row) for row in rows])
