"""Statements that the two dialects share, and SQLAlchemy words apart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose key is not there yet. Writers that insert the same at the same time do no harm."""
    if rows:
        statement = _insert(connection)(table).on_conflict_do_nothing()
        connection.execute(statement, _in_order(table, rows))


def insert_if_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is there; whether it was inserted. Of writers at the same time, one is told so."""
    statement = _insert(connection)(table).values(**row).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(statement).first() is not None


def insert_or_replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, and replace those that are there; the last writer wins. Each key may come once."""
    if rows:
        key = [column.name for column in table.primary_key]
        statement = _insert(connection)(table)
        rest = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=rest), _in_order(table, rows))


def _insert(connection: Connection) -> Any:  # noqa: ANN401  # two classes without a common base that has on_conflict
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _in_order(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By key: two writers that lock the same rows in another order would wait for each other (deadlock)."""
    key = [column.name for column in table.primary_key]
    return sorted(rows, key=lambda row: [row[name] for name in key])
