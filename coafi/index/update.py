"""Publishes the index of a branch: builds it, and makes it the newest if nobody else was quicker.

The pointer is moved by compare-and-swap on the generation that was read *before* the tip was resolved, so what is late
cannot move it back, while a force push, which is what the tip says now, may. Pointer and ledger entry are one
transaction.

What the index shows for the first time is held against the schemas that were published since it was checked. Whoever
publishes one later finds the pointer; in the pointer's transaction it is seen that nobody did in between.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue
from sqlalchemy import Connection

from coafi.canonical import JsonObject, canonical_json, digest_of
from coafi.database import Database
from coafi.errors import CoafiError, IdempotencyConflict, IntegrityError
from coafi.index.build import IndexBuilder, decode, encode
from coafi.index.model import DocumentationIndex, IndexedDocument, IndexTask, IndexUpdate, Tip
from coafi.index.pages import index_page
from coafi.index.pointers import IndexPointer, IndexReader, add_pointer, newest_generation
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.names import EntryType, index_workflow_id
from coafi.objects import ObjectStore
from coafi.utids import permanent_utids

UPDATED = "documentation.updated"
"""The type of the message that subscribers get, and of what the entry's UTidS names."""

MAX_NAMED = 40_000
"""Bytes of an entry that may name commits; the object ``commitsDigest`` names all of the task."""


class _SupersededError(CoafiError):
    """There is another newest index."""


class _PublishedError(CoafiError):
    """A schema for documents was published since the verdicts were looked at."""


class Published(Protocol):
    """The schemas that were published, as whoever moves an index has to know of them."""

    def publications(self, connection: Connection) -> int:
        """A number that grows whenever a schema for documents is published; 0 while none was."""
        ...

    def catch_up(self, tip: Tip, documents: Iterable[IndexedDocument], beat: Callable[[str], None]) -> bool:
        """Hold documents against what was published since they were checked; whether that gave other verdicts."""
        ...


