"""One message for one subscriber, tried until it arrives, is refused, or nobody has patience any more."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from workflows.lifecycle import patient

with workflow.unsafe.imports_passed_through():
    from activities.notifications import DeliveryActivities, DeliveryPolicy, NotificationTask
    from coafi.events import Wire
    from coafi.names import TaskQueue, WorkflowName
    from coafi.notify.message import AlarmNotice, EntryNotice, EventNotice, Notification, PeerNotice

FIRST_RETRY = 1.0
BACKOFF_COEFFICIENT = 2.0
LONGEST_RETRY = 3600.0
"""Seconds before the second try, the factor from each to the next, and the most between two, unless a
``Retry-After`` asks for more."""

GRACE = timedelta(seconds=10)
"""What a try may take beyond its own limit before its worker counts as lost."""

SHOWN = 20
"""Subscribers that the Web UI shows with a reason; all are counted."""


class Outcome(StrEnum):
    """How a notification ended."""

    DELIVERED = "delivered"
    GONE = "gone"
    GIVEN_UP = "given-up"


class NotificationResult(Wire):
    """How a notification ended: the result of its run.

    Attributes:
        status: of the subscriber's last answer, where it arrived.
        reason: why it was given up.
    """

    outcome: Outcome
    status: int | None = None
    reason: str = ""


@workflow.defn(name=WorkflowName.NOTIFICATION)
class NotificationWorkflow:
    """Delivers one message."""

    @workflow.run
    async def run(self, task: NotificationTask) -> NotificationResult:
        """Deliver the message, patiently."""
        result = await deliver(task.notification, task.policy)
        if result.outcome is Outcome.GIVEN_UP:
            workflow.set_current_details(f"**Given up**: {result.reason}")
        return result


async def deliver(
    message: Notification | EntryNotice | EventNotice | PeerNotice | AlarmNotice,
    policy: DeliveryPolicy,
    priority: Priority = Priority.default,
) -> NotificationResult:
    """Deliver a message, patiently; how that ended.

    Args:
        priority: among all deliveries; by default that of the run.
    """
    try:
        delivered = await workflow.execute_activity_method(
            DeliveryActivities.deliver,
            message,
            task_queue=TaskQueue.DELIVERY,
            start_to_close_timeout=timedelta(seconds=policy.timeout) + GRACE,
            retry_policy=patient(
                policy.patience, first=FIRST_RETRY, coefficient=BACKOFF_COEFFICIENT, longest=LONGEST_RETRY
            ),
            priority=priority,
            summary=f"Notify {message.subscriber}",
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        cause = error.cause
        reason = cause.message if isinstance(cause, ApplicationError) else str(cause)
        return NotificationResult(outcome=Outcome.GIVEN_UP, reason=reason[:2000])
    return NotificationResult(outcome=Outcome.GONE if delivered.gone else Outcome.DELIVERED, status=delivered.status)


def told_text(results: Mapping[str, NotificationResult], subscribers: int) -> str:
    """How it went with each of so many subscribers, for the Web UI."""
    counts = Counter(result.outcome.value for result in results.values())
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    given_up = [f"- `{name}`: {one.reason}" for name, one in results.items() if one.outcome is Outcome.GIVEN_UP]
    return "\n".join([f"**{len(results)} of {subscribers} subscribers**: {said}", "", *given_up[:SHOWN]])
