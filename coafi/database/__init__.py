"""The one database: ledger, deliveries, registry and caches share it, so that they can share a transaction.

Each module knows those above it, and none below::

    schema      the metadata that every table is declared on, and the column types that both databases have
    address     where a PostgreSQL server is, and how to get in
    sqlite      a file, for one machine
    postgresql  a server, for many
    port        ``Database``: the one that the settings name
    statements  what the two dialects write in different words
    migrate     the versions of the tables, and how one becomes the next (``migrations/``)
"""

from coafi.database.address import PostgresqlAddress
from coafi.database.port import WRITE_LOCK_TIMEOUT, Database
from coafi.database.schema import big_integer, metadata, storable, text

__all__ = ["WRITE_LOCK_TIMEOUT", "Database", "PostgresqlAddress", "big_integer", "metadata", "storable", "text"]
