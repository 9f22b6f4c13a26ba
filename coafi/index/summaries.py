"""What an index says of a document that has a verdict: learned once per verdict, since a verdict never changes."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import structlog
from pydantic import JsonValue
from sqlalchemy import Column, Table, func, select

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_missing
from coafi.documents.check import FileReport
from coafi.errors import IntegrityError
from coafi.findings import Severity
from coafi.index.model import PastVerdict
from coafi.objects import ObjectStore
from coafi.processing import read_reports
from coafi.results import FileResult, file_result

HISTORY = 5
"""Verdicts of a document that an index shows, the newest first; its own page shows more."""

document_summary = Table(
    "document_summary",
    metadata,
    Column("entry", big_integer(), primary_key=True, autoincrement=False),
    Column("summary", text(), nullable=False),
)

_FIELDS = {
    "title": "title",
    "document_id": "documentId",
    "infoCode": "infoCode",
    "status": "status",
    "version": "version",
    "date": "date",
}
_LONGEST = 200
_ROWS = 400

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Summaries:
    """Summaries of verdicts: title, id, info code, status, version, date, counts of findings, past verdicts."""

    database: Database
    objects: ObjectStore

    def of(self, results: Sequence[FileResult]) -> dict[int, dict[str, JsonValue]]:
        """The summary of each of ``results``, by ledger entry, under the names of an indexed document.

        One whose report is lost has no front matter and no counts.

        Raises:
            Unavailable: database or object store are out of reach.
        """
        found = self._known([result.entry for result in results])
        new = [result for result in results if result.entry not in found]
        if new:
            learned = self._learn(new)
            self._remember(learned)
            found |= learned
            found |= {result.entry: {} for result in new if result.entry not in found}
        return found

    def _known(self, entries: Sequence[int]) -> dict[int, dict[str, JsonValue]]:
        table = document_summary.c
        found: dict[int, dict[str, JsonValue]] = {}
        with self.database.read() as connection:
            for some in _chunks(entries):
                for row in connection.execute(select(table.entry, table.summary).where(table.entry.in_(some))):
                    found[row.entry] = json.loads(row.summary)
        return found

    def _learn(self, results: Sequence[FileResult]) -> dict[int, dict[str, JsonValue]]:
        history = self._history([result.entry for result in results])
        learned: dict[int, dict[str, JsonValue]] = {}
        by_reports: dict[str, list[FileResult]] = {}
        for result in results:
            by_reports.setdefault(result.reports, []).append(result)
        for digest, some in by_reports.items():
            try:
                reports = {report.path: report for report in read_reports(self.objects, digest)}
            except (IntegrityError, ValueError) as error:
                log.warning("reports are lost", reports=digest, reason=str(error)[:300])
                continue
            for result in some:
                past = cast("JsonValue", history[result.entry])
                learned[result.entry] = {**_described(reports.get(result.path)), "history": past}
        return learned

    def _history(self, entries: Sequence[int]) -> dict[int, list[PastVerdict]]:
        """The verdicts of each entry's path up to that entry, the newest first."""
        own, past = file_result.alias("own"), file_result.alias("past")
        number = func.row_number().over(partition_by=own.c.entry, order_by=past.c.entry.desc())
        found: dict[int, list[PastVerdict]] = {entry: [] for entry in entries}
        with self.database.read() as connection:
            for some in _chunks(entries):
                numbered = (
                    select(own.c.entry.label("of"), past, number.label("number"))
                    .join(
                        past,
                        (past.c.repository == own.c.repository)
                        & (past.c.path == own.c.path)
                        & (past.c.entry <= own.c.entry),
                    )
                    .where(own.c.entry.in_(some))
                    .subquery()
                )
                query = select(numbered).where(numbered.c.number <= HISTORY).order_by(numbered.c.entry.desc())
                for row in connection.execute(query):
                    found[row.of].append(
                        {
                            "entry": row.entry,
                            "commit": row.commit,
                            "verdict": row.verdict,
                            "errors": row.errors,
                            "warnings": row.warnings,
                        }
                    )
        return found

    def _remember(self, learned: dict[int, dict[str, JsonValue]]) -> None:
        rows = [
            {"entry": entry, "summary": json.dumps(summary, separators=(",", ":"))}
            for entry, summary in learned.items()
        ]
        for some in _chunks(rows):
            with self.database.write() as connection:
                insert_missing(connection, document_summary, some)


def _described(report: FileReport | None) -> dict[str, JsonValue]:
    if report is None:
        return {}
    metadata = report.metadata or {}
    described: dict[str, JsonValue] = {
        name: text for key, name in _FIELDS.items() if (text := _text(metadata.get(key))) is not None
    }
    return {**described, "findings": {str(severity): report.count(severity) for severity in Severity}}


def _text(value: JsonValue) -> str | None:
    """A value of front matter as one short line; ``None`` for what is empty, or no line at all."""
    if value is None or isinstance(value, dict | list):
        return None
    return " ".join(str(value).encode("utf-8", "replace").decode().split())[:_LONGEST] or None


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    wanted = list(items)
    for start in range(0, len(wanted), _ROWS):
        yield wanted[start : start + _ROWS]
