"""From an event to its run: the one way in, for every starter and for the runs that start others."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client, RPCTimeoutOrCancelledError, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from coafi import metrics
from coafi.api.answers import Answer, parks_of, waiting
from coafi.canonical import MAX_CARRIED_DEPTH, Sha256, is_deeper
from coafi.errors import IdempotencyConflict, Unavailable, ValidationError
from coafi.events import Event, Wire
from coafi.names import (
    PRIORITY_APPLICATION,
    EventType,
    Phase,
    SearchAttribute,
    TaskQueue,
    UpdateName,
    WorkflowName,
    fairness_key,
)
from coafi.payloads import subject_of

ROUTES: dict[str, WorkflowName] = {
    EventType.GIT_COMMIT: WorkflowName.GIT_COMMIT,
    EventType.API_REQUEST: WorkflowName.API_REQUEST,
    EventType.BITT_EVENT: WorkflowName.BITT_EVENT,
    EventType.FEDERATED_MESSAGE: WorkflowName.FEDERATED_MESSAGE,
}
"""Which workflow handles which type of event that comes in. Those of schedules are made by the runs themselves."""

MEMO_BODY = "bodyDigest"
"""The memo of a run that says which body it was started for."""

OTHER_REQUEST = "OtherRequest"
"""The type of the error with which a run refuses to answer a request that is not its own."""

_SHORTEST_WAIT = 1.0
"""Seconds that a run is given to say where it stands, also when the caller's time is up."""

STILL_PARKED = "StillParked"
"""The type of the error with which a run says that it still waits for a person, at no cost to its history."""


