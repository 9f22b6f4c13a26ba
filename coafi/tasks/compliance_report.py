"""``compliance-report``: how the documents of all branches stand, as HTML and JSON in the object store.

It is made from the newest index of every branch and from the reports before it; the same of these give the same bytes.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import ClassVar

import pydantic
from pydantic import Field

from coafi.canonical import Sha256, canonical_json
from coafi.errors import IntegrityError
from coafi.findings import Severity
from coafi.index.build import decode
from coafi.index.model import VERDICTS, IndexedDocument
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.ledger.entry import timestamp
from coafi.names import TaskName
from coafi.objects import ObjectStore
from coafi.processing import read_reports
from coafi.tasks.report_page import report_page
from coafi.tasks.results import TaskResults
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of

NO_STATUS = "(none)"
"""Stands where a document says no status."""

MAX_FINDINGS = 2_000
"""Findings that a report lists; all are counted."""


class BranchReport(TaskModel):
    """How the documents of a branch stand.

    Attributes:
        index: digest of the index that this is from.
        entry: ledger index of its ``INDEX_UPDATED``.
    """

    repository: str
    branch: str
    commit: str
    generation: int
    index: Sha256
    entry: int
    documents: int
    verdicts: dict[str, int]
    statuses: dict[str, int]


class OpenFinding(TaskModel):
    """Something that is wrong with a document now."""

    repository: str
    branch: str
    path: str
    line: int | None = None
    severity: str
    rule: str
    message: str


class TrendPoint(TaskModel):
    """What a report counted; one for each report."""

    due: str
    documents: int
    verdicts: dict[str, int]
    findings: dict[str, int]


class ComplianceReport(TaskModel):
    """The report.

    Attributes:
        due: the time that it was due.
        statuses: by status of the documents, how many have which verdict.
        findings: how many there are of which severity; ``rules`` of which rule.
        open: the first ``MAX_FINDINGS`` of them, the worst first.
        trend: this report and those before it, the oldest first.
        damaged: what could not be read.
    """

    format: str = "coafi.compliance-report/1"
    due: str
    documents: int
    verdicts: dict[str, int]
    statuses: dict[str, dict[str, int]]
    findings: dict[str, int]
    rules: dict[str, int]
    branches: tuple[BranchReport, ...]
    open: tuple[OpenFinding, ...]
    trend: tuple[TrendPoint, ...]
    damaged: tuple[str, ...] = ()


class ComplianceReportParameters(TaskModel):
    """What is asked for.

    Attributes:
        history: reports before it that the trend goes back to.
        title: of the page.
    """

    history: int = Field(default=52, ge=0, le=366)
    title: str = Field(default="Compliance report", min_length=1, max_length=200)


class ComplianceReportResult(TaskResult):
    """What the report counted; the report itself is among the artifacts."""

    trend: TrendPoint | None = None


@dataclass(frozen=True)
class ComplianceReporter:
    """Makes reports."""

    name: ClassVar[TaskName] = TaskName.COMPLIANCE_REPORT
    parameters: ClassVar[type[TaskModel]] = ComplianceReportParameters

    indexes: IndexReader
    objects: ObjectStore
    results: TaskResults

    def run(self, job: Job) -> ComplianceReportResult:
        """Make a report of what the indexes say now."""
        asked = parameters_of(ComplianceReportParameters, job)
        report = self.report(timestamp(job.due.astimezone(UTC)), asked.history, job.beat)
        digests = self.objects.put_many([canonical_json(report), report_page(report, asked.title)])
        said = ", ".join(f"{count} {verdict}" for verdict, count in report.verdicts.items() if count)
        return ComplianceReportResult(
            summary=f"{report.documents} documents" + (f": {said}" if said else ""),
            counts={
                "documents": report.documents,
                **{f"{one} documents": n for one, n in report.verdicts.items() if n},
            },
            artifacts={"report.json": digests[0], "report.html": digests[1]},
            trend=report.trend[-1],
        )

    def report(self, due: str, history: int, beat: Callable[[str], None] = lambda _text: None) -> ComplianceReport:
        """The report of what the indexes say now."""
        branches: list[BranchReport] = []
        verdicts: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
        statuses: dict[str, Counter[str]] = {}
        found: list[OpenFinding] = []
        damaged: list[str] = []
        for pointer in self.indexes.all():
            beat(f"reading the index of {pointer.branch} of {pointer.repository}")
            try:
                index = decode(self.objects.get(pointer.index_digest))
            except IntegrityError as error:
                damaged.append(f"{pointer.repository} {pointer.branch}: {error.message}")
                continue
            branches.append(_branch(pointer, index["documents"]))
            for document in index["documents"]:
                verdicts[document["verdict"]] += 1
                statuses.setdefault(document.get("status", NO_STATUS), Counter())[document["verdict"]] += 1
            found += self._findings(pointer, index["documents"], damaged, beat)
        found.sort(key=lambda one: (_RANK[one.severity], one.repository, one.branch, one.path, one.line or 0, one.rule))
        severities = Counter(one.severity for one in found)
        now = TrendPoint(
            due=due,
            documents=sum(verdicts.values()),
            verdicts=dict(verdicts),
            findings=dict(sorted(severities.items())),
        )
        return ComplianceReport(
            due=due,
            documents=now.documents,
            verdicts=now.verdicts,
            statuses={name: dict(sorted(counts.items())) for name, counts in sorted(statuses.items())},
            findings=now.findings,
            rules=dict(sorted(Counter(one.rule for one in found).items(), key=lambda item: (-item[1], item[0]))),
            branches=tuple(branches),
            open=tuple(found[:MAX_FINDINGS]),
            trend=(*self._before(history), now),
            damaged=tuple(damaged),
        )

    def _findings(
        self,
        pointer: IndexPointer,
        documents: list[IndexedDocument],
        damaged: list[str],
        beat: Callable[[str], None],
    ) -> Iterator[OpenFinding]:
        """The findings of a branch's documents: each from the report that its verdict was given with."""
        wanted: dict[str, set[str]] = {}
        for document in documents:
            if "reports" in document and any(document.get("findings", {}).values()):
                wanted.setdefault(document["reports"], set()).add(document["path"])
        for number, (digest, paths) in enumerate(sorted(wanted.items())):
            if number % 20 == 0:
                beat(f"reading findings of {pointer.branch} of {pointer.repository}")
            try:
                reports = read_reports(self.objects, digest)
            except (IntegrityError, pydantic.ValidationError) as error:
                damaged.append(f"{pointer.repository} {pointer.branch}: findings {digest}: {error}"[:500])
                continue
            for report in reports:
                if report.path in paths:
                    for one in report.findings:
                        if one.severity is not Severity.INFO:
                            yield OpenFinding(
                                repository=pointer.repository,
                                branch=pointer.branch,
                                path=report.path,
                                line=one.line,
                                severity=one.severity,
                                rule=one.rule,
                                message=one.message[:500],
                            )

    def _before(self, history: int) -> list[TrendPoint]:
        """What the reports before this one counted, the oldest first."""
        points = []
        for stored in reversed(self.results.last(TaskName.COMPLIANCE_REPORT, history)) if history else ():
            try:
                result = ComplianceReportResult.model_validate(json.loads(self.objects.get(stored.result)))
            except (IntegrityError, ValueError):
                continue  # a report that is lost leaves a hole in the trend, and no more
            if result.trend is not None:
                points.append(result.trend)
        return points


_RANK = {severity.value: number for number, severity in enumerate((Severity.ERROR, Severity.WARNING, Severity.INFO))}


def _branch(pointer: IndexPointer, documents: list[IndexedDocument]) -> BranchReport:
    verdicts = Counter(document["verdict"] for document in documents)
    statuses = Counter(document.get("status", NO_STATUS) for document in documents)
    return BranchReport(
        repository=pointer.repository,
        branch=pointer.branch,
        commit=pointer.commit,
        generation=pointer.generation,
        index=pointer.index_digest,
        entry=pointer.entry,
        documents=len(documents),
        verdicts=dict(sorted(verdicts.items())),
        statuses=dict(sorted(statuses.items())),
    )
