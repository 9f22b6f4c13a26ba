"""A small file whose content counts as it is now, and not as it was when the process started."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from coafi.errors import Unavailable, ValidationError
from coafi.secret_files import permissions

T = TypeVar("T")

_SETTLED: Final = 0.1
"""Seconds after which a change of a file shows in its times. File systems count them in ticks of the kernel's clock, so
what was read right after a change is read once more."""

_Identity = tuple[int, ...]


class WatchedFile(Generic[T]):
    """What a file holds, read again whenever it changes. Asking costs one ``stat``.

    Args:
        path: may be missing.
        parse: makes the value of the content and the file's permission bits; raises ValidationError.
        missing: the value while there is no file.
        limit: most bytes that are read.
    """

    def __init__(self, path: Path, parse: Callable[[bytes, int], T], *, missing: T, limit: int) -> None:
        self.path: Final = path
        self._parse = parse
        self._missing = missing
        self._limit = limit
        self._loaded: tuple[_Identity, T] | None = None

    def current(self) -> T:
        """The value now. The same object as before while the file has not changed.

        Raises:
            ValidationError: the file belongs to somebody else, others may write it, it is too large, or ``parse``
                refuses it.
            Unavailable: it cannot be read.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116  # half the time of Path.stat, for each request
        except FileNotFoundError:
            return self._missing
        except OSError as error:
            raise self._unreadable(error) from error
        identity = _identity(found)
        loaded = self._loaded
        if loaded is not None and loaded[0] == identity:
            return loaded[1]
        return self._load()

    def _load(self) -> T:
        started = time.time()
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                self._check(status)
                content = file.read(self._limit + 1)
        except FileNotFoundError:
            return self._missing
        except OSError as error:
            raise self._unreadable(error) from error
        if len(content) > self._limit:
            raise ValidationError(f"{self.path} is larger than {self._limit} bytes", remedy="take what it needs out")
        try:
            value = self._parse(content, permissions(status))
        except ValidationError as error:
            raise ValidationError(f"{self.path}: {error.message}", remedy=error.remedy) from None
        settled = started - max(status.st_mtime, status.st_ctime) > _SETTLED
        self._loaded = (_identity(status), value) if settled else None
        return value

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValidationError(f"{self.path} is not a file", remedy="correct the path")
        if status.st_uid not in (os.geteuid(), 0):
            raise ValidationError(
                f"{self.path} belongs to user {status.st_uid}, and this process is user {os.geteuid()}",
                remedy="whoever owns it decides who gets in: give it to the user who runs the service",
            )
        if status.st_mode & 0o022:
            raise ValidationError(f"{self.path} can be written by others", remedy=f"chmod go-w {self.path}")

    def _unreadable(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self.path} cannot be read: {error.strerror}", remedy="check who owns it, and the disk")


def check_private(mode: int) -> None:
    """Refuse a file that others than its owner may read.

    Raises:
        ValidationError: they may.
    """
    if mode & 0o077:
        raise ValidationError(f"is open to others (mode {mode:04o})", remedy="run chmod 600 on it")


def _identity(status: os.stat_result) -> _Identity:
    return (
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
    )
