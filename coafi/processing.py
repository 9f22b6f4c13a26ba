"""A batch of changed files: check each, generate what derives from it, and record both.

A batch needs the object store and the ledger, never git: it can run on any machine, and again weeks later. It is
worked on in chunks; each chunk is recorded in one transaction, and ``progress`` says from where to go on after a crash.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pydantic import Field, TypeAdapter
from sqlalchemy import Connection

from coafi.artifacts.cache import ArtifactService, GenerationRequest
from coafi.artifacts.model import GENERATOR_VERSION, ArtifactRef
from coafi.canonical import JsonObject, Sha256, sha256
from coafi.documents.check import FileReport, Verdict, check_file
from coafi.documents.limits import DocumentLimits
from coafi.events import EventRef, Wire
from coafi.findings import Severity
from coafi.git.archive import read_archive
from coafi.git.manifest import BatchRef, ManifestFile, Oid
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder, Range, merge_ranges, ranges_of
from coafi.results import ArtifactResult, FileResult, add_artifact_results, add_file_results
from coafi.trees.commit import CommitContexts

CHUNK = 64
"""Files that are recorded in one transaction, and the most that are done again after a crash."""

_LONGEST_RAW = 5_464
"""Characters of base64 that name a file: of 4,096 bytes, which is the longest path that is shown whole."""

Row = TypeVar("Row")

_REPORTS = TypeAdapter(tuple[FileReport, ...])


class BatchTask(Wire):
    """A batch of one commit's files.

    Attributes:
        event: what the files belong to.
        repository: canonical URL.
        commit: SHA.
        tree: digest of the commit's whole tree in the object store; ``None``: nothing around a file is known.
        batch: which of the commit's batches.
    """

    event: EventRef
    repository: str
    commit: Oid
    tree: Sha256 | None
    batch: BatchRef


class Checked(Wire):
    """What came of checking a batch, or its first part.

    Attributes:
        files: how many files are done.
        verdicts: how many files got which verdict.
        reports: digests of the reports in the object store, each a JSON array of ``FileReport`` for up to ``CHUNK``
            files.
        entries: where ``FILE_PROCESSED`` was recorded.
    """

    files: int = 0
    verdicts: dict[Verdict, int] = Field(default_factory=dict)
    reports: tuple[Sha256, ...] = ()
    entries: tuple[Range, ...] = ()


class GenerateTask(Wire):
    """A checked batch, to generate artifacts from."""

    task: BatchTask
    checked: Checked

    @property
    def event(self) -> EventRef:
        """What the files belong to."""
        return self.task.event


class Generated(Wire):
    """What came of generating a batch's artifacts, or its first part.

    Attributes:
        files: how many files are done, those without artifacts included.
        artifacts: how many artifacts there are.
        cached: how many of them were generated before, for another commit.
        entries: where ``ARTIFACT_GENERATED`` was recorded.
    """

    files: int = 0
    artifacts: int = 0
    cached: int = 0
    entries: tuple[Range, ...] = ()


@dataclass(frozen=True)
class BatchProcessor:
    """Works on batches.

    Attributes:
        recorder: writes the ledger, and knows the schemas.
        objects: holds archives, manifests, reports and artifacts.
        contexts: tell what is around a file.
        artifacts: generates, or remembers.
        limits: how much of a file is looked at.
    """

    recorder: EventRecorder
    objects: ObjectStore
    contexts: CommitContexts
    artifacts: ArtifactService
    limits: DocumentLimits = field(default_factory=DocumentLimits)

    def check(self, task: BatchTask, progress: Checked, report: Callable[[Checked], None]) -> Checked:
        """Give every file of a batch its verdict, and record ``FILE_PROCESSED``.

        Args:
            task: the batch.
            progress: where an earlier attempt got to; ``Checked()`` to begin.
            report: called with where this attempt got to, after every file.

        Raises:
            LedgerUnavailable, Unavailable: try again, from the last progress.
            IntegrityError: the archive is missing or damaged.
        """
        done = progress
        context = None if task.tree is None else self.contexts.of(task.tree)
        for files in self._chunks(task, done.files):
            reports = []
            for file, content in files:
                report(done)
                reports.append(
                    check_file(
                        file.path,
                        content,
                        self.recorder.registry,
                        self.limits,
                        omitted=file.omitted,
                        change=file.change,
                        context=context,
                    )
                )
            digest = write_reports(self.objects, reports)
            drafts = [
                self._file_draft(task, file, content, one, digest)
                for (file, content), one in zip(files, reports, strict=True)
            ]
            recorded = self._record(
                drafts, lambda recorded: file_results(task.repository, task.commit, recorded), add_file_results
            )
            done = _add_checked(done, recorded)
        return done

    def generate(self, task: GenerateTask, progress: Generated, report: Callable[[Generated], None]) -> Generated:
        """Generate the artifacts of a batch's valid files, and record ``ARTIFACT_GENERATED``.

        Arguments and errors are those of :meth:`check`.
        """
        done = progress
        reports = {one.path: one for digest in task.checked.reports for one in read_reports(self.objects, digest)}
        for files in self._chunks(task.task, done.files):
            report(done)
            wanted = [
                (file, _request(file.blob, content, reports[file.path]))
                for file, content in files
                if content is not None and file.blob is not None and reports[file.path].verdict is Verdict.VALID
            ]
            results = self.artifacts.artifacts_for_batch([request for _, request in wanted], partial(report, done))
            drafts = [
                self._artifact_draft(task, file, artifact)
                for (file, _), result in zip(wanted, results, strict=True)
                for artifact in result.artifacts
            ]
            recorded = self._record(
                drafts, lambda recorded: _artifact_results(task.task, recorded), add_artifact_results
            )
            done = Generated(
                files=done.files + len(files),
                artifacts=done.artifacts + len(recorded),
                cached=done.cached + sum(len(result.artifacts) for result in results if result.cached),
                entries=merge_ranges([*done.entries, *ranges_of(recorded)]),
            )
        return done

    def _record(
        self,
        drafts: list[Draft],
        results: Callable[[list[Recorded]], list[Row]],
        add: Callable[[Connection, Sequence[Row]], None],
    ) -> list[Recorded]:
        """Record entries, and in the same transaction the rows by which they are found."""
        if not drafts:
            return []

        def unit(transaction: LedgerTransaction) -> list[Recorded]:
            recorded = transaction.append(drafts)
            add(transaction.connection, results(recorded))
            return recorded

        return self.recorder.ledger.transact(unit)

    def _chunks(self, task: BatchTask, start: int) -> Iterator[list[tuple[ManifestFile, bytes | None]]]:
        if start >= task.batch.files:
            return
        files = list(read_archive(self.objects.get(task.batch.archive)))
        for first in range(start, len(files), CHUNK):
            yield files[first : first + CHUNK]

    def _artifact_draft(self, task: GenerateTask, file: ManifestFile, artifact: ArtifactRef) -> Draft:
        return self.recorder.draft(
            task.event,
            EntryType.ARTIFACT_GENERATED,
            step=f"artifact/{artifact.kind}/{_name(file)}",
            inputs={"path": _name(file), "blob": file.blob},
            data={
                "path": file.path,
                "blob": file.blob,
                "artifact": artifact.kind,
                "mediaType": artifact.media_type,
                "digest": artifact.digest,
                "size": artifact.size,
                "generator": GENERATOR_VERSION,
                "build": self.recorder.build,
            },
        )

    def _file_draft(
        self, task: BatchTask, file: ManifestFile, content: bytes | None, report: FileReport, reports: str
    ) -> Draft:
        data: JsonObject = {
            "path": report.path,
            "change": file.change,
            "kind": report.kind,
            "verdict": report.verdict,
            "errors": report.count(Severity.ERROR),
            "warnings": report.count(Severity.WARNING),
            "reportsDigest": reports,
            "build": self.recorder.build,
        }
        if content is not None:
            data["sha256"] = sha256(content)
        if file.blob is not None:
            data["blob"] = file.blob
        if file.old_path is not None:
            data["oldPath"] = file.old_path
        if report.schema_used is not None:
            data["schema"] = report.schema_used.model_dump(mode="json", by_alias=True)
        return self.recorder.draft(
            task.event,
            EntryType.FILE_PROCESSED,
            step=f"file/{_name(file)}",
            inputs={"path": _name(file), "blob": file.blob},
            data=data,
        )


def file_results(repository: str, commit: str, recorded: Iterable[Recorded]) -> list[FileResult]:
    """The rows of entries that hold verdicts of a commit's files."""
    return [
        FileResult(
            entry=one.index,
            repository=repository,
            path=str(one.entry.data["path"]),
            blob=str(one.entry.data.get("blob", "")),
            commit=commit,
            workflow_id=one.entry.workflow_id,
            kind=str(one.entry.data["kind"]),
            verdict=str(one.entry.data["verdict"]),
            errors=int(str(one.entry.data["errors"])),
            warnings=int(str(one.entry.data["warnings"])),
            reports=str(one.entry.data["reportsDigest"]),
        )
        for one in recorded
    ]


