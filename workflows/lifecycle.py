"""The phases around every handler: receive, process, park, finish. Written once, inherited by each event workflow.

Queries:
    state: where the run stands.

Updates (both only while the run is parked):
    retry: go on at the step that failed; what is done stays done.
    discard: give up; the event is dead-lettered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, overload

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from pydantic import Field
    from pydantic import ValidationError as ModelError

    from activities.events import EventActivities, FinishTask, ParkTask, Patience, ReceiveResult, ReceiveTask
    from coafi import errors
    from coafi.canonical import Sha256
    from coafi.events import Event, EventRef, Wire
    from coafi.findings import Finding
    from coafi.names import ActivityName, Phase, SearchAttribute, TaskQueue
    from coafi.recording import Conclusion, Decision, Failure, Range, Received, Refusal, counts_in_order, merge_ranges

LIGHT_STEP = timedelta(seconds=4)
"""One try of a light step, as a local activity: it must end within a workflow task."""

LIGHT_TRIES = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=2)
"""Few and short: a local activity that retries for long holds a workflow-task slot that other runs need."""

PATIENT_STEP = timedelta(seconds=30)
"""One try of a light step that fell back to a regular activity."""

PARKED_UNRECEIVED = timedelta(days=30)
"""How long a run waits for a decision that parked before it knew the settings' patience."""

SHOWN_DECISIONS = 16
"""The last decisions are those that a conclusion tells: an entry of the ledger has a limit."""

FIRST_RETRY = 1.0
BACKOFF_COEFFICIENT = 1.5
LONGEST_RETRY = 30.0
"""Seconds before the second try, the factor from each to the next, and the most between two: the ecosystem's."""

REJECTING = frozenset(
    error.__name__
    for error in (
        errors.ValidationError,
        errors.AuthorizationError,
        errors.ResourceNotFoundError,
        errors.PolicyDenied,
        errors.PreconditionFailed,
    )
)
"""Error types that mean the event itself is wrong."""

PHASE = SearchAttributeKey.for_keyword(SearchAttribute.PHASE)
UTIDS = SearchAttributeKey.for_keyword(SearchAttribute.UTIDS)

Result = TypeVar("Result")
Task = TypeVar("Task", bound=Wire)
Process = Callable[[EventRef, Patience], Awaitable["Outcome"]]


class Outcome(Wire):
    """What a handler made of its event, for the receipt."""

    counts: dict[str, int]
    digests: dict[str, Sha256]


class Receipt(Wire):
    """How a run ended: its result in Temporal.

    Attributes:
        phase: ``PROCESSED``, ``REJECTED``, ``FAILED`` or ``DUPLICATE``.
        event_id, source, workflow_id, utids: what it is about.
        entries: ledger indices of everything this run recorded.
        conclusion: ledger index of the last of them; ``None`` for a duplicate.
        duplicate_of: run id of the run that owns the delivery.
    """

    phase: Phase
    event_id: str
    source: str
    workflow_id: str
    utids: str
    counts: dict[str, int] = Field(default_factory=dict)
    digests: dict[str, Sha256] = Field(default_factory=dict)
    entries: tuple[Range, ...] = ()
    conclusion: int | None = None
    findings: tuple[Finding, ...] = ()
    refused: Refusal | None = None
    failure: Failure | None = None
    decisions: tuple[Decision, ...] = ()
    duplicate_of: str | None = None


class Verdict(StrEnum):
    """What becomes of a parked run."""

    RETRY = "retry"
    DISCARD = "discard"
    ABANDON = "abandon"


class StepFailed(Exception):
    """A step's activity gave up: its retries are used up, or its error is not worth any.

    Attributes:
        step: name of the step.
        error: what Temporal says of it.
        count: how many steps failed side by side.
    """

    def __init__(self, step: str, error: FailureError, *, count: int = 1) -> None:
        super().__init__(step)
        self.step = step
        self.error = error
        self.count = count

    def describe(self, *, sequence: int) -> Failure:
        """The failure for ledger and people."""
        cause = _cause(self.error)
        kind, message = type(cause).__name__, str(cause)
        if isinstance(cause, ApplicationError):
            kind, message = cause.type or kind, cause.message
        return Failure(step=self.step, sequence=sequence, error=kind, message=message[:2000], failed_steps=self.count)


class RunState(Wire):
    """Where a run stands. ``failure`` says why it is parked; ``steps_done`` what a retry will not repeat."""

    phase: Phase
    utids: str | None
    steps_done: tuple[str, ...]
    failure: Failure | None
    decisions: tuple[Decision, ...]


