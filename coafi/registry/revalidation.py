"""After a schema is published: what is known is held against it, part by part, and what that changes is recorded.

Documents are those of the newest index of every branch, each with its newest verdict; the text is not needed, since
the front matter is in the reports. Those that an index shows later are held against what was published by whoever moves
the index (:meth:`Revalidator.catch_up`), so that each document meets each schema, whichever comes second.

Entries are the newest and the integrated version of each. A part can be done again: what it records is keyed by the
schema and what it is about, and what is done is found.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import structlog
from pydantic import Field, TypeAdapter
from sqlalchemy import Connection

from coafi.canonical import JsonObject, digest_of
from coafi.database import Database
from coafi.documents.check import CheckedSchema, FileReport, Verdict, recheck_front_matter
from coafi.documents.frontmatter import schema_for
from coafi.documents.kinds import FileKind
from coafi.errors import IntegrityError, Unavailable
from coafi.events import Wire
from coafi.findings import Finding, Severity
from coafi.index.build import decode
from coafi.index.model import IndexedDocument, Tip
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.ledger.entry import Draft
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType, SchemaName, repository_slug, revalidation_workflow_id
from coafi.objects import ObjectStore
from coafi.processing import file_results, write_reports
from coafi.recording import EventRecorder
from coafi.registry.acceptance import schema_of
from coafi.registry.entry import Entry, EntryStatus, RegistryId, finding
from coafi.registry.known import (
    DOCUMENTS,
    concerned_by,
    entries_after,
    publications_for_documents,
    reports_from,
    versions_of,
)
from coafi.registry.reader import EntryReader
from coafi.registry.store import ordered
from coafi.registry.validation import Schema
from coafi.registry.verdicts import EntryVerdict, add_entry_verdicts, latest_entry_verdicts
from coafi.results import FileResult, ResultReader, add_file_results, latest_results
from coafi.trees.commit import CommitContexts
from coafi.utids import permanent_utids

PUBLISHED = "registry.schema.published"
"""What the UTidS of the entries of a re-validation names."""

MAX_DOCUMENTS = 1_000
"""Documents of one part."""

MAX_BRANCHES = 100
"""Branches of one part."""

MAX_ENTRIES = 500
"""Entries of one part."""

MAX_FINDINGS = 50
"""Findings of one entry that are kept."""

CHUNK = 64
"""Verdicts that are recorded in one transaction."""

_EVERY = 100
_LOOKED_INTO = (Verdict.VALID.value, Verdict.INVALID.value)
_FINDINGS = TypeAdapter(tuple[Finding, ...])

log = structlog.get_logger(__name__)


class Place(Wire):
    """How far a re-validation has got.

    Attributes:
        repository, branch: the branch whose documents come next.
        path: of it, the last document that is done; empty when none is.
        stale: whether its index has to show what was found out up to there.
        entry_id, version: the last version of an entry that is done.
    """

    repository: str = ""
    branch: str = ""
    path: str = ""
    stale: bool = False
    entry_id: str = ""
    version: int = -1


class Tally(Wire):
    """What a re-validation has found out so far. A document counts for each branch that it is on.

    Attributes:
        looked: documents or entries that the schema concerns.
        now_invalid, now_valid: those whose verdict changed.
        unreadable: documents whose report is lost, and branches whose index is.
        undecided: documents with so many findings that the old report does not tell.
        branches: branches whose index was asked for.
    """

    looked: int = 0
    now_invalid: int = 0
    now_valid: int = 0
    unreadable: int = 0
    undecided: int = 0
    branches: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in Tally.model_fields})


class Revalidation(Wire):
    """A schema that was published, and what made it so.

    Attributes:
        request: workflow id of the run that integrated it.
        published: ledger index of its ``REGISTRY_ENTRY_CHANGED``.
    """

    published_schema: CheckedSchema
    request: str
    published: int

    @property
    def workflow_id(self) -> str:
        """The id of the run that holds all that is known against it."""
        return revalidation_workflow_id(SchemaName(self.published_schema.schema_id, self.published_schema.version))


class Part(Wire):
    """A part to do: what follows a place."""

    revalidation: Revalidation
    place: Place


class PartDone(Wire):
    """What came of a part.

    Attributes:
        place: where the next one begins; ``None`` when nothing is left.
        superseded: a newer version of the schema is published: its own run looks at everything.
    """

    tally: Tally = Tally()
    place: Place | None = None
    tips: tuple[Tip, ...] = Field(default=(), max_length=MAX_BRANCHES)
    superseded: bool = False


class Ended(StrEnum):
    """How a re-validation ended."""

    DONE = "done"
    SUPERSEDED = "superseded"
    FAILED = "failed"


class Summary(Wire):
    """How a re-validation ended, to be recorded; ``reason`` says why it failed."""

    revalidation: Revalidation
    ended: Ended
    tally: Tally
    reason: str = ""


def revalidation_of(entry: JsonObject) -> Revalidation | None:
    """What there is to hold against a new version of an entry; ``None`` when nothing is.

    Args:
        entry: the version as the API answers with it.
    """
    schema_id, published = str(entry["entryId"]), entry["ledgerEntry"]
    if (
        entry["registryId"] != RegistryId.SCHEMAS
        or entry["status"] != EntryStatus.INTEGRATION
        or concerned_by(schema_id) is None
    ):
        return None
    schema = schema_of(schema_id, cast("JsonObject", entry["data"]))
    return Revalidation(
        published_schema=schema.reference, request=str(entry["workflowId"]), published=int(str(published))
    )


@dataclass(frozen=True)
class _Changed:
    """A document whose verdict changes."""

    before: FileResult
    report: FileReport


@dataclass(frozen=True)
class Revalidator:
    """Holds what is known against a schema.

    Attributes:
        recorder: writes the ledger, and knows the schemas.
        contexts: tell how bad a repository finds which rule.
    """

    recorder: EventRecorder
    database: Database
    objects: ObjectStore
    contexts: CommitContexts

    def part(self, part: Part, beat: Callable[[str], None] = lambda _text: None) -> PartDone:
        """Hold what follows a place against the schema, and record the verdicts that this changes.

        Args:
            beat: called now and then, with what is being done.

        Raises:
            LedgerUnavailable, Unavailable: try again.
        """
        schema = self._schema(part.revalidation)
        if schema is None:
            return PartDone(superseded=True)
        concerned = concerned_by(schema.schema_id)
        if concerned == DOCUMENTS:
            return self._documents(part, schema, beat)
        return self._entries(part, schema, RegistryId(concerned or ""), beat)

    def publications(self, connection: Connection) -> int:
        """See :class:`coafi.index.update.Published`."""
        return publications_for_documents(connection)

    def catch_up(
        self, tip: Tip, documents: Iterable[IndexedDocument], beat: Callable[[str], None] = lambda _text: None
    ) -> bool:
        """Hold documents that an index is about to show against what was published since they were checked.

        Args:
            tip: what the index is of.
            documents: those that no index of the branch has shown yet.
            beat: called now and then, with what is being done.

        Returns:
            Whether there are other verdicts by now than the documents have.

        Raises:
            LedgerUnavailable, Unavailable: try again.
        """
        self.recorder.registry.refresh()
        outdated: dict[str, tuple[Schema, list[IndexedDocument]]] = {}
        reports_of = reports_from(self.objects)
        for number, document in enumerate(_markdown(documents)):
            if number % _EVERY == 0:
                beat(f"{tip.repository} {tip.branch}: {document['path']}")
            schema = self._newer(document, reports_of)
            if schema is not None:
                outdated.setdefault(schema.schema_id, (schema, []))[1].append(document)
        changed = False
        for schema, some in outdated.values():
            revalidation = self._revalidation(schema)
            if revalidation is not None:
                _, stale = self._look_into(revalidation, schema, tip, some, beat)
                changed = changed or stale
        return changed

    def _newer(self, document: IndexedDocument, reports_of: Callable[[str], dict[str, FileReport]]) -> Schema | None:
        """The schema that a document would be held against now, if that is another one than it was."""
        if document["verdict"] not in _LOOKED_INTO:
            return None
        report = reports_of(document["reports"]).get(document["path"])
        if report is None or report.metadata is None:
            return None
        schema = schema_for(report.metadata, self.recorder.registry)
        used = report.schema_used
        return None if schema is None or (used is not None and used.digest == schema.digest) else schema

    def _revalidation(self, schema: Schema) -> Revalidation | None:
        """What published a schema; ``None`` if the package did, or if it is not the newest any more."""
        entries = EntryReader(self.database)
        integrated = entries.get(RegistryId.SCHEMAS, schema.schema_id).integrated_version
        if not integrated:
            return None
        found = entries.get(RegistryId.SCHEMAS, schema.schema_id, integrated)
        return revalidation_of(found.model_dump(mode="json", by_alias=True)) if found.digest == schema.digest else None

    def conclude(self, summary: Summary) -> int:
        """Record ``SCHEMA_REVALIDATED``; its place in the ledger."""
        revalidation = summary.revalidation
        data: JsonObject = {
            "schema": revalidation.published_schema.model_dump(by_alias=True),
            "concerned": str(concerned_by(revalidation.published_schema.schema_id)),
            "request": revalidation.request,
            "published": revalidation.published,
            "ended": summary.ended,
            "looked": summary.tally.looked,
            "nowInvalid": summary.tally.now_invalid,
            "nowValid": summary.tally.now_valid,
            "unreadable": summary.tally.unreadable,
            "undecided": summary.tally.undecided,
            "branches": summary.tally.branches,
            "build": self.recorder.build,
        }
        if summary.reason:
            data["reason"] = summary.reason
        draft = self._draft(revalidation, EntryType.SCHEMA_REVALIDATED, f"conclude/{summary.ended}", {}, data)
        return self.recorder.ledger.append([draft])[0].index

    def _schema(self, revalidation: Revalidation) -> Schema | None:
        """The schema; ``None`` if there is a newer version of it.

        Raises:
            Unavailable: this process does not know the version yet.
        """
        wanted = revalidation.published_schema
        registry = self.recorder.registry
        registry.refresh()
        found = registry.schema(wanted.schema_id)
        if ordered(found.version) > ordered(wanted.version):
            return None
        if found.version != wanted.version:
            raise Unavailable(f"schema {wanted.schema_id} {wanted.version} is not known here yet", remedy="wait")
        return found

    # ------------------------------------------------------------------ documents

    def _documents(self, part: Part, schema: Schema, beat: Callable[[str], None]) -> PartDone:
        place = part.place
        start = (place.repository, place.branch)
        pointers = [one for one in IndexReader(self.database).all() if (one.repository, one.branch) >= start]
        tally, tips, room = Tally(), list[Tip](), MAX_DOCUMENTS
        for number, pointer in enumerate(pointers):
            if not room or number == MAX_BRANCHES:
                return PartDone(tally=tally, place=_begin(pointer), tips=tuple(tips))
            here = place if (pointer.repository, pointer.branch) == start else _begin(pointer)
            try:
                documents = _markdown(decode(self.objects.get(pointer.index_digest))["documents"], here.path)
                found, stale = self._look_into(part.revalidation, schema, _tip(pointer), documents[:room], beat)
            except IntegrityError as error:
                log.warning("a branch is left out", branch=pointer.branch, reason=str(error)[:300])
                tally = tally.plus(Tally(unreadable=1))
                continue
            stale = stale or here.stale
            tally = tally.plus(found)
            if len(documents) > room:
                last = documents[room - 1]["path"]
                return PartDone(
                    tally=tally, place=here.model_copy(update={"path": last, "stale": stale}), tips=tuple(tips)
                )
            room -= len(documents)
            if stale:
                tips.append(_tip(pointer))
                tally = tally.plus(Tally(branches=1))
        return PartDone(tally=tally, tips=tuple(tips))

    def _look_into(
        self,
        revalidation: Revalidation,
        schema: Schema,
        tip: Tip,
        documents: list[IndexedDocument],
        beat: Callable[[str], None],
    ) -> tuple[Tally, bool]:
        """Hold some documents of a branch against the schema; and whether its index shows what is known now."""
        keys = [(one["path"], one["blob"]) for one in documents]
        latest = ResultReader(self.database).latest(tip.repository, tip.branch, keys)
        context = self.contexts.of(tip.tree)
        reports_of = reports_from(self.objects)
        looked = unreadable = undecided = 0
        changed: list[_Changed] = []
        done: list[FileResult] = []
        for number, document in enumerate(documents):
            if number % _EVERY == 0:
                beat(f"{tip.repository} {tip.branch}: {document['path']}")
            result = latest.get(document["path"])
            if result is None or result.verdict not in _LOOKED_INTO:
                continue
            report = reports_of(result.reports).get(result.path)
            if report is None:
                unreadable += 1
                continue
            if report.metadata is None or schema_for(report.metadata, self.recorder.registry) is not schema:
                continue
            looked += 1
            if report.schema_used is not None and report.schema_used.digest == schema.digest:
                done += [result] if result.workflow_id == revalidation.workflow_id else []
                continue
            again = recheck_front_matter(report, schema, context)
            if again is None:
                undecided += 1
            elif again.verdict != result.verdict:
                changed.append(_Changed(result, again))
        for start in range(0, len(changed), CHUNK):
            beat(f"{tip.repository} {tip.branch}: recording")
            done += self._record_documents(revalidation, tip, changed[start : start + CHUNK])
        tally = Tally(looked=looked, unreadable=unreadable, undecided=undecided).plus(
            _verdicts(one.verdict for one in done)
        )
        shown = {document["path"]: document.get("entry") for document in documents}
        known = {path: result.entry for path, result in latest.items()}
        return tally, bool(changed) or any(known.get(path, entry) != entry for path, entry in shown.items())

    def _record_documents(self, revalidation: Revalidation, tip: Tip, changed: list[_Changed]) -> list[FileResult]:
        """Record verdicts, but for those of documents that got another one meanwhile."""
        reports = write_reports(self.objects, (one.report for one in changed))

        def unit(transaction: LedgerTransaction) -> list[FileResult]:
            keys = [(one.before.path, one.before.blob) for one in changed]
            latest = latest_results(transaction.connection, tip.repository, tip.branch, keys)
            drafts = [
                self._document_draft(revalidation, tip, one, reports)
                for one in changed
                if latest[one.before.path].entry == one.before.entry
            ]
            recorded = transaction.append(drafts) if drafts else []
            rows = file_results(tip.repository, tip.commit, recorded)
            add_file_results(transaction.connection, rows)
            own = [one for one in latest.values() if one.workflow_id == revalidation.workflow_id]
            return [*own, *rows]

        return self.recorder.ledger.transact(unit)

    def _document_draft(self, revalidation: Revalidation, tip: Tip, changed: _Changed, reports: str) -> Draft:
        before, report = changed.before, changed.report
        step = f"file/{repository_slug(tip.repository)}/{before.blob}/{before.path}"
        if before.entry > revalidation.published:  # checked with an older schema and recorded late, maybe once more
            step = f"{step}/{before.entry}"
        return self._draft(
            revalidation,
            EntryType.FILE_REVALIDATED,
            step,
            {"repository": tip.repository, "path": before.path, "blob": before.blob},
            {
                "repository": tip.repository,
                "branch": tip.branch,
                "commit": tip.commit,
                "path": before.path,
                "blob": before.blob,
                "kind": report.kind,
                "verdict": report.verdict,
                "previous": {"entry": before.entry, "verdict": before.verdict},
                "errors": report.count(Severity.ERROR),
                "warnings": report.count(Severity.WARNING),
                "reportsDigest": reports,
                "schema": revalidation.published_schema.model_dump(by_alias=True),
                "build": self.recorder.build,
            },
        )

    # -------------------------------------------------------------------- entries

    def _entries(self, part: Part, schema: Schema, registry_id: RegistryId, beat: Callable[[str], None]) -> PartDone:
        place = part.place
        with self.database.read() as connection:
            page = entries_after(connection, registry_id, (place.entry_id, place.version), MAX_ENTRIES)
        tally = Tally()
        for start in range(0, len(page), CHUNK):
            some = page[start : start + CHUNK]
            beat(f"entries of {registry_id} from {some[0].entry_id}")
            found = self._record_entries(part.revalidation, registry_id, some, [_findings(schema, one) for one in some])
            tally = tally.plus(Tally(looked=len(some))).plus(_verdicts(one.verdict for one in found))
        last = page[-1] if len(page) == MAX_ENTRIES else None
        return PartDone(tally=tally, place=last and Place(entry_id=last.entry_id, version=last.version))

    def _record_entries(
        self,
        revalidation: Revalidation,
        registry_id: RegistryId,
        entries: list[Entry],
        findings: list[tuple[Finding, ...]],
    ) -> list[EntryVerdict]:
        """Record the verdicts that changed; those of this run, which may have recorded some of them before."""
        stored = [
            self.objects.put(_FINDINGS.dump_json(found, exclude_none=True)) if found else "" for found in findings
        ]

        def unit(transaction: LedgerTransaction) -> list[EntryVerdict]:
            ids = [one.entry_id for one in entries]
            latest = latest_entry_verdicts(transaction.connection, registry_id, ids)
            before = {key: one.verdict for key, one in latest.items()}
            known = _with_copies(
                zip(entries, findings, stored, strict=True), versions_of(transaction.connection, registry_id, ids)
            )
            drafts = [
                self._entry_draft(revalidation, entry, found, digest)
                for entry, found, digest in known
                if _verdict(found) != before.get((entry.entry_id, entry.version), Verdict.VALID)
            ]
            recorded = transaction.append(drafts) if drafts else []
            rows = [
                EntryVerdict(
                    entry=one.index,
                    registry_id=registry_id,
                    entry_id=str(one.entry.data["entryId"]),
                    version=int(str(one.entry.data["version"])),
                    verdict=str(one.entry.data["verdict"]),
                    workflow_id=revalidation.workflow_id,
                )
                for one in recorded
            ]
            add_entry_verdicts(transaction.connection, rows)
            looked_at = {(one.entry_id, one.version) for one, _, _ in known}
            own = [one for key, one in latest.items() if key in looked_at]
            return [*(one for one in own if one.workflow_id == revalidation.workflow_id), *rows]

        return self.recorder.ledger.transact(unit)

    def _entry_draft(
        self, revalidation: Revalidation, entry: Entry, findings: tuple[Finding, ...], stored: str
    ) -> Draft:
        data: JsonObject = {
            "registryId": entry.registry_id,
            "entryId": entry.entry_id,
            "version": entry.version,
            "digest": entry.digest,
            "verdict": _verdict(findings),
            "errors": len(findings),
            "schema": revalidation.published_schema.model_dump(by_alias=True),
            "build": self.recorder.build,
        }
        if stored:
            data["findingsDigest"] = stored
        inputs: JsonObject = {"registryId": entry.registry_id, "entryId": entry.entry_id, "version": entry.version}
        step = f"entry/{entry.entry_id}/{entry.version}"
        return self._draft(revalidation, EntryType.ENTRY_REVALIDATED, step, inputs, data)

    def _draft(
        self, revalidation: Revalidation, entry_type: EntryType, step: str, inputs: JsonObject, data: JsonObject
    ) -> Draft:
        schema = revalidation.published_schema.model_dump(by_alias=True)
        name = f"{revalidation.published_schema.schema_id} {revalidation.published_schema.version}"
        return Draft(
            namespace=self.recorder.namespace,
            workflow_id=revalidation.workflow_id,
            step=step,
            type=entry_type,
            event_id=revalidation.workflow_id,
            utids=permanent_utids(PUBLISHED, name, revalidation.request, digest_of(schema)),
            inputs={"schema": schema, **inputs},
            data=data,
        )


def _markdown(documents: Iterable[IndexedDocument], after: str = "") -> list[IndexedDocument]:
    """The Markdown documents behind a path, in the order of their paths."""
    wanted = (one for one in documents if one["kind"] == FileKind.MARKDOWN and one["path"] > after)
    return sorted(wanted, key=lambda one: one["path"])


def _tip(pointer: IndexPointer) -> Tip:
    return Tip(repository=pointer.repository, branch=pointer.branch, commit=pointer.commit, tree=pointer.tree)


def _begin(pointer: IndexPointer) -> Place:
    return Place(repository=pointer.repository, branch=pointer.branch)


def _findings(schema: Schema, entry: Entry) -> tuple[Finding, ...]:
    return tuple(
        finding(f"entry/{one.keyword}", one.message, pointer=f"/data{one.pointer}")
        for one in schema.violations(entry.data)[:MAX_FINDINGS]
    )


def _with_copies(
    looked_at: Iterable[tuple[Entry, tuple[Finding, ...], str]], versions: Mapping[tuple[str, int], str]
) -> list[tuple[Entry, tuple[Finding, ...], str]]:
    """Entries that were looked at, and the versions that they have got since by moving: those have the same data.

    Args:
        versions: the digests of their versions now.
    """
    known = {(entry.entry_id, entry.version): (entry, found, stored) for entry, found, stored in looked_at}
    for entry, found, stored in list(known.values()):
        for (entry_id, version), digest in versions.items():
            if (entry_id, digest) == (entry.entry_id, entry.digest) and (entry_id, version) not in known:
                known[entry_id, version] = (entry.model_copy(update={"version": version}), found, stored)
    return list(known.values())


def _verdict(findings: tuple[Finding, ...]) -> Verdict:
    return Verdict.INVALID if findings else Verdict.VALID


def _verdicts(verdicts: Iterable[str]) -> Tally:
    all_of_them = list(verdicts)
    return Tally(now_invalid=all_of_them.count(Verdict.INVALID), now_valid=all_of_them.count(Verdict.VALID))
