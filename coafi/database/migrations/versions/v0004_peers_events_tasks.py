"""Peers, what follows the ledger, findings on entities, and scheduled tasks."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _followers()
    _findings()


def _followers() -> None:
    op.create_table(
        "follower",
        sa.Column("name", text(63), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("holder", text(64), nullable=False),
        sa.Column("beat", big_integer(), nullable=False),
        sa.Column("moved_at", text(32), nullable=False),
    )


def _findings() -> None:
    op.create_table(
        "entity_finding",
        sa.Column("id", text(32), primary_key=True),
        sa.Column("kind", text(20), nullable=False),
        sa.Column("entity", text(400), nullable=False),
        sa.Column("rule", text(200), nullable=False),
        sa.Column("severity", text(20), nullable=False),
        sa.Column("message", text(), nullable=False),
        sa.Column("source", text(512), nullable=False),
        sa.Column("event_id", text(512), nullable=False),
        sa.Column("workflow_id", text(2000), nullable=False),
        sa.Column("detected", text(40), nullable=False),
        sa.Column("opened", text(32), nullable=False),
        sa.Column("opened_entry", big_integer(), nullable=False),
        sa.Column("closed", text(32)),
        sa.Column("closed_entry", big_integer()),
        sa.Column("closed_by", text(500)),
        sa.Column("reason", text(500)),
    )
    op.create_index("entity_finding_entity", "entity_finding", ["kind", "entity"])
    op.create_index("entity_finding_opened", "entity_finding", ["opened_entry"])
