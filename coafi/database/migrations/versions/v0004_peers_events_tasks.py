"""Peers, events of the ledger, scheduled tasks, and what witnesses say."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _witnessing()


def _witnessing() -> None:
    op.create_table(
        "ledger_cosignature",
        sa.Column("log_id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("cosigner", text(400), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("line", text(), nullable=False),
    )
    op.create_table(
        "witnessed",
        sa.Column("origin", text(255), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("note", text(), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "split_view",
        sa.Column("origin", text(255), primary_key=True),
        sa.Column("grade", text(10), primary_key=True),
        sa.Column("peer", text(200), nullable=False),
        sa.Column("kept", text(), nullable=False),
        sa.Column("shown", text(), nullable=False),
        sa.Column("fork", text()),
        sa.Column("problem", text(), nullable=False),
        sa.Column("found", text(32), nullable=False),
        sa.Column("entry", big_integer()),
        sa.Column("told", sa.Boolean, nullable=False),
    )
