"""Peers and witnesses, what follows the ledger, findings on entities, and scheduled tasks."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _followers()
    _findings()
    _peers()
    _witnessing()
    _outbox()
    _tasks()


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


def _peers() -> None:
    op.create_table(
        "peer",
        sa.Column("id", text(63), primary_key=True),
        sa.Column("status", text(20), nullable=False),
        sa.Column("url", text(2000), nullable=False),
        sa.Column("accepts", text(), nullable=False),
        sa.Column("subscription", text(), nullable=False),
        sa.Column("restricted", text(), nullable=False),
        sa.Column("ledger_key", text(1024), nullable=False),
        sa.Column("witness_key", text(1024), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("changed", text(32), nullable=False),
        sa.Column("ledger_entry", big_integer(), nullable=False),
    )
    op.create_table(
        "peer_key",
        sa.Column("keyid", text(43), primary_key=True),
        sa.Column("peer", text(63), nullable=False),
        sa.Column("algorithm", text(40), nullable=False),
        sa.Column("public", text(100), nullable=False),
        sa.Column("not_before", text(32)),
        sa.Column("not_after", text(32)),
    )
    op.create_index("peer_key_peer", "peer_key", ["peer"])
    op.create_table(
        "peer_nonce",
        sa.Column("keyid", text(43), primary_key=True),
        sa.Column("nonce", text(64), primary_key=True),
        sa.Column("expires", big_integer(), nullable=False),
    )
    op.create_index("peer_nonce_expires", "peer_nonce", ["expires"])
    op.create_table(
        "peer_object",
        sa.Column("peer", text(63), primary_key=True),
        sa.Column("kind", text(40), primary_key=True),
        sa.Column("id", text(400), primary_key=True),
        sa.Column("version", big_integer(), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("utids", text(40), nullable=False),
        sa.Column("url", text(2000), nullable=False),
        sa.Column("message", text(512), nullable=False),
        sa.Column("ledger_entry", big_integer(), nullable=False),
    )
    op.create_index("peer_object_utids", "peer_object", ["utids"])


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
    )


def _outbox() -> None:
    op.create_table(
        "peer_position",
        sa.Column("peer", text(63), primary_key=True),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("reached", big_integer(), nullable=False),
        sa.Column("delivered", big_integer(), nullable=False),
        sa.Column("delivered_at", text(32)),
        sa.Column("paused", text(1100), nullable=False),
        sa.Column("problem", text(2000), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failing_at", text(32)),
    )


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
