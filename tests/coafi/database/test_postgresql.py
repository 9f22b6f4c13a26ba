"""What can go wrong with a server: every outage is one that may pass, and no message holds the password."""

import logging
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select
from sqlalchemy import text as sql
from sqlalchemy.exc import DBAPIError

from coafi.database import Database, PostgresqlAddress, postgresql
from coafi.errors import IntegrityError, Unavailable, ValidationError
from tests.postgresql import PASSWORD, PostgresqlServer, running_server

scratch = Table("scratch", MetaData(), Column("n", Integer, primary_key=True))


@pytest.fixture
def address(postgresql: PostgresqlServer) -> PostgresqlAddress:
    return PostgresqlAddress.parse(postgresql.create())


@pytest.fixture
def database(address: PostgresqlAddress) -> Iterator[Database]:
    made = Database(address, write_lock_timeout=0.3)
    with made.write() as connection:
        scratch.create(connection)
    yield made
    made.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(select(scratch.c.n).order_by(scratch.c.n)))


def add(database: Database, n: int) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch).values(n=n))


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@db.example.org/coafi", "coafi at db.example.org:5432"),
        ("postgresql://ada:secret@db.example.org:6543/coafi?sslmode=require", "coafi at db.example.org:6543"),
        ("postgresql://ada:secret@one:1,two:2/coafi", "coafi at one:1,two:2"),
        ("postgresql:///coafi?host=/run/postgresql", "coafi at /run/postgresql:5432"),
        ("postgresql://ada@/coafi", "coafi at localhost:5432"),
    ],
)
def test_an_address_shows_host_and_database_only(url: str, shown: str) -> None:
    address = PostgresqlAddress.parse(url)
    assert str(address) == shown
    for text in (repr(address), repr(Database(address)), str(Database(address).__dict__)):
        assert "secret" not in text


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://ada:secret@db/coafi", "starts with mysql://"),
        ("postgres://ada:secret@db/coafi", "starts with postgres://"),
        ("sqlite:///secret.db", "starts with sqlite://"),
        ("secret", "is no URL"),
        ("secret@db://x", "is no URL"),
        ("postgresql://ada:sec%ret@db/coafi", "cannot be read"),
        ("postgresql://ada:secret@db/coafi?sslmod=secret", "cannot be read"),
        ("postgresql://ada:secret@db", "names no database"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        PostgresqlAddress.parse(url)
    assert caught.value.remedy
    assert "secret" not in "".join(traceback.format_exception(caught.value))


# ---------------------------------------------------------------------- durability


def test_a_write_is_durable_whatever_the_role_says(database: Database, postgresql: PostgresqlServer) -> None:
    with postgresql.connect() as owner:
        name = str(database.where).split(" ", maxsplit=1)[0]
        owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        owner.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        owner.execute(f"ALTER DATABASE {name} SET lock_timeout = 1")
    database.close()
    with database.write() as connection:
        for setting, value in {
            "synchronous_commit": "on",
            "transaction_isolation": "read committed",
            "lock_timeout": "300ms",
        }.items():
            assert connection.execute(sql(f"SHOW {setting}")).scalar() == value
    with database.read() as connection:
        assert connection.execute(sql("SHOW transaction_isolation")).scalar() == "repeatable read"
        assert connection.execute(sql("SHOW transaction_read_only")).scalar() == "on"


def test_a_stricter_durability_is_left_alone(database: Database, postgresql: PostgresqlServer) -> None:
    with postgresql.connect() as owner:
        name = str(database.where).split(" ", maxsplit=1)[0]
        owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    database.close()
    numbers(database)
    with database.write() as connection:
        assert connection.execute(sql("SHOW synchronous_commit")).scalar() == "remote_apply"


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_forget_is_refused(setting: str) -> None:
    with running_server(f"{setting}=off") as server:
        database = Database(PostgresqlAddress.parse(server.create()))
        with pytest.raises(Unavailable, match=rf"{setting}=off.*set {setting} = on"), database.read():
            pass
        database.close()


def test_a_database_that_cannot_hold_all_text_is_refused(postgresql: PostgresqlServer) -> None:
    with postgresql.connect() as owner:
        owner.execute("DROP DATABASE IF EXISTS narrow")
        owner.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    database = Database(PostgresqlAddress.parse(postgresql.url("narrow")))
    with pytest.raises(Unavailable, match="encoded in LATIN1"), database.read():
        pass


# ---------------------------------------------------------------------- outages


def test_no_message_holds_the_password(
    postgresql: PostgresqlServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    port = postgresql.port
    urls = [
        postgresql.url("nowhere"),
        postgresql.url("postgres", password="wrong" + PASSWORD),
        postgresql.url("postgres", user="nobody"),
        postgresql.url("postgres").replace(str(port), "1"),
        postgresql.url("postgres").replace("127.0.0.1", "nowhere.invalid"),
    ]
    for url in urls:
        database = Database(PostgresqlAddress.parse(url))
        with pytest.raises(Unavailable) as caught, database.read():
            pass
        assert str(database.where) in caught.value.message
        assert caught.value.remedy
        text = "".join(traceback.format_exception(caught.value)) + repr(database) + repr(caught.value.__cause__)
        assert PASSWORD not in text
        assert PASSWORD[:20] not in text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in "".join(capfd.readouterr())


def test_a_killed_backend_fails_its_writer_and_nobody_after_it(
    database: Database, postgresql: PostgresqlServer
) -> None:
    with pytest.raises(Unavailable, match=r"stopping|lost|out of reach"), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        number = connection.execute(sql("SELECT pg_backend_pid()")).scalar()
        with postgresql.connect() as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (number,))
        connection.execute(insert(scratch).values(n=2))
    assert numbers(database) == []
    with postgresql.connect() as owner:
        name = str(database.where).split(" ", maxsplit=1)[0]
        owner.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (name,))
    add(database, 3)  # the pooled connections are dead, and replaced without a word
    assert numbers(database) == [3]


