"""Records the histories of this directory from a real server: ``python -m tests.histories.record [NAME…]``.

Run it when workflow code changes on purpose in a way that open runs need not survive; otherwise the histories stay as
they are, and the code has to go on replaying them.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import yaml
from pydantic import SecretStr
from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError

from activities.dispatch import Dispatcher
from activities.index import IndexPolicy, IndexRequest
from activities.outbox import Order, OutboxState
from activities.peers import PeerMessage, PeerRun, Shelf, Shelved, Waiting
from coafi.api.operations import ApiOperator
from coafi.api.requests import ApiRequest
from coafi.auth.principal import Principal
from coafi.bitt.reaction import Reactor
from coafi.canonical import JsonObject, sha256
from coafi.errors import IntegrityError, LedgerUnavailable
from coafi.events import new_event
from coafi.federation.messages import (
    CheckpointPublished,
    Message,
    ReceivedMessage,
    SystemUpdateNotification,
    Via,
    event_of,
    new_message,
)
from coafi.federation.peers import Peer, PeerStore
from coafi.git.fetch import GitFetcher
from coafi.index.model import ProcessedCommit
from coafi.index.pointers import IndexReader
from coafi.names import (
    EntryVersionName,
    EventType,
    NotificationName,
    Phase,
    SchemaName,
    SignalName,
    TaskName,
    TaskQueue,
    WorkflowName,
    action_workflow_id,
    event_notification_workflow_id,
    index_workflow_id,
    notification_workflow_id,
    peer_workflow_id,
    registry_notification_workflow_id,
    revalidation_workflow_id,
    schedule_id,
)
from coafi.processing import BatchProcessor
from coafi.recording import Decision, EventRecorder
from coafi.tasks.file import parse_schedules
from coafi.tasks.health_check import HealthCheck
from coafi.tasks.probes import ServiceProbes
from starters.schedules import Change, perform, plan
from tests.coafi.ledger.serving import served
from tests.federation.partner import Told, partner, told
from tests.harness import Repository, Stack, documents, history_of, push_payload, running_stack, until
from tests.starters.ledger_events import SECRETS, accepted, failure, subscriptions
from tests.workflows.registry import api, entry, published, updated
from tests.workflows.support import (
    GIVES_UP,
    Run,
    broken,
    discarded,
    parked,
    retried,
    waits_for_the_ledger,
)
from tests.workflows.test_notification import KEY, receiver
from workflows.peer_outbox import PeerOutboxWorkflow

DIRECTORY = Path(__file__).parent
HOME = Path("/tmp/coafi-history")
"""Histories hold paths: this one says nothing about the machine."""

WORKER = re.compile(r"\d+@[\w.-]+")
"""Process and host, and the name of a sticky queue, which holds both."""

SUBSCRIBER = "partner"

ENTRY: JsonObject = {"registryId": "COM", "entryId": "E-1", "data": {"name": "wing"}}

SUBSCRIPTIONS: tuple[JsonObject, ...] = (
    {"name": "failures", "events": ["GAIA:COMPLIANCE:FAILURE"], "open-findings": True},
    {"name": "changes", "events": ["GAIA:COMPLIANCE:CHANGED"], "notify": ["compliance"]},
)

LATER = AsyncExitStack()
"""What ends when everything is recorded."""

MOMENT = "2026-11-23T12:00:00 +0000"


async def processed(stack: Stack, repository: Repository) -> Run:
    """Ten files, one of them invalid."""
    return await stack.accepted(repository.push({**documents(9), "broken.json": "{"}), delivery="processed")


async def processed_in_batches(stack: Stack, repository: Repository) -> Run:
    """Three batches side by side."""
    run = await stack.accepted(repository.push(documents(150, text="Batches.")), delivery="processed-in-batches")
    assert len((await run.result()).entries) == 1
    return run


async def rejected_payload(stack: Stack, _repository: Repository) -> Run:
    """A payload that breaks its schema."""
    return await stack.accepted({"ref": "refs/heads/main"}, delivery="rejected-payload")


async def rejected_at_fetch(stack: Stack, repository: Repository) -> Run:
    """A commit that nobody has."""
    return await stack.accepted(push_payload(repository.path.as_uri(), "a" * 40), delivery="rejected-at-fetch")


async def parked_and_retried(stack: Stack, repository: Repository) -> Run:
    """Parked at two different steps, the first time with a neighbour that is done."""
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(3, text="Retried.")), delivery="parked-and-retried")
        await parked(stack, run)
    with broken(BatchProcessor, "check", GIVES_UP):
        await retried(run)
        await parked(stack, run, times=2)
    await retried(run)
    return run


async def parked_and_discarded(stack: Stack, repository: Repository) -> Run:
    """Given up by a person."""
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1, text="Discarded.")), delivery="parked-and-discarded")
        await parked(stack, run)
        await discarded(run)
    return run


async def cancelled_while_parked(stack: Stack, repository: Repository) -> Run:
    """Cancelled by a person, from Temporal."""
    with broken(GitFetcher, "fetch", GIVES_UP):
        run = await stack.accepted(repository.push(documents(1, text="Cancelled.")), delivery="cancelled-while-parked")
        await parked(stack, run)
    await run.cancel()
    return run


async def duplicate(stack: Stack, repository: Repository) -> Run:
    """A redelivery after Temporal has forgotten the run."""
    payload = repository.push(documents(1, text="Duplicate."))
    run = await stack.accepted(payload, delivery="duplicate")
    await run.result()
    await stack.forget(run.id)
    return await stack.accepted(payload, delivery="duplicate")


async def branch_deleted(stack: Stack, repository: Repository) -> Run:
    """Nothing to fetch."""
    payload = push_payload(repository.path.as_uri(), "0" * 40, before=repository.head)
    return await stack.accepted(payload, delivery="branch-deleted")


async def ledger_outage(stack: Stack, repository: Repository) -> Run:
    """Receipt and conclusion wait as regular activities."""
    away = LedgerUnavailable("the ledger is away")
    with broken(EventRecorder, "conclude", away):
        with broken(EventRecorder, "receive", away):
            run = await stack.accepted(repository.push(documents(1, text="Outage.")), delivery="ledger-outage")
            await waits_for_the_ledger(run)
        await waits_for_the_ledger(run, "event.finish")
    return run


async def processed_and_indexed(stack: Stack, repository: Repository) -> Run:
    """Asks for the index of its branch at its end."""
    return await stack.accepted(repository.push(documents(2, text="Indexed.")), delivery="processed-and-indexed")


async def index(stack: Stack, repository: Repository) -> Run:
    """Two updates, of which the first is announced to a subscriber, and the end of the branch."""
    handle = stack.handle(index_workflow_id(repository.path.as_uri(), "main"))
    for number in (1, 2):
        push = repository.push(documents(1, text=f"Version {number}."))
        await (await stack.accepted(push, delivery=f"index-{number}")).result()
        await until(partial(has_index, stack, repository, number))
    await handle.cancel()
    return handle


async def index_unchanged(stack: Stack, repository: Repository) -> Run:
    """Three updates: the second shows nothing new, the third names what has room and counts the others."""
    handle = stack.handle(index_workflow_id(repository.path.as_uri(), "main"))

    async def push(number: int) -> None:
        payload = repository.push(documents(1, text=f"Version {number}."))
        await (await stack.accepted(payload, delivery=f"index-unchanged-{number}")).result()

    async def unchanged() -> bool:
        last = (await handle.query("state"))["last"]
        return bool(last["outcome"] == "unchanged")

    with patch("workflows.git_commit_processing.NAMED_BYTES", 1):
        await push(1)
        await until(partial(has_index, stack, repository, 1))
        policy = IndexPolicy(debounce=0.1, fetch=60, git=0.5, files=0.5)
        again = ProcessedCommit(workflow_id="again", commit=repository.head)
        await handle.signal(SignalName.COMMIT_PROCESSED, IndexRequest(commit=again, policy=policy))
        await until(unchanged)
        await push(2)
        await until(partial(has_index, stack, repository, 2))
    await handle.cancel()
    return handle


async def notification(stack: Stack, repository: Repository) -> Run:
    """A subscriber that is away at first."""
    push = repository.push(documents(1, text="Announced."))
    await (await stack.accepted(push, delivery="notification")).result()
    name = NotificationName(SUBSCRIBER, repository.path.as_uri(), "main", 1)
    handle = stack.handle(notification_workflow_id(name))
    await until(partial(has_index, stack, repository, 1))
    await until(partial(_is_known, handle))
    return handle


async def api_request_notified(stack: Stack, _repository: Repository) -> Run:
    """A change of the registry that somebody is told of."""
    return await _entry(stack, "AERO", "api-request-notified")


async def api_request_elsewhere(stack: Stack, _repository: Repository) -> Run:
    """A change of the registry of another instance."""
    async with api(stack, "plant-b") as http:
        key = http.headers["authorization"].removeprefix("Bearer ")
    using = running_stack(
        HOME / "elsewhere", registry_api_url=stack.gateway, registry_api_token=SecretStr(key), instance="plant-b"
    )
    return await _entry(await LATER.enter_async_context(using), "COM", "api-request-elsewhere")


async def registry_update_notification(stack: Stack, _repository: Repository) -> Run:
    """Two who are told: one is away at first, the other is never there."""
    run = await _entry(stack, "SPACE", "registry-update-notification")
    await run.result()
    name = EntryVersionName("SPACE", "registry-update-notification", 1)
    return stack.handle(registry_notification_workflow_id(name))


async def schema_published(stack: Stack, _repository: Repository) -> Run:
    """The last step of a schema on its way: what is known is held against it."""
    return await _published(stack, "frontmatter.INFO-HISTORY", "schema-published")


async def schema_revalidation(stack: Stack, repository: Repository) -> Run:
    """Documents that become invalid, and an index that is asked for."""
    push = repository.push(documents(2, text="To be held against a schema."))
    await (await stack.accepted(push, delivery="schema-revalidation")).result()
    await until(partial(has_index, stack, repository, 1))
    run = await _published(stack, "frontmatter.INFO-SPEC", "schema-revalidation")
    await run.result()
    handle = stack.handle(revalidation_workflow_id(SchemaName("frontmatter.INFO-SPEC", "7.0.0")))
    await until(partial(_is_known, handle))
    return handle


async def bitt_event(stack: Stack, _repository: Repository) -> Run:
    """An event of a ledger that opens findings."""
    return await accepted(stack, failure("bitt-event"))


async def bitt_event_notified(stack: Stack, _repository: Repository) -> Run:
    """An event that somebody is told of."""
    return await _told(stack, "bitt-event-notified")


async def event_notification(stack: Stack, _repository: Repository) -> Run:
    """Two who are told: one is away at first, the other is never there."""
    run = await _told(stack, "event-notification")
    await run.result()
    return stack.handle(event_notification_workflow_id(run.id))


async def bitt_event_parked_and_retried(stack: Stack, _repository: Repository) -> Run:
    """An event that nobody subscribes to, until somebody does."""
    run = await accepted(stack, {**failure("bitt-event-parked"), "type": "org.example.odd", "data": {}})
    await parked(stack, run)
    subscriptions(HOME / "subscriptions.yaml", *SUBSCRIPTIONS, {**SUBSCRIPTIONS[0], "name": "odd", "events": ["**"]})
    await retried(run)
    return run


async def bitt_event_waits(stack: Stack, _repository: Repository) -> Run:
    """What it asks for waits as a regular activity."""
    with broken(Reactor, "react", LedgerUnavailable("the ledger is away")):
        run = await accepted(stack, failure("bitt-event-waits", affectedEntities=["AERO/late"]))
        await waits_for_the_ledger(run, "bitt.react")
    return run


async def _told(stack: Stack, name: str) -> Run:
    return await accepted(stack, {**failure(name), "type": "GAIA:COMPLIANCE:CHANGED", "data": {}})


async def _published(stack: Stack, schema_id: str, name: str) -> Run:
    async with api(stack, name) as http:
        made = await published(http, schema_id, "7.0.0", required=["reviewer"])
    return stack.handle(str(made["workflowId"]))


async def _entry(stack: Stack, registry: str, entry_id: str) -> Run:
    async with api(stack, entry_id) as http:
        _, workflow_id = await updated(http, entry(registry, entryId=entry_id), **{"Idempotency-Key": entry_id})
    return stack.handle(workflow_id)


async def api_answered(stack: Stack, _repository: Repository) -> Run:
    """A change of the registry, for which its caller waits."""
    return await _requested(stack, "api-answered", ENTRY)


async def api_not_waited_for(stack: Stack, _repository: Repository) -> Run:
    """A change of the registry, for which nobody waits."""
    return await _requested(stack, "api-not-waited-for", ENTRY, wait=0)


async def api_rejected_payload(stack: Stack, _repository: Repository) -> Run:
    """A request whose body breaks its schema."""
    return await _requested(stack, "api-rejected-payload", {**ENTRY, "class": "Huge"})


async def api_not_permitted(stack: Stack, _repository: Repository) -> Run:
    """A request for which its caller lacks the permission."""
    return await _requested(stack, "api-not-permitted", ENTRY, permission="api:*:GET")


async def api_precondition_failed(stack: Stack, _repository: Repository) -> Run:
    """A change of a version that nobody has made."""
    return await _requested(stack, "api-precondition-failed", ENTRY, if_match=7_000)


async def api_work_started(stack: Stack, repository: Repository) -> Run:
    """A request that starts another run."""
    asked: JsonObject = {"repositoryUrl": repository.path.as_uri(), "commitSha": repository.head}
    body: JsonObject = {"workflow": "GitCommitWorkflow", "input": asked}
    return await _requested(stack, "api-work-started", body, endpoint="workflow/start")


async def api_ledger_outage(stack: Stack, _repository: Repository) -> Run:
    """The change waits as a regular activity; its caller waits in vain, and then for the answer."""
    with broken(ApiOperator, "operate", LedgerUnavailable("the ledger is away")):
        run = await _requested(stack, "api-ledger-outage", ENTRY, wait=0.5)
        await waits_for_the_ledger(run, "api.operate")
    return await _requested(stack, "api-ledger-outage", ENTRY)


async def api_parked_and_retried(stack: Stack, _repository: Repository) -> Run:
    """Parked twice, and asked for in between."""
    name = "api-parked-and-retried"
    with (
        broken(ApiOperator, "operate", IntegrityError("it is damaged")),
        patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1),
    ):
        run = await _requested(stack, name, ENTRY)
        await parked(stack, run)
        await retried(run)
        await parked(stack, run, times=2)
        await _requested(stack, name, ENTRY)
    await retried(run)
    return await _requested(stack, name, ENTRY)


async def api_done_and_discarded(stack: Stack, _repository: Repository) -> Run:
    """A change that somebody is told of, given up when its conclusion cannot be written."""
    name = "api-done-and-discarded"
    with (
        broken(EventRecorder, "conclude", IntegrityError("it is damaged")),
        patch("activities.boundary.UNEXPECTED_ATTEMPTS", 1),
    ):
        run = await _requested(stack, name, {**ENTRY, "registryId": "AERO", "entryId": name})
        await parked(stack, run)
    await discarded(run)
    return run


async def api_duplicate(stack: Stack, _repository: Repository) -> Run:
    """Sent again after Temporal has forgotten the run."""
    run = await _requested(stack, "api-duplicate", ENTRY)
    await run.result()
    await stack.forget(run.id)
    return await _requested(stack, "api-duplicate", ENTRY)


async def task_done(stack: Stack, _repository: Repository) -> Run:
    """A task that was due."""
    return await _due(stack, "task-done", TaskName.PUBLISH_CHECKPOINT)


async def task_alarm(stack: Stack, _repository: Repository) -> Run:
    """A task that finds something wrong, and tells of it."""
    with broken(ServiceProbes, "_temporal", IntegrityError("it answers nonsense")):
        run = await _due(stack, "task-alarm", TaskName.HEALTH_CHECK)
        await run.result()
    return run


async def task_parked_and_retried(stack: Stack, _repository: Repository) -> Run:
    """A task that cannot be done at first."""
    with broken(HealthCheck, "run", GIVES_UP):
        run = await _due(stack, "task-parked-and-retried", TaskName.HEALTH_CHECK)
        await parked(stack, run)
    await retried(run)
    return run


async def task_given_up(stack: Stack, _repository: Repository) -> Run:
    """A task that cannot be done, and whose schedule does not wait for anybody."""
    with broken(HealthCheck, "run", GIVES_UP):
        run = await _due(stack, "task-given-up", TaskName.HEALTH_CHECK, giveUpAfter="0s", pauseOnFailure=True)
        await asyncio.gather(run.result(), return_exceptions=True)
    return run


async def task_done_before(stack: Stack, _repository: Repository) -> Run:
    """A time that was done before, and that Temporal has forgotten."""
    run = await _due(stack, "task-done-before", TaskName.PUBLISH_CHECKPOINT)
    await run.result()
    await stack.forget(run.id)
    return await _due(stack, "task-done-before", TaskName.PUBLISH_CHECKPOINT)


async def _due(stack: Stack, name: str, task: TaskName, **more: Any) -> Run:
    """The run of a schedule for one past hour."""
    file = parse_schedules(
        json.dumps({"schedules": {name: {"task": task, "cron": "0 12 * * *", **more}}}).encode(), name
    )
    steps = [one for one in await plan(stack.client, file) if one.change is Change.CREATE]
    await perform(stack.client, steps)
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    handle = stack.client.get_schedule_handle(schedule_id(name))
    await handle.backfill(ScheduleBackfill(noon - timedelta(seconds=1), noon, ScheduleOverlapPolicy.BUFFER_ALL))
    run = stack.handle(f"{action_workflow_id(name)}-2026-11-23T12:00:00Z")
    await until(partial(_is_known, run))
    return run


async def peer(stack: Stack, _repository: Repository) -> Run:
    """The run of a peer: messages, one of them twice, one with another body; no message; paused, resumed, cancelled."""
    run = await _peer_run(stack, "history.example", PeerRun(peer="history.example"))
    said = [_said("peer-1", "info"), _said("peer-1", "info"), _said("peer-1", "critical"), {}, _said("peer-2", "info")]
    for signal in said:
        await run.signal(SignalName.MESSAGE, signal)
    await run.execute_update("pause", Decision(by="ada", reason="history"))
    await run.signal(SignalName.MESSAGE, _said("peer-3", "info"))
    await until(lambda: _taken(stack, run, 4))
    await run.execute_update("resume", Decision(by="ada", reason="history"))
    await until(lambda: _started(stack, run, 4))
    await run.signal(SignalName.MESSAGE, _said("peer-4", "info"))
    await run.cancel()
    return run


async def peer_continued(stack: Stack, _repository: Repository) -> Run:
    """The first of several runs of a peer, which continues as new."""
    first = await _peer_run(stack, "continued.example", PeerRun(peer="continued.example", max_started=2))
    for number in range(3):
        await first.signal(SignalName.MESSAGE, _said(f"continued-{number}", "info", "continued.example"))
    await until(lambda: _started(stack, first, 3))
    await stack.handle(first.id).cancel()
    return stack.handle(first.id, first.first_execution_run_id)


async def peer_put_aside(stack: Stack, _repository: Repository) -> Run:
    """The first of several runs of a peer: it fetches messages, puts others aside, and continues as new."""
    name = "aside.example"
    events = [
        event_of(
            ReceivedMessage(peer=name, via=Via.TEMPORAL, message=said.message),
            body_digest=sha256(said.message.body),
            time=datetime.now(UTC),
        )
        for said in (_said(f"before-{number}", "info", name) for number in range(3))
    ]
    shelved = Shelved(waiting=tuple(Waiting(event=event, size=700) for event in events))
    shelf = Shelf(digest=stack.resources.objects.put(shelved.model_dump_json().encode()), count=len(events))
    paused = Decision(by="ada", reason="history")
    start = PeerRun(peer=name, shelves=(shelf,), paused=paused, max_started=4, max_carried=4_000)
    first = await _peer_run(stack, name, start)
    for number in range(10):
        await first.signal(SignalName.MESSAGE, _said(f"aside-{number}", "info", name))
    await first.execute_update("resume", paused)
    await until(lambda: _started(stack, first, 13))
    await stack.handle(first.id).cancel()
    return stack.handle(first.id, first.first_execution_run_id)


async def message_applied(stack: Stack, _repository: Repository) -> Run:
    """A message of a peer in its scope; a subscriber is told, at the second try."""
    return await _sent(stack, "message-applied", accepts=("*",))


async def message_out_of_scope(stack: Stack, _repository: Repository) -> Run:
    """A message that the peer may not send."""
    return await _sent(stack, "message-out-of-scope", accepts=())


async def message_checkpoint(stack: Stack, _repository: Repository) -> Run:
    """A message that tells of a checkpoint, which is looked at where the peer's ledger is."""
    name = "message-checkpoint"
    with served(HOME / name, ledger_origin=f"{name}/bitt") as log:
        signed = log.ledger.checkpoint(force=True)
        said = CheckpointPublished(
            origin=signed.checkpoint.origin,
            size=signed.checkpoint.size,
            root=signed.checkpoint.root.hex(),
            note=signed.note,
        )
        PeerStore(stack.resources.database, stack.resources.ledger, "default").put(
            Peer(id=name, url=log.url, accepts=("*",), ledger_key=str(log.ledger.key)), by="ada"
        )
        run = await _received(stack, name, new_message(name, name, said))
        await run.result()
    return run


