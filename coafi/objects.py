"""The content-addressed object store: raw bodies, archives, manifests, reports and artifacts, by their SHA-256.

An object's name is its digest, so a name never changes its meaning: writing twice is harmless, and what is read is
checked against the name. Objects of one store live at ``sha256/<2 digits>/<62 digits>``.
"""

import hashlib
import os
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore

from coafi.canonical import sha256
from coafi.errors import IntegrityError, Unavailable


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

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its SHA-256. Storing the same bytes again changes nothing.

        Raises:
            Unavailable: the disk refuses (full, read-only).
        """
        digest = sha256(data)
        try:
            try:
                obstore.put(self._store, object_path(digest), data, mode="create")
            except AlreadyExistsError:
                self._heal(digest, data)
            self._sync(digest)
        except (BaseError, OSError) as error:
            raise Unavailable(
                f"object store {self.root} cannot be written: {error}", remedy="check its disk space and permissions"
            ) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes whose SHA-256 is ``digest``.

        Raises:
            IntegrityError: the object is missing, or its bytes have another digest.
            Unavailable: the disk cannot be read.
        """
        try:
            data = bytes(obstore.get(self._store, object_path(digest)).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise IntegrityError(
                f"object {digest} is not in the store {self.root}", remedy="restore it from a backup of the store"
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
        """Whether the object is there."""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the object's file is, for people who want to open it."""
        return self.root / object_path(digest)

    def _heal(self, digest: str, data: bytes) -> None:
        """Replace a file that a power cut left damaged under the right name."""
        with self.path(digest).open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == digest
        if not intact:
            obstore.put(self._store, object_path(digest), data, mode="overwrite")

    def _sync(self, digest: str) -> None:
        # obstore renames into place without fsync, and the ledger must never outlive what it names.
        path = self.path(digest)
        for target in (path, path.parent):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