def test_a_connection_that_is_lost_before_the_commit_is_an_outage(
    database: Database, postgresql: PostgresqlServer
) -> None:
    with pytest.raises(Unavailable), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        number = connection.execute(sql("SELECT pg_backend_pid()")).scalar()
        with postgresql.connect() as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 10000)", (number,))
    assert numbers(database) == []


def test_a_server_that_restarts_is_an_outage_and_comes_back() -> None:
    with running_server() as server:
        database = Database(PostgresqlAddress.parse(server.create()))
        with database.write() as connection:
            scratch.create(connection)
        for mode in ("fast", "immediate"):
            server.stop(mode)
            for use in (database.read, database.write):
                with pytest.raises(Unavailable, match="out of reach") as caught, use():
                    pass
                assert "COAFI_DATABASE_URL" in caught.value.remedy
            server.start()
            assert numbers(database) == []
        database.close()


def test_a_server_without_a_free_connection_is_an_outage() -> None:
    with running_server("max_connections=4", "superuser_reserved_connections=3") as server:
        with server.connect() as owner:
            owner.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        database = Database(PostgresqlAddress.parse(server.url("postgres", user="plain", password="plain")))
        with database.read(), pytest.raises(Unavailable, match=r"out of reach.*connection"), database.read():
            pass
        database.close()


def test_a_process_that_uses_all_its_connections_is_told_so(
    address: PostgresqlAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"POOL_SIZE": 1, "POOL_OVERFLOW": 0, "POOL_TIMEOUT": 0.1}.items():
        monkeypatch.setattr(postgresql, name, value)
    database = Database(address)
    with database.read(), pytest.raises(Unavailable, match="all 1 connections of this process"), database.read():
        pass
    database.close()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", Unavailable),
        ("53200", Unavailable),
        ("53400", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("58030", Unavailable),
        ("XX001", IntegrityError),
        ("XX002", IntegrityError),
        ("22012", DBAPIError),
        ("23505", DBAPIError),
        ("42601", DBAPIError),
        ("54000", DBAPIError),
    ],
)
def test_what_the_servers_codes_mean(database: Database, state: str, kind: type[Exception]) -> None:
    """The server sends each code, as when it means it; the tests of the ledger have a disk that is full."""
    with pytest.raises(kind) as caught, database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '{state}'; END $$")
    assert numbers(database) == []
    if not isinstance(caught.value, DBAPIError):
        assert "because" in str(caught.value)


def test_a_machine_that_dies_in_a_write_does_not_keep_its_locks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(database, 1)
    monkeypatch.setattr(postgresql, "IDLE_TIMEOUT", 0.2)
    query = sql("SELECT n FROM scratch FOR UPDATE")
    with pytest.raises(Unavailable, match=r"idle|lost|stopping|out of reach"), database.write() as dead:
        dead.execute(query)
        with database.write(lock_timeout=60) as connection:
            assert connection.execute(query).scalar() == 1
        dead.execute(query)


def test_two_writers_that_wait_for_each_other_are_an_outage_for_one(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(scratch), [{"n": 1}, {"n": 2}])
    barrier = threading.Barrier(2)
    failed: list[Unavailable] = []

    def write(first: int, second: int) -> None:
        try:
            with database.write(lock_timeout=60) as connection:
                for n in (first, second):
                    connection.execute(sql("SELECT n FROM scratch WHERE n = :n FOR UPDATE"), {"n": n})
                    if n == first:
                        barrier.wait(60)
        except Unavailable as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=pair) for pair in ((1, 2), (2, 1))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(failed) == 1
    assert "deadlock" in str(failed[0])


def test_a_lost_table_and_a_missing_privilege_say_what_to_do(database: Database, postgresql: PostgresqlServer) -> None:
    with pytest.raises(Unavailable, match=r"lacks a table.*coafi database migrate"), database.read() as connection:
        connection.execute(sql("SELECT * FROM nothing"))
    with postgresql.connect() as owner:
        owner.execute("DROP ROLE IF EXISTS guest")
        owner.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    name = str(database.where).split(" ", maxsplit=1)[0]
    guest = Database(PostgresqlAddress.parse(postgresql.url(name, user="guest", password="guest")))
    with pytest.raises(Unavailable, match=r"does not allow.*docs/operations.md"), guest.read() as connection:
        connection.execute(select(scratch))
    guest.close()


def test_a_swallowed_error_is_not_taken_for_committed(database: Database) -> None:
    with pytest.raises(Unavailable, match="failed or ended before its commit"), database.write() as connection:
        connection.execute(insert(scratch).values(n=1))
        with pytest.raises(DBAPIError):
            connection.execute(insert(scratch).values(n=1))
    assert numbers(database) == []


def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="read-only"), database.read() as connection:
        connection.execute(insert(scratch).values(n=1))


def test_a_standby_is_not_taken_for_the_server(database: Database, postgresql: PostgresqlServer) -> None:
    name = str(database.where).split(" ", maxsplit=1)[0]
    with postgresql.connect() as owner:
        owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database.close()
    with pytest.raises(Unavailable, match="read-only"), database.write():
        pass


def test_an_error_of_ours_on_the_way_in_closes_the_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    database.close()
    monkeypatch.setattr(postgresql.PostgresqlAdapter, "_check", fail)
    with pytest.raises(KeyboardInterrupt), database.read():
        pass