async def outbox(stack: Stack, _repository: Repository) -> Run:
    """A peer that is away at first, is paused and resumed, takes three messages, and is disabled."""
    with partner() as other:
        other.answers = [(503, {}), (202, {})]
        one = told(stack, other.url, "outbox.example")
        one.queue(1)
        await one.wake()
        await until(lambda: len(other.seen) >= 1)
        await one.run.signal(PeerOutboxWorkflow.pause, Order(by="ada", reason="they migrate"))
        await until(lambda: _is_held(one))
        one.queue(2)
        await one.wake()
        one.queue(3)
        await one.run.signal(PeerOutboxWorkflow.resume, Order(by="ada", reason="they are back"))
        await until(lambda: len(other.taken) == 3)
        await asyncio.sleep(1)  # for what follows on the last one
        one.outbox.peers.disable("outbox.example", by="ada", reason="the end")
        await one.waker.wake("outbox.example")
        await one.run.result()
    return stack.handle(one.run.id)


async def outbox_continued(stack: Stack, _repository: Repository) -> Run:
    """The first of several runs of an outbox, which continues as new."""
    with partner() as other:
        one = told(stack, other.url, "outbox-continued.example")
        for number in range(3):
            one.queue(number)
        first = await stack.client.start_workflow(
            PeerOutboxWorkflow.run,
            OutboxState(peer="outbox-continued.example", max_sent=2),
            id=one.run.id,
            task_queue=TaskQueue.EVENTS,
        )
        await until(lambda: len(other.taken) == 3)
        one.outbox.peers.disable("outbox-continued.example", by="ada", reason="the end")
        await one.waker.wake("outbox-continued.example")
        await first.result()
    return stack.handle(one.run.id, first.first_execution_run_id)


