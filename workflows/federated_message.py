"""A message of a peer: checked, applied, recorded; then those are told who want to know of it.

The run of the peer starts it (``workflows.peer``) and does not wait for its end. Queries and updates: see
:class:`workflows.lifecycle.EventWorkflow`.
"""

import asyncio
from functools import partial

from temporalio import workflow
from temporalio.common import Priority

from workflows.lifecycle import EventWorkflow, Outcome, Receipt, light
from workflows.notification import deliver

with workflow.unsafe.imports_passed_through():
    from activities.events import Patience
    from activities.notifications import Addressee, PeerNoticeTask
    from activities.peers import ApplyResult, PeerActivities
    from coafi.events import Event, EventRef
    from coafi.federation.inbox import ApplyTask
    from coafi.federation.messages import ReceivedMessage
    from coafi.names import PRIORITY_APPLICATION, Phase, WorkflowName
    from coafi.notify.message import PeerNotice
    from coafi.payloads import subject_of


@workflow.defn(name=WorkflowName.FEDERATED_MESSAGE)
class FederatedMessageWorkflow(EventWorkflow):
    """Takes one ``federated.message`` event from its receipt to ``EVENT_PROCESSED``."""

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__()
        self._asked = f"`{subject_of(event).replace('`', chr(39))}`"
        self._applied: ApplyResult | None = None

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle a message. The result is its receipt."""
        receipt = await self.handle(event, partial(self._apply, event))
        if receipt.phase is Phase.PROCESSED and self._applied is not None and self._applied.notice is not None:
            await self._tell(self._applied.notice)
        return receipt

    def asked(self) -> str:
        """See :class:`EventWorkflow`."""
        return self._asked

    async def _apply(self, event: Event, ref: EventRef, _patience: Patience) -> Outcome:
        task = ApplyTask(event=ref, received=ReceivedMessage.model_validate(event.data))
        applied = await self.step(
            "peers.apply", lambda: light(PeerActivities.apply, task, "Keep what the message tells")
        )
        self._applied = applied
        kept = applied.applied.kept
        return Outcome(counts={} if kept is None else {kept.value: 1}, digests={})

    async def _tell(self, task: PeerNoticeTask) -> None:
        """Tell all side by side. Whatever becomes of that, the message is done, and its sender gets its receipt."""
        await asyncio.gather(
            *(
                self._deliver(notice, addressee, task)
                for notice, addressee in zip(task.notices, task.addressees, strict=True)
            )
        )

    async def _deliver(self, notice: PeerNotice, addressee: Addressee, task: PeerNoticeTask) -> None:
        priority = Priority(priority_key=PRIORITY_APPLICATION, fairness_key=addressee.fairness_key)
        await deliver(notice, task.policy, priority)
