"""A request to the API: checked, done, recorded, and answered while its caller waits.

Updates:
    answer: wait for the answer; sent together with the start of the run.

More queries and updates: see :class:`workflows.lifecycle.EventWorkflow`.
"""

from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.lifecycle import REJECTING, EventWorkflow, Outcome, Receipt, light, patient

with workflow.unsafe.imports_passed_through():
    from activities.api import ApiActivities
    from activities.dispatch import OTHER_REQUEST, Asked
    from activities.events import Patience
    from coafi import errors
    from coafi.api.answers import Answer, given_up, refusal, waiting
    from coafi.api.operations import OperateTask
    from coafi.api.requests import ApiRequest
    from coafi.api.routes import Operation
    from coafi.api.stored import Operated
    from coafi.canonical import digest_of
    from coafi.events import Event, EventRef
    from coafi.names import Phase, TaskQueue, UpdateName, WorkflowName

OPERATE_ELSEWHERE = timedelta(seconds=60)
"""One try of a change that another instance makes; it is longer than that one is waited for."""


@workflow.defn(name=WorkflowName.API_REQUEST)
class APIRequestWorkflow(EventWorkflow):
    """Takes one ``api.request`` event from its receipt to ``EVENT_PROCESSED``, and answers its caller."""

    # An id or a version that was used for something else: nobody can mend that but the caller.
    rejecting = REJECTING | {errors.IdempotencyConflict.__name__}

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__()
        self._body_digest = event.bodydigest
        self._operated: Operated | None = None
        self._receipt: Receipt | None = None

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle a request. The result is its receipt."""
        self._receipt = await self.handle(event, partial(self._operate, event))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._receipt

    @workflow.update(name=UpdateName.ANSWER, description="Wait for the answer")
    async def answer(self, asked: Asked) -> Answer:
        """The answer, as soon as there is one; while the run is parked, that it waits."""
        await workflow.wait_condition(lambda: self._receipt is not None or self._phase is Phase.PARKED)
        receipt = self._receipt
        if receipt is None or receipt.phase is Phase.DUPLICATE:
            return waiting(self._phase)
        if receipt.phase is Phase.PROCESSED and self._operated is not None:
            return self._operated.answer
        if receipt.phase is Phase.REJECTED:
            return refusal(receipt.findings, receipt.refused)
        return given_up(receipt.failure.message if receipt.failure else receipt.phase)

    @answer.validator
    def _validate_answer(self, asked: Asked) -> None:
        if asked.body_digest != self._body_digest:
            raise ApplicationError("this run does another request", type=OTHER_REQUEST, non_retryable=True)

    async def _operate(self, event: Event, ref: EventRef, patience: Patience) -> Outcome:
        request = ApiRequest.model_validate(event.data)
        task = OperateTask(event=ref, request=request)
        summary = request.route.summary
        if request.route.operation is Operation.START_WORKFLOW:
            operated = await self.step("api.start", lambda: light(ApiActivities.start, task, summary, self.rejecting))
        elif patience.api is None:
            operated = await self.step(
                "api.operate", lambda: light(ApiActivities.operate, task, summary, self.rejecting)
            )
        else:
            operated = await self.step("api.operate", partial(_operate_elsewhere, task, summary, patience.api))
        self._operated = operated
        return Outcome(counts=operated.counts, digests={"answer": digest_of(operated.answer)})


async def _operate_elsewhere(task: OperateTask, summary: str, patience: float) -> Operated:
    """The step that leaves the process: its queue has limits, and other runs do not wait behind it."""
    return await workflow.execute_activity_method(
        ApiActivities.operate,
        task,
        task_queue=TaskQueue.API,
        start_to_close_timeout=OPERATE_ELSEWHERE,
        retry_policy=patient(patience),
        summary=f"{summary} (another instance's)",
    )
