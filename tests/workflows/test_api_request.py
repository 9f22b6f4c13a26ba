"""Requests whose run parks, is given up, cancelled, terminated or reset: what callers are told, then and later."""

import asyncio
import functools
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from activities.dispatch import Dispatcher
from coafi.api.operations import ApiOperator
from coafi.api.requests import source_of
from coafi.canonical import JsonObject
from coafi.deliveries import DeliveryReader
from coafi.errors import IntegrityError, LedgerUnavailable
from coafi.events import new_event
from coafi.names import EntryType, EventType, Phase, SchemaName, revalidation_workflow_id
from coafi.recording import Decision, EventRecorder
from coafi.registry.entry import RegistryId
from coafi.registry.reader import EntryReader
from tests.harness import Stack, history_of, running_stack, until
from tests.starters.support import command
from tests.starters.test_api import entry, key_for, problem, workflow_of
from tests.workflows.registry import api, moved, updated
from tests.workflows.support import (
    Run,
    assert_receipt_names_every_entry,
    broken,
    details_of,
    discarded,
    entries_of,
    failure_of,
    held,
    parked,
    retried,
    types_of,
    waits_for_the_ledger,
)
from tests.workflows.test_notification import KEY, receiver

BROKEN = IntegrityError("a page of the database is damaged", remedy="restore a backup")
"""What no wait and no caller can mend: a run that meets it parks."""

AWAY = LedgerUnavailable("the ledger is away", remedy="wait")
DONE = {EntryType.EVENT_RECEIVED: 1, EntryType.REGISTRY_ENTRY_CHANGED: 1, EntryType.EVENT_PROCESSED: 1}
PATH = "/registry/update"


@pytest.fixture(autouse=True)
def _parks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defects are not tried five times."""
    monkeypatch.setattr("activities.boundary.UNEXPECTED_ATTEMPTS", 1)


@pytest_asyncio.fixture(scope="module")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client who may do everything, and waits for half a minute."""
    headers = {"Authorization": f"Bearer {key_for(stack, 'admin')}", "Prefer": "wait=30"}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=headers, timeout=70) as client:
        yield client


