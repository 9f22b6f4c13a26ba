"""What became of entries when a schema of their registry was published."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "entry_verdict",
        sa.Column("entry", big_integer(), primary_key=True, autoincrement=False),
        sa.Column("registry_id", text(20), nullable=False),
        sa.Column("entry_id", text(200), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("verdict", text(20), nullable=False),
        sa.Column("workflow_id", text(1000), nullable=False),
    )
    op.create_index("entry_verdict_version", "entry_verdict", ["registry_id", "entry_id", "version"])
