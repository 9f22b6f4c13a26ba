"""Peers, events of the ledger and scheduled tasks."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _tasks()


def _tasks() -> None:
    op.create_table(
        "task_result",
        sa.Column("workflow_id", text(1000), primary_key=True),
        sa.Column("task", text(40), nullable=False),
        sa.Column("schedule", text(100), nullable=False),
        sa.Column("due", text(32), nullable=False),
        sa.Column("outcome", text(20), nullable=False),
        sa.Column("summary", text(2000), nullable=False),
        sa.Column("result", text(64), nullable=False),
        sa.Column("artifacts", text(), nullable=False),
        sa.Column("entry", big_integer(), nullable=False),
    )
    op.create_index("task_result_entry", "task_result", ["task", "entry"])
    op.create_table(
        "known_push",
        sa.Column("entry", big_integer(), primary_key=True, autoincrement=False),
        sa.Column("source", text(512), nullable=False),
        sa.Column("url", text(2048), nullable=False),
        sa.Column("branch", text(255), nullable=False),
        sa.Column("before", text(64), nullable=False),
        sa.Column("after", text(64), nullable=False),
        sa.Column("principal", text(512), nullable=False),
    )
    op.create_index("known_push_branch", "known_push", ["source", "branch"])
    op.create_table(
        "known_push_position",
        sa.Column("name", text(20), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
    )