@pytest.fixture
def key() -> dict[str, str]:
    """A key of a request's own."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def accepted(response: httpx.Response, phase: Phase | None) -> str:
    """The status URL of a request that has no answer yet."""
    assert response.status_code == 202, response.text
    assert response.json().get("phase") == phase
    return str(response.headers["location"]).removeprefix("/api")


async def event_at(http: httpx.AsyncClient, place: str) -> JsonObject:
    """What the status URL says."""
    found = await http.get(place)
    assert found.status_code == 200, found.text
    body: JsonObject = found.json()
    return body


def run_at(stack: Stack, event: JsonObject) -> Run:
    return stack.handle(str(event["workflowId"]))


def versions(stack: Stack, asked: JsonObject) -> int:
    return len(EntryReader(stack.resources.database).history(RegistryId.AERO, str(asked["entryId"])))


async def asked_and_parked(
    stack: Stack, http: httpx.AsyncClient, asked: JsonObject, key: dict[str, str]
) -> tuple[str, Run]:
    """A request that meets a defect: its status URL and its run, which is parked."""
    place = accepted(await http.post(PATH, json=asked, headers=key), Phase.PARKED)
    run = run_at(stack, await event_at(http, place))
    await parked(stack, run)
    return place, run


async def test_a_request_that_parks_says_so_and_is_answered_after_the_retry(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", BROKEN):
        place, run = await asked_and_parked(stack, http, asked, key)
        event = await event_at(http, place)
        assert (event["phase"], event["runStatus"], event.get("answer")) == (Phase.PARKED, "RUNNING", None)
        assert len(entries := event["entries"]) == 2  # type: ignore[arg-type]  # it is a list
        assert stack.resources.ledger.entry(entries[1]).entry.type == EntryType.EVENT_PROCESSING_FAILED  # type: ignore[index, arg-type]
        length = len((await history_of(run)).events)
        for _ in range(5):
            started = time.monotonic()
            accepted(await http.post(PATH, json=asked, headers=key), Phase.PARKED)
            assert time.monotonic() - started < 5  # it is told, and does not wait
        assert len((await history_of(run)).events) == length  # whoever asks costs the run nothing
        assert "Parked at `api.operate`" in await details_of(run)
        assert str(asked["entryId"]) in await details_of(run)
    with held(ApiOperator, "operate", done=False) as working:
        going_on = asyncio.create_task(retried(run))
        await working.is_reached()
        late = asyncio.create_task(http.post(PATH, json=asked, headers=key))  # not told that it is parked
        await asyncio.sleep(0.5)
        assert not late.done()
    answer = await late
    await going_on
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    again = await http.post(PATH, json=asked, headers=key)
    assert (again.status_code, again.json()) == (201, answer.json())
    receipt = await run.result()
    assert_receipt_names_every_entry(stack, receipt)
    assert types_of(entries_of(stack, run.id)) == {**DONE, EntryType.EVENT_PROCESSING_FAILED: 1}
    event = await event_at(http, place)
    assert (event["phase"], event["runStatus"]) == (Phase.PROCESSED, None)
    assert versions(stack, asked) == 1


async def test_a_request_that_parks_twice_says_so_twice(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", BROKEN):
        _, run = await asked_and_parked(stack, http, asked, key)
        with held(ApiOperator, "operate", done=False) as working:
            going_on = asyncio.create_task(retried(run))
            await working.is_reached()
            late = asyncio.create_task(http.post(PATH, json=asked, headers=key))
            await asyncio.sleep(0.3)
        accepted(await late, Phase.PARKED)
        await going_on
        await parked(stack, run, times=2)
        accepted(await http.post(PATH, json=asked, headers=key), Phase.PARKED)
    await retried(run)
    answer = await http.post(PATH, json=asked, headers=key)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)


async def test_a_discarded_request_is_a_stored_500(stack: Stack, http: httpx.AsyncClient, key: dict[str, str]) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", BROKEN):
        place, run = await asked_and_parked(stack, http, asked, key)
    waiting = asyncio.create_task(http.post(PATH, json=asked, headers=key))
    await discarded(run)
    assert (await run.result()).phase is Phase.FAILED
    await waiting  # told that it is parked, or that it was given up
    size = stack.resources.ledger.size()
    first = problem(await http.post(PATH, json=asked, headers=key), 500)
    assert "given up: a page of the database is damaged" in str(first["detail"])
    await stack.forget(run.id)
    assert problem(await http.post(PATH, json=asked, headers=key), 500) == first
    event = await event_at(http, place)
    assert (event["phase"], event["runStatus"]) == (Phase.FAILED, None)
    assert event["answer"]["status"] == 500  # type: ignore[index, call-overload]  # it is an object
    assert stack.resources.ledger.size() == size
    assert types_of(entries_of(stack, run.id)) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.EVENT_PROCESSING_FAILED: 1,
        EntryType.EVENT_DEAD_LETTERED: 1,
    }
    fresh = await http.post(PATH, json=asked)
    assert (fresh.status_code, fresh.json()["version"]) == (201, 1)


@pytest.mark.parametrize("decide", [retried, discarded])
async def test_a_request_that_was_done_gets_the_answer_to_that_whatever_becomes_of_its_conclusion(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str], decide: Any
) -> None:
    asked = entry()
    with broken(EventRecorder, "conclude", BROKEN):
        _, run = await asked_and_parked(stack, http, asked, key)
    await decide(run)
    receipt = await run.result()
    assert receipt.phase is (Phase.PROCESSED if decide is retried else Phase.FAILED)
    answer = await http.post(PATH, json=asked, headers=key)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    where = {"registryId": "AERO", "entryId": str(asked["entryId"])}
    assert (await http.get("/registry/entry", params=where)).json() == answer.json()
    assert f"version 1, Submission, by entry {answer.json()['ledgerEntry']}" in await details_of(run)


async def cancelled(run: Run) -> None:
    """Cancel a run, and wait until it has ended."""
    await run.cancel()
    await failure_of(run)


@pytest.mark.parametrize("decide", [retried, discarded, cancelled, None])
async def test_what_was_done_is_followed_up_however_its_conclusion_ends(tmp_path: Path, decide: Any) -> None:
    with receiver() as told:
        subscribers = tmp_path / "subscribers.yaml"
        subscribers.touch(mode=0o600)
        listed = [{"name": "partner", "url": told.url, "secret": KEY, "registries": ["schemas"]}]
        subscribers.write_text(yaml.safe_dump(listed))
        patience = 86_400.0 if decide else 2.0
        async with (
            running_stack(
                tmp_path, subscribers=subscribers, notify_allow_private=True, parked_patience=patience
            ) as stack,
            api(stack) as client,
        ):
            data: JsonObject = {"$id": "urn:coafi:schema:registry.AERO:1.0.0", "type": "object", "required": ["mass"]}
            made, _ = await updated(client, {"registryId": "schemas", "entryId": "registry.AERO", "data": data})
            for status in ("Review", "Approval"):
                made, _ = await moved(client, made, status)
            where = {"registryId": "schemas", "entryId": "registry.AERO", "status": "Integration"}
            with broken(EventRecorder, "conclude", BROKEN):
                place = accepted(await client.post("/registry/status", json=where), Phase.PARKED)
                run = run_at(stack, await event_at(client, place))
                if decide is not None:
                    await parked(stack, run)
            if decide is not None:
                await decide(run)
            receipt = await run.result() if decide is not cancelled else None
            assert receipt is None or receipt.phase is (Phase.PROCESSED if decide is retried else Phase.FAILED)
            revalidation = stack.handle(revalidation_workflow_id(SchemaName("registry.AERO", "1.0.0")))
            await until(functools.partial(has_started, revalidation))
            await until(lambda: [json.loads(body)["data"]["version"] for *_, body in told.seen][-1:] == [4])
            stack.verify()


async def has_started(run: Run) -> bool:
    """Whether there is such a run."""
    try:
        await run.describe()
    except RPCError:
        return False
    return True


async def test_operators_decide_on_a_parked_request_with_the_command(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", BROKEN):
        place, run = await asked_and_parked(stack, http, asked, key)

        async def listed() -> list[tuple[str, str]]:
            found = await coafi(stack, "dead-letters", "list")
            return [(one["step"], one["message"]) for one in found if one["workflowId"] == run.id]

        async def is_listed() -> bool:
            return bool(await listed())

        await until(is_listed)
        assert await listed() == [("api.operate", str(BROKEN))]
        because = ("--by", "ada", "--reason", "a test")
        assert (await coafi(stack, "dead-letters", "retry", *because, run.id))[0]["result"] == "retry"
        await parked(stack, run, times=2)
    await coafi(stack, "dead-letters", "discard", *because, key["Idempotency-Key"])
    assert (await run.result()).decisions == (Decision(by="ada", reason="a test"),) * 2
    assert (await event_at(http, place))["phase"] == Phase.FAILED
    problem(await http.post(PATH, json=asked, headers=key), 500)


async def test_a_request_that_nobody_decides_on_is_given_up(tmp_path: Path, key: dict[str, str]) -> None:
    async with running_stack(tmp_path, parked_patience=1.0) as stack:
        headers = {"Authorization": f"Bearer {key_for(stack, 'admin')}", **key}
        async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=headers, timeout=70) as client:
            with broken(ApiOperator, "operate", BROKEN):
                place = accepted(await client.post(PATH, json=(asked := entry())), Phase.PARKED)
                await run_at(stack, await event_at(client, place)).result()
            assert (await event_at(client, place))["phase"] == Phase.FAILED
            problem(await client.post(PATH, json=asked), 500)
            stack.verify()


async def test_a_cancelled_request_is_a_stored_500_also_for_who_waits(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", AWAY):
        waiting = asyncio.create_task(http.post(PATH, json=asked, headers=key))
        run = stack.handle(await workflow_id_of(stack, key))
        await waits_for_the_ledger(run, "api.operate")
        await run.cancel()
        first = problem(await waiting, 500)
    assert "given up: the run was cancelled" in str(first["detail"])
    assert problem(await http.post(PATH, json=asked, headers=key), 500) == first
    await stack.forget(run.id)
    assert problem(await http.post(PATH, json=asked, headers=key), 500) == first
    assert types_of(entries_of(stack, run.id)) == {EntryType.EVENT_RECEIVED: 1, EntryType.EVENT_DEAD_LETTERED: 1}


async def test_a_request_that_is_cancelled_after_the_fact_is_answered(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(EventRecorder, "conclude", AWAY):
        waiting = asyncio.create_task(http.post(PATH, json=asked, headers=key))
        run = stack.handle(await workflow_id_of(stack, key))
        await waits_for_the_ledger(run, "event.finish")
        await run.cancel()
    answer = await waiting
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    again = await http.post(PATH, json=asked, headers=key)
    assert (again.status_code, again.json()) == (201, answer.json())


@pytest.mark.parametrize(
    ("step", "method", "owner"), [("api.operate", "operate", ApiOperator), ("event.finish", "conclude", EventRecorder)]
)
async def test_a_terminated_request_is_done_once_it_is_sent_again(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str], step: str, method: str, owner: type
) -> None:
    asked = entry()
    with broken(owner, method, AWAY):
        waiting = asyncio.create_task(http.post(PATH, json=asked, headers=key))
        run = stack.handle(await workflow_id_of(stack, key))
        await waits_for_the_ledger(run, step)
        await run.terminate("a test")
        place = accepted(await waiting, None)
        assert (await run.describe()).status is WorkflowExecutionStatus.TERMINATED
        event = await event_at(http, place)
        assert (event["runStatus"], event["concluded"]) == ("TERMINATED", None)
    answer = await http.post(PATH, json=asked, headers=key)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    assert types_of(entries_of(stack, run.id)) == DONE
    assert versions(stack, asked) == 1


@pytest.mark.parametrize("refused", [False, True])
async def test_a_request_whose_run_is_reset_has_the_same_answer(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str], refused: bool
) -> None:
    asked = entry()
    more = {**key, "If-Match": '"7"'} if refused else key
    first = await http.post(PATH, json=asked, headers=more)
    assert first.status_code == (412 if refused else 201)
    workflow_id = workflow_of(first)
    before = entries_of(stack, workflow_id)
    receipt = await stack.handle(workflow_id).result()
    again = await stack.reset(workflow_id)
    assert await again.result() == receipt
    second = await http.post(PATH, json=asked, headers=more)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert entries_of(stack, workflow_id) == before
    assert details_of_last(await details_of(again)) == f"Answered **{first.status_code}**"


async def test_a_request_whose_run_is_reset_after_it_was_cancelled_is_done_after_all(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", BROKEN):
        _, run = await asked_and_parked(stack, http, asked, key)
    await run.cancel()
    await until(lambda: any(one.entry.type == EntryType.EVENT_DEAD_LETTERED for one in entries_of(stack, run.id)))
    problem(await http.post(PATH, json=asked, headers=key), 500)
    again = await stack.reset(run.id)
    assert (await again.result()).phase is Phase.PROCESSED
    answer = await http.post(PATH, json=asked, headers=key)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    assert types_of(entries_of(stack, run.id))[EntryType.REGISTRY_ENTRY_CHANGED] == 1


async def test_a_caller_waits_no_longer_than_they_said(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    with broken(ApiOperator, "operate", AWAY):
        started = time.monotonic()
        place = accepted(await http.post(PATH, json=asked, headers={**key, "Prefer": "wait=2"}), None)
        assert time.monotonic() - started < 20  # and not half a minute, as the client says for the others

        async def is_validated() -> bool:
            event = await event_at(http, place)
            return (event["phase"], event["runStatus"]) == (Phase.VALIDATED, "RUNNING")

        await until(is_validated)
    answer = await http.post(PATH, json=asked, headers=key)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)


async def test_another_body_with_a_key_does_not_change_how_its_request_ended(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = {"registryId": "AERO", "entryId": "nobody", "status": "Review"}
    first = problem(await http.post("/registry/status", json=asked, headers=key), 404)
    (known,) = DeliveryReader(stack.resources.database).find(key["Idempotency-Key"])
    event = new_event(
        event_type=EventType.API_REQUEST,
        source=known.source,
        delivery_id=known.delivery_id,
        time=datetime.now(UTC),
        body_digest="0" * 64,
        principal="somebody",
        data={},
    )
    recorder = EventRecorder(
        stack.resources.ledger, stack.resources.registry, namespace=stack.settings.ledger_namespace, build="test"
    )
    rejected = recorder.receive(event, "another-run")
    assert rejected.findings[0].rule == "delivery/reused"
    assert problem(await http.post("/registry/status", json=asked, headers=key), 404) == first
    found = await event_at(http, f"/event/{key['Idempotency-Key']}")
    assert found["answer"]["status"] == 404  # type: ignore[index, call-overload]  # it is an object


async def test_the_runs_page_and_the_commands_tell_what_was_asked_by_whom_and_what_came_of_it(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str]
) -> None:
    asked = entry()
    made = await http.post(PATH, json=asked, headers=key)
    late = await http.post(PATH, json=asked, headers={"If-Match": '"7"'})
    wrong = await http.post(PATH, json={**asked, "entryId": "`x`", "class": "Huge"})
    assert (made.status_code, late.status_code, wrong.status_code) == (201, 412, 422)
    who = str((await http.get(f"/event/{workflow_of(made)}")).json()["source"]).removeprefix("urn:coafi:api:")
    about = f"POST registry/update AERO {asked['entryId']}"
    headline = f"Asked for by `{who}`: `{about}`\n\n"
    index = made.json()["ledgerEntry"]
    assert await details_of(stack.handle(workflow_of(made))) == (
        f"{headline}**Processed**\n\n"
        f"Answered **201**: `AERO/{asked['entryId']}` is at version 1, Submission, by entry {index} of the ledger"
    )
    why = f"AERO/{asked['entryId']} is at version 1, and the request expects version 7 (read it again, and decide anew)"
    assert await details_of(stack.handle(workflow_of(late))) == (
        f"{headline}**Rejected** at `api.operate`: {why}\n\nAnswered **412**"
    )
    details = await details_of(stack.handle(workflow_of(wrong)))
    assert details.startswith(f"Asked for by `{who}`: `POST registry/update AERO 'x'`\n\n**Rejected**\n\n- `/entryId` ")
    assert "\n- `/class` the value is not one of" in details
    shown = await printed_by(stack, "events", "show", workflow_of(made))
    assert [about, f"Vouched for  by {who}"] == [line for line in shown if line == about or "Vouched" in line]
    assert f"Changed      AERO/{asked['entryId']}, version 1, Submission (entry {index})" in shown
    assert f"Refused at   api.operate: {why}" in await printed_by(stack, "events", "show", workflow_of(late))
    (listed,) = [one for one in await coafi(stack, "events", "list") if one["workflowId"] == workflow_of(late)]
    assert (listed["subject"], listed["phase"], listed["type"]) == (about, Phase.REJECTED, EventType.API_REQUEST)
    assert (await coafi(stack, "events", "show", workflow_of(late)))["refused"]["error"] == "PreconditionFailed"


async def test_a_request_is_proved_with_the_command(
    stack: Stack, http: httpx.AsyncClient, key: dict[str, str], tmp_path: Path
) -> None:
    made = await http.post(PATH, json=entry(data={"name": "wing", "span": 7.0}), headers=key)
    (tmp_path / "data.json").write_text(json.dumps(made.json()["data"], indent=1))
    (tmp_path / "key").write_text(str(stack.resources.ledger.key))
    receipt, data, vkey = (str(tmp_path / name) for name in ("receipt.json", "data.json", "key"))
    await printed_by(stack, "receipt", key["Idempotency-Key"], "-o", receipt)
    proved = await coafi(stack, "receipt", "verify", receipt, "--artifact", data, "--key", vkey)
    assert proved["changes"][0]["digest"] == made.json()["digest"] == proved["files"][0]["sha256"]
    assert proved["changes"][0]["by"] == proved["principal"]
    shown = await printed_by(stack, "receipt", "verify", receipt, "--artifact", data, "--key", vkey)
    assert f"  as JSON; in its canonical form it has the SHA-256 {made.json()['digest']}" in shown


def details_of_last(details: str) -> str:
    """The last line of a run's details, up to its colon."""
    return details.splitlines()[-1].partition(":")[0]


