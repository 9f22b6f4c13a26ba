"""Which push a delivery tells of, and where it stands among those of its branch."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns. Of the deliveries that are there they stay empty: no push is taken for one of those."""
    _deliveries()


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
