"""Which push a delivery tells of, which directories of trees were learned, and what went to peers."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns and tables. What was before them stays unknown.

    No push is taken for one of a delivery that is there, and every tree is learned once more.
    """
    _deliveries()
    _learned_directories()
    _sent_bodies()


def _deliveries() -> None:
    for column in (
        sa.Column("push", text(64)),
        sa.Column("branch", text(64)),
        sa.Column("entry", big_integer()),
        sa.Column("duplicate_of", text(512)),
    ):
        op.add_column("delivery", column)
    op.create_index("delivery_push", "delivery", ["push"])
    op.create_index("delivery_branch", "delivery", ["branch", "entry"])


def _learned_directories() -> None:
    op.create_table(
        "learned_directory",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("intact", sa.Boolean, nullable=False),
    )


def _sent_bodies() -> None:
    op.create_table(
        "peer_sent",
        sa.Column("peer", text(63), primary_key=True),
        sa.Column("message", text(128), primary_key=True),
        sa.Column("digest", text(64), primary_key=True),
        sa.Column("kept", text(64), nullable=False),
        sa.Column("entry", big_integer(), nullable=False),
        sa.Column("standing", text(10), nullable=False),
    )
