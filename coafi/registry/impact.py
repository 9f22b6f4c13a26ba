"""What a new version of a schema would do: which documents and entries that are valid now it would make invalid.

Documents are those of the newest index of every branch. Their front matter is in the reports of their verdicts, and
is held against the schema that the check would choose, with the severities that the repository has set. Entries are
held against the schema of their registry.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.documents.check import Verdict
from coafi.documents.frontmatter import metadata_findings, schema_for
from coafi.documents.kinds import FileKind
from coafi.errors import ValidationError
from coafi.findings import Finding, Severity
from coafi.index.build import decode
from coafi.index.model import IndexedDocument
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.objects import ObjectStore
from coafi.registry.entry import Entry, RegistryId, RegistryWire, finding
from coafi.registry.known import DOCUMENTS, concerned_by, entries_after, reports_from
from coafi.registry.validation import CheckedSchema, Schema, SchemaLookup
from coafi.trees.commit import CommitContexts

MAX_SHOWN = 1_000
"""Documents and entries that a report names; all are counted, and all are told on the way."""

MAX_FINDINGS = 10
"""Findings of one document or entry that a report has."""

_ENTRIES_AT_A_TIME = 100
_EVERY = 500
_Severities = Mapping[str, Severity | None]
"""How bad a repository finds which rule; ``None`` is off."""


class BrokenDocument(RegistryWire):
    """A document that would become invalid: at the tip of a branch, with the verdict that it has."""

    repository: str
    branch: str
    path: str
    commit: str
    ledger_entry: int
    findings: tuple[Finding, ...]


class BrokenEntry(RegistryWire):
    """A version of an entry, the newest or the integrated one, that would no longer be accepted."""

    registry_id: RegistryId
    entry_id: str
    version: int
    findings: tuple[Finding, ...]


class ImpactReport(RegistryWire):
    """What publishing a schema would do.

    Attributes:
        proposed: the schema; ``published`` is the one that it would replace.
        documents, entries: how many were looked at because the schema concerns them.
        unreadable: documents whose report is lost.
        broken_documents, broken_entries: how many would become invalid.
        first_documents, first_entries: the first of them, ``MAX_SHOWN`` in all.
    """

    proposed: CheckedSchema
    published: CheckedSchema | None
    documents: int
    entries: int
    unreadable: int
    broken_documents: int
    broken_entries: int
    first_documents: tuple[BrokenDocument, ...]
    first_entries: tuple[BrokenEntry, ...]

    @property
    def breaks(self) -> bool:
        """Whether anything would become invalid."""
        return self.broken_documents + self.broken_entries > 0


@dataclass
class _Counts:
    documents: int = 0
    entries: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class _Proposed:
    """The published schemas, with one in its proposed version."""

    schemas: SchemaLookup
    schema: Schema

    def find(self, schema_id: str) -> Schema | None:
        return self.schema if schema_id == self.schema.schema_id else self.schemas.find(schema_id)


@dataclass(frozen=True)
class ImpactAnalysis:
    """Finds out what a schema would do. Holds no more in memory than one index, and one page of entries.

    Attributes:
        database: holds indexes and entries.
        objects: holds the indexes' contents, trees and reports.
        schemas: what is published.
    """

    database: Database
    objects: ObjectStore
    schemas: SchemaLookup

    def examine(
        self,
        schema: Schema,
        found: Callable[[BrokenDocument | BrokenEntry], None] = lambda _broken: None,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> ImpactReport:
        """Hold everything that is known and valid against ``schema``, as if it were published.

        Args:
            schema: an accepted one (:func:`coafi.registry.acceptance.accept_schema`).
            found: called with each document and entry that would become invalid, as soon as it is found.
            progress: called now and then, with what is being done.

        Raises:
            Unavailable: database or object store are out of reach.
            IntegrityError: an index or a tree is missing or damaged.
        """
        counts = _Counts()
        documents: list[BrokenDocument] = []
        entries: list[BrokenEntry] = []
        broken_documents = broken_entries = 0
        for one in self._broken(schema, counts, progress):
            found(one)
            shown = len(documents) + len(entries) < MAX_SHOWN
            if isinstance(one, BrokenDocument):
                broken_documents += 1
                documents += [one] if shown else []
            else:
                broken_entries += 1
                entries += [one] if shown else []
        published = self.schemas.find(schema.schema_id)
        return ImpactReport(
            proposed=schema.reference,
            published=published.reference if published else None,
            documents=counts.documents,
            entries=counts.entries,
            unreadable=counts.unreadable,
            broken_documents=broken_documents,
            broken_entries=broken_entries,
            first_documents=tuple(documents),
            first_entries=tuple(entries),
        )

    def _broken(
        self, schema: Schema, counts: _Counts, progress: Callable[[str], None]
    ) -> Iterator[BrokenDocument | BrokenEntry]:
        concerned = concerned_by(schema.schema_id)
        if concerned == DOCUMENTS:
            contexts = CommitContexts(self.objects, self.database)
            for pointer in IndexReader(self.database).all():
                severities = contexts.of(pointer.tree).severities
                yield from self._broken_documents(schema, pointer, severities, counts, progress)
        elif concerned is not None:
            for entry in self._entries(concerned):
                counts.entries += 1
                if counts.entries % _EVERY == 0:
                    progress(f"entries of {concerned}: {counts.entries}")
                broken = self._broken_entry(schema, entry)
                if broken is not None:
                    yield broken

    # ------------------------------------------------------------------ documents

    def _broken_documents(
        self,
        schema: Schema,
        pointer: IndexPointer,
        severities: _Severities,
        counts: _Counts,
        progress: Callable[[str], None],
    ) -> Iterator[BrokenDocument]:
        reports_of = reports_from(self.objects)
        documents = decode(self.objects.get(pointer.index_digest))["documents"]
        for number, document in enumerate(documents):
            if number % _EVERY == 0:
                progress(f"{pointer.repository} {pointer.branch}: document {number:,} of {len(documents):,}")
            if document["kind"] != FileKind.MARKDOWN or document["verdict"] != Verdict.VALID:
                continue
            report = reports_of(document["reports"]).get(document["path"])
            if report is None:
                counts.unreadable += 1
                continue
            if report.metadata is None or schema_for(report.metadata, _Proposed(self.schemas, schema)) is not schema:
                continue
            counts.documents += 1
            errors = self._errors(report.metadata, schema, severities)
            if errors and not self._invalid_already(report.metadata, severities):
                yield _broken_document(pointer, document, errors)

    def _invalid_already(self, metadata: JsonObject, severities: _Severities) -> bool:
        """Whether the schema that is published makes it invalid too: its verdict is older than that schema."""
        now = schema_for(metadata, self.schemas)
        return now is not None and bool(self._errors(metadata, now, severities))

    @staticmethod
    def _errors(metadata: JsonObject, schema: Schema, severities: _Severities) -> tuple[Finding, ...]:
        """What makes front matter invalid, as the repository sees it."""
        return tuple(
            one
            for one in metadata_findings(metadata, schema)
            if severities.get(one.rule, one.severity) is Severity.ERROR
        )

    # -------------------------------------------------------------------- entries

    def _broken_entry(self, schema: Schema, entry: Entry) -> BrokenEntry | None:
        violations = schema.violations(entry.data)
        if not violations:
            return None
        now = self.schemas.find(schema.schema_id)
        try:
            if now is not None and now.violations(entry.data):
                return None
        except ValidationError:  # what is published cannot be used, so nothing is valid by it
            return None
        found = tuple(
            finding(f"entry/{one.keyword}", one.message, pointer=f"/data{one.pointer}")
            for one in violations[:MAX_FINDINGS]
        )
        return BrokenEntry(
            registry_id=entry.registry_id, entry_id=entry.entry_id, version=entry.version, findings=found
        )

    def _entries(self, registry_id: RegistryId) -> Iterator[Entry]:
        """The newest version of every entry of a registry, and the integrated one where that is another."""
        after = ("", -1)
        while True:
            with self.database.read() as connection:
                page = entries_after(connection, registry_id, after, _ENTRIES_AT_A_TIME)
            yield from page
            if len(page) < _ENTRIES_AT_A_TIME:
                return
            after = (page[-1].entry_id, page[-1].version)


def _broken_document(pointer: IndexPointer, document: IndexedDocument, errors: tuple[Finding, ...]) -> BrokenDocument:
    return BrokenDocument(
        repository=pointer.repository,
        branch=pointer.branch,
        path=document["path"],
        commit=document["commit"],
        ledger_entry=document["entry"],
        findings=tuple(one.model_copy(update={"path": document["path"]}) for one in errors[:MAX_FINDINGS]),
    )
