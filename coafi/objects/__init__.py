"""The content-addressed object store: raw bodies, archives, manifests, reports and artifacts, by their SHA-256.

An object's name is its digest, so a name never changes its meaning: writing twice is harmless, and what is read is
checked against the name. Objects of one store live at ``sha256/<2 digits>/<62 digits>``, on a disk
(:mod:`coafi.objects.local`) or in S3 (:mod:`coafi.objects.s3`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coafi.canonical import sha256
from coafi.errors import IntegrityError

YOUNG = 3_600.0
"""Seconds; whoever finds an object that is older makes it young: it is about to be named."""


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


class ObjectStore(ABC):
    """Objects, each written atomically and durable before its digest is given out."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the objects are, for people."""

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its SHA-256. Storing the same bytes again changes nothing.

        Raises:
            Unavailable: the store refuses (full, read-only, out of reach).
        """
        return self.put_many((data,))[0]

    @abstractmethod
    def put_many(self, contents: Sequence[bytes]) -> list[str]:
        """Store each of ``contents`` as :meth:`put` does, and wait for all of them together; their SHA-256, in order.

        Raises:
            Unavailable: the store refuses (full, read-only, out of reach); some may be stored.
        """

    def get(self, digest: str) -> bytes:
        """The bytes whose SHA-256 is ``digest``.

        Raises:
            IntegrityError: the object is missing, or its bytes have another digest.
            Unavailable: the store cannot be read.
        """
        data = self._read(digest)
        if data is None:
            raise IntegrityError(
                f"object {digest[:80]!r} is not in the store {self.place}",
                remedy="restore it from a backup of the store",
            )
        if sha256(data) != digest:
            raise IntegrityError(
                f"object {digest} is damaged: its bytes have another digest",
                remedy=f"restore {object_path(digest)} in {self.place} from a backup",
            )
        return data

    @abstractmethod
    def _read(self, digest: str) -> bytes | None:
        """What is stored under a digest; ``None`` when there is nothing, or the digest is none."""

    @abstractmethod
    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the object is there; if so, it counts as written now, for whoever cleans up.

        Args:
            size: in bytes, where it is known: an object of another size is damaged, and counts as not there.

        Raises:
            Unavailable: the store cannot be read.
        """

    @abstractmethod
    def listed(self) -> Iterator[StoredObject]:
        """Every object that is there, in no order.

        Raises:
            Unavailable: the store cannot be read.
        """

    @abstractmethod
    def remove(self, digest: str, *, older_than: float) -> bool:
        """Remove an object, unless it was written, or found by a writer, after a moment; whether it is gone.

        Args:
            older_than: seconds since 1970.

        Raises:
            Unavailable: the store refuses.
        """