class EventWorkflow:
    """Base of the workflows that handle an event. A subclass writes ``run`` and hands its own steps to ``handle``."""

    rejecting: ClassVar[frozenset[str]] = REJECTING
    """Error types that end a run of this workflow as rejected."""

    def __init__(self) -> None:
        self._phase = Phase.RECEIVED
        self._utids: str | None = None
        self._done: dict[str, Any] = {}
        self._failure: Failure | None = None
        self._parks = 0
        self._park_entries: list[Range] = []
        self._decisions: list[Decision] = []
        self._verdict: Verdict | None = None
        self._ending: Conclusion | None = None

    def asked(self) -> str:
        """What the run was asked for, in Markdown, for its page in the Web UI. Stands above how it went."""
        return ""

    def came_of_it(self, conclusion: Conclusion) -> str:
        """What came of it, in Markdown, for its page in the Web UI."""
        return _conclusion_text(conclusion)

    def patience_when_parked(self, settings: float) -> float:
        """Seconds that the run waits for a decision; ``settings`` is how long all do."""
        return settings

    async def handle(self, event: Event, process: Process) -> Receipt:
        """Take ``event`` through its phases; ``process`` is what the handler itself does.

        ``process`` consists of calls of ``step`` and ``steps``, and is called anew after a retry: steps that are done
        return what they returned before.
        """
        self._show("")
        try:
            return await self._go_on(event, process)
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            # A cancelled run ends on the record as well; the shield keeps this last step alive.
            self._ending = Conclusion(phase=Phase.FAILED, failure=_cancelled(self._failure))
            receipt = await asyncio.shield(self._go_on(event, process))
            if receipt.phase is Phase.PROCESSED:  # the cancellation came after the fact
                return receipt
            raise

    async def step(self, name: str, call: Callable[[], Awaitable[Result]]) -> Result:
        """Do a step once: after a retry, a step that is done returns its result again.

        Raises:
            StepFailed: the step's activity gave up.
        """
        if name not in self._done:
            try:
                self._done[name] = await call()
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise
                raise StepFailed(name, error) from error
        result: Result = self._done[name]
        return result

    async def steps(self, calls: Mapping[str, Callable[[], Awaitable[Result]]]) -> list[Result]:
        """Do independent steps side by side and let each settle, so that one failure does not undo its neighbours.

        Raises:
            StepFailed: the first of the steps that failed, with how many did.
        """
        outcomes = await asyncio.gather(
            *(self.step(name, call) for name, call in calls.items()), return_exceptions=True
        )
        results: list[Result] = []
        failures: list[StepFailed] = []
        for outcome in outcomes:
            if isinstance(outcome, StepFailed):
                failures.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                results.append(outcome)
        if failures:
            raise StepFailed(failures[0].step, failures[0].error, count=len(failures))
        return results

    @workflow.query(description="Where the run stands, and why it is parked")
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(
            phase=self._phase,
            utids=self._utids,
            steps_done=tuple(self._done),
            failure=self._failure,
            decisions=tuple(self._decisions),
        )

    @workflow.update(description="Go on at the step that failed; what is done stays done")
    def retry(self, decision: Decision) -> RunState:
        """Leave the park and go on at the step that failed."""
        return self._decide(Verdict.RETRY, decision)

    @retry.validator
    def _validate_retry(self, decision: Decision) -> None:
        self._refuse_unless_parked("retry")

    @workflow.update(description="Give up: the event is dead-lettered")
    def discard(self, decision: Decision) -> RunState:
        """Leave the park and end as failed."""
        return self._decide(Verdict.DISCARD, decision)

    @discard.validator
    def _validate_discard(self, decision: Decision) -> None:
        self._refuse_unless_parked("discard")

    async def _go_on(self, event: Event, process: Process) -> Receipt:
        """Try until the run has ended, and park in between for as long as it takes."""
        while True:
            try:
                if self._ending is not None:
                    return await self._finish(event, self._ending)
                return await self._attempt(event, process)
            except StepFailed as failed:
                finishing = failed.step == ActivityName.FINISH
                refused = None if finishing else _refusal(failed.error, self.rejecting, failed.step)
                if refused is not None:
                    self._ending = refused
                elif await self._park(event, failed) is not Verdict.RETRY:
                    self._ending = Conclusion(phase=Phase.FAILED, failure=self._failure)

    async def _attempt(self, event: Event, process: Process) -> Receipt:
        task = ReceiveTask(event=event, run_id=workflow.info().original_execution_run_id)
        received = await self.step(
            "event.receive",
            lambda: light(EventActivities.receive, task, "Claim the delivery, check the payload, record the receipt"),
        )
        if not received.received.phase.goes_on:
            return self._received_only(event, received.received)
        self._utids = received.received.utids
        self._enter(Phase.VALIDATED)
        outcome = await process(event.ref(self._utids), received.patience)
        return await self._finish(event, Conclusion(phase=Phase.PROCESSED, **dict(outcome)))

    def _received_only(self, event: Event, received: Received) -> Receipt:
        """The receipt of an event whose story ends with its receipt: rejected, or a duplicate."""
        self._utids = received.utids
        self._enter(received.phase)
        if received.duplicate_of is not None:
            self._show(f"Duplicate of run `{received.duplicate_of}`: nothing was done twice.")
        else:
            self._show(self.came_of_it(Conclusion(phase=received.phase, findings=received.findings)))
        return Receipt(
            phase=received.phase,
            event_id=event.id,
            source=event.source,
            workflow_id=event.workflow_id,
            utids=received.utids,
            entries=received.entries,
            conclusion=received.entries[-1].last if received.entries else None,
            findings=received.findings,
            duplicate_of=received.duplicate_of,
        )

    async def _park(self, event: Event, failed: StepFailed) -> Verdict:
        """Record that the run parks, and wait for an operator's verdict."""
        self._parks += 1
        failure = self._failure = failed.describe(sequence=self._parks)
        self._verdict = None
        self._enter(Phase.PARKED)
        self._show(
            f"**Parked at `{failure.step}`** ({failure.error}): {failure.message}\n\n"
            "Mend the cause, then `coafi dead-letters retry` (goes on at this step) or `coafi dead-letters discard`."
        )
        task = ParkTask(event=self._ref(event), failure=failure)
        try:
            entry = await light(EventActivities.park, task, f"Record that the run parks at {failure.step}")
            self._park_entries.append(entry)
        except FailureError as unrecorded:
            if is_cancelled_exception(unrecorded):
                raise
            workflow.logger.error("the park could not be recorded", exc_info=unrecorded)
        received: ReceiveResult | None = self._done.get("event.receive")
        waits = received.patience.parked if received else PARKED_UNRECEIVED.total_seconds()
        try:
            await workflow.wait_condition(
                lambda: self._verdict is not None,
                timeout=timedelta(seconds=self.patience_when_parked(waits)),
                timeout_summary="Wait for a decision",
            )
        except TimeoutError:
            self._verdict = Verdict.ABANDON
        self._show("")
        return self._verdict or Verdict.ABANDON

    async def _finish(self, event: Event, conclusion: Conclusion) -> Receipt:
        """Record the conclusion. What was recorded first is what counts, also in the receipt."""
        task = FinishTask(event=self._ref(event), conclusion=self._complete(conclusion))
        summary = f"Record that the event is {conclusion.phase.lower()}"
        concluded = await self.step("event.finish", lambda: light(EventActivities.finish, task, summary))
        conclusion = concluded.conclusion
        self._failure = conclusion.failure
        self._enter(conclusion.phase)
        self._show(self.came_of_it(conclusion))
        return Receipt(
            phase=conclusion.phase,
            event_id=event.id,
            source=event.source,
            workflow_id=event.workflow_id,
            utids=task.event.utids,
            counts=conclusion.counts,
            digests=conclusion.digests,
            entries=merge_ranges([*conclusion.entries, Range(first=concluded.entry, last=concluded.entry)]),
            conclusion=concluded.entry,
            findings=conclusion.findings,
            refused=conclusion.refused,
            failure=conclusion.failure,
            decisions=conclusion.decisions,
        )

    def _complete(self, conclusion: Conclusion) -> Conclusion:
        """The conclusion with what the finished steps and the parks recorded, and what was decided."""
        recorded = [one for result in self._done.values() for one in getattr(result, "entries", ())]
        return conclusion.model_copy(
            update={
                "entries": merge_ranges([*recorded, *self._park_entries]),
                "decisions": tuple(self._decisions[-SHOWN_DECISIONS:]),
            }
        )

    def _show(self, how: str) -> None:
        """Say on the run's page in the Web UI what was asked for, and how it goes."""
        workflow.set_current_details("\n\n".join(filter(None, (self.asked(), how))))

    def _ref(self, event: Event) -> EventRef:
        return event.ref(self._utids or event.utids)

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        utids = [] if self._utids is None else [UTIDS.value_set(self._utids)]
        workflow.upsert_search_attributes([PHASE.value_set(phase.value), *utids])

    def _decide(self, verdict: Verdict, decision: Decision) -> RunState:
        self._decisions.append(decision)
        self._verdict = verdict
        if verdict is Verdict.RETRY:
            self._failure = None
            self._enter(Phase.VALIDATED if "event.receive" in self._done else Phase.RECEIVED)
        return self.state()

    def _refuse_unless_parked(self, what: str) -> None:
        if self._phase is not Phase.PARKED:
            raise ApplicationError(
                f"this run is {self._phase}, not PARKED: there is nothing to {what}", type="NotParked"
            )
        if self._verdict is not None:
            raise ApplicationError(f"{self._verdict} was decided before, and is being recorded", type="NotParked")


