"""What is kept outside the database: the last checkpoint, which tells a restored backup or a fork from the log."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coafi.errors import Unavailable
from coafi.ledger.checkpoint import MAX_NOTE
from coafi.ledger.keys import sync_directory

_OURS = os.O_CLOEXEC | os.O_NOFOLLOW
"""No other program inherits it, and no link leads elsewhere."""


class StateFile:
    """A small file in a directory that must not be restored together with the database.

    Args:
        path: its directory is made when it is missing.
        limit: bytes that are read of it, and one more.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit

    @contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold the file among all processes, so that it only ever moves forward.

        Args:
            timeout: seconds to wait for it.

        Raises:
            Unavailable: somebody else holds it for longer, or the directory cannot be written.
        """
        deadline = time.monotonic() + timeout
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | _OURS, 0o600)
        try:
            while not _lock(descriptor):
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"the {self.path.name} file {self.path} is held by another process",
                        remedy="wait, or end that process",
                    )
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> bytes | None:
        """What it holds; None when there is none yet.

        Raises:
            Unavailable: the file cannot be read, or is none: a link could lead to where the database is restored.
        """
        with self._translated():
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | _OURS)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                return file.read(self._limit + 1)

    def age(self) -> float:
        """Seconds since the file was written; infinite when there is none, or when the clock went back."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except OSError:
            return float("inf")
        return age if age >= 0 else float("inf")

    def replace(self, content: str) -> None:
        """Put other content in the file's place, durably: after a crash there is the old one or the new one.

        Raises:
            Unavailable: the disk refuses.
        """
        temporary = self.path.with_suffix(".new")
        with self._translated():
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OURS, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path)
            sync_directory(self.path.parent)

    def remove(self) -> None:
        """Remove the file, if it is there, durably.

        Raises:
            Unavailable: the disk refuses.
        """
        with self._translated():
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"the {self.path.name} file {self.path} is out of reach: {error}",
                remedy="check its directory, permissions and disk space",
            ) from error


class PublishedCheckpoint(StateFile):
    """The file ``checkpoint`` in such a directory: a note."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "checkpoint", MAX_NOTE)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
