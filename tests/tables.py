"""The tables of a new database, as fast as a test needs them: the migrations run once for each kind of database.

Alembic takes longer than most tests do. So whatever it sends to the first empty database of this process is kept, and
sent to every further one as it was. The tests of the migrations themselves let them run (``with_alembic``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event

from coafi.database import migrate
from coafi.database.migrate import Standing

_with_alembic: Callable[[Connection], None] = migrate._upgrade
_sent: dict[str, list[tuple[str, Any]]] = {}


def _upgrade(connection: Connection) -> None:
    if migrate._state(connection).standing is not Standing.EMPTY:
        _with_alembic(connection)
        return
    dialect = connection.dialect.name
    if dialect not in _sent:
        _sent[dialect] = _recorded(connection)
        return
    for statement, parameters in _sent[dialect]:
        connection.exec_driver_sql(statement, parameters or None)


def _recorded(connection: Connection) -> list[tuple[str, Any]]:
    sent: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", keep)
    try:
        _with_alembic(connection)
    finally:
        event.remove(connection, "before_cursor_execute", keep)
    return sent


@contextmanager
def tables_made_quickly() -> Iterator[None]:
    """New databases get the statements that were kept; others are migrated."""
    with patch.object(migrate, "_upgrade", _upgrade):
        yield


@contextmanager
def with_alembic() -> Iterator[None]:
    """Every database is migrated."""
    with patch.object(migrate, "_upgrade", _with_alembic):
        yield