class Asked(Wire):
    """Who asks a run for its answer.

    Attributes:
        body_digest: of the request that was sent.
        parks: how often the run has parked, as far as is known: whoever asks is told when it parks again.
    """

    body_digest: Sha256
    parks: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The run of an event: this call started it, or it was there."""

    workflow_id: str
    run_id: str | None
    existed: bool


@dataclass(frozen=True)
class Dispatcher:
    """Starts the run of an event, once.

    Attributes:
        client: may be lazy: Temporal need not be up when the process starts.
        timeout: seconds to try.
    """

    client: Client
    timeout: float

    async def start(self, event: Event) -> Started:
        """Start the run of ``event``, or find the one that its delivery already has.

        Raises:
            ValidationError: no workflow handles events of this type, or no run can read this one.
            IdempotencyConflict: the run is that of another body under the same delivery id.
            Unavailable: Temporal did not confirm in time; starting again later is safe.
        """
        workflow = ROUTES.get(event.type)
        if workflow is None:
            raise ValidationError(f"no workflow handles {event.type}", remedy=f"send one of {', '.join(ROUTES)}")
        if is_deeper(event.data, MAX_CARRIED_DEPTH):
            raise ValidationError(
                f"the data of this event are nested more than {MAX_CARRIED_DEPTH} levels deep",
                remedy="nest fewer objects and arrays",
            )
        try:
            async with asyncio.timeout(self.timeout):
                handle = await self.client.start_workflow(
                    workflow,
                    event,
                    id=event.workflow_id,
                    task_queue=TaskQueue.EVENTS,
                    # A run that was terminated has concluded nothing: its delivery may start another one.
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    # Not USE_EXISTING: the SDK would not tell an open run that was found from one that was started.
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    search_attributes=_search_attributes(event),
                    priority=_priority(event),
                    memo={MEMO_BODY: event.bodydigest},
                    static_summary=_summary(event),
                    rpc_timeout=timedelta(seconds=self.timeout),
                )
        except WorkflowAlreadyStartedError as known:
            await self._refuse_other_body(event)
            metrics.ACCEPTED.labels(event.type).inc()
            return Started(event.workflow_id, known.run_id, existed=True)
        except (RPCError, TimeoutError, RuntimeError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise ValidationError(f"Temporal refuses this event: {error.message}") from error
            raise Unavailable(
                f"Temporal did not confirm the start of {event.workflow_id} within {self.timeout:g} s",
                remedy="deliver it again; a second start finds the first",
                retry_after=30,
            ) from error
        metrics.ACCEPTED.labels(event.type).inc()
        return Started(event.workflow_id, handle.first_execution_run_id, existed=False)

    async def ask(self, event: Event, *, wait: float) -> Answer | None:
        """Start the run of a request, or find it, and wait for its answer.

        Args:
            event: of type ``api.request``.
            wait: seconds to wait for the answer.

        Returns:
            The answer; ``None`` when there is none yet, or when the run has ended: then what is stored tells.

        Raises:
            IdempotencyConflict: the run is that of another request with the same key.
            Unavailable: Temporal did not confirm the start; asking again with the same key is safe.
        """
        if not wait:
            await self.start(event)
            return None
        deadline = time.monotonic() + wait
        answer, parks = await self._ask(event, wait, 0), 0
        while answer is not None and (parked := parks_of(answer)) > parks:
            parks = parked  # it may have gone on since then
            answer = await self._ask(event, max(deadline - time.monotonic(), _SHORTEST_WAIT), parks)
        if answer is not None:
            metrics.ACCEPTED.labels(event.type).inc()
        return answer

    async def _ask(self, event: Event, wait: float, parks: int) -> Answer | None:
        """Ask the run once. Whoever asks as well gets the same answer, by an update that has the same id."""
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            WorkflowName.API_REQUEST,
            event,
            id=event.workflow_id,
            task_queue=TaskQueue.EVENTS,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=_search_attributes(event),
            priority=_priority(event),
            memo={MEMO_BODY: event.bodydigest},
            static_summary=_summary(event),
        )
        try:
            async with asyncio.timeout(wait):  # the client's own limit is one for each of its calls
                answer: Answer = await self.client.execute_update_with_start_workflow(
                    UpdateName.ANSWER,
                    Asked(body_digest=event.bodydigest, parks=parks),
                    start_workflow_operation=start,
                    id=f"{UpdateName.ANSWER}-{parks}" if parks else UpdateName.ANSWER,
                    result_type=Answer,
                    rpc_timeout=timedelta(seconds=wait),
                )
            return answer
        except WorkflowAlreadyStartedError:
            await self._refuse_other_body(event)
        except WorkflowUpdateFailedError as error:
            kind = error.cause.type if isinstance(error.cause, ApplicationError) else None
            if kind == OTHER_REQUEST:
                raise reused_delivery(event.id, event.workflow_id) from None
            if kind == STILL_PARKED:
                return waiting(Phase.PARKED, parks)
            # Otherwise the run ended while it was asked: what is stored tells.
        except (RPCError, RPCTimeoutOrCancelledError, TimeoutError, RuntimeError):
            await self.start(event)  # nobody knows whether that was done before the time was up
        finally:
            # The same error, which asyncio would complain about; it is a CancelledError when the time was up.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                async with asyncio.timeout(0):  # there is none where Temporal was never reached
                    await start.workflow_handle()
        return None

    async def _refuse_other_body(self, event: Event) -> None:
        """Compare the event with the one whose run there is. Nobody else does: no run is started for it."""
        try:
            async with asyncio.timeout(self.timeout):
                run = await self.client.get_workflow_handle(event.workflow_id).describe()
                digest = await run.memo_value(MEMO_BODY, "")
        except (RPCError, TimeoutError, RuntimeError) as error:
            raise Unavailable(
                f"Temporal has a run of delivery {event.id}, and did not say in time whether it is of the same body",
                remedy="deliver it again",
                retry_after=30,
            ) from error
        if digest and digest != event.bodydigest:
            raise reused_delivery(event.id, event.workflow_id)


def reused_delivery(delivery_id: str, workflow_id: str) -> IdempotencyConflict:
    """The refusal of another body under a known delivery id."""
    return IdempotencyConflict(
        f"delivery {delivery_id} came before with another body, and is handled by {workflow_id}",
        remedy="give every delivery an id of its own; a redelivery must repeat the body byte for byte",
    )


def _search_attributes(event: Event) -> TypedSearchAttributes:
    values = {
        SearchAttribute.PHASE: Phase.RECEIVED,
        SearchAttribute.EVENT_ID: event.id,
        SearchAttribute.EVENT_TYPE: event.type,
        SearchAttribute.SOURCE: event.source,
        SearchAttribute.UTIDS: event.utids,
    }
    return TypedSearchAttributes(
        [SearchAttributePair(SearchAttributeKey.for_keyword(name), str(value)) for name, value in values.items()]
    )


def _priority(event: Event) -> Priority:
    return Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(event.source))


def _summary(event: Event) -> str:
    """The title of the run in the Web UI."""
    if event.type == EventType.FEDERATED_MESSAGE:  # whose subject names the peer
        return subject_of(event)[:200]
    if event.type != EventType.GIT_COMMIT:
        return f"{subject_of(event)} · {event.principal}"[:200]
    branch, commit = (str(event.data.get(name, "?")) for name in ("branch", "commitSha"))
    return f"{event.source.partition('://')[2] or event.source} · {branch} @ {commit[:10]}"[:200]
