"""Reads what was recorded of a tree. What is lost or damaged is forgotten, so that the next fetch records it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coafi.errors import IntegrityError
from coafi.objects import ObjectStore
from coafi.trees.facts import FactsStore
from coafi.trees.listing import Listing, read_listing


@dataclass(frozen=True)
class TreeReader:
    """Reads objects of one tree.

    Attributes:
        root: the digest that names it.
        facts: where directories are forgotten.

    Raises (all methods):
        IntegrityError: the object is missing or damaged.
        Unavailable: store or database are out of reach.
    """

    root: str
    objects: ObjectStore
    facts: FactsStore

    def listing(self, path: str, digest: str) -> Listing:
        """The listing of a directory."""
        with self._forgotten(path, digest):
            return read_listing(self.objects, digest)

    def support(self, digest: str, path: str, listing: str) -> bytes:
        """The content of a file that checks need.

        Args:
            digest: of the content.
            path, listing: of the directory that it is in.
        """
        with self._forgotten(path, listing):
            return self.objects.get(digest)

    @contextmanager
    def _forgotten(self, path: str, digest: str) -> Iterator[None]:
        """Forget a directory of which something cannot be read; and the root, by which a tree is known as whole."""
        try:
            yield
        except IntegrityError as error:
            self.facts.forget({(path, digest), ("", self.root)})
            raise IntegrityError(
                error.message, remedy="submit the commit again, which records its tree anew; then retry what is parked"
            ) from error
