"""What requests to the API were answered."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "api_answer",
        sa.Column("workflow_id", text(2000), primary_key=True),
        sa.Column("operated", text(), nullable=False),
        sa.Column("answered_at", text(32), nullable=False),
    )
