"""What holds for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgresql import PostgresqlServer, running_server, use_postgresql

settings.register_profile("no-deadline", deadline=None)  # machines vary; what hangs is ended by pytest-timeout
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server, started when the first test needs it; each test makes a database of its own."""
    with running_server("max_connections=300") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory whose database (``tests.postgresql.where``) is a SQLite file, and then one of PostgreSQL."""
    if request.param == "postgresql":
        use_postgresql(tmp_path, request.getfixturevalue("postgresql").create())
    return tmp_path
