"""One instance keeps the registry, another one works with it over HTTP, on a way that somebody can cut."""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from temporalio.api.enums.v1 import EventType as HistoryEventType

from coafi.auth.apikeys import ApiKeyFile
from coafi.canonical import JsonObject, digest_of
from coafi.errors import Unavailable
from coafi.names import ActivityName, EntryType, Phase, TaskQueue
from coafi.registry.builtin import builtin_schemas
from coafi.registry.entry import EntryUpdate, RegistryId
from tests.coafi.ledger.serving import served
from tests.coafi.registry.making import schema
from tests.coafi.registry.serving import api_key, desk, remote_registry
from tests.coafi.registry.test_remote import origin
from tests.guarantees.support import activities, finished
from tests.guarantees.test_history import assert_nowhere, everything_readable
from tests.guarantees.test_remote_ledger import free_port
from tests.harness import Repository, Stack, documents, history_of, running_stack, settings_for, until
from tests.starters.support import command
from workers.resources import open_resources
from workflows.lifecycle import Receipt


@dataclass
class Way:
    """The way from one instance to another, as TCP.

    Attributes:
        is_open: whether connections get through.
        is_deaf: whether requests get through, and their answers are lost.
        lost: how many answers were.
    """

    port: int
    is_open: bool = True
    is_deaf: bool = False
    lost: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it begins."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Let nothing through."""
        self.is_open = False
        for one in self._open:
            one.transport.abort()

    def go_deaf(self) -> None:
        """Lose answers, also those of connections that are there."""
        self.is_deaf = True

    async def carry(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        if not self.is_open:
            writer.transport.abort()
            return
        there = urlsplit(url)
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        self._open |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._back(far_reader, writer))
        for one in (writer, far_writer):
            self._open.discard(one)
            one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.is_deaf:
                self.lost += 1
                break
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[Way]:
    """A way to ``url`` that begins at a free port."""
    way = Way(free_port())
    server = await asyncio.start_server(lambda reader, writer: way.carry(url, reader, writer), "127.0.0.1", way.port)
    try:
        yield way
    finally:
        way.cut()
        server.close()


@dataclass
class Pair:
    """``a`` keeps the registry, ``b`` uses it; ``http`` asks ``b`` with a key that may do everything there."""

    a: Stack
    b: Stack
    way: Way
    token: Path
    http: httpx.AsyncClient

    async def put(self, entry_id: str, data: JsonObject, *, registry: str = "AERO", **headers: str) -> httpx.Response:
        """``POST registry/update`` at ``b``."""
        body = {"registryId": registry, "entryId": entry_id, "data": data}
        return await self.http.post("/registry/update", json=body, headers=headers)

    async def move(self, entry_id: str, status: str, *, registry: str = "AERO") -> httpx.Response:
        """``POST registry/status`` at ``b``."""
        body = {"registryId": registry, "entryId": entry_id, "status": status}
        return await self.http.post("/registry/status", json=body)

    async def get(self, endpoint: str, **query: Any) -> httpx.Response:
        """``GET registry/…`` at ``b``."""
        return await self.http.get(f"/registry/{endpoint}", params=query)

    def changes_at(self, stack: Stack, entry_id: str) -> list[JsonObject]:
        """What the ledger of an instance says of an entry."""
        found = stack.entries(EntryType.REGISTRY_ENTRY_CHANGED)
        return [one.entry.data for one in found if one.entry.data["entryId"] == entry_id]

    async def requests_at(self, stack: Stack) -> int:
        """How many runs of requests there are at an instance; those of this moment may be missing."""
        return len([run async for run in stack.client.list_workflows("WorkflowType='APIRequestWorkflow'")])

    async def until_requests_at(self, stack: Stack, count: int) -> None:
        """Wait until so many runs of requests are listed at an instance, and no more."""

        async def are_listed() -> bool:
            found = await self.requests_at(stack)
            assert found <= count
            return found == count

        await until(are_listed)


