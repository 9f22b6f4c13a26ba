"""The embedded service: Temporal's development server as a child process, its ports, and who may find it.

One process owns a home directory at a time. Others (the ``coafi`` command) find it by ``service.json`` there.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from coafi.errors import Unavailable, ValidationError
from coafi.names import SearchAttribute

LOOPBACK = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 15
_PR_SET_PDEATHSIG = 1
_FREE_PORTS = range(15_000, 32_000)
"""Not those that a system gives to whoever asks for any. The server asks for some, for its parts, while nobody listens
on ours yet; it was seen to get one of ours, and to end a moment after it was ready."""

SERVER_OPTIONS = (
    "--sqlite-pragma=journal_mode=wal",
    "--sqlite-pragma=synchronous=full",
    "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
    "--dynamic-config-value=matching.enableFairness=true",
    "--dynamic-config-value=history.transferProcessorMaxPollRPS=500",
    "--log-level=warn",
    "--log-format=json",
    *(f"--search-attribute={name}=Keyword" for name in SearchAttribute),
)
"""Durable, fair, exact and quick: rates are split over partitions, fairness needs its switch, and the server hands
tasks over at 20 a second unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where a running service is to be reached.

    Attributes:
        pid: the process that owns the home.
        temporal: ``host:port`` of Temporal.
        ui: base URL of its Web UI.
        gateway: base URL of the gateway.
    """

    pid: int
    temporal: str
    ui: str
    gateway: str

    def write(self, home: Path) -> None:
        """Let others find the service."""
        temporary = _address_file(home).with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(_address_file(home))

    @staticmethod
    def read(home: Path) -> "ServiceAddress | None":
        """The service that runs in ``home``, if one does."""
        try:
            address = ServiceAddress(**json.loads(_address_file(home).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return address if _is_owned(home) else None

    @staticmethod
    def forget(home: Path) -> None:
        """The service has stopped."""
        _address_file(home).unlink(missing_ok=True)


@contextmanager
def owned(home: Path) -> Iterator[None]:
    """Own ``home`` for as long as the block runs; the kernel releases it when the process dies, however it dies.

    Raises:
        ValidationError: another process owns it, or it cannot be a directory of ours.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(home / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ValidationError(
            f"{home} cannot hold the state of a service: {error.strerror}",
            remedy="set COAFI_HOME to a directory that you may write",
        ) from error
    try:
        for _ in range(20):  # somebody who only looks whether a service runs holds it for a moment
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            raise ValidationError(
                f"a service already runs in {home}", remedy="stop it, or set COAFI_HOME to another directory"
            )
        ServiceAddress.forget(home)  # of an owner that was killed: nobody shall be sent there
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class TemporalServer:
    """A running development server."""

    process: "subprocess.Popen[bytes]"
    address: str
    ui: str
    log_file: Path
    ports: tuple[int, ...]

    @classmethod
    def start(
        cls, home: Path, *, port: int, ui_port: int, namespace: str = "default", options: tuple[str, ...] = ()
    ) -> "TemporalServer":
        """Start the server on a database in ``home``. It ends when this process does, even by ``kill -9`` (Linux).

        Args:
            home: holds ``temporal.db`` and ``temporal.log``.
            port: wished port of the gRPC service; a free one is taken when it is not to be had.
            ui_port: wished port of the Web UI, likewise.
            namespace: made when it is missing.
            options: further options of ``temporal server start-dev``.
        """
        port, ui_port = (_free_port(wish) for wish in (port, ui_port))
        log_file = home / "temporal.log"
        command = [
            temporal_executable(),
            "server",
            "start-dev",
            f"--db-filename={home / 'temporal.db'}",
            f"--ip={LOOPBACK}",
            f"--port={port}",
            f"--ui-port={ui_port}",
            f"--namespace={namespace}",
            *SERVER_OPTIONS,
            *options,
        ]
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop it after the workers
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        ports = (port,) if "--headless" in options else (port, ui_port)
        return cls(process, f"{LOOPBACK}:{port}", f"http://{LOOPBACK}:{ui_port}", log_file, ports)

    async def wait_ready(self) -> None:
        """Wait until the server and its Web UI, and not others that were quicker to take their ports, answer.

        Raises:
            Unavailable: it ended, or did not answer in time.
        """
        for _ in range(_START_SECONDS * 10):
            if self.process.poll() is not None:
                break
            if self._listens() and await self._answers():  # it listens a moment before it is healthy
                return
            await asyncio.sleep(0.1)
        raise Unavailable(
            f"the Temporal server did not start (exit code {self.process.poll()})", remedy=f"read {self.log_file}"
        )

    def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        try:
            sockets = psutil.Process(self.process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return set(self.ports) <= {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}

    async def _answers(self) -> bool:
        from temporalio.service import ConnectConfig, RPCError, ServiceClient  # commands that only read go without it

        try:
            client = await ServiceClient.connect(ConnectConfig(target_host=self.address))
            return await client.check_health()
        except (RuntimeError, RPCError):  # the first is what the SDK raises for every failure to connect
            return False


def temporal_executable() -> str:
    """The Temporal CLI that came with our environment."""
    return str(Path(sys.executable).with_name("temporal"))


def listening_socket(host: str, port: int, *, fall_back: bool = True) -> socket.socket:
    """A listening socket on ``port``, or, with ``fall_back``, on a free one when it is taken.

    Raises:
        ValidationError: neither is to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio does not turn Nagle's algorithm off: every answer would then wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for wish in (port, 0) if fall_back else (port,):
        try:
            listener.bind((host, wish))
            listener.listen(1024)
        except OSError as error:
            reason = error.strerror
        else:
            return listener
    listener.close()
    raise ValidationError(
        f"nobody can listen on {host}, port {port}: {reason}",
        remedy="set COAFI_GATEWAY_HOST to an address of this machine, and COAFI_GATEWAY_PORT to a free port",
    )


def _free_port(wish: int) -> int:
    others = random.sample(_FREE_PORTS, 20)
    for port in (wish, *others) if wish else others:
        with suppress(ValidationError), listening_socket(LOOPBACK, port, fall_back=False):
            return port
    with listening_socket(LOOPBACK, 0) as listener:
        return int(listener.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # at once: the next owner opens its database


def _address_file(home: Path) -> Path:
    return home / "service.json"


def _is_owned(home: Path) -> bool:
    try:
        with (home / "service.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
