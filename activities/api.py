"""What the run of a request does: a change of the registry (``api.operate``), or the start of work (``api.start``)."""

import asyncio
from dataclasses import dataclass

from temporalio import activity

from activities.boundary import async_boundary, boundary
from activities.dispatch import Dispatcher
from activities.notifications import Audience, EntryNoticeTask
from activities.revalidation import RevalidationTask
from coafi.api.operations import ApiOperator, OperateTask
from coafi.api.stored import Operated
from coafi.events import Wire
from coafi.names import ActivityName
from coafi.recording import Range
from coafi.registry.revalidation import revalidation_of


class OperateResult(Wire):
    """What came of a change of the registry, and what follows from it.

    Attributes:
        notice: what there is to tell, and whom; ``None`` when nobody wants to know.
        revalidation: what was published, if that concerns anything; ``None`` otherwise.
    """

    operated: Operated
    notice: EntryNoticeTask | None = None
    revalidation: RevalidationTask | None = None

    @property
    def entries(self) -> tuple[Range, ...]:
        """Ledger indices of what was recorded."""
        return self.operated.entries


@dataclass(frozen=True)
class ApiActivities:
    """Does what requests ask for.

    Attributes:
        operator: of the registry, and of answers.
        dispatcher: starts the runs of events.
        audience: is told of changes.
        patience: seconds that a part of a re-validation is tried again while something is out of reach.
    """

    operator: ApiOperator
    dispatcher: Dispatcher
    audience: Audience
    patience: float

    @activity.defn(name=ActivityName.OPERATE, no_thread_cancel_exception=True)
    @boundary
    def operate(self, task: OperateTask) -> OperateResult:
        """Change the registry, once, and say what follows from it."""
        operated = self.operator.operate(task)
        entry = operated.answer.body
        assert isinstance(entry, dict)  # noqa: S101  # what cannot be done is an error
        published = revalidation_of(entry)
        return OperateResult(
            operated=operated,
            notice=self.audience.notice_of(entry),
            revalidation=published and RevalidationTask(revalidation=published, patience=self.patience),
        )

    @activity.defn(name=ActivityName.START)
    @async_boundary
    async def start(self, task: OperateTask) -> Operated:
        """Start the work that a request asks for, once."""
        event = await asyncio.to_thread(self.operator.work, task)
        started = await self.dispatcher.start(event)
        return await asyncio.to_thread(
            lambda: self.operator.started(task, event, started.run_id, existed=started.existed)
        )
