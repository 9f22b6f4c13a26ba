"""A schema was published: all that is known and that it concerns is held against it, part by part.

It is started by the run of the request that integrated the schema, and outlives it. Its parts are on a queue of their
own, whose rate spares the rest of the service; the Web UI shows how far it is.

Queries:
    state: what was found out so far.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from workflows.lifecycle import light, patient

with workflow.unsafe.imports_passed_through():
    from activities.index import IndexRequestActivities, IndexRequestsTask
    from activities.revalidation import RevalidationActivities, RevalidationTask
    from coafi.events import Wire
    from coafi.names import TaskQueue, WorkflowName
    from coafi.registry.revalidation import Ended, Part, PartDone, Place, Summary, Tally

PART_TIMEOUT = timedelta(minutes=10)
"""One try of a part."""

HEARTBEAT_TIMEOUT = timedelta(seconds=30)
"""A worker that was killed is noticed after this long."""

FAILED = "RevalidationFailed"
"""The type of the error with which a run ends whose part gave up."""


class RevalidationResult(Wire):
    """What was found out: the result of the run.

    Attributes:
        entry: ledger index of ``SCHEMA_REVALIDATED``.
    """

    ended: Ended
    tally: Tally
    entry: int


@workflow.defn(name=WorkflowName.SCHEMA_REVALIDATION)
class SchemaRevalidationWorkflow:
    """Holds documents, or the entries of a registry, against one version of a schema."""

    @workflow.init
    def __init__(self, task: RevalidationTask) -> None:
        self._task = task
        self._tally = task.tally
        self._parts = 0

    @workflow.run
    async def run(self, _task: RevalidationTask) -> RevalidationResult:
        """Do part after part, ask for the indexes that are out of date then, and record the summary."""
        place: Place | None = self._task.place
        ended = Ended.DONE
        while place is not None:
            if self._is_long():
                workflow.continue_as_new(self._task.model_copy(update={"place": place, "tally": self._tally}))
            part = await self._part(place)
            if part.superseded:
                ended = Ended.SUPERSEDED
                break
            self._tally = self._tally.plus(part.tally)
            if part.tips:
                await self._ask_for_indexes(part)
            place = part.place
            workflow.set_current_details(self._text(place))
        entry = await self._conclude(ended)
        workflow.set_current_details(f"**{ended.capitalize()}**\n\n{self._text(None)}")
        return RevalidationResult(ended=ended, tally=self._tally, entry=entry)

    @workflow.query(description="What was found out so far")
    def state(self) -> Tally:
        """What was found out so far."""
        return self._tally

    async def _part(self, place: Place) -> PartDone:
        self._parts += 1
        try:
            return await workflow.execute_activity_method(
                RevalidationActivities.revalidate,
                Part(revalidation=self._task.revalidation, place=place),
                task_queue=TaskQueue.TASKS,
                start_to_close_timeout=PART_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=patient(self._task.patience),
                summary=f"Look into {_where(place) or 'what comes first'}"[:200],
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            reason = error.cause.message if isinstance(error.cause, ApplicationError) else str(error.cause)
            await self._conclude(Ended.FAILED, reason[:2000])
            raise ApplicationError(
                f"what comes after {_where(place) or 'the beginning'} was not looked into: {reason}",
                type=FAILED,
                non_retryable=True,
            ) from error

    async def _ask_for_indexes(self, part: PartDone) -> None:
        task = IndexRequestsTask(workflow_id=self._task.revalidation.workflow_id, tips=part.tips)
        try:
            await light(IndexRequestActivities.request_all, task, f"Ask for the indexes of {len(part.tips)} branches")
        except FailureError as error:  # a defect: the verdicts are on record, and the next push shows them
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("indexes were not asked for", exc_info=error)

    async def _conclude(self, ended: Ended, reason: str = "") -> int:
        summary = Summary(revalidation=self._task.revalidation, ended=ended, tally=self._tally, reason=reason)
        concluded = await light(RevalidationActivities.conclude, summary, "Record what was found out")
        return concluded.entry

    def _is_long(self) -> bool:
        return self._parts >= self._task.max_parts or workflow.info().is_continue_as_new_suggested()

    def _text(self, place: Place | None) -> str:
        tally = self._tally
        said = (
            f"**{tally.looked:,}** looked into, **{tally.now_invalid:,}** now invalid, "
            f"**{tally.now_valid:,}** now valid, {tally.unreadable:,} unreadable, {tally.undecided:,} undecided; "
            f"{tally.branches:,} indexes asked for"
        )
        return f"{said}\n\nNext: `{_where(place)}`" if place else said


def _where(place: Place) -> str:
    return " ".join(part for part in (place.repository, place.branch, place.path, place.entry_id) if part)
