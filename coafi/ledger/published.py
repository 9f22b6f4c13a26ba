"""The last checkpoint, kept outside the database: what tells a restored backup or a fork from the log itself."""

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


class PublishedCheckpoint:
    """The file ``checkpoint`` in a directory that must not be restored together with the database.

    Args:
        directory: made when it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "checkpoint"

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
                        f"the checkpoint file {self.path} is held by another process",
                        remedy="wait, or end that process",
                    )
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> bytes | None:
        """The note; None when there is none yet.

        Raises:
            Unavailable: the file cannot be read, or is none: a link could lead to where the database is restored.
        """
        with self._translated():
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | _OURS)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                return file.read(MAX_NOTE + 1)

    def age(self) -> float:
        """Seconds since the file was written; infinite when there is none, or when the clock went back."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except OSError:
            return float("inf")
        return age if age >= 0 else float("inf")

    def replace(self, note: str) -> None:
        """Put another note in the file's place, durably: after a crash there is the old one or the new one.

        Raises:
            Unavailable: the disk refuses.
        """
        temporary = self.path.with_suffix(".new")
        with self._translated():
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OURS, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(note.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path)
            sync_directory(self.path.parent)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"the checkpoint file {self.path} is out of reach: {error}",
                remedy="check its directory, permissions and disk space",
            ) from error


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
