"""Requests to the API while something breaks: each is done once or not at all, and its caller gets one answer."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from coafi.api.operations import ApiOperator
from coafi.canonical import JsonObject
from coafi.ledger.remote import RemoteLedger
from coafi.names import EntryType, Phase
from coafi.registry.entry import RegistryId
from coafi.registry.reader import EntryReader
from starters.embedded import TemporalServer
from tests.guarantees.crashing_worker import UNCOMMITTED
from tests.guarantees.support import HANG, side_by_side
from tests.guarantees.test_exactly_once import deadly_worker
from tests.guarantees.test_ledger_outage import locked, refusing
from tests.guarantees.test_remote_ledger import TOKEN, answers, free_port, ledger_process
from tests.harness import Stack, running_stack, settings_for, until
from tests.postgresql import running_server
from tests.starters.test_api import entry, key_for, problem, workflow_of
from tests.strength import some
from tests.workflows.support import entries_of, held, types_of
from workers.resources import open_resources
from workers.wiring import running_workers

PATH = "/registry/update"
DONE = {EntryType.EVENT_RECEIVED: 1, EntryType.REGISTRY_ENTRY_CHANGED: 1, EntryType.EVENT_PROCESSED: 1}
Outage = Callable[[Stack], AbstractContextManager[None]]


@asynccontextmanager
async def calling(stack: Stack, key: str = "one") -> AsyncIterator[httpx.AsyncClient]:
    """A client who may do everything, waits for the answer, and sends the same key with every change."""
    headers = {"Authorization": f"Bearer {key_for(stack, 'admin')}", "Prefer": "wait=60", "Idempotency-Key": key}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=headers, timeout=90) as client:
        yield client


def made(response: httpx.Response) -> JsonObject:
    """The first version of an entry, which must be the answer."""
    assert response.status_code == 201, response.text
    body: JsonObject = response.json()
    assert body["version"] == 1
    return body


async def assert_done_once(stack: Stack, client: httpx.AsyncClient, asked: JsonObject, answer: JsonObject) -> None:
    """A request has one version, one set of entries, and one answer for whoever sends it again."""
    again = await client.post(PATH, json=asked)
    assert made(again) == answer
    history = EntryReader(stack.resources.database).history(RegistryId.AERO, str(asked["entryId"]))
    assert [one.ledger_entry for one in history] == [answer["ledgerEntry"]]
    assert types_of(entries_of(stack, workflow_of(again))) == DONE
    await asyncio.to_thread(stack.verify)


async def _killed(home: Path, *, moment: str) -> None:
    async with running_stack(home, workers=False) as stack, AsyncExitStack() as later:
        client = await later.enter_async_context(calling(stack))
        asked = entry()
        with deadly_worker(stack, moment) as process:  # type: ignore[arg-type]  # or what is no type of entry
            caller = asyncio.create_task(client.post(PATH, json=asked))
            await until(lambda: process.poll() is not None, seconds=HANG)
            assert process.returncode == -signal.SIGKILL
        recorded = {str(one.entry.type) for one in stack.entries()}
        assert moment in recorded or (moment == UNCOMMITTED and recorded == {EntryType.EVENT_RECEIVED})
        await later.enter_async_context(running_workers(stack.client, stack.resources))
        response = await caller  # the one who waited through all of it
        if response.status_code == 202:  # as long as they wanted to: then they ask again
            response = await client.post(PATH, json=asked)
        answer = made(response)
        await assert_done_once(stack, client, asked, answer)


@pytest.mark.also_in_soak
async def test_a_worker_killed_in_mid_request_changes_once_and_its_caller_is_answered(tmp_path: Path) -> None:
    moments = (EntryType.EVENT_RECEIVED, UNCOMMITTED, EntryType.REGISTRY_ENTRY_CHANGED, EntryType.EVENT_PROCESSED)
    cases = {moment: partial(_killed, moment=moment) for moment in moments}
    await side_by_side(tmp_path, some(cases, UNCOMMITTED))


async def test_temporal_goes_away_before_and_in_the_middle_of_a_request(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, calling(stack, "begun") as begun, calling(stack, "new") as new:
        first, second = entry(), entry()
        with held(ApiOperator, "operate", done=True) as working:
            caller = asyncio.create_task(begun.post(PATH, json=first))
            await working.is_reached()
            await asyncio.to_thread(stack.server.stop)
        started = time.monotonic()
        refused = await new.post(PATH, json=second, headers={"Prefer": "wait=2"})
        assert time.monotonic() - started < 12
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) > 0
        where = {"registryId": "AERO", "entryId": str(first["entryId"])}
        assert (await new.get("/registry/entry", params=where)).status_code == 200  # reads do not need it
        problem(await new.get("/workflow/status", params={"workflowId": "x"}), 503)
        port = int(stack.server.address.rpartition(":")[2])
        again = TemporalServer.start(stack.settings.home, port=port, ui_port=0, options=("--headless",))
        try:
            await again.wait_ready()
            waited = await caller
            if waited.status_code != 201:  # it had to be told that nobody knows
                assert waited.status_code in (202, 503), waited.text
            for client, asked in ((begun, first), (new, second)):
                answer: list[JsonObject] = []

                async def is_done(client: httpx.AsyncClient = client, asked: JsonObject = asked) -> bool:
                    response = await client.post(PATH, json=asked)
                    if response.status_code == 201:
                        answer.append(made(response))  # noqa: B023
                    return bool(answer)  # noqa: B023

                await until(is_done, seconds=90)
                await assert_done_once(stack, client, asked, answer[0])
        finally:
            again.stop()


@contextmanager
def full(stack: Stack) -> Iterator[None]:
    """A disk on which the database cannot grow."""
    engine = stack.resources.database._adapter.engine

    def limit(more: int) -> None:
        connections = [engine.connect() for _ in range(24)]
        for connection in connections:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")
        for connection in connections:
            connection.close()

    limit(4)
    try:
        yield
    finally:
        limit(1_000_000)


async def _without_database(home: Path, *, outage: Outage) -> None:
    async with running_stack(home) as stack, calling(stack) as client:
        known = made(await client.post(PATH, json=entry(entryId="known"), headers={"Idempotency-Key": "known"}))
        asked = entry(data={"large": "x" * 200_000})
        with outage(stack):
            late = await client.post(PATH, json=asked, headers={"Prefer": "wait=3"})
            assert late.status_code == 202, late.text
            where = {"registryId": "AERO", "entryId": "known"}
            assert (await client.get("/registry/entry", params=where)).json() == known
            status = await client.get(str(late.headers["location"]).removeprefix("/api"))
            assert (status.json()["phase"], status.json()["runStatus"]) in (
                (Phase.RECEIVED, "RUNNING"),
                (Phase.VALIDATED, "RUNNING"),
            )
        answer = made(await client.post(PATH, json=asked))
        await assert_done_once(stack, client, asked, answer)


async def test_a_change_waits_for_a_database_that_takes_no_writes(tmp_path: Path) -> None:
    outages: dict[str, Outage] = {"refusing": refusing, "locked": locked, "full": full}
    await side_by_side(tmp_path, {name: partial(_without_database, outage=one) for name, one in outages.items()})


async def test_a_request_whose_body_cannot_be_kept_is_refused_and_nothing_begins(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, calling(stack) as client:
        asked, objects = entry(), stack.settings.objects_directory
        objects.rename(aside := objects.with_name("aside"))
        objects.write_bytes(b"no directory")
        problem(await client.post(PATH, json=asked), 503)
        assert stack.entries() == []
        assert [run async for run in stack.client.list_workflows()] == []
        objects.unlink()
        aside.rename(objects)
        await assert_done_once(stack, client, asked, made(await client.post(PATH, json=asked)))


async def test_a_postgresql_server_that_crashes_in_mid_request(tmp_path: Path) -> None:
    with running_server() as server:
        url = SecretStr(server.create())
        async with running_stack(tmp_path, database_url=url) as stack, calling(stack) as client:
            known = entry(entryId="known")
            made(await client.post(PATH, json=known, headers={"Idempotency-Key": "known"}))
            asked, where = entry(), {"registryId": "AERO", "entryId": "known"}
            briefly, new = {"Prefer": "wait=4"}, {"Idempotency-Key": "new"}
            with held(ApiOperator, "operate", done=False) as working:
                caller = asyncio.create_task(client.post(PATH, json=asked, headers=briefly))
                await working.is_reached()
                await asyncio.to_thread(server.stop, "immediate")
            read = await client.get("/registry/entry", params=where)
            problem(read, 503)
            assert int(read.headers["retry-after"]) > 0
            problem(await client.get("/registry/entries"), 503)
            second = await client.post(PATH, json=(other := entry()), headers={**new, **briefly})
            for late in (await caller, second, await client.post(PATH, json=asked, headers=briefly)):
                assert late.status_code == 202, late.text
                assert "password" not in late.text + read.text
            await asyncio.to_thread(server.start)
            made(await client.post(PATH, json=other, headers=new))
            answer = made(await client.post(PATH, json=asked))
            await assert_done_once(stack, client, asked, answer)
            assert (await client.get("/registry/entry", params=where)).status_code == 200


@pytest.mark.soak
async def test_two_writers_of_one_entry_whose_ledger_another_instance_keeps_and_which_is_killed(tmp_path: Path) -> None:
    home, port = tmp_path / "a", free_port()
    with open_resources(settings_for(tmp_path).model_copy(update={"home": home})) as resources:
        key = str(resources.ledger.key)
    with ledger_process(home, port) as first:
        await until(lambda: answers(port))
        async with (
            running_stack(
                tmp_path,
                bitt_api_url=f"http://127.0.0.1:{port}",
                bitt_api_key=key,
                bitt_api_token=TOKEN,
                instance="plant-b",
            ) as stack,
            calling(stack) as client,
        ):
            assert isinstance(stack.resources.ledger, RemoteLedger)
            asked = entry()
            made(await client.post(PATH, json=asked))

            def write(number: int) -> Any:
                seen = {"Idempotency-Key": f"writer-{number}", "If-Match": '"1"'}
                return client.post(PATH, json={**asked, "data": {"by": number}}, headers=seen)

            with held(ApiOperator, "operate", done=False) as working:
                writers = [asyncio.create_task(write(number)) for number in range(2)]
                await working.is_reached()
                first.send_signal(signal.SIGKILL)
                first.wait()
            await asyncio.sleep(1)
            status = await client.get("/registry/entry", params={"registryId": "AERO", "entryId": asked["entryId"]})  # type: ignore[dict-item]  # it is text
            assert (status.status_code, status.json()["version"]) == (200, 1)  # reads need no ledger
            with ledger_process(home, port):
                outcomes = [await one for one in writers]
                for number, outcome in enumerate(outcomes):
                    if outcome.status_code == 202:
                        outcomes[number] = await write(number)
                assert sorted(one.status_code for one in outcomes) == [200, 412]
                again = [await write(number) for number in range(2)]
                assert [one.json() for one in again] == [one.json() for one in outcomes]
                history = EntryReader(stack.resources.database).history(RegistryId.AERO, str(asked["entryId"]))
                changes = stack.entries(EntryType.REGISTRY_ENTRY_CHANGED)
                assert [one.version for one in history] == [2, 1]
                assert [one.ledger_entry for one in history] == [one.index for one in reversed(changes)]
                await asyncio.to_thread(stack.verify)
