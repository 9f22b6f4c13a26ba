"""An event of a ledger: an external one, or an entry of ours. What its subscriptions ask for is done and recorded.

Who wants to know is told by a run that this one starts at its end and does not wait for. Peers are told by the outbox,
which finds what was recorded here. An event from outside that nobody subscribes to parks: ``retry`` looks again.

Queries and updates: see :class:`workflows.lifecycle.EventWorkflow`.
"""

from functools import partial

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.children import start_and_leave
from workflows.event_notification import EventNotificationWorkflow
from workflows.lifecycle import EventWorkflow, Outcome, Receipt, light

with workflow.unsafe.imports_passed_through():
    from activities.bitt import BittActivities, ReactResult
    from activities.events import Patience
    from coafi.bitt.reaction import ReactTask
    from coafi.events import Event, EventRef
    from coafi.names import Phase, WorkflowName, event_notification_workflow_id
    from coafi.payloads import subject_of

UNPROCESSED = "EventUnprocessed"
"""The type of the error with which a run parks that nobody has a use for yet."""


@workflow.defn(name=WorkflowName.BITT_EVENT)
class BITTEventWorkflow(EventWorkflow):
    """Takes one ``bitt.event`` event from its receipt to ``EVENT_PROCESSED``."""

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__()
        self._subject = subject_of(event).replace("`", "'")
        self._depth = event.causationdepth
        self._result: ReactResult | None = None

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle an event of a ledger. The result is its receipt."""
        receipt = await self.handle(event, partial(self._react, event))
        if receipt.phase is Phase.PROCESSED and self._result is not None and self._result.notice is not None:
            notice = self._result.notice
            await start_and_leave(
                EventNotificationWorkflow.run,
                notice,
                event_notification_workflow_id(event.workflow_id),
                f"Tell {len(notice.addressees)} of {subject_of(event)}",
            )
        return receipt

    def asked(self) -> str:
        """What has happened, and where in a chain of events."""
        return f"`{self._subject}`" + (f", {self._depth} runs after its cause" if self._depth else "")

    async def _react(self, event: Event, ref: EventRef, _patience: Patience) -> Outcome:
        task = ReactTask(event=ref, told=event)
        self._result = result = await self.step("bitt.react", partial(self._do, task))
        reacted = result.reacted
        counts = {
            "subscriptions": len(reacted.subscriptions),
            "opened": reacted.opened,
            "known": reacted.known,
            "closed": reacted.closed,
            "notified": len(result.notice.addressees) if result.notice else 0,
        }
        return Outcome(counts={**counts, "capped": 1} if result.capped else counts, digests={})

    async def _do(self, task: ReactTask) -> ReactResult:
        result = await light(BittActivities.react, task, "Do what the subscriptions ask for")
        if result.reacted.unprocessed is not None:
            self._park_entries.append(result.reacted.unprocessed)
            raise ApplicationError(
                "no subscription matches this event; add one to the file COAFI_BITT_SUBSCRIPTIONS, and retry",
                type=UNPROCESSED,
                non_retryable=True,
            )
        return result
