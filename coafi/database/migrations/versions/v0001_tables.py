"""The tables as they were when versions began. A SQLite file from before has some of them, or all: it is adopted."""

import sqlalchemy as sa
from alembic import op

from coafi.database.schema import big_integer, text

revision = "0001"
down_revision = None

_SQLITE_GUARD = (
    "CREATE TRIGGER IF NOT EXISTS ledger_entry_no_{name} BEFORE {verb} ON ledger_entry "
    "BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed or removed'); END"
)

_ON_POSTGRESQL = (
    # Hashes do not compress: spare the attempt at every append.
    "ALTER TABLE ledger_tile ALTER COLUMN hashes SET STORAGE EXTERNAL",
    "CREATE FUNCTION ledger_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION 'ledger entries are never changed or removed' USING ERRCODE = 'integrity_constraint_violation'; "
    "END $$",
    "CREATE TRIGGER ledger_entry_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry "
    "FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_refuse()",
)


def upgrade() -> None:
    """Make what is missing."""
    _ledger()
    _events()
    _results()
    _caches()
    if op.get_bind().dialect.name == "postgresql":
        for statement in _ON_POSTGRESQL:
            op.execute(statement)
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(_SQLITE_GUARD.format(name=verb.lower(), verb=verb))


def _ledger() -> None:
    _table(
        "ledger_head",
        sa.Column("log_id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("origin", text(), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    _table(
        "ledger_entry",
        sa.Column("log_id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("event_id", text(), nullable=False),
        sa.Column("type", text(), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("log_id", "key"),
    )
    _index("ledger_entry_by_event", "ledger_entry", "log_id", "event_id", "idx")
    _table(
        "ledger_tile",
        sa.Column("log_id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    _table(
        "ledger_checkpoint",
        sa.Column("log_id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("note", text(), nullable=False),
    )


def _events() -> None:
    _table(
        "delivery",
        sa.Column("source", text(512), primary_key=True),
        sa.Column("delivery_id", text(512), primary_key=True),
        sa.Column("event_type", text(100), nullable=False),
        sa.Column("workflow_id", text(2000), nullable=False, unique=True),
        sa.Column("run_id", text(64), nullable=False),
        sa.Column("body_digest", text(64), nullable=False),
        sa.Column("utids", text(40), nullable=False),
        sa.Column("subject", text(), nullable=False),
        sa.Column("received_at", text(32), nullable=False),
        sa.Column("outcome", text(20)),
        sa.Column("concluded_at", text(32)),
    )
    _index("delivery_received_at", "delivery", "received_at")
    _index("delivery_utids", "delivery", "utids")
    _table(
        "schema_version",
        sa.Column("schema_id", text(200), primary_key=True),
        sa.Column("version", text(40), primary_key=True),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("document", text(), nullable=False),
    )


def _results() -> None:
    _table(
        "file_result",
        sa.Column("entry", big_integer(), primary_key=True, autoincrement=False),
        sa.Column("repository", text(), nullable=False),
        sa.Column("path", text(), nullable=False),
        sa.Column("blob", text(64), nullable=False),
        sa.Column("commit", text(64), nullable=False),
        sa.Column("workflow_id", text(), nullable=False),
        sa.Column("kind", text(20), nullable=False),
        sa.Column("verdict", text(20), nullable=False),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("warnings", sa.Integer, nullable=False),
        sa.Column("reports", text(64), nullable=False),
    )
    _table(
        "artifact_result",
        sa.Column("entry", big_integer(), primary_key=True, autoincrement=False),
        sa.Column("repository", text(), nullable=False),
        sa.Column("path", text(), nullable=False),
        sa.Column("blob", text(64), nullable=False),
        sa.Column("artifact", text(20), nullable=False),
        sa.Column("media_type", text(100), nullable=False),
        sa.Column("digest", text(64), nullable=False),
    )
    for table in ("file_result", "artifact_result"):
        if op.get_bind().dialect.name == "postgresql":
            op.create_index(f"{table}_hashed_path", table, ["path"], postgresql_using="hash")
            _index(f"{table}_blob", table, "repository", "blob")
        else:
            _index(f"{table}_path", table, "repository", "path", "blob")
    _table(
        "documentation_index",
        sa.Column("repository", text(), primary_key=True),
        sa.Column("branch", text(), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("commit", text(64), nullable=False),
        sa.Column("tree", text(64), nullable=False),
        sa.Column("index_digest", text(64), nullable=False),
        sa.Column("page_digest", text(64), nullable=False),
        sa.Column("entry", big_integer(), nullable=False),
        sa.Column("updated_at", text(32), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )
    _index("documentation_index_commit", "documentation_index", "repository", "commit")
    _table(
        "gone_subscriber",
        sa.Column("name", text(63), primary_key=True),
        sa.Column("url_digest", text(64), primary_key=True),
        sa.Column("since", text(32), nullable=False),
    )


def _caches() -> None:
    _table(
        "document_summary",
        sa.Column("entry", big_integer(), primary_key=True, autoincrement=False),
        sa.Column("summary", text(), nullable=False),
    )
    _table(
        "document_facts",
        sa.Column("blob", text(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("facts", text(), nullable=False),
    )
    _table(
        "document_path",
        sa.Column("document_id", text(), primary_key=True),
        sa.Column("path", text(), primary_key=True),
    )
    _table(
        "support_object",
        sa.Column("blob", text(64), primary_key=True),
        sa.Column("digest", text(64), nullable=False),
    )
    _table(
        "artifact_cache",
        sa.Column("blob", text(64), primary_key=True),
        sa.Column("generator", text(40), primary_key=True),
        sa.Column("config", text(64), primary_key=True),
        sa.Column("kind", text(20), primary_key=True),
        sa.Column("result", text(), nullable=False),
    )


def _table(name: str, *columns: "sa.schema.SchemaItem") -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _index(name: str, table: str, *columns: str) -> None:
    op.create_index(name, table, list(columns), if_not_exists=True)
