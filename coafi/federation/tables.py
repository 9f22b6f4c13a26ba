"""The tables of federation: peers and their keys, nonces that were used, and what peers told."""

from sqlalchemy import Column, Index, Integer, Table

from coafi.database import big_integer, metadata, text

peer = Table(
    "peer",
    metadata,
    Column("id", text(63), primary_key=True),
    Column("status", text(20), nullable=False),
    Column("url", text(2000), nullable=False),
    Column("accepts", text(), nullable=False),
    Column("subscription", text(), nullable=False),
    Column("restricted", text(), nullable=False),
    Column("ledger_key", text(1024), nullable=False),
    Column("witness_key", text(1024), nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed", text(32), nullable=False),
    Column("ledger_entry", big_integer(), nullable=False),
)
"""One row for each peer, as it is now; the ledger has what it was. The three lists are JSON."""

peer_key = Table(
    "peer_key",
    metadata,
    Column("keyid", text(43), primary_key=True),
    Column("peer", text(63), nullable=False),
    Column("algorithm", text(40), nullable=False),
    Column("public", text(100), nullable=False),
    Column("not_before", text(32)),
    Column("not_after", text(32)),
    Index("peer_key_peer", "peer"),
)
"""The keys of all peers: a key belongs to one of them."""

peer_nonce = Table(
    "peer_nonce",
    metadata,
    Column("keyid", text(43), primary_key=True),
    Column("nonce", text(64), primary_key=True),
    Column("expires", big_integer(), nullable=False),
    Index("peer_nonce_expires", "expires"),
)
"""Signatures that were taken, until a time (Unix seconds) from which on they would be refused as expired."""

peer_object = Table(
    "peer_object",
    metadata,
    Column("peer", text(63), primary_key=True),
    Column("kind", text(40), primary_key=True),
    Column("id", text(400), primary_key=True),
    Column("version", big_integer(), nullable=False),
    Column("digest", text(64), nullable=False),
    Column("utids", text(40), nullable=False),
    Column("url", text(2000), nullable=False),
    Column("message", text(512), nullable=False),
    Column("ledger_entry", big_integer(), nullable=False),
    Index("peer_object_utids", "utids"),
)
"""The newest that each peer has told of each of its entries and documents."""
