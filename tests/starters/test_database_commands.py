"""``coafi database``, and what commands that only read say of tables that are not theirs."""

import json
from collections.abc import Callable
from contextlib import closing

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from coafi.database import Database, PostgresqlAddress
from coafi.database.migrate import NEWEST
from coafi.errors import ValidationError
from coafi.settings import Settings
from tests.postgresql import PostgresqlServer
from tests.starters.support import Home, command
from workers.resources import open_resources

Coafi = Callable[..., "tuple[int, str, str]"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.create()


@pytest.fixture
def coafi(home: Home, url: str) -> Coafi:
    """A command, in this process: it is faster."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = command(arguments, home.environment(COAFI_DATABASE_URL=url))
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def version_becomes(home: Home, url: str, version: str) -> None:
    where = PostgresqlAddress.parse(url) if url else home.path / "coafi.db"
    with closing(Database(where)) as database, database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def test_tables_are_made_checked_and_left_alone_by_commands_that_read(home: Home, url: str, coafi: Coafi) -> None:
    code, _, said = coafi("events", "list")
    assert code == 1
    assert "start the service" in said
    code, _, said = coafi("database", "check")
    assert code == 1
    code, made, _ = coafi("database", "migrate")
    assert (code, f"is at version {NEWEST}" in made) == (0, True)
    assert f"was at version {NEWEST} already" in coafi("database", "migrate")[1]
    code, shown, _ = coafi("database", "check", "--json")
    assert code == 0
    assert json.loads(shown) | {"database": ""} == {
        "database": "",
        "standing": "current",
        "version": NEWEST,
        "needed": NEWEST,
        "missing": [],
        "differences": [],
    }
    assert coafi("events", "list", "--json")[:2] == (0, "[]\n")

    version_becomes(home, url, "0001")
    code, _, said = coafi("events", "list")
    assert code == 1
    assert f"is at version 0001, and this software needs {NEWEST}" in said
    assert "coafi database migrate" in said
    code, shown, _ = coafi("database", "check")
    assert (code, NEWEST in shown, "older than this software" in shown) == (1, True, True)

    version_becomes(home, url, "9999")
    for words in (("events", "list"), ("database", "migrate")):
        code, _, said = coafi(*words)
        assert code == 1
        assert "is at version 9999" in said
        assert "restore the backup" in said
    settings = Settings(home=home.path, database_url=SecretStr(url))
    with pytest.raises(ValidationError, match="is at version 9999"), open_resources(settings):
        pass
    code, shown, _ = coafi("database", "check")
    assert (code, "newer than this software" in shown) == (1, True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mysql://ada:hidden@db/coafi", "starts with mysql://"),
        ("postgresql://ada:hid%den@db/coafi", "cannot be read"),
        ("hidden", "is no URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(home: Home, value: str, said: str) -> None:
    done = home.coafi("events", "list", COAFI_DATABASE_URL=value)
    assert done.returncode == 1
    assert f"COAFI_DATABASE_URL: Value error, the database's URL {said}" in done.stderr
    assert "hid" not in done.stderr


def test_a_server_that_is_out_of_reach_is_named_without_the_password(home: Home) -> None:
    done = home.coafi("events", "list", COAFI_DATABASE_URL="postgresql://ada:hidden@127.0.0.1:1/coafi")
    assert done.returncode == 1
    assert "database coafi at 127.0.0.1:1 is out of reach" in done.stderr
    assert "hidden" not in done.stderr
