"""A request to the API: checked, done, recorded, and answered while its caller waits.

Who tells others of a change, and what a published schema means for all that is known, are runs that it starts at its
end and does not wait for.

Updates:
    answer: wait for the answer; sent together with the start of the run.

More queries and updates: see :class:`workflows.lifecycle.EventWorkflow`.
"""

import asyncio
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from workflows.children import start_and_leave
from workflows.lifecycle import REJECTING, EventWorkflow, Outcome, Receipt, light, patient
from workflows.registry_update_notification import RegistryUpdateNotificationWorkflow
from workflows.schema_revalidation import SchemaRevalidationWorkflow

with workflow.unsafe.imports_passed_through():
    from activities.api import ApiActivities, OperateResult
    from activities.dispatch import OTHER_REQUEST, STILL_PARKED, Asked
    from activities.events import Patience, ReceiveResult
    from coafi import errors
    from coafi.api.answers import GIVEN_UP, Answer, given_up, refusal, waiting
    from coafi.api.operations import OperateTask
    from coafi.api.requests import ApiRequest
    from coafi.api.routes import Operation
    from coafi.api.stored import Operated
    from coafi.canonical import digest_of
    from coafi.events import Event, EventRef
    from coafi.names import (
        EntryVersionName,
        Phase,
        TaskQueue,
        UpdateName,
        WorkflowName,
        registry_notification_workflow_id,
    )
    from coafi.payloads import subject_of
    from coafi.recording import Conclusion

FOLLOWS_UP = "api-follows-up"
"""Patch: runs that ended before it, but not as processed, started nothing."""

OPERATE_ELSEWHERE = timedelta(seconds=60)
"""One try of a change that another instance makes; it is longer than that one is waited for."""

SHOWN_FINDINGS = 20
"""The first places that are wrong are those that the run's page shows."""


