"""A new version of an entry of the registry: everybody who wants to know is told, each on its own.

It is started by the run of the request that made the version, and outlives it.
"""

import asyncio

from temporalio import workflow
from temporalio.common import Priority

from workflows.notification import NotificationResult, deliver, told_text

with workflow.unsafe.imports_passed_through():
    from activities.notifications import Addressee, EntryNoticeTask
    from coafi.events import Wire
    from coafi.names import PRIORITY_APPLICATION, WorkflowName
    from coafi.notify.message import EntryNotice


class RegistryUpdateNotificationResult(Wire):
    """How everybody was told: the result of the run, by subscriber."""

    results: dict[str, NotificationResult]


@workflow.defn(name=WorkflowName.REGISTRY_UPDATE_NOTIFICATION)
class RegistryUpdateNotificationWorkflow:
    """Delivers one message to each subscriber."""

    def __init__(self) -> None:
        self._results: dict[str, NotificationResult] = {}

    @workflow.run
    async def run(self, task: EntryNoticeTask) -> RegistryUpdateNotificationResult:
        """Tell all side by side: whoever is away holds up nobody else."""
        await asyncio.gather(*(self._tell(task, addressee) for addressee in task.addressees))
        return RegistryUpdateNotificationResult(results=self._results)

    async def _tell(self, task: EntryNoticeTask, addressee: Addressee) -> None:
        notice = EntryNotice(subscriber=addressee.subscriber, time=task.time, change=task.change)
        priority = Priority(priority_key=PRIORITY_APPLICATION, fairness_key=addressee.fairness_key)
        self._results[addressee.subscriber] = await deliver(notice, task.policy, priority)
        workflow.set_current_details(told_text(self._results, len(task.addressees)))