@asynccontextmanager
async def pair_in(home: Path, **changes: Any) -> AsyncIterator[Pair]:
    """Two instances, and the way between them."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(running_stack(home / "a"))
        way = await stack.enter_async_context(way_to(a.gateway))
        token = home / "token"
        put_token(token, api_key(a.settings))
        b = await stack.enter_async_context(
            running_stack(
                home / "b",
                git_file_roots=(home,),
                registry_api_url=way.url,
                registry_api_token_file=token,
                instance="plant-b",
                **changes,
            )
        )
        key = api_key(b.settings, "ada")
        bearer = {"Authorization": f"Bearer {key.get_secret_value()}"}
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"{b.gateway}/api", headers=bearer, timeout=70, trust_env=False)
        )
        yield Pair(a, b, way, token, http)


def put_token(file: Path, token: SecretStr) -> None:
    file.touch(0o600)
    file.write_text(token.get_secret_value())


def run_of(response: httpx.Response) -> str:
    """The run that answers, or will."""
    return unquote((response.headers.get("coafi-event") or response.headers["location"]).removeprefix("/api/event/"))


def fresh() -> str:
    return f"E-{uuid.uuid4().hex[:12]}"


async def test_a_change_is_made_there_and_recorded_on_both_sides(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with pair_in(tmp_path) as pair:
        name = fresh()
        response = await pair.put(name, {"n": 1}, **{"Idempotency-Key": "one"})
        assert response.status_code == 201, response.text
        made = response.json()
        assert (made["version"], response.headers["etag"]) == (1, '"1"')
        assert made["by"] == "key:plant-b"

        # What happened there: a run of two light steps and a change, with its entry in that ledger.
        there = await pair.a.handle(made["workflowId"]).result()
        recorded = pair.a.resources.ledger.entry(made["ledgerEntry"]).entry
        assert (there.phase, recorded.workflow_id) == (Phase.PROCESSED, made["workflowId"])
        history = await history_of(pair.a.handle(made["workflowId"]))
        kinds = [HistoryEventType.Name(event.event_type) for event in history.events]
        assert len(kinds) == 12, kinds
        assert not any("ACTIVITY_TASK" in kind for kind in kinds)

        # And here: a run whose step left the process, with an entry that says where.
        run = pair.b.handle(run_of(response))
        receipt: Receipt = await run.result()
        assert receipt.phase is Phase.PROCESSED
        (said,) = pair.changes_at(pair.b, name)
        assert said["registry"] == {
            "url": pair.way.url,
            "workflowId": made["workflowId"],
            "ledgerEntry": made["ledgerEntry"],
            "changed": made["changed"],
        }
        assert (said["version"], said["digest"]) == (1, made["digest"])
        assert [one.attempt for one in activities(await history_of(run), ActivityName.OPERATE)] == [1]
        (queue,) = [
            event.activity_task_scheduled_event_attributes.task_queue.name
            for event in (await history_of(run)).events
            if event.event_type == HistoryEventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        assert queue == TaskQueue.API

        # The same request is not done twice, and its answer is kept here.
        again = await pair.put(name, {"n": 1}, **{"Idempotency-Key": "one"})
        assert (again.status_code, again.json()) == (201, made)
        kept = (await pair.http.get(response.headers["coafi-event"].removeprefix("/api"))).json()
        assert kept["answer"] == {"status": 201, "body": made}
        assert len(pair.changes_at(pair.a, name)) == 1

        # What it refuses is a rejection here, with the places.
        for answer, status, pointer in (
            (await pair.put(name, {"n": 2}, **{"If-Match": '"7"'}), 412, ""),
            (await pair.move(name, "Integration"), 422, "/status"),
            (await pair.move(fresh(), "Review"), 404, None),
            (await pair.put("GitCommitEventPayload", {"$id": "x"}, registry="schemas"), 403, None),
            (await pair.put("mine", {"$id": "x"}, registry="schemas"), 422, "/data/$id"),
        ):
            assert answer.status_code == status, answer.text
            assert (await pair.b.handle(run_of(answer)).result()).phase is Phase.REJECTED
            if pointer is not None:
                assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
        assert (await pair.put(name, {"n": 2}, **{"If-Match": '"1"'})).json()["version"] == 2

        # Reads are those of the other side.
        found = await pair.get("entry", registryId="AERO", entryId=name, version=1)
        assert (found.json(), found.headers["etag"]) == (made, '"1"')
        unchanged = await pair.http.get(
            "/registry/entry", params={"registryId": "AERO", "entryId": name}, headers={"If-None-Match": '"2"'}
        )
        assert unchanged.status_code == 304
        assert [
            one["version"] for one in (await pair.get("history", registryId="AERO", entryId=name)).json()["versions"]
        ] == [2, 1]
        patch = (await pair.get("diff", registryId="AERO", entryId=name, old=1, new=2)).json()["patch"]
        assert patch == [{"op": "replace", "path": "/data/n", "value": 2}]
        listed = (await pair.get("entries", registryId="AERO", text=name)).json()["entries"]
        assert [one["version"] for one in listed] == [2]
        assert (await pair.get("entry", registryId="AERO", entryId=fresh())).status_code == 404
        assert (await pair.get("entries", cursor="nonsense")).status_code == 422

        for stack in (pair.a, pair.b):
            await asyncio.to_thread(stack.verify)
        words = {"token": pair.token.read_text()}
        assert_nowhere(words, await everything_readable(pair.a, capfd))
        assert_nowhere(words, await everything_readable(pair.b, capfd))


async def test_documents_here_are_held_against_the_schemas_that_are_published_there(tmp_path: Path) -> None:
    async with pair_in(tmp_path) as pair:
        repository = Repository.create(tmp_path / "repo")
        before = await finished(await pair.b.accepted(repository.push(documents(1))))
        assert before.counts["valid"] == 1
        name = "frontmatter.INFO-SPEC"
        strict = schema(name, "7.0.0", type="object", required=["approvedBy"])
        assert (await pair.put(name, strict, registry="schemas")).status_code in (200, 201)
        for status in ("Review", "Approval", "Integration"):
            moved = await pair.move(name, status, registry="schemas")
            assert moved.status_code == 200, moved.text
        answer = await pair.get("schema", schemaId=name)
        await until(lambda: pair.b.resources.registry.find(name) is not None)
        answer = await pair.get("schema", schemaId=name)
        assert (answer.json()["document"], answer.json()["digest"]) == (strict, digest_of(strict))
        listed = (await pair.get("schemas")).json()["schemas"]
        assert {"schemaId": name, "version": "7.0.0", "digest": digest_of(strict)} in listed
        checked = await pair.http.post("/schema/validate", json={"schemaId": name, "data": {}})
        assert checked.json()["valid"] is False

        async def is_invalid(text: str) -> bool:
            pushed = await pair.b.accepted(repository.push(documents(1, text=text)))
            return (await finished(pushed)).counts.get("invalid") == 1

        assert await is_invalid("Other text.")
        (verdict,) = [one.entry.data for one in pair.b.entries(EntryType.FILE_PROCESSED)[-1:]]
        assert digest_of(strict) in json.dumps(verdict)

        # What is known goes on holding while the other side is away; what is not known is waited for.
        pair.way.cut()
        assert await is_invalid("Text while the other side is away.")
        asked = await pair.get("entry", registryId="schemas", entryId=name)
        assert asked.status_code == 503
        assert asked.headers["retry-after"]
        assert pair.way.url in asked.json()["detail"]


async def test_a_lost_answer_an_outage_and_a_wrong_token_are_waited_for_and_change_nothing_twice(
    tmp_path: Path,
) -> None:
    async with pair_in(tmp_path) as pair:
        # The change is made, and its answer gets lost.
        name = fresh()
        pair.way.go_deaf()
        response = await pair.put(name, {"n": 1}, Prefer="wait=0")
        await until(lambda: pair.way.lost > 1)
        assert [one["version"] for one in pair.changes_at(pair.a, name)] == [1]
        assert pair.changes_at(pair.b, name) == []
        pair.way.is_deaf = False
        run = pair.b.handle(run_of(response))
        assert (await finished(run)).phase is Phase.PROCESSED
        (tries,) = activities(await history_of(run), ActivityName.OPERATE)
        assert tries.attempt > 1
        for stack in (pair.a, pair.b):
            assert [one["version"] for one in pair.changes_at(stack, name)] == [1]
        await pair.until_requests_at(pair.a, 1)

        # Nobody is there.
        pair.way.cut()
        waiting = [await pair.put(fresh(), {"n": n}, Prefer="wait=1") for n in range(3)]
        assert {one.status_code for one in waiting} == {202}
        runs = [pair.b.handle(run_of(one)) for one in waiting]
        assert {(await pair.b.state(one)).phase for one in runs} == {Phase.VALIDATED}
        pair.way.is_open = True
        assert {(await finished(one)).phase for one in runs} == {Phase.PROCESSED}

        # The key is revoked, then one that may only read, then a good one: nothing is rejected for that.
        keys = ApiKeyFile(pair.a.settings.api_keys_path)
        await pair.until_requests_at(pair.a, before := 4)
        for wrong in ("coafi_000000000000_" + "0" * 64, api_key(pair.a.settings, "reads", "reader").get_secret_value()):
            put_token(pair.token, SecretStr(wrong))
            refused = await pair.put(name, {"n": 2}, Prefer="wait=2", **{"Idempotency-Key": "later"})
            assert refused.status_code == 202, refused.text
        assert (await pair.get("entry", registryId="AERO", entryId=name)).status_code == 200, "a reader may read"
        assert await pair.requests_at(pair.a) == before, "no run there refuses it for good"
        put_token(pair.token, keys.add("writes", ("editor",), expires=None)[1])
        run = pair.b.handle(run_of(refused))
        assert (await finished(run)).phase is Phase.PROCESSED
        assert [one["version"] for one in pair.changes_at(pair.a, name)] == [1, 2]
        for stack in (pair.a, pair.b):
            await asyncio.to_thread(stack.verify)


async def test_a_change_parks_when_its_patience_ends(tmp_path: Path) -> None:
    async with running_stack(
        tmp_path,
        registry_api_url=f"http://127.0.0.1:{free_port()}",
        registry_api_token=SecretStr("any"),
        api_patience=1.0,
    ) as stack:
        bearer = {"Authorization": f"Bearer {api_key(stack.settings).get_secret_value()}"}
        async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=bearer, timeout=70) as http:
            body = {"registryId": "AERO", "entryId": "wing", "data": {}}
            response = await http.post("/registry/update", json=body)
            assert (response.status_code, response.json()["phase"]) == (202, "PARKED")
            failure = (await stack.state(stack.handle(run_of(response)))).failure
            assert failure is not None
            assert (failure.step, failure.error) == ("api.operate", "Unavailable")
            assert "REGISTRY_API_URL" in failure.message


@contextmanager
def two_that_name_each_other(home: Path) -> Iterator[tuple[str, str]]:
    one, two = free_port(), free_port()
    keys = [f"{home}/token-1", f"{home}/token-2"]

    def settings(port: int, other: int, key: str) -> dict[str, Any]:
        return {
            "gateway_port": port,
            "registry_api_url": f"http://127.0.0.1:{other}",
            "registry_api_token_file": Path(key),
        }

    with (
        served(home / "one", **settings(one, two, keys[0])) as first,
        served(home / "two", **settings(two, one, keys[1])) as second,
    ):
        put_token(Path(keys[0]), api_key(second.resources.settings))
        put_token(Path(keys[1]), api_key(first.resources.settings))
        yield first.url, second.url


def test_two_instances_that_name_each_other_say_so_at_once(tmp_path: Path) -> None:
    with two_that_name_each_other(tmp_path) as urls:
        for url, token in zip(urls, ("token-2", "token-1"), strict=True):
            key = (tmp_path / token).read_text()
            asked = {"registryId": "AERO", "entryId": "wing"}
            with httpx.Client(base_url=f"{url}/api", headers={"Authorization": f"Bearer {key}"}, timeout=20) as http:
                answer = http.get("/registry/entry", params=asked)
                assert answer.status_code == 503
                assert "421: this instance uses the registry of another one itself" in answer.json()["detail"]
                assert "REGISTRY_API_URL" in answer.json()["detail"]
                assert http.get("/registry/schemas").status_code == 503
            with remote_registry(url, SecretStr(key)) as registry:
                with pytest.raises(Unavailable, match="421"):
                    registry.get(RegistryId.AERO, "wing")
                update = EntryUpdate.parse({**asked, "data": {}})
                with pytest.raises(Unavailable, match="421"), registry.change(update, origin()):
                    pass


def test_a_home_with_entries_of_its_own_keeps_to_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_resources(settings_for(tmp_path)) as resources:
        desk(resources.registry, resources.ledger, resources.database, home).put("wing", {})
    said = coafi("gateway", home=home, url="http://127.0.0.1:1", token="x", code=1)
    assert "has entries of its own, and REGISTRY_API_URL names another registry" in said.replace("\n", " ")
    said = coafi("gateway", home=tmp_path / "other", url="http://127.0.0.1:1", token="", code=1)
    assert "REGISTRY_API_TOKEN or REGISTRY_API_TOKEN_FILE must be too" in said.replace("\n", " ")


@pytest.mark.also_in_soak  # there each command is a process
async def test_the_commands_read_the_registry_of_another_instance(tmp_path: Path) -> None:
    async with running_stack(tmp_path / "a") as a:
        key = api_key(a.settings).get_secret_value()
        async with httpx.AsyncClient(
            base_url=f"{a.gateway}/api", headers={"Authorization": f"Bearer {key}"}, timeout=70
        ) as http:
            for n in (1, 2):
                await http.post("/registry/update", json={"registryId": "AERO", "entryId": "wing", "data": {"n": n}})

        async def asked(*arguments: str, code: int = 0, token: str = key) -> Any:
            said = await asyncio.to_thread(
                coafi, "registry", *arguments, home=tmp_path / "b", url=a.gateway, token=token, code=code
            )
            return json.loads(said) if "--json" in arguments and not code else said

        assert (await asked("show", "AERO", "wing", "--json"))["data"] == {"n": 2}
        assert [one["version"] for one in await asked("history", "AERO", "wing", "--json")] == [2, 1]
        assert (await asked("diff", "AERO", "wing", "1", "2", "--json"))["patch"][0]["value"] == 2
        assert [one["entryId"] for one in (await asked("search", "wing", "--json"))["entries"]] == ["wing"]
        assert "wing" in await asked("list", "--registry", "AERO")
        assert "there is no entry AERO/tail" in await asked("show", "AERO", "tail", code=1)
        assert "REGISTRY_API_TOKEN" in await asked("show", "AERO", "wing", code=1, token="nonsense")

        using = {"home": tmp_path / "b", "registry_api_url": a.gateway, "registry_api_token": SecretStr(key)}
        with open_resources(settings_for(tmp_path).model_copy(update=using)):
            shipped = {one.schema_id: one for one in builtin_schemas()}["frontmatter.general"]
        proposed = tmp_path / "proposed.json"
        for version, code, said in (("9.0.0", 0, "0 documents"), ("0.0.1", 1, f"after {shipped.version}")):
            urn = f"urn:coafi:schema:frontmatter.general:{version}"
            proposed.write_text(json.dumps({**shipped.document, "$id": urn}))
            assert said in await asked("impact", "frontmatter.general", str(proposed), code=code)
        proposed.write_text(json.dumps({**shipped.document, "title": "another"}))
        assert "with other content" in await asked("impact", "frontmatter.general", str(proposed), code=1)


def coafi(*arguments: str, home: Path, url: str, token: str, code: int = 0) -> str:
    """What a command of an instance that uses the registry at ``url`` prints; its error, if it fails."""
    environment = {
        **os.environ,
        "COAFI_HOME": str(home),
        "COAFI_TEMPORAL_ADDRESS": "127.0.0.1:1",
        "REGISTRY_API_URL": url,
        "REGISTRY_API_TOKEN": token,
        "COLUMNS": "300",
    }
    done = command(arguments, environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    return (done.stderr if code else done.stdout).decode()