def _artifact_results(task: BatchTask, recorded: list[Recorded]) -> list[ArtifactResult]:
    return [
        ArtifactResult(
            entry=one.index,
            repository=task.repository,
            path=str(one.entry.data["path"]),
            blob=str(one.entry.data["blob"]),
            artifact=str(one.entry.data["artifact"]),
            media_type=str(one.entry.data["mediaType"]),
            digest=str(one.entry.data["digest"]),
        )
        for one in recorded
    ]


def _name(file: ManifestFile) -> str:
    """What tells the file from every other of its commit: two paths that are not UTF-8 may look alike."""
    if file.raw_path is None:
        return file.path
    if len(file.raw_path) > _LONGEST_RAW:  # an entry has to hold it
        return f"{file.path} (sha256 {sha256(base64.b64decode(file.raw_path))})"
    return f"{file.path} (base64 {file.raw_path})"


def _request(blob: str, content: bytes, report: FileReport) -> GenerationRequest:
    return GenerationRequest(blob=blob, kind=report.kind, content=content, report=report)


def write_reports(objects: ObjectStore, reports: Iterable[FileReport]) -> str:
    """Store reports; the digest by which :func:`read_reports` finds them."""
    return objects.put(_REPORTS.dump_json(tuple(reports), by_alias=True, exclude_none=True))


def read_reports(objects: ObjectStore, digest: str) -> tuple[FileReport, ...]:
    """The reports that were stored under ``digest``."""
    return _REPORTS.validate_json(objects.get(digest))


def _add_checked(done: Checked, recorded: list[Recorded]) -> Checked:
    """Add a chunk, by what the ledger holds of it: after a crash that may be what an earlier attempt recorded."""
    verdicts = dict(done.verdicts)
    reports = dict.fromkeys(done.reports)
    for one in recorded:
        verdict = Verdict(str(one.entry.data["verdict"]))
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        reports[str(one.entry.data["reportsDigest"])] = None
    return Checked(
        files=done.files + len(recorded),
        verdicts=verdicts,
        reports=tuple(reports),
        entries=merge_ranges([*done.entries, *ranges_of(recorded)]),
    )