async def _is_held(one: Told) -> bool:
    return (await one.state()).paused != ""


async def peer_refuses_depth(stack: Stack, _repository: Repository) -> Run:
    """A run of a peer that is sent a message past the gateway which is nested too deeply."""
    name = "deep.example"
    run = await _peer_run(stack, name, PeerRun(peer=name))
    deep: JsonObject = {}
    for _ in range(150):
        deep = {"x": deep}
    said = _said("deep-1", "info", name)
    await run.signal(
        SignalName.MESSAGE, said.model_copy(update={"message": said.message.model_copy(update={"data": deep})})
    )
    await run.signal(SignalName.MESSAGE, _said("deep-2", "info", name))
    await until(lambda: _idle(stack, run, 2))
    await run.cancel()
    return run


async def _idle(stack: Stack, run: WorkflowHandle[Any, Any], signals: int) -> bool:
    state = await stack.handle(run.id).query("state")
    return bool(state["started"] + state["refused"] >= signals)


async def _peer_run(stack: Stack, name: str, start: PeerRun) -> WorkflowHandle[Any, Any]:
    PeerStore(stack.resources.database, stack.resources.ledger, "default").put(
        Peer(id=name, url="https://history.example", accepts=("*",)), by="ada"
    )
    return await stack.client.start_workflow(
        WorkflowName.PEER, start, id=peer_workflow_id(name), task_queue=TaskQueue.EVENTS, static_summary="history"
    )