@workflow.defn(name=WorkflowName.API_REQUEST)
class APIRequestWorkflow(EventWorkflow):
    """Takes one ``api.request`` event from its receipt to ``EVENT_PROCESSED``, and answers its caller."""

    # An id or a version that was used for something else: nobody can mend that but the caller.
    rejecting = REJECTING | {errors.IdempotencyConflict.__name__}

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__()
        self._body_digest = event.bodydigest
        self._asked = f"Asked for by `{_code(event.principal)}`: `{_code(subject_of(event))}`"
        self._operated: Operated | None = None
        self._result: OperateResult | None = None
        self._receipt: Receipt | None = None
        self._following: asyncio.Task[None] | None = None
        self._ended = False

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle a request. The result is its receipt."""
        try:
            self._receipt = await self.handle(event, partial(self._operate, event))
            await self._follow_up()
        except (asyncio.CancelledError, FailureError):
            await self._follow_up()
            raise
        finally:
            self._ended = True
            await workflow.wait_condition(workflow.all_handlers_finished)
        return self._receipt

    @workflow.update(name=UpdateName.ANSWER, description="Wait for the answer")
    async def answer(self, asked: Asked) -> Answer:
        """The answer, as soon as there is one; or that the run has parked, if whoever asks did not know that."""
        await workflow.wait_condition(lambda: self._ended or self._parks > asked.parks)
        if not self._ended:
            return waiting(self._phase, self._parks)
        if self._receipt is None or self._receipt.phase is Phase.DUPLICATE:
            return waiting(self._phase)  # what is stored tells
        return self._answer_to(self._receipt)

    @answer.validator
    def _validate_answer(self, asked: Asked) -> None:
        if asked.body_digest != self._body_digest:
            raise ApplicationError("this run does another request", type=OTHER_REQUEST, non_retryable=True)
        if self._phase is Phase.PARKED and asked.parks == self._parks:
            raise ApplicationError("this run is still parked", type=STILL_PARKED, non_retryable=True)

    def asked(self) -> str:
        """What was asked for, and by whom."""
        return self._asked

    def came_of_it(self, conclusion: Conclusion) -> str:
        """How the run ended, and what its caller is answered."""
        answer = self._answer_to(conclusion)
        said = f"{self._how(conclusion)}\n\nAnswered **{answer.status}**"
        if answer.status >= GIVEN_UP or not isinstance(answer.body, dict):
            return said
        body = answer.body
        if "ledgerEntry" in body:
            return (
                f"{said}: `{body['registryId']}/{body['entryId']}` is at version {body['version']},"
                f" {body['status']}, by entry {body['ledgerEntry']} of {self._ledger()}"
            )
        if "workflowId" in body:
            return f"{said}: the run `{body['workflowId']}` {'was there' if body['existed'] else 'was started'}"
        return said

    def _ledger(self) -> str:
        """Whose ledger has the entry that the answer names."""
        received: ReceiveResult = self._done["event.receive"]
        return "the ledger" if received.patience.api is None else "the other instance's ledger"

    def _how(self, conclusion: Conclusion) -> str:
        refused, failure = conclusion.refused, conclusion.failure
        if refused is None and conclusion.findings:
            return super().came_of_it(conclusion)
        why = f" at `{refused.step}`: {refused.message}" if refused else ""
        if failure:
            why = f" at `{failure.step}`: {failure.message}"
        places = [f"- `{one.pointer}` {one.message}" for one in conclusion.findings[:SHOWN_FINDINGS] if one.pointer]
        return "\n\n".join(filter(None, (f"**{conclusion.phase.capitalize()}**{why}", "\n".join(places))))

    def _answer_to(self, ended: Conclusion | Receipt) -> Answer:
        if ended.phase is Phase.REJECTED:
            return refusal(ended.findings, ended.refused)
        if self._operated is not None:  # it was done, also where the run was given up afterwards
            return self._operated.answer
        return given_up(ended.failure)

    async def _operate(self, event: Event, ref: EventRef, patience: Patience) -> Outcome:
        request = ApiRequest.model_validate(event.data)
        task = OperateTask(event=ref, request=request)
        summary = request.route.summary
        if request.route.operation is Operation.START_WORKFLOW:
            operated = await self.step("api.start", lambda: light(ApiActivities.start, task, summary, self.rejecting))
        else:
            if patience.api is None:
                call = partial(light, ApiActivities.operate, task, summary, self.rejecting)
            else:
                call = partial(_operate_elsewhere, task, summary, patience.api)
            result = await self.step("api.operate", call)
            self._result, operated = result, result.operated
        self._operated = operated
        return Outcome(counts=operated.counts, digests={"answer": digest_of(operated.answer)})

    async def _follow_up(self) -> None:
        """See that what follows from the change begins, however the run ends: what was done is done, and answered."""
        self._ended = True  # whoever asked does not wait for what follows
        if self._result is None or self._following is not None:
            return
        processed = self._receipt is not None and self._receipt.phase is Phase.PROCESSED
        if not processed and not workflow.patched(FOLLOWS_UP):
            return
        self._following = asyncio.ensure_future(self._start_what_follows(self._result))
        try:
            await asyncio.shield(self._following)
        except asyncio.CancelledError:
            if not workflow.patched(FOLLOWS_UP):
                self._following.cancel()
            await self._following
            raise

    async def _start_what_follows(self, result: OperateResult) -> None:
        if result.notice is not None:
            change = result.notice.change
            name = EntryVersionName(change.registry_id, change.entry_id, change.version)
            await start_and_leave(
                RegistryUpdateNotificationWorkflow.run,
                result.notice,
                registry_notification_workflow_id(name),
                f"Tell {len(result.notice.addressees)} of {name.registry}/{name.entry_id} {name.version}",
            )
        if result.revalidation is not None:
            published = result.revalidation.revalidation
            schema = published.published_schema
            await start_and_leave(
                SchemaRevalidationWorkflow.run,
                result.revalidation,
                published.workflow_id,
                f"Hold what is known against {schema.schema_id} {schema.version}",
            )


async def _operate_elsewhere(task: OperateTask, summary: str, patience: float) -> OperateResult:
    """The step that leaves the process: its queue has limits, and other runs do not wait behind it."""
    return await workflow.execute_activity_method(
        ApiActivities.operate,
        task,
        task_queue=TaskQueue.API,
        start_to_close_timeout=OPERATE_ELSEWHERE,
        retry_policy=patient(patience),
        summary=f"{summary} (another instance's)",
    )


def _code(text: str) -> str:
    """Text that cannot leave a code span of Markdown: a rejected request can say anything."""
    return text.replace("`", "'")
