"""Processes of the service that cost a test little to start.

Each is a process like any other: it has its own id and memory, takes signals and dies of them. But to load its code
takes one seconds, and the suite starts dozens. So it is forked from one that has loaded everything (``tests.forked``).
In the soak each is started as the command that it is.
"""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from tests.forked import become
from tests.strength import thorough

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.forked"])
"""For a function instead of a command."""


class Process(Protocol):
    """What a test does to a process; a ``subprocess.Popen`` is one."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """The exit code, as ``poll`` or ``wait`` found it."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it has not ended."""

    def kill(self) -> None:
        """End it at once, if it has not ended."""


class _Forked:
    """A process that was forked."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path, *, errors: Path | None = None
) -> Process:
    """Start ``coafi …`` or ``python -m …``; what it prints goes to the end of ``log``, or in part to ``errors``."""
    logs = (log, errors or log)
    if thorough():
        with log.open("ab") as out, logs[1].open("ab") as err:
            return subprocess.Popen(arguments, env=environment, stdout=out, stderr=err)
    process = FORKS.Process(target=become, args=(tuple(arguments), dict(environment), logs))
    process.start()
    return _Forked(process)