async def coafi(stack: Stack, *arguments: str) -> Any:
    """What a command prints with ``--json``."""
    return json.loads("\n".join(await printed_by(stack, *arguments, "--json")))


async def printed_by(stack: Stack, *arguments: str) -> list[str]:
    """The lines that a command prints; it must succeed."""
    environment = {"COAFI_HOME": str(stack.settings.home), "COAFI_TEMPORAL_ADDRESS": stack.server.address}
    done = await asyncio.to_thread(command, arguments, {**os.environ, **environment, "COLUMNS": "400"})
    assert done.returncode == 0, done.stderr
    return [line.rstrip() for line in done.stdout.decode().splitlines()]


async def workflow_id_of(stack: Stack, key: dict[str, str]) -> str:
    """The run of the request with a key, as soon as it has begun."""
    found: list[str] = []

    def claimed() -> bool:
        found.extend(one.workflow_id for one in DeliveryReader(stack.resources.database).find(key["Idempotency-Key"]))
        return bool(found)

    await until(claimed)
    return found[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"endpoint": "registry/forgotten"}, "event/ResourceNotFoundError"),
        ({"endpoint": "registry/entry"}, "event/ResourceNotFoundError"),
        ({"method": "GET"}, "event/ValidationError"),
        ({"requestId": None}, "event/ValidationError"),
        ({"principal": {"name": "key:other", "roles": [], "permissions": ["api:*:*"]}}, "event/AuthorizationError"),
        ({"principal": {"name": "key:ci", "roles": [], "permissions": ["api:*:GET"]}}, "event/AuthorizationError"),
        ({"body": {"registryId": "AERO"}}, "payload/required"),
    ],
)
async def test_an_event_that_no_gateway_of_ours_made_is_rejected_on_the_record(
    stack: Stack, changes: JsonObject, rule: str
) -> None:
    event = new_event(
        event_type=EventType.API_REQUEST,
        source=source_of("key:ci"),
        delivery_id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        body_digest="0" * 64,
        principal="key:ci",
        data={
            "endpoint": "registry/update",
            "method": "POST",
            "requestId": "x",
            "principal": {"name": "key:ci", "roles": [], "permissions": ["api:*:*"]},
            "body": entry(),
            **changes,
        },
    )
    await Dispatcher(stack.client, timeout=10).start(event)
    receipt = await stack.handle(event.workflow_id).result()
    assert (receipt.phase, receipt.findings[0].rule) == (Phase.REJECTED, rule)
    assert types_of(entries_of(stack, event.workflow_id)) == {
        EntryType.EVENT_RECEIVED: 1,
        EntryType.EVENT_REJECTED: 1,
    }
    assert_receipt_names_every_entry(stack, receipt)
