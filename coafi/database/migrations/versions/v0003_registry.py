"""The registry's entries with their versions and tags, answers to requests, and deliveries by their first UTidS."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text
from coafi.utids import temporary_utids

revision = "0003"
down_revision = "0002"

_ROWS = 1_000


def upgrade() -> None:
    """Make the tables; give the deliveries that are there their temporary UTidS, which derive from what they hold."""
    _registry()
    op.create_table(
        "api_answer",
        sa.Column("workflow_id", text(2000), primary_key=True),
        sa.Column("operated", text(), nullable=False),
        sa.Column("answered_at", text(32), nullable=False),
    )
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
    op.add_column("delivery", sa.Column("temporary_utids", text(40)))
    _fill()
    op.create_index("delivery_temporary_utids", "delivery", ["temporary_utids"])


def _registry() -> None:
    op.create_table(
        "registry_entry",
        sa.Column("registry_id", text(20), primary_key=True),
        sa.Column("entry_id", text(200), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", text(20), nullable=False),
        sa.Column("class", text(20), nullable=False),
        sa.Column("owner", text(200), nullable=False),
        sa.Column("utids", text(40), nullable=False),
        sa.Column("created", text(32), nullable=False),
        sa.Column("integrated_version", sa.Integer),
        sa.Column("words", text(), nullable=False),
    )
    op.create_index("registry_entry_utids", "registry_entry", ["utids"], unique=True)
    op.create_table(
        "registry_version",
        sa.Column("registry_id", text(20), primary_key=True),
        sa.Column("entry_id", text(200), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("status", text(20), nullable=False),
        sa.Column("class", text(20), nullable=False),
        sa.Column("owner", text(200), nullable=False),
        sa.Column("tags", text(), nullable=False),
        sa.Column("data", text(), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("utids", text(40), nullable=False),
        sa.Column("created", text(32), nullable=False),
        sa.Column("changed", text(32), nullable=False),
        sa.Column("by", text(200), nullable=False),
        sa.Column("reason", text(500), nullable=False),
        sa.Column("workflow_id", text(2000), nullable=False),
        sa.Column("ledger_entry", big_integer(), nullable=False),
        sa.Column("integrated_version", sa.Integer),
        sa.Column("checked_with", text()),
    )
    op.create_index("registry_version_workflow", "registry_version", ["workflow_id"])
    op.create_table(
        "registry_tag",
        sa.Column("tag", text(64), primary_key=True),
        sa.Column("registry_id", text(20), primary_key=True),
        sa.Column("entry_id", text(200), primary_key=True),
    )
    op.create_index("registry_tag_entry", "registry_tag", ["registry_id", "entry_id"])
    op.create_table(
        "registry_reservation",
        sa.Column("registry_id", text(20), primary_key=True),
        sa.Column("entry_id", text(200), primary_key=True),
        sa.Column("workflow_id", text(2000), nullable=False),
        sa.Column("since", big_integer(), nullable=False),
    )


def _fill() -> None:
    connection = op.get_bind()
    delivery = sa.table(
        "delivery", *(sa.column(name) for name in ("source", "delivery_id", "event_type", "body_digest"))
    )
    change = sa.text("UPDATE delivery SET temporary_utids = :utids WHERE source = :source AND delivery_id = :id")
    after = ("", "")
    while True:
        key = sa.tuple_(delivery.c.source, delivery.c.delivery_id)
        query = sa.select(delivery).where(key > after).order_by(delivery.c.source, delivery.c.delivery_id).limit(_ROWS)
        rows = connection.execute(query).all()
        if not rows:
            return
        connection.execute(
            change,
            [
                {
                    "utids": temporary_utids(row.event_type, row.source, row.delivery_id, row.body_digest),
                    "source": row.source,
                    "id": row.delivery_id,
                }
                for row in rows
            ],
        )
        after = (rows[-1].source, rows[-1].delivery_id)
