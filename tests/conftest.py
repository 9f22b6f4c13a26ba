"""What holds for every test."""

import functools
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from tests import strength
from tests.logs import log_aside
from tests.postgresql import PostgresqlServer, running_server, use_postgresql
from tests.s3 import S3Server, running_s3
from tests.tables import tables_made_quickly
from tests.tracing import is_traced, untraced

strength.register_profiles()
log_aside()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits longest begins first, so that at the end no process works on while the others have nothing to do."""
    order = ("guarantees", "fuzz", "starters")
    items.sort(key=lambda item: next((n for n, one in enumerate(order) if one in item.path.parts), len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure coverage where it tells something new."""
    with nullcontext() if is_traced(item) else untraced():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _what_is_made_once() -> Iterator[None]:
    """What takes long to make, is the same each time, and is not what a test is about."""
    with tables_made_quickly(), pytest.MonkeyPatch.context() as patched:
        # Every client of httpx reads the certificates of all authorities, which takes longer than what it then asks.
        patched.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server, started when the first test needs it; each test makes a database of its own."""
    with running_server("max_connections=300") as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server, started when the first test needs it; each test makes a bucket of its own."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory whose database (``tests.postgresql.where``) is a SQLite file, and then one of PostgreSQL."""
    if request.param == "postgresql":
        use_postgresql(tmp_path, request.getfixturevalue("postgresql").create())
    return tmp_path
