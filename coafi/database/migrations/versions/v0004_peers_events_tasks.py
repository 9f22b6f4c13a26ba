"""Peers, what follows the ledger, findings on entities, and scheduled tasks."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _followers()


def _followers() -> None:
    op.create_table(
        "follower",
        sa.Column("name", text(63), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("holder", text(64), nullable=False),
        sa.Column("beat", big_integer(), nullable=False),
        sa.Column("moved_at", text(32), nullable=False),
    )
