"""Commands that start and steer runs: ``submit``, ``dead-letters``."""

import asyncio
import getpass
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import typer
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from activities.dispatch import Dispatcher
from coafi.canonical import JsonObject
from coafi.commits import submitted_commit
from coafi.errors import Unavailable, ValidationError
from coafi.names import Phase, SearchAttribute
from coafi.recording import counts_in_order
from coafi.settings import Settings
from starters.addresses import run_url
from starters.connection import connected
from starters.decisions import decision_of
from starters.output import (
    clean,
    command_settings,
    err,
    facts,
    indented,
    out,
    print_findings,
    print_json,
    print_link,
    safe,
    styled,
    table,
)
from starters.records import one_delivery, open_database
from workers.resources import open_objects
from workflows.lifecycle import EventWorkflow, Receipt

PHASE = SearchAttributeKey.for_keyword(SearchAttribute.PHASE)


async def submit_commit(
    repository: str, commit: str, *, before: str | None, branch: str, again: bool, wait: bool, as_json: bool
) -> None:
    """``coafi submit git-commit``."""
    settings = command_settings()
    person = getpass.getuser()
    event, body = submitted_commit(
        repository_url=repository,
        commit=commit,
        before=before,
        branch=branch,
        author=person,
        principal=f"submit:{person}",
        received=datetime.now(UTC),
        again=uuid.uuid4().hex if again else "",
    )
    async with temporal_client(settings) as client:
        await asyncio.to_thread(open_objects(settings).put, body)
        started = await Dispatcher(client, settings.temporal_start_timeout).start(event)
        if not wait:
            if as_json:
                print_json({"workflowId": started.workflow_id, "runId": started.run_id, "existed": started.existed})
            else:
                print_link(f"{'Found' if started.existed else 'Started'} {started.workflow_id}")
                print_link(run_url(settings, started.workflow_id, started.run_id))
            return
        handle = client.get_workflow_handle(started.workflow_id, run_id=started.run_id, result_type=Receipt)
        receipt = await wait_for_receipt(handle)
    if as_json:
        print_json(receipt)
    else:
        print_receipt(receipt)
        print_link(run_url(settings, started.workflow_id, started.run_id))
    if receipt.phase is not Phase.PROCESSED:
        raise typer.Exit(1)


async def wait_for_receipt(handle: WorkflowHandle[Any, Receipt]) -> Receipt:
    """The run's receipt. Shows what the run is doing meanwhile.

    Raises:
        Unavailable: the run has parked, or was ended from outside.
    """
    result = asyncio.create_task(handle.result())
    try:
        with err.status("started") as status:
            while not result.done():
                await asyncio.wait([result], timeout=1)
                if not result.done():
                    phase = (await handle.describe()).typed_search_attributes.get(PHASE)
                    status.update(clean(phase or "started"))
                    if phase == Phase.PARKED:
                        raise Unavailable(
                            f"the run {handle.id} is parked{await _reason(handle)}",
                            remedy="mend the cause, then `coafi dead-letters retry`, or `discard`",
                        )
        return await result
    except WorkflowFailureError as error:
        raise Unavailable(
            f"the run {handle.id} ended without a receipt: {error.cause}",
            remedy="see its page in the Web UI; `--again` asks for another run",
        ) from error
    finally:
        result.cancel()


def print_receipt(receipt: Receipt) -> None:
    """How a run ended, for people."""
    rows = facts()
    rows.add_row("Phase", styled(receipt.phase))
    rows.add_row("Event", receipt.event_id)
    rows.add_row("UTidS", receipt.utids)
    for name, count in counts_in_order(receipt.counts):
        rows.add_row(name.capitalize(), str(count))
    for name, digest in receipt.digests.items():
        rows.add_row(name.capitalize(), digest)
    ranges = ", ".join(
        f"{one.first}–{one.last}" if one.first != one.last else f"{one.first}" for one in receipt.entries
    )
    rows.add_row("Ledger", ranges or "–")
    if receipt.duplicate_of:
        rows.add_row("Duplicate of run", receipt.duplicate_of)
    if receipt.refused:
        rows.add_row("Refused at", safe(f"{receipt.refused.step}: {receipt.refused.message}"))
    if receipt.failure:
        rows.add_row("Failed at", safe(f"{receipt.failure.step}: {receipt.failure.message}"))
    out.print(rows)
    print_findings([*receipt.findings])
    if receipt.findings:
        out.print()


