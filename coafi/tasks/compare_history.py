"""``compare-history``: Temporal's runs against the ledger, in both directions.

Every run that has ended has its receipt and its conclusion in the ledger, and every entry that the conclusion names.
Every event that the ledger received has its run, as long as Temporal remembers runs, and every event without an end has
a run that is open. What is not so is a gap: somebody removed something, or lost it.

What happens at this very moment is left to the next time (``grace``). An alarm tells of gaps that are new; the result
lists all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar

import pydantic
from pydantic import Field
from sqlalchemy import select

from coafi.database import Database
from coafi.deliveries import delivery
from coafi.errors import IntegrityError
from coafi.ledger.entry import Recorded, timestamp
from coafi.ledger.port import Ledger
from coafi.names import CONCLUDE, EntryType, Phase, TaskName, parse_workflow_id
from coafi.objects import ObjectStore
from coafi.recording import Range
from coafi.tasks.history import RUNNING, History, Run
from coafi.tasks.results import TaskResults
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of

MARGIN = timedelta(minutes=15)
"""Before so much of the retention is left, a run counts as one that may be gone."""

SHOWN = 200
"""Gaps that a result lists."""

_PAGE = 500
_CONCLUSIONS = frozenset({EntryType.EVENT_PROCESSED, EntryType.EVENT_REJECTED, EntryType.EVENT_DEAD_LETTERED})


class GapKind(StrEnum):
    """What is missing."""

    NO_RECEIPT = "run-without-entries"
    NO_CONCLUSION = "run-without-conclusion"
    ENTRY_MISSING = "entry-missing"
    NO_RUN = "entry-without-run"
    DAMAGED = "entries-damaged"


class Gap(TaskModel):
    """Something that one side has and the other has not.

    Attributes:
        workflow_id: of the run; empty for a damage that no run can be told of.
        detail: what exactly, and what to do.
    """

    kind: GapKind
    workflow_id: str
    detail: str


class CompareHistoryParameters(TaskModel):
    """What is asked for.

    Attributes:
        grace: seconds; what began or ended since is left to the next time.
        window: seconds that are looked back; by default as long as Temporal remembers runs.
    """

    grace: float = Field(default=60.0, ge=0, le=3_600)
    window: float | None = Field(default=None, gt=0, le=366 * 86_400)


class CompareHistoryResult(TaskResult):
    """What was found.

    Attributes:
        gaps: the first ``SHOWN`` of them.
        since: what was compared is not older.
    """

    gaps: tuple[Gap, ...] = ()
    since: str = ""


@dataclass(frozen=True)
class CompareHistory:
    """Compares.

    Attributes:
        namespace: of the entries that are ours.
        results: tell which gaps are known.
    """

    name: ClassVar[TaskName] = TaskName.COMPARE_HISTORY
    parameters: ClassVar[type[TaskModel]] = CompareHistoryParameters

    history: History
    ledger: Ledger
    database: Database
    objects: ObjectStore
    results: TaskResults
    namespace: str
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def run(self, job: Job) -> CompareHistoryResult:
        """Compare all that both sides must still have."""
        asked = parameters_of(CompareHistoryParameters, job)
        retention = self.history.retention()
        window = retention if asked.window is None else min(retention, timedelta(seconds=asked.window))
        now = self.clock()
        since, until = now - window + min(MARGIN, window / 4), now - timedelta(seconds=asked.grace)
        runs = {run.workflow_id: run for run in self.history.runs(since, job.beat)}
        gaps: dict[tuple[GapKind, str, str], Gap] = {}

        def note(found: Iterator[Gap]) -> None:
            gaps.update({(gap.kind, gap.workflow_id, gap.detail): gap for gap in found})

        compared = 0
        for number, run in enumerate(runs.values()):
            if number % 100 == 0:
                job.beat(f"compared {number:,} of {len(runs):,} runs")
            if run.workflow_id != job.event.workflow_id and run.closed is not None and run.closed <= until:
                note(self._of_run(run))
                compared += 1
        entries = 0
        for received in self._received(since, until, job.beat, note):
            entries += 1
            if received not in runs and self.history.find(received) is None:
                note(iter([_no_run(received)]))
        for open_one in self._open(until):
            note(self._of_open(open_one, runs.get(open_one) or self.history.find(open_one)))
        return self._result(tuple(gaps.values()), compared, entries, since)

    def _of_run(self, run: Run) -> Iterator[Gap]:
        """What the ledger lacks of a run that has ended."""
        if run.phase == Phase.DUPLICATE:
            return  # what it stands for is on the record of the run that it is a duplicate of
        try:
            event_id = parse_workflow_id(run.workflow_id).delivery_id
        except ValueError:
            return  # not the run of an event
        try:
            found = [
                one
                for one in self.ledger.by_event(event_id)
                if (one.entry.namespace, one.entry.workflow_id) == (self.namespace, run.workflow_id)
            ]
        except IntegrityError as error:
            yield Gap(kind=GapKind.DAMAGED, workflow_id=run.workflow_id, detail=str(error))
            return
        if not found:
            yield Gap(
                kind=GapKind.NO_RECEIPT,
                workflow_id=run.workflow_id,
                detail=f"Temporal says {run.status}, and the ledger has nothing: coafi ledger verify says more",
            )
            return
        conclusions = [one for one in found if one.entry.type in _CONCLUSIONS]
        if not conclusions:
            yield _unconcluded(run)
        indices = {one.index for one in found}
        for one in conclusions:
            missing = sorted(_named(one) - indices)
            if missing:
                yield Gap(
                    kind=GapKind.ENTRY_MISSING,
                    workflow_id=run.workflow_id,
                    detail=f"entry {missing[0]}, which its conclusion names, is not there ({len(missing)} in all): "
                    "coafi ledger verify says more",
                )
        if not any(one.entry.type == EntryType.EVENT_RECEIVED for one in found) and not _is_conflict(found):
            yield Gap(
                kind=GapKind.ENTRY_MISSING,
                workflow_id=run.workflow_id,
                detail="its EVENT_RECEIVED is not there: coafi ledger verify says more",
            )

    def _of_open(self, workflow_id: str, run: Run | None) -> Iterator[Gap]:
        """What is wrong with an event that has not ended."""
        if run is None:
            yield Gap(
                kind=GapKind.NO_RUN,
                workflow_id=workflow_id,
                detail="it has not ended, and Temporal knows no run of it: deliver it again",
            )
        elif run.status != RUNNING:
            yield from self._of_run(run)

    def _received(
        self, since: datetime, until: datetime, beat: Callable[[str], None], note: Callable[[Iterator[Gap]], None]
    ) -> Iterator[str]:
        """The workflow ids of events that the ledger received in a time, the newest first."""
        first, last = timestamp(since), timestamp(until)
        stop = self.ledger.size()
        while stop > 0:
            start = max(0, stop - _PAGE)
            beat(f"compared entries down to {start:,}")
            try:
                page = self.ledger.entries(start, stop)
            except IntegrityError as error:
                note(iter([Gap(kind=GapKind.DAMAGED, workflow_id="", detail=str(error))]))
                page = list(self._readable(start, stop))
            for one in reversed(page):
                entry = one.entry
                ours = entry.type == EntryType.EVENT_RECEIVED and entry.namespace == self.namespace
                if ours and first <= entry.time <= last:
                    yield entry.workflow_id
            if page and page[0].entry.time < first:
                return
            stop = start

    def _readable(self, start: int, stop: int) -> Iterator[Recorded]:
        for index in range(start, stop):
            try:
                yield from self.ledger.entries(index, index + 1)
            except IntegrityError:
                continue  # the first of them is noted

    def _open(self, until: datetime) -> list[str]:
        query = select(delivery.c.workflow_id).where(
            delivery.c.outcome.is_(None), delivery.c.received_at <= timestamp(until)
        )
        with self.database.read() as connection:
            return list(connection.scalars(query.order_by(delivery.c.workflow_id)))

    def _result(self, gaps: tuple[Gap, ...], runs: int, entries: int, since: datetime) -> CompareHistoryResult:
        known = self._known()
        new = [gap for gap in gaps if (gap.kind, gap.workflow_id) not in known]
        return CompareHistoryResult(
            summary=f"{len(gaps)} gaps, {len(new)} of them new" if gaps else f"{runs:,} runs and their entries agree",
            alarms=tuple(f"{gap.kind}: {gap.workflow_id or 'the ledger'}: {gap.detail}" for gap in new),
            counts={"runs": runs, "events": entries, **({"gaps": len(gaps)} if gaps else {})},
            gaps=gaps[:SHOWN],
            since=timestamp(since),
        )

    def _known(self) -> set[tuple[GapKind, str]]:
        """The gaps that the comparison before found."""
        last = self.results.last(TaskName.COMPARE_HISTORY)
        if not last:
            return set()
        try:
            before = CompareHistoryResult.model_validate_json(self.objects.get(last[0].result))
        except (IntegrityError, pydantic.ValidationError):
            return set()
        return {(gap.kind, gap.workflow_id) for gap in before.gaps}


def _named(conclusion: Recorded) -> set[int]:
    """The indices that a conclusion names."""
    said = conclusion.data.get("entries")
    if not isinstance(said, list):
        return set()
    ranges = [Range.model_validate(one) for one in said]
    return {index for one in ranges for index in range(one.first, one.last + 1)}


def _is_conflict(entries: list[Recorded]) -> bool:
    """Whether all there is is that another body under a known delivery id was rejected."""
    return all(one.entry.step != CONCLUDE for one in entries)


def _unconcluded(run: Run) -> Gap:
    return Gap(
        kind=GapKind.NO_CONCLUSION,
        workflow_id=run.workflow_id,
        detail=f"Temporal says {run.status}, and the ledger has no end of it: deliver it again",
    )


def _no_run(workflow_id: str) -> Gap:
    return Gap(
        kind=GapKind.NO_RUN,
        workflow_id=workflow_id,
        detail="the ledger received it, and Temporal, which must still remember it, knows no run of it",
    )
