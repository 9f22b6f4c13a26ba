"""What a new version of a schema would break: just what the next check of the same files finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from coafi.canonical import JsonObject, sha256
from coafi.documents.check import FileReport, Verdict, check_file
from coafi.documents.kinds import FileKind
from coafi.documents.tree import SETTINGS_FILE
from coafi.index.model import IndexTask
from coafi.index.update import IndexUpdater
from coafi.objects.local import LocalObjectStore
from coafi.registry.acceptance import accept_schema
from coafi.registry.builtin import builtin_schemas
from coafi.registry.impact import MAX_FINDINGS, BrokenDocument, BrokenEntry, ImpactAnalysis, ImpactReport
from coafi.results import FileResult, add_file_results
from coafi.trees.commit import CommitContexts
from coafi.trees.listing import TreeFile
from coafi.trees.recorder import TreeRecorder
from tests.coafi.registry.making import Registers, schema

REPOSITORY = "https://example.org/r"
_REPORTS = TypeAdapter(tuple[FileReport, ...])


def document(number: int, *, info: str = "INFO-SPEC", **more: str) -> str:
    """A Markdown document that the schemas of the package take."""
    keys = {
        "title": f"Document {number}",
        "document_id": f"COAFI-ENG-{number:04d}-SPEC-A",
        "version": "1.0",
        "status": "DRAFT",
        "author": "ada",
        "date": "2026-11-27",
        "infoCode": info,
        **more,
    }
    lines = [f"{key}: {value}" for key, value in keys.items() if value != ""]
    return "\n".join(["---", *lines, "---", "", f"# Document {number}", ""])


@dataclass
class Repositories:
    """Branches that were checked and indexed, as runs do it but for git."""

    books: Registers
    objects: LocalObjectStore
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    entries: int = 1_000_000

    def push(self, branch: str, files: Mapping[str, str]) -> None:
        """Check these files, and make the index of a branch of them."""
        contents = {path: text.encode() for path, text in files.items()}
        by_blob = {sha256(content)[:40]: content for content in contents.values()}
        listed = [TreeFile(path, "100644", sha256(content)[:40]) for path, content in sorted(contents.items())]
        recorder = TreeRecorder(self.books.database, self.objects)

        def read(blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
            return ((blob, by_blob[blob]) for blob in blobs)

        self.files[branch] = contents
        self.trees[branch] = recorder.record(recorder.plan(listed), read)
        reports = self.checked(branch)
        digest = self.objects.put(_REPORTS.dump_json(reports, by_alias=True, exclude_none=True))
        with self.books.database.write() as connection:
            add_file_results(
                connection, [self._result(file, report, digest) for file, report in zip(listed, reports, strict=True)]
            )
        task = IndexTask(
            repository=REPOSITORY, branch=branch, generation=0, commit="a" * 40, tree=self.trees[branch], commits=()
        )
        IndexUpdater(self.books.ledger, self.books.database, self.objects, "default").update(task)

    def checked(self, branch: str) -> tuple[FileReport, ...]:
        """The reports of a branch's files, by the schemas that are published now."""
        context = CommitContexts(self.objects, self.books.database).of(self.trees[branch])
        return tuple(
            check_file(path, content, self.books.schemas, context=context)
            for path, content in sorted(self.files[branch].items())
        )

    def valid(self) -> set[tuple[str, str]]:
        """The documents that are valid by the schemas that are published now."""
        return {
            (branch, report.path)
            for branch in self.files
            for report in self.checked(branch)
            if report.verdict is Verdict.VALID and report.kind is FileKind.MARKDOWN
        }

    def _result(self, file: TreeFile, report: FileReport, reports: str) -> FileResult:
        self.entries += 1
        return FileResult(
            entry=self.entries,
            repository=REPOSITORY,
            path=file.path,
            blob=file.blob,
            commit="a" * 40,
            workflow_id="run",
            kind=report.kind.value,
            verdict=report.verdict.value,
            errors=0,
            warnings=0,
            reports=reports,
        )


