"""What the run of a request does: a change of the registry (``api.operate``), or the start of work (``api.start``)."""

import asyncio
from dataclasses import dataclass

from temporalio import activity

from activities.boundary import async_boundary, boundary
from activities.dispatch import Dispatcher
from coafi.api.operations import ApiOperator, OperateTask
from coafi.api.stored import Operated
from coafi.names import ActivityName


@dataclass(frozen=True)
class ApiActivities:
    """Does what requests ask for.

    Attributes:
        operator: of the registry, and of answers.
        dispatcher: starts the runs of events.
    """

    operator: ApiOperator
    dispatcher: Dispatcher

    @activity.defn(name=ActivityName.OPERATE, no_thread_cancel_exception=True)
    @boundary
    def operate(self, task: OperateTask) -> Operated:
        """Change the registry, once."""
        return self.operator.operate(task)

    @activity.defn(name=ActivityName.START)
    @async_boundary
    async def start(self, task: OperateTask) -> Operated:
        """Start the work that a request asks for, once."""
        event = await asyncio.to_thread(self.operator.work, task)
        started = await self.dispatcher.start(event)
        return await asyncio.to_thread(
            lambda: self.operator.started(task, event, started.run_id, existed=started.existed)
        )
