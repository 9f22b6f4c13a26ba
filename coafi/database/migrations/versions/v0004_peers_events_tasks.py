"""Peers, what follows the ledger, findings on entities, and scheduled tasks."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _peers()
    _outbox()
    _followers()


def _peers() -> None:
    op.create_table(
        "peer",
        sa.Column("id", text(63), primary_key=True),
        sa.Column("status", text(20), nullable=False),
        sa.Column("url", text(2000), nullable=False),
        sa.Column("accepts", text(), nullable=False),
        sa.Column("subscription", text(), nullable=False),
        sa.Column("restricted", text(), nullable=False),
        sa.Column("ledger_key", text(1024), nullable=False),
        sa.Column("witness_key", text(1024), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("changed", text(32), nullable=False),
        sa.Column("ledger_entry", big_integer(), nullable=False),
    )
    op.create_table(
        "peer_key",
        sa.Column("keyid", text(43), primary_key=True),
        sa.Column("peer", text(63), nullable=False),
        sa.Column("algorithm", text(40), nullable=False),
        sa.Column("public", text(100), nullable=False),
        sa.Column("not_before", text(32)),
        sa.Column("not_after", text(32)),
    )
    op.create_index("peer_key_peer", "peer_key", ["peer"])
    op.create_table(
        "peer_nonce",
        sa.Column("keyid", text(43), primary_key=True),
        sa.Column("nonce", text(64), primary_key=True),
        sa.Column("expires", big_integer(), nullable=False),
    )
    op.create_index("peer_nonce_expires", "peer_nonce", ["expires"])
    op.create_table(
        "peer_object",
        sa.Column("peer", text(63), primary_key=True),
        sa.Column("kind", text(40), primary_key=True),
        sa.Column("id", text(400), primary_key=True),
        sa.Column("version", big_integer(), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("utids", text(40), nullable=False),
        sa.Column("url", text(2000), nullable=False),
        sa.Column("message", text(512), nullable=False),
        sa.Column("ledger_entry", big_integer(), nullable=False),
    )
    op.create_index("peer_object_utids", "peer_object", ["utids"])


def _outbox() -> None:
    op.create_table(
        "peer_position",
        sa.Column("peer", text(63), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("reached", big_integer(), nullable=False),
        sa.Column("delivered", big_integer(), nullable=False),
        sa.Column("delivered_at", text(32)),
        sa.Column("paused", text(1100), nullable=False),
        sa.Column("problem", text(2000), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failing_at", text(32)),
    )


def _followers() -> None:
    op.create_table(
        "follower",
        sa.Column("name", text(63), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("holder", text(64), nullable=False),
        sa.Column("beat", big_integer(), nullable=False),
        sa.Column("moved_at", text(32), nullable=False),
    )
