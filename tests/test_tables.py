"""Whether tests find the tables that the migrations make."""

from pathlib import Path

from sqlalchemy import Connection, text

from coafi.database import Database, migrate
from tests.postgresql import PostgresqlServer, use_postgresql, where
from tests.tables import tables_made_quickly, with_alembic

SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
POSTGRESQL = (
    "SELECT table_name, column_name, data_type, collation_name, column_default, is_nullable, '', ''"
    " FROM information_schema.columns WHERE table_schema = 'public'"
    " UNION ALL SELECT tablename, indexname, indexdef, '', '', '', '', '' FROM pg_indexes WHERE schemaname = 'public'"
    " UNION ALL SELECT event_object_table, trigger_name, action_statement, event_manipulation, '', '', '', ''"
    " FROM information_schema.triggers"
    " UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '', '', ''"
    " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
    " UNION ALL SELECT proname, prosrc, '', '', '', '', '', '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    " ORDER BY 1, 2, 3, 4"
)


def made(directory: Path) -> tuple[list[object], object]:
    """Everything that a new database holds."""

    def rows(connection: Connection, statement: str) -> list[object]:
        return [tuple(row) for row in connection.execute(text(statement))]

    database = Database(where(directory))
    database.create_tables()
    database.create_tables()
    try:
        assert migrate.differences(database) == []
        with database.read() as connection:
            tables = rows(connection, SQLITE if database.dialect == "sqlite" else POSTGRESQL)
            return tables, rows(connection, "SELECT version_num FROM alembic_version")
    finally:
        database.close()


def test_tables_that_are_made_quickly_are_those_of_the_migrations(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    for kind in ("sqlite", "postgresql"):
        homes = [tmp_path / f"{kind}-{number}" for number in range(3)]
        for home in homes:
            home.mkdir()
            if kind == "postgresql":
                use_postgresql(home, postgresql.create())
        with with_alembic():
            expected = made(homes[0])
        assert len(expected[0]) > 30
        with tables_made_quickly():
            assert [made(home) for home in homes[1:]] == [expected, expected]