def _said(message_id: str, severity: Literal["info", "critical"], peer: str = "history.example") -> PeerMessage:
    said = SystemUpdateNotification(component="portal", version="2", summary="Two hours off.", severity=severity)
    return PeerMessage(message=new_message(peer, message_id, said))


async def _taken(stack: Stack, run: WorkflowHandle[Any, Any], count: int) -> bool:
    return bool((await stack.handle(run.id).query("state"))["taken"] >= count)


async def _started(stack: Stack, run: WorkflowHandle[Any, Any], count: int) -> bool:
    return bool((await stack.handle(run.id).query("state"))["started"] >= count)


async def _sent(stack: Stack, name: str, *, accepts: tuple[str, ...]) -> Run:
    PeerStore(stack.resources.database, stack.resources.ledger, "default").put(
        Peer(id=name, url="https://history.example", accepts=accepts), by="ada"
    )
    return await _received(stack, name, _said(name, "info", name).message)


async def _received(stack: Stack, name: str, message: Message) -> Run:
    received = ReceivedMessage(peer=name, via=Via.TEMPORAL, message=message)
    event = event_of(received, body_digest=sha256(message.body), time=datetime.now(UTC))
    await Dispatcher(stack.client, 10).start(event)
    return stack.handle(event.workflow_id)


