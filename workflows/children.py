"""Runs that outlive the one that starts them."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from coafi.events import Wire
    from coafi.names import PRIORITY_APPLICATION

Task = TypeVar("Task", bound=Wire)


async def start_and_leave(
    run: Callable[[Any, Task], Awaitable[Any]], task: Task, workflow_id: str, summary: str
) -> None:
    """Start a run that outlives this one. Whatever becomes of that, this one goes on."""
    try:
        await workflow.start_child_workflow(
            run,
            task,
            id=workflow_id,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            priority=Priority(priority_key=PRIORITY_APPLICATION),
            static_summary=summary[:200],
        )
    except WorkflowAlreadyStartedError:
        pass  # by a run before this one, which was terminated
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.error("%s was not started", workflow_id, exc_info=error)
