"""A home of the ``coafi`` command, and the command: what a person at a terminal has.

In the suite most commands run in the process of the test, which has loaded everything already; in the soak each of them
is a process.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import structlog

from coafi.names import Phase, SearchAttribute
from coafi.settings import Settings
from starters import cli
from starters.commands import common
from starters.embedded import ServiceAddress
from tests.harness import SECRET, until
from tests.logs import log_aside
from tests.processes import Process, start
from tests.strength import thorough
from workers.client import connect

TOKEN = "a-git-token-that-nobody-may-see"
COMMAND = str(Path(sys.executable).with_name("coafi"))
HANG = 60
"""Seconds after which something hangs; nothing is measured by it."""

UNREACHABLE = "http://127.0.0.1:1/nobody/there"
"""A repository whose host is down for good: its runs park."""


Done = subprocess.CompletedProcess[bytes]


def process(arguments: tuple[str, ...], environment: Mapping[str, str], stdin: bytes = b"") -> Done:
    """Run ``coafi`` as a process, to its end; nothing of what it prints is a stack trace."""
    done = subprocess.run(
        (COMMAND, *arguments), env=environment, input=stdin, capture_output=True, timeout=HANG, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr
    return done


def _uncached(**changes: Any) -> None:
    """Configure logs so that a test that follows can look into them: a logger that was cached stays as it was."""
    _configure(**{**changes, "cache_logger_on_first_use": False})


_configure = structlog.configure

WAITING = frozenset({"up", "worker", "gateway", "listener", "demo", "demo-federation"})
"""Commands that wait for signals."""


def command(arguments: tuple[str, ...], environment: Mapping[str, str], stdin: bytes = b"") -> Done:
    """Run ``coafi`` in this process (in the soak: as one of its own), to its end; one at a time."""
    if thorough():
        return process(arguments, environment, stdin)
    if arguments[0] in WAITING and "--status" not in arguments:
        return _forked(arguments, environment)
    bodies = [io.BytesIO(one) for one in (stdin, b"", b"")]
    given, out, err = (io.TextIOWrapper(one, "utf-8", write_through=True) for one in bodies)
    root = logging.getLogger()
    handlers, level, code = root.handlers, root.level, 0
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["coafi", *arguments]),
        patch.object(sys, "stdin", given),
        patch.object(common, "SDK_USED", []),
        patch.object(cli, "_end_at_once", lambda _code: None),
        patch("structlog.configure", _uncached),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        ThreadPoolExecutor(1) as thread,  # in this one an event loop may be running
    ):
        try:
            thread.submit(cli.main).result(HANG)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            root.handlers, root.level = handlers, level
            log_aside()
    return Done((COMMAND, *arguments), code, bodies[1].getvalue(), bodies[2].getvalue())


def _forked(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Done:
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        started = start((COMMAND, *arguments), environment, out, errors=err)
        try:
            code = started.wait(HANG)
        finally:
            started.kill()
        assert b"Traceback" not in err.read_bytes(), err.read_bytes()
        return Done((COMMAND, *arguments), code, out.read_bytes(), err.read_bytes())


@dataclass
class Up:
    """A running ``coafi up``."""

    process: Process
    address: ServiceAddress
    log_file: Path

    @property
    def log(self) -> str:
        """Everything it has said."""
        return self.log_file.read_text()

    def children(self) -> list[psutil.Process]:
        """Its processes, the Temporal server among them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return await self.end()

    async def end(self) -> int:
        """Wait for the end; the exit code."""
        return await asyncio.to_thread(self.process.wait, HANG)


@dataclass(frozen=True)
class Home:
    """A directory with a home in it, and the environment of the commands that use it."""

    root: Path

    @property
    def path(self) -> Path:
        """What ``COAFI_HOME`` says."""
        return self.root / "home"

    @property
    def transcript(self) -> Path:
        """Everything that commands printed."""
        return self.root / "transcript"

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of a command: nothing of ours from outside."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COAFI_")}
        return {
            **inherited,
            "COAFI_HOME": str(self.path),
            "COAFI_TEMPORAL_PORT": "0",
            "COAFI_TEMPORAL_UI_PORT": "0",
            "COAFI_GATEWAY_PORT": "0",
            "COAFI_GITHUB_WEBHOOK_SECRET": SECRET,
            "COAFI_GIT_TOKENS": json.dumps({"127.0.0.1": TOKEN, "git.example": TOKEN}),
            "COAFI_GIT_FILE_ROOTS": str(self.root),
            "COAFI_GIT_ALLOW_HTTP": "true",
            "COAFI_GIT_ALLOW_PRIVATE": "true",
            "COAFI_GIT_PATIENCE": "0.5",
            "COAFI_INDEX_DEBOUNCE": "3600",
            "COAFI_LOG_FORMAT": "json",
            **changes,
        }

    def coafi(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return self._noted(command(arguments, self.environment(**environment)))

    def coafi_process(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """The same as a process of its own, wherever this runs."""
        return self._noted(process(arguments, self.environment(**environment)))

    def _noted(self, done: Done) -> "subprocess.CompletedProcess[str]":
        out, err = done.stdout.decode(), done.stderr.decode()
        with self.transcript.open("a") as transcript:
            transcript.write(f"$ {done.args[1:3]}\n{out}{err}")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with ``--json``."""
        done = self.coafi(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    @asynccontextmanager
    async def up(self, **environment: str) -> AsyncIterator[Up]:
        """``coafi up`` as a process, ready; stopped at the end unless the test did."""
        log_file = self.root / "up.log"
        process = start((COMMAND, "up"), self.environment(**environment), log_file)
        try:

            def ready() -> bool:
                assert process.poll() is None, log_file.read_text()
                address = ServiceAddress.read(self.path)
                return address is not None and address.pid == process.pid

            await until(ready)
            address = ServiceAddress.read(self.path)
            assert address is not None
            yield Up(process, address, log_file)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, HANG)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def processes(self) -> list[psutil.Process]:
        """Every process on this machine that works on this home's Temporal database."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(self.path / "temporal.db") in argument for argument in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def submit(self, repository: str, commit: str, *options: str) -> Any:
        """``coafi submit git-commit … --json``, which must succeed."""
        return self.json("submit", "git-commit", "--repository", repository, "--commit", commit, *options)

    async def parked(self) -> Any:
        """A run that is parked, as ``dead-letters list`` shows it."""
        submitted = self.submit(UNREACHABLE, "a" * 40, "--again")
        await self.until_parked(submitted["workflowId"], times=1)
        (row,) = [row for row in self.json("dead-letters", "list") if row["workflowId"] == submitted["workflowId"]]
        return row

    async def until_parked(self, workflow_id: str, *, times: int) -> None:
        """Wait until a run has parked so often, as operators see it: listed, and on the record."""
        address = ServiceAddress.read(self.path)
        assert address is not None
        client = await connect(Settings(), address.temporal)

        async def parked() -> bool:
            found = [run.id async for run in client.list_workflows(f"{SearchAttribute.PHASE}='{Phase.PARKED}'")]
            return workflow_id in found and len(self.json("events", "show", workflow_id)["parked"]) == times

        await until(parked)

    def tamper(self, statement: str) -> None:
        """Change the database behind the ledger's back; no service may run."""
        connection = sqlite3.connect(self.path / "coafi.db")
        with connection:
            connection.execute("DROP TRIGGER ledger_entry_no_update")
            assert connection.execute(statement).rowcount == 1
        connection.close()
