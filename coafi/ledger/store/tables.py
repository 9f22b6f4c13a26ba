"""The ledger's tables, and the rows that are read from them.

::

    head        one row: name, size and root of the log; locked by whoever appends
    entry       the entries, their exact bytes and what they are looked up by
    tile        the hashes of the tree (see coafi.ledger.tiles); partial ones grow in place
    checkpoint  every checkpoint that was signed
    cosignature what witnesses say of them

Triggers guard the entries against UPDATE, DELETE and TRUNCATE (``coafi/database/migrations``). That is hygiene, no
more: who owns the tables can drop them. What makes a change evident is the tree.
"""

from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Index, LargeBinary, SmallInteger, Table, UniqueConstraint

from coafi.database import metadata, text

head_table = Table(
    "ledger_head",
    metadata,
    Column("log_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("origin", text(), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
)

entry_table = Table(
    "ledger_entry",
    metadata,
    Column("log_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("event_id", text(), nullable=False),
    Column("type", text(), nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("log_id", "key"),
    Index("ledger_entry_by_event", "log_id", "event_id", "idx"),
)

tile_table = Table(
    "ledger_tile",
    metadata,
    Column("log_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoint_table = Table(
    "ledger_checkpoint",
    metadata,
    Column("log_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", text(), nullable=False),
)

cosignature_table = Table(
    "ledger_cosignature",
    metadata,
    Column("log_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("cosigner", text(400), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("line", text(), nullable=False),
)


class Head(NamedTuple):
    """Name, size and root of the log as they were committed last."""

    origin: str
    size: int
    root: bytes


class EntryRow(NamedTuple):
    """An entry as it is stored; ``key``, ``request`` and ``leaf_hash`` are 32 bytes."""

    idx: int
    key: bytes
    request: bytes
    leaf_hash: bytes
    event_id: str
    type: str
    body: bytes


class CheckpointRow(NamedTuple):
    """A checkpoint as it is stored."""

    size: int
    root: bytes
    note: str


class CosignatureRow(NamedTuple):
    """A cosignature as it is stored: of the checkpoint of ``size`` entries, by the witness of this vkey."""

    size: int
    cosigner: str
    time: int
    line: str
