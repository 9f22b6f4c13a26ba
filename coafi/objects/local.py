"""The content-addressed object store: raw bodies, archives, manifests, reports and artifacts, by their SHA-256.

An object's name is its digest, so a name never changes its meaning: writing twice is harmless, and what is read is
checked against the name. Objects of one store live at ``sha256/<2 digits>/<62 digits>``.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore

from coafi.canonical import sha256
from coafi.errors import IntegrityError, Unavailable

_SYNCERS = 8
"""Files that are synced at the same time."""


_YOUNG = 3_600.0
"""Seconds; whoever finds an object that is older makes it young: it is about to be named."""

_NAME = re.compile(r"[0-9a-f]{62}")
_ASIDE = ".removed"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there.

    Attributes:
        modified: when it was written, or found by somebody who writes; seconds since 1970.
    """

    digest: str
    size: int
    modified: float


def object_path(digest: str) -> str:
    """The path of an object below the root of its store."""
    return f"sha256/{digest[:2]}/{digest[2:]}"


class ObjectStore:
    """Objects on the local disk, each written atomically and synced before its digest is given out.

    Args:
        root: directory of the store; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._store = LocalStore(self.root, mkdir=True)
        self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="objects")

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its SHA-256. Storing the same bytes again changes nothing.

        Raises:
            Unavailable: the disk refuses (full, read-only).
        """
        return self.put_many((data,))[0]

    def put_many(self, contents: Sequence[bytes]) -> list[str]:
        """Store each of ``contents`` as :meth:`put` does, and wait only once for the disk; their SHA-256, in order.

        Raises:
            Unavailable: the disk refuses (full, read-only); some may be stored.
        """
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

    def get(self, digest: str) -> bytes:
        """The bytes whose SHA-256 is ``digest``.

        Raises:
            IntegrityError: the object is missing, or its bytes have another digest.
            Unavailable: the disk cannot be read.
        """
        try:
            data = bytes(obstore.get(self._store, object_path(digest)).bytes())
        except (NotFoundError, FileNotFoundError, ValueError) as error:  # the last: a digest that is none
            raise IntegrityError(
                f"object {digest[:80]!r} is not in the store {self.root}",
                remedy="restore it from a backup of the store",
            ) from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"object {digest} cannot be read: {error}", remedy=f"check {self.root}") from error
        if sha256(data) != digest:
            raise IntegrityError(
                f"object {digest} is damaged: its bytes have another digest",
                remedy=f"restore {self.path(digest)} from a backup",
            )
        return data

    def has(self, digest: str) -> bool:
        """Whether the object is there; if so, it counts as written now, for whoever cleans up."""
        try:
            self._renew(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def listed(self) -> Iterator[StoredObject]:
        """Every object that is there, in no order. What a clean-up that was killed had put aside is put back.

        Raises:
            Unavailable: the disk cannot be read.
        """
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
        """Remove an object, unless it was written, or found by a writer, after a moment; whether it is gone.

        The file is put aside first: whoever writes it meanwhile finds it missing and writes it, and whoever had found
        it there before has made it young, so that it is put back.

        Args:
            older_than: seconds since 1970.

        Raises:
            Unavailable: the disk refuses.
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

    def _renew(self, file: Path) -> None:
        """Make an old file young."""
        if file.stat().st_mtime < time.time() - _YOUNG:
            with contextlib.suppress(PermissionError):  # a store that is only read
                os.utime(file)

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