async def list_parked(*, as_json: bool) -> None:
    """``coafi dead-letters list``."""
    settings = command_settings()
    parked = []
    async with temporal_client(settings) as client:
        async for workflow_id, run_id in _parked(client):
            parked.append(await _parked_state(client, workflow_id, run_id))
    if as_json:
        print_json(parked)
        return
    for one in parked:
        print_link(str(one["workflowId"]))
        out.print(f"  parked at {styled(Phase.PARKED, safe(str(one['step'])))}", highlight=False)
        out.print(indented(safe(str(one["message"]))), highlight=False)
        out.print()
    out.print(f"{len(parked)} parked." if parked else "Nothing is parked.", highlight=False)


async def decide_parked(verdict: str, names: list[str], *, every: bool, by: str, reason: str, as_json: bool) -> None:
    """``coafi dead-letters retry`` and ``discard``: a report per run; exit 1 unless each was taken."""
    if bool(names) == every:
        raise ValidationError("say which runs", remedy="name them, or say --all")
    decision = decision_of(by, reason)
    settings = command_settings()
    update = EventWorkflow.retry if verdict == "retry" else EventWorkflow.discard
    reports: list[dict[str, str]] = []
    async with temporal_client(settings) as client:
        if every:
            chosen = [workflow_id async for workflow_id, _ in _parked(client)]
        else:
            with open_database(settings) as database:
                chosen = [one_delivery(database, name).workflow_id for name in names]
        for workflow_id in chosen:
            try:
                await client.get_workflow_handle(workflow_id).execute_update(update, decision)
                reports.append({"workflowId": workflow_id, "result": verdict})
            except WorkflowUpdateFailedError as error:
                reports.append({"workflowId": workflow_id, "result": "refused", "message": str(error.cause)})
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    ended = "this run is not open: it has ended, or Temporal has forgotten it"
                    reports.append({"workflowId": workflow_id, "result": "refused", "message": ended})
                    continue
                reports.append({"workflowId": workflow_id, "result": "failed", "message": error.message})
    if as_json:
        print_json(reports)
    else:
        rows = table("Result", "Run")
        for report in reports:
            why = f"\n{safe(report['message'])}" if "message" in report else ""
            rows.add_row(styled(report["result"]), f"{safe(report['workflowId'])}{why}")
        out.print(rows if reports else "Nothing is parked.")
    if any(report["result"] != verdict for report in reports):
        raise typer.Exit(1)


@asynccontextmanager
async def temporal_client(settings: Settings) -> AsyncIterator[Client]:
    """A connected client.

    Raises:
        Unavailable: Temporal is out of reach.
    """
    client = await connected(settings)
    try:
        yield client
    except RPCError as error:
        raise Unavailable(
            f"Temporal did not answer: {error.message}", remedy="check that the service runs, and try again"
        ) from error


async def _reason(handle: WorkflowHandle[Any, Receipt]) -> str:
    """Why a run is parked, if a worker can tell."""
    try:
        failure = (await handle.query(EventWorkflow.state)).failure
    except (RPCError, WorkflowQueryFailedError):
        return ""
    return f" at {failure.step}: {failure.message}" if failure else ""


async def _parked(client: Client) -> AsyncIterator[tuple[str, str]]:
    query = f"{SearchAttribute.PHASE}='{Phase.PARKED}' AND ExecutionStatus='Running'"
    async for run in client.list_workflows(query):
        yield run.id, run.run_id


async def _parked_state(client: Client, workflow_id: str, run_id: str) -> JsonObject:
    try:
        state = await client.get_workflow_handle(workflow_id, run_id=run_id).query(EventWorkflow.state)
        failure = state.failure
    except (RPCError, WorkflowQueryFailedError) as error:
        return {
            "workflowId": workflow_id,
            "runId": run_id,
            "step": "?",
            "error": "?",
            "message": f"no worker answers: {error}",
        }
    return {
        "workflowId": workflow_id,
        "runId": run_id,
        "step": failure.step if failure else "?",
        "error": failure.error if failure else "?",
        "message": failure.message if failure else "?",
    }
