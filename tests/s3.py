"""An S3 server for a test session, in a process of its own; it dies with the one that started it."""

import ctypes
import functools
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from coafi.objects.s3 import Bucket

HANG = 60
_PR_SET_PDEATHSIG = 1


class S3Server:
    """A server on a port of this machine that keeps objects in its memory. It lets everybody in."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self.restart()

    def restart(self) -> None:
        """Start it, with nothing in it, and wait until it answers."""
        command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        deadline = time.monotonic() + HANG
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def create(self, url: str = "") -> Bucket:
        """A new bucket, or one that was lost."""
        url = url or f"s3://test-{uuid.uuid4().hex}/some/where"
        secret = SecretStr("an-s3-secret-nobody-may-see")
        bucket = Bucket.parse(url, endpoint=self.url, region="us-east-1", key_id="a-key-id", secret=secret)
        httpx.put(f"{self.url}/{bucket.name}", timeout=HANG).raise_for_status()
        return bucket

    def settings(self) -> dict[str, Any]:
        """The settings of a service whose objects are in a new bucket."""
        bucket = self.create()
        return {
            "objects_url": str(bucket),
            "s3_endpoint": bucket.endpoint,
            "s3_region": bucket.region,
            "s3_access_key_id": bucket.key_id,
            "s3_secret_access_key": bucket.secret,
        }

    def stop(self) -> None:
        """Stop it; everything in it is gone."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, timeout=HANG).is_success
        except httpx.TransportError:
            return False


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = S3Server(port)
    try:
        yield server
    finally:
        server.stop()
