"""Which push a delivery tells of, which trees were learned, what went to peers, and their keys with two histories."""

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
    _split_views()


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


def _split_views() -> None:
    """One of each key. Of those that are there, it is empty: the witness finds it by their notes."""
    op.rename_table("split_view", "split_view_before")
    op.create_table(
        "split_view",
        sa.Column("origin", text(255), primary_key=True),
        sa.Column("grade", text(10), primary_key=True),
        sa.Column("key", text(400), primary_key=True),
        sa.Column("peer", text(200), nullable=False),
        sa.Column("kept", text(), nullable=False),
        sa.Column("shown", text(), nullable=False),
        sa.Column("fork", text()),
        sa.Column("problem", text(), nullable=False),
        sa.Column("found", text(32), nullable=False),
        sa.Column("entry", big_integer()),
    )
    op.execute(
        "INSERT INTO split_view (origin, grade, key, peer, kept, shown, fork, problem, found, entry)"
        " SELECT origin, grade, '', peer, kept, shown, fork, problem, found, entry FROM split_view_before"
    )
    op.drop_table("split_view_before")
