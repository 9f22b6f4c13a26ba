"""Key ``document_path`` by a hash: a path can be longer than PostgreSQL allows a key to be."""

import hashlib

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import text

revision = "0002"
down_revision = "0001"

_ROWS = 1_000


def upgrade() -> None:
    """Copy the rows into a table with the new key."""
    op.rename_table("document_path", "document_path_before")
    new = op.create_table(
        "document_path",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("document_id", text(), nullable=False),
        sa.Column("path", text(), nullable=False),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT document_id, path FROM document_path_before"))
    while some := rows.fetchmany(_ROWS):
        connection.execute(
            sa.insert(new),
            [
                {
                    "key": hashlib.sha256(f"{document_id}\0{path}".encode()).digest(),
                    "document_id": document_id,
                    "path": path,
                }
                for document_id, path in some
            ],
        )
    op.drop_table("document_path_before")
    op.create_index("document_path_of", "document_path", ["document_id"])