@pytest.fixture
def repositories(books: Registers, tmp_path: Path) -> Repositories:
    return Repositories(books, LocalObjectStore(tmp_path / "objects"))


def analysis(repositories: Repositories) -> ImpactAnalysis:
    return ImpactAnalysis(repositories.books.database, repositories.objects, repositories.books.schemas)


def examined(repositories: Repositories, schema_id: str, document: JsonObject) -> ImpactReport:
    return analysis(repositories).examine(accept_schema(schema_id, document))


def shipped(schema_id: str, **changes: object) -> JsonObject:
    """A schema of the package in a new version, with other properties or required keys."""
    (known,) = [one for one in builtin_schemas() if one.schema_id == schema_id]
    changed: JsonObject = {**known.document, "$id": f"urn:coafi:schema:{schema_id}:9.0.0"}
    changed.update(changes)  # type: ignore[arg-type]  # JSON
    return changed


FILES = {
    "docs/COAFI-ENG-0001-SPEC-A.md": document(1),
    "docs/COAFI-ENG-0002-SPEC-A.md": document(2, utids="UTIDS-P-1"),
    "docs/COAFI-ENG-0003-SPEC-A.md": document(3, status="APPROVED"),
    "docs/COAFI-ENG-0004-SPEC-A.md": document(4, info="INFO-PLAN"),
    "docs/COAFI-ENG-0005-SPEC-A.md": document(5, info=""),
    "docs/COAFI-ENG-0006-SPEC-A.md": document(6, title=""),
    "README.md": "# No front matter\n",
    "data.json": "{}",
}
PROPOSALS: list[tuple[str, dict[str, object]]] = [
    ("frontmatter.INFO-SPEC", {"required": ["title", "document_id", "utids"]}),
    ("frontmatter.INFO-SPEC", {"properties": {"status": {"enum": ["APPROVED"]}}}),
    ("frontmatter.INFO-SPEC", {"properties": {"status": {"enum": ["APPROVED"], "x-severity": "warning"}}}),
    ("frontmatter.INFO-SPEC", {"required": []}),
    ("frontmatter.general", {"required": ["utids"]}),
    ("frontmatter.INFO-PLAN", {"properties": {"title": {"maxLength": 3}}}),
]


@pytest.mark.parametrize(("schema_id", "changes"), PROPOSALS)
def test_what_is_foretold_is_what_the_next_check_finds(
    repositories: Repositories, schema_id: str, changes: dict[str, object]
) -> None:
    repositories.push("main", FILES)
    lenient = "rules:\n  frontmatter/required-key: warning\n"
    repositories.push("lenient", {**FILES, SETTINGS_FILE: lenient})
    before = repositories.valid()
    proposed = shipped(schema_id, **changes)
    report = examined(repositories, schema_id, proposed)
    foretold = {(one.branch, one.path) for one in report.first_documents}
    repositories.books.integrate(schema_id, proposed, registry="schemas")
    assert foretold == before - repositories.valid()
    assert report.broken_documents == len(foretold)
    assert report.documents <= len(before)
    assert report.breaks == bool(foretold)


def test_the_proposals_of_this_test_break_some_and_not_all(repositories: Repositories) -> None:
    repositories.push("main", FILES)
    broken = [examined(repositories, name, shipped(name, **changes)).broken_documents for name, changes in PROPOSALS]
    assert broken == [2, 2, 0, 0, 1, 1]


def test_a_broken_document_is_shown_with_its_place_and_findings(repositories: Repositories) -> None:
    repositories.push("main", FILES)
    told: list[BrokenDocument | BrokenEntry] = []
    steps: list[str] = []
    proposed = accept_schema("frontmatter.general", shipped("frontmatter.general", required=["utids"]))
    report = analysis(repositories).examine(proposed, told.append, steps.append)
    assert tuple(told) == report.first_documents
    (one,) = report.first_documents
    assert (one.repository, one.branch, one.path) == (REPOSITORY, "main", "docs/COAFI-ENG-0005-SPEC-A.md")
    assert (one.commit, one.ledger_entry) == ("a" * 40, 1_000_007)
    assert [found.rule for found in one.findings] == ["frontmatter/required-key"]
    assert "utids" in one.findings[0].message
    assert steps
    assert report.proposed == proposed.reference
    assert report.published == repositories.books.schemas.schema("frontmatter.general").reference


