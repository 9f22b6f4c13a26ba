"""Trees and verdicts without git and without checks: what an index is made of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from coafi.canonical import JsonObject, sha256
from coafi.database import Database
from coafi.documents.check import FileReport, Verdict
from coafi.documents.kinds import FileKind
from coafi.findings import Finding, Severity
from coafi.index.model import IndexTask, ProcessedCommit
from coafi.index.update import IndexUpdater
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.objects.local import LocalObjectStore
from coafi.results import FileResult, add_file_results
from coafi.trees.listing import TreeFile, directories_of
from tests.postgresql import where

REPOSITORY = "https://example.org/r"
_REPORTS = TypeAdapter(tuple[FileReport, ...])


@dataclass
class Indexes:
    """What indexes are made with."""

    database: Database
    objects: LocalObjectStore
    ledger: Ledger
    updater: IndexUpdater
    entries: int = 0

    def tree(self, files: Sequence[TreeFile]) -> str:
        """Record a tree."""
        directories = directories_of(files, 1)
        for directory in directories:
            self.objects.put(directory.listing)
        return directories[-1].digest

    def check(self, files: Sequence[TreeFile], *, commit: str = "a" * 40, verdict: Verdict = Verdict.VALID) -> None:
        """Record a verdict for each file, in chunks as a batch does."""
        for start in range(0, len(files), 64):
            some = files[start : start + 64]
            reports = tuple(_report(file.path, verdict) for file in some)
            digest = self.objects.put(_REPORTS.dump_json(reports, by_alias=True, exclude_none=True))
            with self.database.write() as connection:
                add_file_results(connection, [self._result(file, commit, verdict, digest) for file in some])

    def _result(self, file: TreeFile, commit: str, verdict: Verdict, digest: str) -> FileResult:
        self.entries += 1
        return FileResult(
            entry=self.entries,
            repository=REPOSITORY,
            path=file.path,
            blob=file.blob,
            commit=commit,
            workflow_id="run",
            kind=FileKind.MARKDOWN.value,
            verdict=verdict.value,
            errors=int(verdict is Verdict.INVALID),
            warnings=0,
            reports=digest,
        )


@contextmanager
def indexes(home: Path) -> Iterator[Indexes]:
    """An empty database, ledger and object store."""
    database, objects = Database(where(home)), LocalObjectStore(home / "objects")
    database.create_tables()
    ledger = Ledger(database, origin="test", signer=Signer("test", bytes(32)), state_directory=home / "ledger")
    try:
        yield Indexes(database, objects, ledger, IndexUpdater(ledger, database, objects, "default"))
    finally:
        ledger.close()
        database.close()


def files(count: int, *, version: str = "0", changed: int = 0) -> list[TreeFile]:
    """Documents; the first ``changed`` of them have the content of this version, the others have the first one."""
    return [
        TreeFile(
            f"docs/{number // 200:03d}/COAFI-ENG-{number:05d}-SPEC-A.md",
            "100644",
            sha256(f"{version if number < changed else 0} {number}".encode())[:40],
        )
        for number in range(count)
    ]


def task(commit: str | None, tree: str | None, *, generation: int = 0, commits: int = 1) -> IndexTask:
    """A task for ``main``, for this many commits."""
    named = tuple(ProcessedCommit(workflow_id=f"run {number}", commit="b" * 40) for number in range(commits))
    return IndexTask(
        repository=REPOSITORY, branch="main", generation=generation, commit=commit, tree=tree, commits=named
    )


def _report(path: str, verdict: Verdict) -> FileReport:
    metadata: JsonObject = {
        "title": f"Title of {path}",
        "document_id": Path(path).stem,
        "status": "DRAFT",
        "version": 1.5,
        "infoCode": "INFO-SPEC",
        "date": None,
    }
    error = Finding(severity=Severity.ERROR, rule="a/b", message="wrong", remedy="mend it", path=path, line=3)
    found = (error,) if verdict is Verdict.INVALID else ()
    return FileReport(path=path, kind=FileKind.MARKDOWN, verdict=verdict, findings=found, metadata=metadata)
