"""The tree of a commit, read from object store and database: no git."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from coafi.database import Database
from coafi.documents.context import CheckContext
from coafi.documents.facts import DocumentFacts
from coafi.documents.tree import EntryKind
from coafi.objects import ObjectStore
from coafi.trees.facts import FactsStore
from coafi.trees.listing import DIRECTORY, Listing, TreeFile
from coafi.trees.reader import TreeReader

MAX_PATHS = 1_000
"""Paths of one document id in a tree that are told; the rest of a flood goes unnoticed.

As many are looked up at first. They can be those of other repositories, where the same id is used.
"""

PAGE = 10_000
"""Paths of one document id that are looked up at once when the first were not all."""

MAX_SEEN = 100_000
"""Paths of one document id, of all repositories, that are looked at."""

_CACHED = 4_096
_COMMITS = 16
_AHEAD = 128


class CommitContexts:
    """What the checks of a commit's files may know; made once for all batches of a commit.

    Args:
        objects, database: hold what :class:`coafi.trees.recorder.TreeRecorder` recorded.
    """

    def __init__(self, objects: ObjectStore, database: Database) -> None:
        self._objects = objects
        self._database = database
        self.of = lru_cache(_COMMITS)(self._make)

    def _make(self, root: str) -> CheckContext:
        return CheckContext.of(CommitTree(root, self._objects, self._database))


class CommitTree:
    """A tree that :class:`coafi.trees.recorder.TreeRecorder` recorded; a :class:`coafi.documents.tree.Tree`.

    Args:
        root: the digest that names it.

    Raises (all methods):
        IntegrityError: a listing is missing or damaged.
        Unavailable: store or database are out of reach.
    """

    def __init__(self, root: str, objects: ObjectStore, database: Database) -> None:
        self._root = root
        self._store = FactsStore(database)
        self._reader = TreeReader(root, objects, self._store)
        self._listing = lru_cache(_CACHED)(self._reader.listing)
        self._known: dict[str, DocumentFacts | None] = {}
        self._paths: dict[str, list[str]] = {}
        self._crowded: dict[str, list[str]] = {}

    def kind(self, path: str) -> EntryKind | None:
        """What is at a path."""
        found = self._entry(path)
        if found is None:
            return None
        if found[0] == DIRECTORY:
            return EntryKind.DIRECTORY
        return EntryKind.FILE if TreeFile(path, *found).is_regular else EntryKind.LINK

    def file(self, path: str) -> TreeFile | None:
        """The file, link or submodule at a path."""
        found = self._entry(path)
        return None if found is None or found[0] == DIRECTORY else TreeFile(path, *found)

    def names(self, directory: str) -> Sequence[str]:
        """The names in a directory, sorted."""
        listing = self._directory(directory)
        return sorted(listing.entries) if listing else ()

    def facts(self, path: str) -> DocumentFacts | None:
        """What is known of the document at a path."""
        found = self._entry(path)
        if found is None or found[0] == DIRECTORY:
            return None
        known = self._known  # another thread may begin a new one
        return known[found[1]] if found[1] in known else self._learn(path, found[1])

    def paths_of(self, document_id: str) -> Sequence[str]:
        """The paths of the documents with this id, sorted."""
        paths, crowded = self._paths, self._crowded  # another thread may begin new ones
        if document_id in crowded:
            return crowded[document_id]
        first = paths[document_id] if document_id in paths else self._find(document_id)
        found = self._with_id(document_id, first)
        return found if len(first) < MAX_PATHS else self._search(document_id, first, found)

    def read(self, path: str) -> bytes | None:
        """The content of a file that the checks need: settings, schemas."""
        found = self._entry(path)
        if found is None or found[0] == DIRECTORY:
            return None
        digest = self._store.support([found[1]]).get(found[1])
        if digest is None:
            return None
        directory = path.rpartition("/")[0]
        _, listing = self._entry(directory) or ("", "")
        return self._reader.support(digest, directory, listing)

    def _with_id(self, document_id: str, paths: Sequence[str]) -> list[str]:
        """Those of the paths at which this tree has a document with this id."""
        return [path for path in paths if (facts := self.facts(path)) is not None and facts.document_id == document_id]

    def _search(self, document_id: str, first: Sequence[str], found: list[str]) -> list[str]:
        """The paths of an id that is used at many, most of them perhaps of other repositories."""
        page, seen, more = first, len(first), True
        while more and len(found) < MAX_PATHS and seen < MAX_SEEN:
            page = self._store.paths_after(document_id, page[-1], PAGE)
            found += self._with_id(document_id, page)
            seen += len(page)
            more = len(page) == PAGE
        kept = self._crowded if sum(map(len, self._crowded.values())) + len(self._crowded) < _CACHED else {}
        kept[document_id] = found[:MAX_PATHS]
        self._crowded = kept
        return kept[document_id]

    def _entry(self, path: str) -> tuple[str, str] | None:
        """Mode and reference of what is at a path."""
        if not path:
            return DIRECTORY, self._root
        parent, _, name = path.rpartition("/")
        listing = self._directory(parent)
        return listing.entries.get(name) if listing else None

    def _directory(self, path: str) -> Listing | None:
        listing, at = self._listing("", self._root), ""
        for name in path.split("/") if path else ():
            mode, digest = listing.entries.get(name, ("", ""))
            if mode != DIRECTORY:
                return None
            at = f"{at}/{name}" if at else name
            listing = self._listing(at, digest)
        return listing

    def _learn(self, path: str, blob: str) -> DocumentFacts | None:
        """What is known of a content; the documents that follow it in its directory will be asked for next."""
        directory, _, name = path.rpartition("/")
        listing = self._directory(directory)
        entries = listing.entries if listing else {}
        names = sorted(entries)
        start = bisect_left(names, name)
        near = [entries[one] for one in names[start : start + _AHEAD]]
        blobs = [blob, *(reference for mode, reference in near if mode != DIRECTORY)]
        found = self._store.facts(list(dict.fromkeys(blobs)))
        kept = self._known if len(self._known) < _CACHED else {}
        kept[blob] = found.get(blob)
        kept.update(found)
        self._known = kept
        return kept[blob]

    def _find(self, document_id: str) -> list[str]:
        """Where an id was seen; the ids of the documents that were learned last will be asked for next."""
        kept = self._paths if sum(map(len, self._paths.values())) + len(self._paths) < _CACHED else {}
        near = [one.document_id for one in reversed(list(self._known.values())) if one is not None]
        ids = [one for one in dict.fromkeys((document_id, *near)) if one is not None and one not in kept]
        kept.update(self._store.paths(ids[: 1 + _AHEAD], MAX_PATHS))
        self._paths = kept
        return kept[document_id]