def test_a_first_schema_for_an_info_code_concerns_those_that_fell_to_the_general_one(
    repositories: Repositories,
) -> None:
    repositories.push("main", {f"docs/COAFI-ENG-000{n}-SPEC-A.md": document(n, info="INFO-NEW") for n in (1, 2)})
    proposed = schema("frontmatter.INFO-NEW", required=["utids"])
    report = examined(repositories, "frontmatter.INFO-NEW", proposed)
    assert (report.published, report.documents, report.broken_documents) == (None, 2, 2)


def test_what_is_invalid_by_a_published_schema_already_is_not_its_successors_doing(repositories: Repositories) -> None:
    repositories.push("main", FILES)
    repositories.books.publish("frontmatter.general", "8.0.0", required=["utids"])
    report = examined(repositories, "frontmatter.general", shipped("frontmatter.general", required=["utids"]))
    assert (report.documents, report.broken_documents) == (1, 0)


def test_reports_that_are_lost_are_counted(repositories: Repositories) -> None:
    repositories.push("main", FILES)
    for path in (repositories.objects.root / "sha256").rglob("*"):
        if path.is_file() and path.read_bytes().startswith(b'[{"path":'):
            path.unlink()
    report = examined(repositories, "frontmatter.general", shipped("frontmatter.general", required=["utids"]))
    assert (report.documents, report.broken_documents) == (0, 0)
    assert report.unreadable == 6


def test_entries_that_would_no_longer_be_accepted_are_told(repositories: Repositories) -> None:
    books = repositories.books
    books.integrate("good", {"span": 1})
    books.put("bad", {"span": "wide"})
    books.integrate("was-bad", {"span": "wide"})
    books.put("was-bad", {"span": 2})
    books.put("elsewhere", {"span": "wide"}, registry="SPACE")
    report = examined(repositories, "registry.AERO", schema("registry.AERO", properties={"span": {"type": "number"}}))
    assert [(one.entry_id, one.version) for one in report.first_entries] == [("bad", 1), ("was-bad", 4)]
    assert [(one.rule, one.pointer) for one in report.first_entries[0].findings] == [("entry/type", "/data/span")]
    assert (report.entries, report.broken_entries, report.breaks) == (4, 2, True)
    books.publish("registry.AERO", "1.0.0", properties={"span": {"type": "number"}})
    again = schema("registry.AERO", "2.0.0", properties={"span": {"type": "number", "maximum": 1}})
    report = examined(repositories, "registry.AERO", again)
    assert [(one.entry_id, one.version) for one in report.first_entries] == [("was-bad", 5)]


def test_many_entries_are_read_in_pages_and_only_the_first_are_shown(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coafi.registry.impact.MAX_SHOWN", 4)
    monkeypatch.setattr("coafi.registry.impact._ENTRIES_AT_A_TIME", 3)
    for n in range(10):
        repositories.books.integrate(f"e{n}", {"n": n}) if n % 3 == 0 else repositories.books.put(f"e{n}", {"n": n})
        repositories.books.put(f"e{n}", {f"k{k}": 1 for k in range(20)})
    told: list[BrokenDocument | BrokenEntry] = []
    refusing = schema("registry.AERO", patternProperties={"^k": False})
    report = analysis(repositories).examine(accept_schema("registry.AERO", refusing), told.append)
    assert [one.entry_id for one in told if isinstance(one, BrokenEntry)] == [f"e{n}" for n in range(10)]
    assert (report.entries, report.broken_entries, len(report.first_entries)) == (14, 10, 4)
    assert all(len(one.findings) == MAX_FINDINGS for one in report.first_entries)


def test_a_schema_that_nothing_kept_is_held_against_breaks_nothing(repositories: Repositories) -> None:
    repositories.push("main", FILES)
    report = examined(repositories, "part", schema("part", enum=[]))
    assert (report.documents, report.entries, report.breaks) == (0, 0, False)