@overload
async def light(
    method: Callable[[Any, Task], Coroutine[Any, Any, Result]],
    task: Task,
    summary: str,
    rejecting: frozenset[str] = REJECTING,
) -> Result: ...
@overload
async def light(
    method: Callable[[Any, Task], Result], task: Task, summary: str, rejecting: frozenset[str] = REJECTING
) -> Result: ...
async def light(
    method: Callable[[Any, Any], Any], task: Wire, summary: str, rejecting: frozenset[str] = REJECTING
) -> Any:
    """A step of a few milliseconds: as a local activity, and when that fails, patiently as a regular one.

    Args:
        method: of a class of activities; blocking or not.
        task: its argument.
        summary: for people, in the Web UI.
        rejecting: error types that no further try can help.
    """
    try:
        return await workflow.execute_local_activity_method(
            method, task, start_to_close_timeout=LIGHT_STEP, retry_policy=LIGHT_TRIES, summary=summary
        )
    except FailureError as error:
        if is_cancelled_exception(error) or _refusal(error, rejecting):
            raise
    return await workflow.execute_activity_method(
        method,
        task,
        task_queue=TaskQueue.EVENTS,
        start_to_close_timeout=PATIENT_STEP,
        retry_policy=patient(None),
        summary=f"{summary} (until it works)",
    )


