"""Where the ledger's rows are kept: every SQL statement that touches them.

Each module knows those above it, and none below::

    tables      the tables and the rows that are read from them
    statements  ``LedgerStore``: what the log asks of a database
    sqlite      what it asks at every commit, in SQLite's own words
    postgresql  the same in PostgreSQL's

One contract test runs on both.
"""

from coafi.database import Database
from coafi.ledger.store.postgresql import PostgresqlLedgerStore
from coafi.ledger.store.sqlite import SqliteLedgerStore
from coafi.ledger.store.statements import LedgerStore
from coafi.ledger.store.tables import CheckpointRow, CosignatureRow, EntryRow, Head, entry_table

__all__ = ["CheckpointRow", "CosignatureRow", "EntryRow", "Head", "LedgerStore", "entry_table", "store_for"]


def store_for(database: Database) -> LedgerStore:
    """The statements in the words of this database."""
    return PostgresqlLedgerStore() if database.dialect == "postgresql" else SqliteLedgerStore()