async def _requested(
    stack: Stack,
    name: str,
    body: JsonObject,
    *,
    endpoint: str = "registry/update",
    permission: str = "api:*:POST",
    wait: float = 20.0,
    **more: int,
) -> Run:
    """The run of a request that was asked for its answer, as the gateway does."""
    caller = Principal(name="key:history", roles=(), permissions=(permission,))
    asked = ApiRequest(endpoint=endpoint, method="POST", request_id=name, principal=caller, body=body, **more)
    event = new_event(
        event_type=EventType.API_REQUEST,
        source=asked.source,
        delivery_id=name,
        time=datetime.now(UTC),
        body_digest=sha256(asked.document()),
        principal=caller.name,
        data=asked.payload(),
    )
    await Dispatcher(stack.client, 10).ask(event, wait=wait)
    return stack.handle(event.workflow_id)


def has_index(stack: Stack, repository: Repository, generation: int) -> bool:
    """Whether the newest index of ``main`` is of this generation."""
    newest = IndexReader(stack.resources.database).newest(repository.path.as_uri(), "main")
    return newest is not None and newest.generation == generation


async def _is_known(run: Run) -> bool:
    try:
        await run.describe()
    except RPCError:
        return False
    return True


CASES: dict[str, tuple[Callable[[Stack, Repository], Awaitable[Run]], Phase | None]] = {
    "processed": (processed, Phase.PROCESSED),
    "processed-in-batches": (processed_in_batches, Phase.PROCESSED),
    "rejected-payload": (rejected_payload, Phase.REJECTED),
    "rejected-at-fetch": (rejected_at_fetch, Phase.REJECTED),
    "parked-and-retried": (parked_and_retried, Phase.PROCESSED),
    "parked-and-discarded": (parked_and_discarded, Phase.FAILED),
    "cancelled-while-parked": (cancelled_while_parked, None),
    "duplicate": (duplicate, Phase.DUPLICATE),
    "branch-deleted": (branch_deleted, Phase.PROCESSED),
    "ledger-outage": (ledger_outage, Phase.PROCESSED),
    "processed-and-indexed": (processed_and_indexed, Phase.PROCESSED),
    "index": (index, None),
    "index-unchanged": (index_unchanged, None),
    "notification": (notification, None),
    "api-request-notified": (api_request_notified, Phase.PROCESSED),
    "api-request-elsewhere": (api_request_elsewhere, Phase.PROCESSED),
    "registry-update-notification": (registry_update_notification, None),
    "schema-published": (schema_published, Phase.PROCESSED),
    "schema-revalidation": (schema_revalidation, None),
    "api-answered": (api_answered, Phase.PROCESSED),
    "api-not-waited-for": (api_not_waited_for, Phase.PROCESSED),
    "api-rejected-payload": (api_rejected_payload, Phase.REJECTED),
    "api-not-permitted": (api_not_permitted, Phase.REJECTED),
    "api-precondition-failed": (api_precondition_failed, Phase.REJECTED),
    "api-work-started": (api_work_started, Phase.PROCESSED),
    "api-ledger-outage": (api_ledger_outage, Phase.PROCESSED),
    "api-parked-and-retried": (api_parked_and_retried, Phase.PROCESSED),
    "api-done-and-discarded": (api_done_and_discarded, Phase.FAILED),
    "api-duplicate": (api_duplicate, Phase.DUPLICATE),
    "bitt-event": (bitt_event, Phase.PROCESSED),
    "bitt-event-notified": (bitt_event_notified, Phase.PROCESSED),
    "event-notification": (event_notification, None),
    "bitt-event-waits": (bitt_event_waits, Phase.PROCESSED),
    "bitt-event-parked-and-retried": (bitt_event_parked_and_retried, Phase.PROCESSED),
    "task-done": (task_done, Phase.PROCESSED),
    "task-alarm": (task_alarm, Phase.PROCESSED),
    "task-parked-and-retried": (task_parked_and_retried, Phase.PROCESSED),
    "task-given-up": (task_given_up, None),
    "task-done-before": (task_done_before, Phase.DUPLICATE),
    "outbox": (outbox, None),
    "outbox-continued": (outbox_continued, None),
    "peer": (peer, None),
    "peer-continued": (peer_continued, None),
    "peer-put-aside": (peer_put_aside, None),
    "peer-refuses-depth": (peer_refuses_depth, None),
    "message-applied": (message_applied, Phase.PROCESSED),
    "message-checkpoint": (message_checkpoint, Phase.PROCESSED),
    "message-out-of-scope": (message_out_of_scope, Phase.REJECTED),
}
"""What is recorded, and how it must end; ``None`` for a run without a receipt."""


