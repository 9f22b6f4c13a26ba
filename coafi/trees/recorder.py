"""Records the tree of a commit, and learns what its documents say, before any of them is checked.

It costs what is new: a directory whose listing is in the object store was learned with some commit before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from coafi.database import Database
from coafi.documents.facts import FACTS_VERSION, DocumentFacts, document_facts
from coafi.documents.kinds import FileKind, kind_of_name
from coafi.documents.tree import is_support_file
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
        new: directories that were never recorded, each after those in it.
        documents: new contents to learn from.
        support: new contents to keep: settings of the checks, and schemas.
        ids: of the documents in new directories whose contents are known.
    """

    root: str
    new: tuple[Directory, ...]
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
            Unavailable: the database is out of reach.
        """
        directories = directories_of(files, FACTS_VERSION)
        new = tuple(one for one in directories if not self.objects.has(one.digest))
        documents = {file.blob for file in _documents(new)}
        support = {file.blob for one in new for file in one.files if file.is_regular and is_support_file(file.path)}
        known = self._facts.facts(sorted(documents))
        return TreePlan(
            root=directories[-1].digest,
            new=new,
            documents=tuple(sorted(documents - known.keys())),
            support=tuple(sorted(support - self._facts.support(sorted(support)).keys())),
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
        self._facts.remember(learned, support, _places(plan, ids))
        for directory in plan.new:  # last, and children first: what is in the store was learned
            self.objects.put(directory.listing)
        return plan.root

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
