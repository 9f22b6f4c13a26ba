"""How these tests break the domain under a real run, and what they read of the run afterwards."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from coafi.errors import IdempotencyConflict
from coafi.ledger.entry import Recorded
from coafi.names import Phase
from coafi.recording import Decision, Range
from tests.harness import Stack, until
from workflows.lifecycle import EventWorkflow, Receipt, RunState

Run = WorkflowHandle[Any, Receipt]

ADA = Decision(by="ada", reason="name servers are back")
BOB = Decision(by="bob", reason="the repository is gone")

GIVES_UP = IdempotencyConflict("it was done before, otherwise", remedy="look at it")
"""An error that is worth no second try and does not make the event wrong: a step that raises it parks its run."""


@contextmanager
def broken(
    owner: type, method: str, error: Exception, *, times: int | None = None, when: Callable[..., bool] | None = None
) -> Iterator[None]:
    """While the block runs, a method of the domain raises ``error``.

    Args:
        times: only so often, then it works again.
        when: only for calls with these arguments.
    """
    plain = getattr(owner, method)
    left = [times]

    def failing(*arguments: Any, **keywords: Any) -> Any:
        if (when is not None and not when(*arguments, **keywords)) or left[0] == 0:
            return plain(*arguments, **keywords)
        if left[0] is not None:
            left[0] -= 1
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, failing)
        yield


@dataclass
class Held:
    """A method that does not return before it is let go."""

    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    async def is_reached(self) -> None:
        """Wait until it was called."""
        assert await asyncio.to_thread(self.reached.wait, 20)


@contextmanager
def held(owner: type, method: str, *, done: bool, seconds: float = 3) -> Iterator[Held]:
    """While the block runs, the first call of a method waits.

    Args:
        done: after its work; otherwise before.
        seconds: for so long, unless it is let go; a light step is tried again after ``LIGHT_STEP``.
    """
    plain = getattr(owner, method)
    gate = Held()

    def waiting(*arguments: Any, **keywords: Any) -> Any:
        if gate.reached.is_set():
            return plain(*arguments, **keywords)
        result = plain(*arguments, **keywords) if done else None
        gate.reached.set()
        gate.let_go.wait(seconds)
        return result if done else plain(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, waiting)
        try:
            yield gate
        finally:
            gate.let_go.set()


async def parked(stack: Stack, run: Run, *, times: int = 1) -> RunState:
    """Wait until a run has parked so often, and its park is on the record; its state then."""

    async def is_parked() -> bool:
        assert (await run.describe()).status is WorkflowExecutionStatus.RUNNING
        state = await stack.state(run)
        recorded = [one for one in entries_of(stack, run.id) if one.entry.type == "EVENT_PROCESSING_FAILED"]
        return state.phase is Phase.PARKED and len(recorded) == times

    await until(is_parked)
    return await stack.state(run)


async def waits_for_the_ledger(run: Run, name: str = "event.") -> None:
    """Wait until a light step of a run, or the one with this name, has become a regular activity."""

    async def is_waiting() -> bool:
        description = await run.describe()
        assert description.status is WorkflowExecutionStatus.RUNNING
        pending = description.raw_description.pending_activities
        return any(one.activity_type.name.startswith(name) for one in pending)

    await until(is_waiting)


async def failure_of(run: Run) -> BaseException:
    """Why a run ended without a receipt."""
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    return failed.value.cause


async def refused(run: Run, update: Any) -> ApplicationError:
    """Why a run refuses an update."""
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await run.execute_update(update, ADA)
    assert isinstance(failed.value.cause, ApplicationError)
    return failed.value.cause


async def retried(run: Run, decision: Decision = ADA) -> RunState:
    """What a run answers to ``retry``."""
    return await run.execute_update(EventWorkflow.retry, decision)


async def discarded(run: Run, decision: Decision = BOB) -> RunState:
    """What a run answers to ``discard``."""
    return await run.execute_update(EventWorkflow.discard, decision)


def entries_of(stack: Stack, workflow_id: str) -> list[Recorded]:
    """Everything in the ledger about one run."""
    return [one for one in stack.entries() if one.entry.workflow_id == workflow_id]


def types_of(entries: Iterable[Recorded]) -> Counter[str]:
    """How many entries there are of which type."""
    return Counter(one.entry.type for one in entries)


def covered(ranges: Sequence[Range]) -> list[int]:
    """Every index of some ranges."""
    return [index for one in ranges for index in range(one.first, one.last + 1)]


def assert_receipt_names_every_entry(stack: Stack, receipt: Receipt) -> None:
    """The ranges of a receipt are exactly what the ledger holds about its run, and its conclusion is the last."""
    indices = [one.index for one in entries_of(stack, receipt.workflow_id)]
    assert covered(receipt.entries) == indices
    assert receipt.conclusion == indices[-1]


@dataclass(frozen=True)
class Scheduled:
    """A step as a history shows it."""

    name: str
    summary: str
    local: bool


def scheduled(history: WorkflowHistory) -> list[Scheduled]:
    """Every activity of a run in order, with what the Web UI says about it. A local one appears when it has ended."""
    return [step for event in history.events if (step := _scheduled(event)) is not None]


def names_of(history: WorkflowHistory) -> list[str]:
    """The names of every activity of a run."""
    return [step.name for step in scheduled(history)]


def phases_of(history: WorkflowHistory) -> list[str]:
    """Every value that a run has given to its search attribute ``CoafiPhase``, from its start on."""
    found = []
    for event in history.events:
        for attributes in (
            event.workflow_execution_started_event_attributes,
            event.upsert_workflow_search_attributes_event_attributes,
        ):
            fields = attributes.search_attributes.indexed_fields
            if "CoafiPhase" in fields:
                found.append(json.loads(fields["CoafiPhase"].data))
    return found


def _scheduled(event: HistoryEvent) -> Scheduled | None:
    summary = json.loads(event.user_metadata.summary.data or b'""')
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        name = event.activity_task_scheduled_event_attributes.activity_type.name
        return Scheduled(name, summary, local=False)
    if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
        (payload,) = event.marker_recorded_event_attributes.details["data"].payloads
        return Scheduled(json.loads(payload.data)["activity_type"], summary, local=True)
    return None


async def details_of(run: Run) -> str:
    """The current details of a run, as the Web UI shows them."""
    metadata: Message = await run.query("__temporal_workflow_metadata")
    return str(getattr(metadata, "current_details", ""))