def scrubbed(value: Any) -> Any:
    """A history without what only says where and by whom it was made."""
    match value:
        case dict():
            return {name: scrubbed(one) for name, one in value.items() if name not in ("stackTrace", "requestId")}
        case list():
            return [scrubbed(one) for one in value]
        case str() if WORKER.fullmatch(value):
            return "worker"
        case _:
            return value


def text_of(history: WorkflowHistory) -> str:
    """A history as JSON, an event a line."""
    events = [
        json.dumps(event, separators=(",", ":"), sort_keys=True) for event in scrubbed(history.to_json_dict())["events"]
    ]
    return '{"events":[\n' + ",\n".join(events) + "\n]}\n"


def traces_of_a_machine(text: str) -> list[str]:
    """What in a history says where it was made, its payloads included."""
    payloads = [base64.b64decode(data).decode() for data in re.findall(r'"data":"([^"]*)"', text)]
    text = "\n".join([text, *payloads])
    patterns = [WORKER.pattern, r"/(?:work|home|root|Users)/[\w./-]*", r"/tmp/(?!coafi-history)[\w./-]*"]
    return [found for pattern in patterns for found in re.findall(pattern, text)]


async def record(names: list[str]) -> None:
    """Record the histories with these names, or all."""
    os.environ.update(GIT_AUTHOR_DATE=MOMENT, GIT_COMMITTER_DATE=MOMENT)
    subscribers = HOME / "subscribers.yaml"
    service: dict[str, Any] = {
        "git_patience": 0.5,
        "files_patience": 0.5,
        "index_debounce": 0.1,
        "notify_allow_private": True,
    }
    service |= {"notify_patience": 5.0, "events_secrets": SECRETS}
    service["bitt_subscriptions"] = subscriptions(HOME / "subscriptions.yaml", *SUBSCRIPTIONS)
    with receiver() as away, receiver() as late, receiver() as peers:
        away.answers = late.answers = peers.answers = [(503, {}, 0.0), (204, {}, 0.0)]
        listed = [
            {"name": SUBSCRIBER, "url": away.url, "secret": KEY},
            {"name": "alarmed", "url": away.url, "secret": KEY, "topics": ["alarms"]},
            {"name": "late", "url": late.url, "secret": KEY, "registries": ["AERO", "SPACE"]},
            {"name": "told", "url": late.url, "secret": KEY, "topics": ["compliance"]},
            {"name": "unreachable", "url": "http://127.0.0.1:1/", "secret": KEY, "topics": ["compliance"]},
            {"name": "peers", "url": peers.url, "secret": KEY, "topics": ["peers"]},
            {"name": "dead", "url": "http://127.0.0.1:1/", "secret": KEY, "registries": ["SPACE"]},
        ]
        subscribers.touch(mode=0o600)
        subscribers.write_text(yaml.safe_dump(listed))
        await _record(names, subscribers=subscribers, **service)


async def _record(names: list[str], **settings: Any) -> None:
    async with running_stack(HOME, **settings) as stack, LATER:
        for name in names or CASES:
            case, phase = CASES[name]
            run = await case(stack, Repository.create(HOME / name))
            if phase is not None:
                assert (await run.result()).phase is phase, name
            else:
                await asyncio.gather(run.result(), return_exceptions=True)
            text = text_of(await history_of(run))
            assert traces_of_a_machine(text) == [], (name, traces_of_a_machine(text))
            (DIRECTORY / f"{name}.json").write_text(text)


if __name__ == "__main__":
    HOME.mkdir()
    try:
        asyncio.run(record(sys.argv[1:]))
    finally:
        shutil.rmtree(HOME)