@dataclass(frozen=True)
class IndexUpdater:
    """Publishes indexes.

    Attributes:
        ledger: where updates are recorded, and the pointers with them.
        namespace: part of every entry's key (``Settings.ledger_namespace``).
        schemas: bring verdicts up to date; without them they are shown as they were given.
    """

    ledger: Ledger
    database: Database
    objects: ObjectStore
    namespace: str
    schemas: Published | None = None

    def update(self, task: IndexTask, beat: Callable[[str], None] = lambda _text: None) -> IndexUpdate:
        """Publish the index of a tip. Doing it again finds what was recorded.

        Raises:
            LedgerUnavailable, Unavailable: try again.
            IntegrityError: the tree is missing or damaged.
        """
        reader = IndexReader(self.database)
        successor = reader.generation(task.repository, task.branch, task.generation + 1)
        if successor is not None:
            return self._superseded(task, successor)
        newest = reader.newest(task.repository, task.branch)
        if task.commit is None or task.tree is None:
            if newest is None or newest.deleted:
                return IndexUpdate(outcome="absent", generation=newest.generation if newest else 0)
            return self._publish(task, "", "", {})
        tip = Tip(repository=task.repository, branch=task.branch, commit=task.commit, tree=task.tree)
        while True:
            try:
                return self._update(task, tip, newest, beat)
            except _PublishedError:
                beat("a schema was published meanwhile")

    def _update(
        self, task: IndexTask, tip: Tip, newest: IndexPointer | None, beat: Callable[[str], None]
    ) -> IndexUpdate:
        published = None
        if self.schemas is not None:
            with self.database.read() as connection:
                published = self.schemas.publications(connection)
        index = self._build(tip, beat)
        if self.schemas and published and self.schemas.catch_up(tip, self._new(newest, index), beat):
            index = self._build(tip, beat)
        verdicts = index["counts"]["verdicts"]
        encoded = self.objects.put(encode(index))
        if newest is not None and newest.index_digest == encoded and self._has_page(newest, index):
            return _update("unchanged", newest, verdicts)
        beat("storing the index")
        return self._publish(task, encoded, self.objects.put(index_page(index)), verdicts, published)

    def _build(self, tip: Tip, beat: Callable[[str], None]) -> DocumentationIndex:
        return IndexBuilder(self.database, self.objects).build(tip.repository, tip.branch, tip.commit, tip.tree, beat)

    def _new(self, newest: IndexPointer | None, index: DocumentationIndex) -> list[IndexedDocument]:
        """The documents with a verdict that the newest index does not show."""
        shown: dict[str, int | None] = {}
        if newest is not None and not newest.deleted:
            with suppress(IntegrityError):  # it is lost, so that nobody knows what it showed
                shown = {
                    one["path"]: one.get("entry") for one in decode(self.objects.get(newest.index_digest))["documents"]
                }
        return [one for one in index["documents"] if "entry" in one and shown.get(one["path"]) != one["entry"]]

    def _has_page(self, pointer: IndexPointer, index: DocumentationIndex) -> bool:
        """Whether the page of a pointer is there, made once more if need be; another version may make another one."""
        page = pointer.page_digest
        return self.objects.has(page) or self.objects.put(index_page(index)) == page

    def _publish(
        self, task: IndexTask, index: str, page: str, verdicts: dict[str, int], published: int | None = None
    ) -> IndexUpdate:
        draft = self._draft(task, index, page, verdicts)

        def unit(transaction: LedgerTransaction) -> IndexPointer:
            if newest_generation(transaction.connection, task.repository, task.branch) != task.generation:
                raise _SupersededError("there is another newest index")
            if self.schemas and published not in (None, self.schemas.publications(transaction.connection)):
                raise _PublishedError("a schema was published")
            (recorded,) = transaction.append([draft])
            pointer = IndexPointer(
                repository=task.repository,
                branch=task.branch,
                generation=task.generation + 1,
                commit=task.commit or "",
                tree=task.tree or "",
                index_digest=index,
                page_digest=page,
                entry=recorded.index,
                updated_at=recorded.entry.time,
                deleted=task.commit is None,
            )
            add_pointer(transaction.connection, pointer)
            return pointer

        try:
            return _update("moved", self.ledger.transact(unit), verdicts)
        except _SupersededError:
            reader = IndexReader(self.database)
            if (successor := reader.generation(task.repository, task.branch, task.generation + 1)) is not None:
                return self._superseded(task, successor)
            newest = reader.newest(task.repository, task.branch)
            return IndexUpdate(outcome="superseded", generation=newest.generation if newest else 0)
        except IdempotencyConflict:
            if not self._roll_forward(task, draft.key):
                raise
            return IndexUpdate(outcome="superseded", generation=task.generation + 1)

    def _roll_forward(self, task: IndexTask, key: str) -> bool:
        """Move the pointer to where another task's entry says; whether there is one.

        Where the ledger is remote, its entries are recorded before the rows here. Whoever recorded this generation
        may have died before it moved the pointer: without this, nobody could record the generation again.
        """
        at = self.ledger.index_of(key)
        if at is None:
            return False
        found = self.ledger.entry(at)

        def text(name: str) -> str:
            return str(found.entry.data.get(name, ""))

        pointer = IndexPointer(
            repository=task.repository,
            branch=task.branch,
            generation=task.generation + 1,
            commit=text("commit"),
            tree=text("tree"),
            index_digest=text("index"),
            page_digest=text("page"),
            entry=found.index,
            updated_at=found.entry.time,
            deleted=found.entry.data["deleted"] is True,
        )

        def unit(transaction: LedgerTransaction) -> None:
            if newest_generation(transaction.connection, task.repository, task.branch) == task.generation:
                add_pointer(transaction.connection, pointer)

        self.ledger.transact(unit)
        return True

    def _superseded(self, task: IndexTask, successor: IndexPointer) -> IndexUpdate:
        """There is a successor: of another task, or of an earlier attempt at this one."""
        draft = self._draft(task, "", "", {})
        recorded: Recorded = self.ledger.entry(successor.entry)
        if (recorded.entry.key, recorded.entry.request) != (draft.key, draft.request_digest):
            return IndexUpdate(outcome="superseded", generation=successor.generation)
        verdicts = {}
        if successor.index_digest:
            verdicts = decode(self.objects.get(successor.index_digest))["counts"]["verdicts"]
        return _update("moved", successor, verdicts)

    def _draft(self, task: IndexTask, index: str, page: str, verdicts: dict[str, int]) -> Draft:
        generation = task.generation + 1
        workflow_id = index_workflow_id(task.repository, task.branch)
        commits: list[JsonValue] = [{"workflow": one.workflow_id, "commit": one.commit} for one in task.commits]
        commits_digest = self.objects.put(canonical_json(commits))
        inputs: JsonObject = {
            "repository": task.repository,
            "branch": task.branch,
            "generation": generation,
            "commit": task.commit,
            "tree": task.tree,
            "commits": commits_digest,
        }
        data: JsonObject = {
            "repository": task.repository,
            "branch": task.branch,
            "generation": generation,
            "deleted": task.commit is None,
            "verdicts": dict(verdicts),
            "commits": _named(commits),
            "commitCount": len(commits) + task.omitted,
            "commitsDigest": commits_digest,
        }
        if task.omitted:  # without, entry and request stay what they were before there was such a field
            inputs["omitted"] = data["omitted"] = task.omitted
        if task.commit is not None:
            data |= {"commit": task.commit, "tree": task.tree, "index": index, "page": page}
        return Draft(
            namespace=self.namespace,
            workflow_id=workflow_id,
            step=f"index/{generation}",
            type=EntryType.INDEX_UPDATED,
            event_id=workflow_id,
            utids=permanent_utids(UPDATED, task.repository, f"{task.branch}/{generation}", digest_of(inputs)),
            inputs=inputs,
            data=data,
        )


def _named(commits: list[JsonValue]) -> list[JsonValue]:
    """As many of the commits as an entry has room for."""
    room, named = MAX_NAMED, []
    for one in commits:
        room -= len(canonical_json(one)) + 1
        if room < 0:
            break
        named.append(one)
    return named


def _update(outcome: str, pointer: IndexPointer, verdicts: dict[str, int]) -> IndexUpdate:
    return IndexUpdate(
        outcome=outcome,
        generation=pointer.generation,
        commit=pointer.commit or None,
        index=pointer.index_digest or None,
        page=pointer.page_digest or None,
        entry=pointer.entry,
        time=pointer.updated_at,
        verdicts=verdicts,
    )
