"""Objects on the local disk. What is synced outlives a power cut; obstore renames into place, and does not sync."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore

from coafi.canonical import sha256
from coafi.errors import Unavailable
from coafi.objects import YOUNG, ObjectStore, StoredObject, object_path

_SYNCERS = 8
"""Files that are synced at the same time."""


_NAME = re.compile(r"[0-9a-f]{62}")
_ASIDE = ".removed"


class LocalObjectStore(ObjectStore):
    """Objects below a directory.

    Args:
        root: directory of the store; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._store = LocalStore(self.root, mkdir=True)
        self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="objects")

    @property
    def place(self) -> str:
        """See :class:`ObjectStore`."""
        return str(self.root)

    def put_many(self, contents: Sequence[bytes]) -> list[str]:
        """See :class:`ObjectStore`."""
        digests = [sha256(data) for data in contents]
        try:
            for digest, data in dict(zip(digests, contents, strict=True)).items():
                self._write(digest, data)
            # obstore renames into place without fsync, and the ledger must never outlive what it names.
            files = {self.path(digest) for digest in digests}
            self._sync(files)
            self._sync({file.parent for file in files})
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"object store {self.root} cannot be written: {error}", remedy="check its disk space and permissions"
            ) from error
        return digests

    def _read(self, digest: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, object_path(digest)).bytes())
        except (NotFoundError, FileNotFoundError, ValueError):  # the last: a digest that is none
            return None
        except (BaseError, OSError) as error:
            raise Unavailable(f"object {digest} cannot be read: {error}", remedy=f"check {self.root}") from error

    def has(self, digest: str, size: int | None = None) -> bool:
        """See :class:`ObjectStore`."""
        try:
            return self._renew(self.path(digest)) == size or size is None
        except FileNotFoundError:
            return False

    def listed(self) -> Iterator[StoredObject]:
        """See :class:`ObjectStore`. What a clean-up that was killed had put aside is put back."""
        try:
            for folder in (self.root / "sha256").glob("[0-9a-f][0-9a-f]"):
                with os.scandir(folder) as files:
                    for file in files:
                        if file.name.endswith(_ASIDE):
                            _put_back(Path(file.path))
                        elif _NAME.fullmatch(file.name):
                            with contextlib.suppress(FileNotFoundError):
                                stat = file.stat(follow_symlinks=False)
                                yield StoredObject(folder.name + file.name, stat.st_size, stat.st_mtime)
        except OSError as error:
            raise Unavailable(f"object store {self.root} cannot be read: {error}", remedy="check its disk") from error

    def remove(self, digest: str, *, older_than: float) -> bool:
        """See :class:`ObjectStore`.

        The file is put aside first: whoever writes it meanwhile finds it missing and writes it, and whoever had found
        it there before has made it young, so that it is put back.
        """
        file = self.path(digest)
        aside = file.with_name(f"{file.name}{_ASIDE}")
        try:
            file.rename(aside)
            if aside.stat().st_mtime >= older_than:
                os.link(aside, file)  # fails if somebody has written it since
                aside.unlink()
                return False
            aside.unlink()
        except FileNotFoundError:
            return False
        except FileExistsError:
            aside.unlink()
            return False
        except OSError as error:
            raise Unavailable(f"object {digest} cannot be removed: {error}", remedy=f"check {self.root}") from error
        return True

    def path(self, digest: str) -> Path:
        """Where the object's file is, for people who want to open it."""
        return self.root / object_path(digest)

    def _write(self, digest: str, data: bytes) -> None:
        try:
            obstore.put(self._store, object_path(digest), data, mode="create")
        except AlreadyExistsError:
            try:
                self._renew(self.path(digest))
                self._heal(digest, data)
            except FileNotFoundError:  # it was cleaned up in between
                obstore.put(self._store, object_path(digest), data, mode="overwrite")

    def _renew(self, file: Path) -> int:
        """Make an old file young; its size."""
        found = file.stat()
        if found.st_mtime < time.time() - YOUNG:
            with contextlib.suppress(PermissionError):  # a store that is only read
                os.utime(file)
        return found.st_size

    def _heal(self, digest: str, data: bytes) -> None:
        """Replace a file that a power cut left damaged under the right name."""
        with self.path(digest).open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == digest
        if not intact:
            obstore.put(self._store, object_path(digest), data, mode="overwrite")

    def _sync(self, paths: Collection[Path]) -> None:
        """Wait until all of these are on the disk; what waits at the same time shares a commit of the file system."""
        for _ in map(_sync, paths) if len(paths) == 1 else self._syncers.map(_sync, paths):
            pass


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_back(aside: Path) -> None:
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        os.link(aside, aside.with_name(aside.name.removesuffix(_ASIDE)))
    aside.unlink(missing_ok=True)
