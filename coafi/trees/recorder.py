"""Records the tree of a commit, and learns what its documents say, before any of them is checked.

It costs what is new: the database remembers which directories were learned with some commit before. That a listing is
in the object store says nothing of the database, nor the other way round: either may come from a backup.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from coafi.database import Database
from coafi.documents.facts import FACTS_VERSION, DocumentFacts, document_facts
from coafi.documents.kinds import FileKind, kind_of_name
from coafi.documents.tree import is_support_file
from coafi.errors import IntegrityError
from coafi.objects import ObjectStore
from coafi.trees.facts import FactsStore
from coafi.trees.listing import Directory, TreeFile, directories_of

MAX_LEARNED_BYTES = 2 * 2**20
"""The largest content that is learned from; links to headings of a larger document are not checked."""

_LEARNED_AT_A_TIME = 1_000

ReadContents = Callable[[Sequence[str]], Iterator[tuple[str, bytes]]]
"""Gives out the contents that git knows by these names, in any order, without those that are too large."""


@dataclass(frozen=True)
class TreePlan:
    """A tree that is to be recorded.

    Attributes:
        root: digest of the listing of its root, which names the tree.
        new: directories that were not learned at their path, each after those in it.
        lost: directories that were, and whose listing is not in the object store as it should be.
        documents: new contents to learn from.
        support: contents to keep, new or lost: settings of the checks, and schemas.
        ids: of the documents in new directories whose contents are known.
    """

    root: str
    new: tuple[Directory, ...]
    lost: tuple[Directory, ...]
    documents: tuple[str, ...]
    support: tuple[str, ...]
    ids: Mapping[str, str | None]


@dataclass(frozen=True)
class TreeRecorder:
    """Records trees."""

    database: Database
    objects: ObjectStore

    def plan(self, files: Iterable[TreeFile]) -> TreePlan:
        """What there is to record of a tree with these files.

        Raises:
            Unavailable: database or object store are out of reach.
        """
        directories = directories_of(files, FACTS_VERSION)
        learned = self._facts.learned((one.path, one.digest) for one in directories)
        new = tuple(one for one in directories if (one.path, one.digest) not in learned)
        lost = tuple(
            one
            for one in directories
            if (one.path, one.digest) in learned and not self.objects.has(one.digest, len(one.listing))
        )
        documents = {file.blob for file in _documents(new)}
        known = self._facts.facts(sorted(documents))
        return TreePlan(
            root=directories[-1].digest,
            new=new,
            lost=lost,
            documents=tuple(sorted(documents - known.keys())),
            support=tuple(self._missing_support((*new, *lost))),
            ids={blob: one.document_id for blob, one in known.items()},
        )

    def record(self, plan: TreePlan, read: ReadContents) -> str:
        """Record a tree; the digest that names it. Doing it again, or half of it, changes nothing.

        Raises:
            Unavailable: database or object store are out of reach.
        """
        support = {blob: self.objects.put(content) for blob, content in read(plan.support)}
        ids = dict(plan.ids)
        learned: dict[str, DocumentFacts] = {}
        for blob, content in read(plan.documents):
            learned[blob] = document_facts(content)
            ids[blob] = learned[blob].document_id
            if len(learned) >= _LEARNED_AT_A_TIME:
                self._facts.remember(learned, {}, ())
                learned = {}
        if listings := [one.listing for one in (*plan.new, *plan.lost)]:
            self.objects.put_many(listings)
        # Last: what is remembered as learned is on the disk, whatever a power cut leaves of the rest.
        self._facts.remember(learned, support, _places(plan, ids), [(one.path, one.digest) for one in plan.new])
        return plan.root

    def has(self, root: str) -> bool:
        """Whether a tree was recorded, and nobody found it damaged since.

        Raises:
            Unavailable: database or object store are out of reach.
        """
        return bool(self._facts.learned([("", root)])) and self.objects.has(root)

    def _missing_support(self, directories: Iterable[Directory]) -> Iterator[str]:
        """Contents in these directories that checks need, and that are not in the object store as they should be."""
        files = (file for one in directories for file in one.files)
        blobs = sorted({file.blob for file in files if file.is_regular and is_support_file(file.path)})
        kept = self._facts.support(blobs)
        for blob in blobs:
            try:
                self.objects.get(kept[blob])
            except (KeyError, IntegrityError):
                yield blob

    @cached_property
    def _facts(self) -> FactsStore:
        return FactsStore(self.database)


def _documents(directories: Iterable[Directory]) -> Iterator[TreeFile]:
    for directory in directories:
        for file in directory.files:
            if file.is_regular and kind_of_name(file.path) is FileKind.MARKDOWN:
                yield file


def _places(plan: TreePlan, ids: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """The ids of the documents in new directories, each with its path."""
    for file in _documents(plan.new):
        document_id = ids.get(file.blob)
        if document_id is not None:
            yield document_id, file.path