def patient(
    seconds: float | None,
    *,
    first: float = FIRST_RETRY,
    coefficient: float = BACKOFF_COEFFICIENT,
    longest: float = LONGEST_RETRY,
) -> RetryPolicy:
    """Retries for about ``seconds``, or for ever.

    The patience is turned into a number of tries: a limit in time would also count the wait in a busy task queue,
    and park runs that were never tried. What is not worth so many tries ends earlier (activities.boundary).
    """
    tries = 0
    if seconds is not None:
        waited, delay, tries = 0.0, first, 1
        while waited < seconds:
            waited += delay
            delay = min(delay * coefficient, longest)
            tries += 1
    return RetryPolicy(
        initial_interval=timedelta(seconds=first),
        backoff_coefficient=coefficient,
        maximum_interval=timedelta(seconds=longest),
        maximum_attempts=tries,
    )


def _cause(error: FailureError) -> BaseException | None:
    """What failed: a regular activity's error comes wrapped, that of a local one does not."""
    return error.cause if isinstance(error, ActivityError) else error


def _refusal(error: FailureError, rejecting: frozenset[str], step: str = "") -> Conclusion | None:
    """The rejection that an activity's error means, if it means that the event is wrong."""
    cause = _cause(error)
    if not isinstance(cause, ApplicationError) or cause.type not in rejecting:
        return None
    findings = []
    for detail in cause.details:
        try:
            findings.append(Finding.model_validate(detail))
        except ModelError:
            workflow.logger.warning("an error carried details that are no findings")
    refused = Refusal(step=step, error=cause.type, message=cause.message[:2000])
    return Conclusion(phase=Phase.REJECTED, findings=tuple(findings), refused=refused)


def _cancelled(failure: Failure | None) -> Failure:
    return failure or Failure(step="run", sequence=0, error="Cancelled", message="the run was cancelled")


def _findings_text(findings: tuple[Finding, ...]) -> str:
    lines = [f"- `{finding.pointer or '/'}` {finding.message}: {finding.remedy}" for finding in findings[:20]]
    return "**Rejected**\n\n" + "\n".join(lines)


def _conclusion_text(conclusion: Conclusion) -> str:
    if conclusion.findings:
        return _findings_text(conclusion.findings)
    counts = ", ".join(f"{count} {name}" for name, count in counts_in_order(conclusion.counts))
    return f"**{conclusion.phase.capitalize()}**: {counts}" if counts else f"**{conclusion.phase.capitalize()}**"
