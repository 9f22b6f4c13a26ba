"""The API of a running service, by HTTP and with real keys: what it does, refuses and leaves behind."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import pytest_asyncio
from temporalio.api.enums.v1 import EventType as HistoryEventType

from coafi.api.routes import ROUTES, Route
from coafi.auth.apikeys import ApiKeyFile
from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.names import EntryType, Phase
from coafi.registry.entry import RegistryId
from coafi.registry.reader import EntryReader
from starters.api_requests import LONGEST_WAIT
from tests.harness import Stack, running_stack, until
from workflows.lifecycle import Receipt

MAX_BODY = 20_000
Ask = Callable[..., Any]


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service with a small limit for bodies."""
    async with running_stack(
        tmp_path_factory.mktemp("api"), api_max_body_bytes=MAX_BODY, api_rate=10_000.0, api_burst=10_000
    ) as running:
        yield running


def key_for(stack: Stack, *roles: str, expires: datetime | None = None) -> str:
    """A new API key, for somebody of a new name."""
    keys = ApiKeyFile(stack.settings.api_keys_path)
    return keys.add(f"test-{uuid.uuid4().hex[:8]}", roles, expires=expires)[1].get_secret_value()


@pytest_asyncio.fixture(scope="module")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client who may do everything."""
    bearer = {"Authorization": f"Bearer {key_for(stack, 'admin')}"}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=bearer, timeout=70) as client:
        yield client


def entry(**changes: Any) -> JsonObject:
    """A request for a new entry."""
    return {"registryId": "AERO", "entryId": f"E-{uuid.uuid4().hex}", "data": {"name": "wing"}, **changes}


def url(http: httpx.AsyncClient, route: Route) -> httpx.URL:
    """Where a route is, with an id if it takes one."""
    return http.base_url.copy_with(path=route.path.replace("{id}", "x"))


def problem(response: httpx.Response, status: int) -> JsonObject:
    """A refusal, which must be a problem after RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: JsonObject = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def pointers(body: JsonObject) -> list[str]:
    """The places that a problem names."""
    errors = body["errors"]
    assert isinstance(errors, list)
    return [str(one["pointer"]) for one in errors if isinstance(one, dict)]


def workflow_of(response: httpx.Response) -> str:
    """The run that answered."""
    return unquote(response.headers["coafi-event"].removeprefix("/api/event/"))


# ---------------------------------------------------------------------- what it does


async def test_an_update_is_a_run_with_its_entries_and_answers_at_once(stack: Stack, http: httpx.AsyncClient) -> None:
    asked = entry(tags=["core"], owner="ada")
    response = await http.post("/registry/update", json=asked)
    assert response.status_code == 201
    made = response.json()
    assert (made["version"], made["status"], made["owner"], made["tags"]) == (1, "Submission", "ada", ["core"])
    assert response.headers["etag"] == '"1"'
    run = stack.handle(workflow_of(response))
    receipt: Receipt = await run.result()
    assert receipt.phase is Phase.PROCESSED
    entries = [stack.resources.ledger.entry(i).entry for r in receipt.entries for i in range(r.first, r.last + 1)]
    assert [one.type for one in entries] == [
        EntryType.EVENT_RECEIVED,
        EntryType.REGISTRY_ENTRY_CHANGED,
        EntryType.EVENT_PROCESSED,
    ]
    changed = entries[1].data
    assert (changed["registryId"], changed["entryId"], changed["version"]) == ("AERO", asked["entryId"], 1)
    assert changed["digest"] == sha256(canonical_json({"name": "wing"}))
    assert "data" not in changed
    assert made["ledgerEntry"] == receipt.entries[0].first + 1
    kinds = [HistoryEventType.Name(event.event_type) for event in (await run.fetch_history()).events]
    assert len(kinds) == 12, kinds
    assert not any("ACTIVITY_TASK" in kind for kind in kinds)


async def test_an_answer_to_a_write_says_the_same_as_a_read_afterwards(http: httpx.AsyncClient) -> None:
    made = (await http.post("/registry/update", json=(asked := entry()))).json()
    where = {"registryId": "AERO", "entryId": str(asked["entryId"])}
    found = await http.get("/registry/entry", params=where)
    assert found.json() == made
    unchanged = await http.get("/registry/entry", params=where, headers={"If-None-Match": found.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_reads_start_no_run_and_record_nothing(stack: Stack, http: httpx.AsyncClient) -> None:
    asked = entry()
    await http.post("/registry/update", json=asked)
    size = stack.resources.ledger.size()
    where = {"registryId": "AERO", "entryId": str(asked["entryId"])}
    for path, query in (
        ("/registry/entry", where),
        ("/registry/entry", {**where, "version": "1"}),
        ("/registry/history", where),
        ("/registry/diff", {**where, "old": "1", "new": "1"}),
        ("/registry/entries", {"registryId": "AERO", "limit": "5"}),
    ):
        response = await http.get(path, params=query)
        assert response.status_code == 200, response.text
    checked = await http.post("/schema/validate", json={"schemaId": "GitCommitEventPayload", "data": {"branch": 1}})
    assert checked.json()["valid"] is False
    assert {"/branch", ""} == {one["pointer"] for one in checked.json()["violations"]}
    assert stack.resources.ledger.size() == size


async def test_an_entry_goes_through_its_life_step_by_step(http: httpx.AsyncClient) -> None:
    asked = entry()
    await http.post("/registry/update", json=asked)
    name = {"registryId": "AERO", "entryId": str(asked["entryId"])}
    refused = problem(await http.post("/registry/status", json={**name, "status": "Integration"}), 422)
    assert pointers(refused) == ["/status"]
    for status in ("Review", "Approval", "Integration"):
        moved = await http.post("/registry/status", json={**name, "status": status, "reason": "fine"})
        assert moved.json()["status"] == status
    assert moved.json()["integratedVersion"] == 4
    again = (await http.post("/registry/update", json={**asked, "data": {"name": "flap"}})).json()
    assert (again["status"], again["version"], again["integratedVersion"]) == ("Submission", 5, 4)
    patch = (await http.get("/registry/diff", params={**name, "old": 4, "new": 5})).json()["patch"]
    assert {"op": "replace", "path": "/data/name", "value": "flap"} in patch


async def test_work_is_started_once_and_its_event_names_the_request_as_its_cause(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    asked = {
        "workflow": "GitCommitWorkflow",
        "input": {"repositoryUrl": "https://127.0.0.1:1/nobody", "commitSha": uuid.uuid4().hex + "0" * 8},
    }
    first = await http.post("/workflow/start", json=asked)
    assert first.status_code == 201, first.text
    second = await http.post("/workflow/start", json=asked)
    assert (second.status_code, second.json()["existed"]) == (200, True)
    started = first.json()["workflowId"]
    assert second.json()["workflowId"] == started

    async def recorded() -> bool:
        return any(one.entry.workflow_id == started for one in stack.entries(EntryType.EVENT_RECEIVED))

    await until(recorded)
    data = next(one.entry.data for one in stack.entries(EntryType.EVENT_RECEIVED) if one.entry.workflow_id == started)
    assert (data["causationId"], data["causationDepth"]) == (workflow_of(first), 1)
    status = await http.get("/workflow/status", params={"workflowId": started})
    assert status.json()["type"] == "GitCommitWorkflow"


# ---------------------------------------------------------------------- once


async def test_the_same_key_gets_the_stored_answer_also_when_temporal_has_forgotten(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    asked, key = entry(), {"Idempotency-Key": f'"{uuid.uuid4()}"'}
    first = await http.post("/registry/update", json=asked, headers=key)
    reordered = dict(reversed(asked.items()))
    second = await http.post("/registry/update", json=reordered, headers=key)
    assert (second.status_code, second.json(), second.headers["etag"]) == (201, first.json(), '"1"')
    await stack.forget(workflow_of(first))
    third = await http.post("/registry/update", json=asked, headers=key)
    assert (third.status_code, third.json()) == (201, first.json())
    other = problem(await http.post("/registry/update", json={**asked, "data": {}}, headers=key), 422)
    assert "Idempotency-Key" in str(other["detail"])
    elsewhere = {**asked, "status": "Review"}
    problem(await http.post("/registry/status", json=elsewhere, headers=key), 422)


async def test_a_refusal_is_stored_too(stack: Stack, http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    asked = {"registryId": "AERO", "entryId": "nobody", "status": "Review"}
    first = problem(await http.post("/registry/status", json=asked, headers=key), 404)
    size = stack.resources.ledger.size()
    assert problem(await http.post("/registry/status", json=asked, headers=key), 404) == first
    assert stack.resources.ledger.size() == size


async def test_many_requests_with_one_key_at_once_are_one(stack: Stack, http: httpx.AsyncClient) -> None:
    asked, key = entry(), {"Idempotency-Key": str(uuid.uuid4())}
    answers = await asyncio.gather(*(http.post("/registry/update", json=asked, headers=key) for _ in range(12)))
    assert {one.status_code for one in answers} <= {201, 202}
    assert len({one.text for one in answers if one.status_code == 201}) == 1
    reader = EntryReader(stack.resources.database)
    assert len(reader.history(RegistryId.AERO, str(asked["entryId"]))) == 1


async def test_keys_are_the_callers_own(stack: Stack, http: httpx.AsyncClient) -> None:
    asked, key = entry(), {"Idempotency-Key": str(uuid.uuid4())}
    await http.post("/registry/update", json=asked, headers=key)
    other = {**key, "Authorization": f"Bearer {key_for(stack, 'editor')}"}
    second = await http.post("/registry/update", json=asked, headers=other)
    assert (second.status_code, second.json()["version"]) == (200, 2)


async def test_of_two_writers_who_saw_the_same_version_one_wins(stack: Stack, http: httpx.AsyncClient) -> None:
    asked = entry()
    await http.post("/registry/update", json=asked)
    seen = {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *(http.post("/registry/update", json={**asked, "data": {"by": n}}, headers=seen) for n in range(6))
    )
    assert sorted(one.status_code for one in answers) == [200, *[412] * 5]
    assert "version 2" in str(problem(next(one for one in answers if one.status_code == 412), 412)["detail"])
    created = {"If-None-Match": "*"}
    problem(await http.post("/registry/update", json=asked, headers=created), 412)
    assert len(EntryReader(stack.resources.database).history(RegistryId.AERO, str(asked["entryId"]))) == 2


# ---------------------------------------------------------------------- late answers


async def test_a_caller_who_does_not_wait_finds_the_answer_at_the_status_url(http: httpx.AsyncClient) -> None:
    for prefer in ("wait=0", "respond-async"):
        late = await http.post("/registry/update", json=(asked := entry()), headers={"Prefer": prefer})
        assert late.status_code == 202
        assert late.headers["preference-applied"] == prefer
        place = str(late.headers["location"]).removeprefix("/api")

        async def answered(place: str = place) -> bool:
            found = await http.get(place)
            return found.status_code == 200 and found.json()["phase"] == "PROCESSED"

        await until(answered)
        event = (await http.get(place)).json()
        assert event["answer"]["status"] == 201
        assert event["answer"]["body"]["entryId"] == asked["entryId"]
        assert len(event["entries"]) == 3


async def test_a_wait_is_bounded_and_said(http: httpx.AsyncClient) -> None:
    made = await http.post("/registry/update", json=entry(), headers={"Prefer": "wait=100000"})
    assert (made.status_code, made.headers["preference-applied"]) == (201, f"wait={LONGEST_WAIT:.0f}")


async def test_a_request_is_kept_while_no_worker_runs_and_is_done_once_one_does(tmp_path: Any) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        bearer = {"Authorization": f"Bearer {key_for(stack, 'admin')}", "Idempotency-Key": "one"}
        async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=bearer, timeout=70) as client:
            asked = entry()
            late = await client.post("/registry/update", json=asked, headers={"Prefer": "wait=1"})
            assert late.status_code == 202
            other = {**asked, "data": {"name": "flap"}}
            for wait in ("0", "1"):
                refused = await client.post("/registry/update", json=other, headers={"Prefer": f"wait={wait}"})
                assert "Idempotency-Key" in str(problem(refused, 422)["detail"])
            from workers.wiring import running_workers

            async with running_workers(stack.client, stack.resources):
                done = await client.post("/registry/update", json=asked, headers={"Prefer": "wait=30"})
                assert (done.status_code, done.json()["version"]) == (201, 1)


# ---------------------------------------------------------------------- who may ask


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic YWRhOmFkYQ==", "Bearer " + "x" * 9000])
async def test_nobody_gets_in_without_a_valid_token(stack: Stack, authorization: str) -> None:
    size = stack.resources.ledger.size()
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api") as client:
        for route in ROUTES:
            path = url(client, route)
            response = await client.request(route.method, path, headers={"Authorization": authorization})
            problem(response, 401)
            assert response.headers["www-authenticate"].startswith("Bearer")
    assert stack.resources.ledger.size() == size


async def test_keys_that_were_revoked_or_have_expired_are_refused_at_once(stack: Stack) -> None:
    keys = ApiKeyFile(stack.settings.api_keys_path)
    stored, secret = keys.add("gone", ("reader",), expires=None)
    expired = key_for(stack, "reader", expires=datetime.now(UTC) - timedelta(seconds=1))
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api") as client:

        async def ask(key: str) -> httpx.Response:
            return await client.get("/registry/entries", headers={"Authorization": f"Bearer {key}"})

        assert (await ask(secret.get_secret_value())).status_code == 200
        keys.revoke(stored.name)
        problem(await ask(secret.get_secret_value()), 401)
        problem(await ask(expired), 401)


async def test_a_missing_permission_is_named_and_the_run_records_the_refusal(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {key_for(stack, 'reader')}"}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=headers, timeout=30) as client:
        assert (await client.get("/registry/entries")).status_code == 200
        refused = await client.post("/registry/update", json=entry())
        assert "api:registry/update:POST" in str(problem(refused, 403)["detail"])
        event = (await client.get(refused.headers["coafi-event"].removeprefix("/api"))).json()
        assert (event["phase"], event["answer"]["status"]) == ("REJECTED", 403)
        types = [stack.resources.ledger.entry(index).entry.type for index in event["entries"]]
        assert types == [EntryType.EVENT_RECEIVED, EntryType.EVENT_REJECTED]
    nobody = {"Authorization": f"Bearer {key_for(stack)}"}
    async with httpx.AsyncClient(base_url=f"{stack.gateway}/api", headers=nobody) as client:
        assert "api:registry/entries:GET" in str(problem(await client.get("/registry/entries"), 403)["detail"])
        problem(await client.get(refused.headers["coafi-event"].removeprefix("/api")), 403)


async def test_a_caller_who_asks_too_often_is_told_when_to_come_back(tmp_path: Any) -> None:
    async with running_stack(tmp_path, workers=False, api_rate=0.5, api_burst=3) as stack:
        first, second = ({"Authorization": f"Bearer {key_for(stack, 'reader')}"} for _ in range(2))
        async with httpx.AsyncClient(base_url=f"{stack.gateway}/api") as client:
            answers = [await client.get("/registry/entries", headers=first) for _ in range(4)]
            assert [one.status_code for one in answers] == [200, 200, 200, 429]
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
            problem(answers[-1], 429)
            assert (await client.get("/registry/entries", headers=second)).status_code == 200


# ---------------------------------------------------------------------- what it refuses


async def test_unknown_endpoints_and_wrong_methods(http: httpx.AsyncClient) -> None:
    for path in ("/registry", "/registry/nothing", "/event", "/event/", "/registry/update/", "/%00"):
        problem(await http.get(path), 404)
    for route in ROUTES:
        response = await http.put(url(http, route))
        problem(response, 405)
        assert response.headers["allow"] == ("GET, HEAD" if route.method == "GET" else "POST")


async def test_every_violation_of_a_body_is_named_with_its_place(http: httpx.AsyncClient) -> None:
    asked = {"registryId": "NOWHERE", "entryId": "-", "data": [], "class": "Huge", "tags": ["x", ""], "more": 1}
    body = problem(await http.post("/registry/update", json=asked), 422)
    assert set(pointers(body)) == {"/registryId", "/entryId", "/data", "/class", "/tags/1", ""}
    query = {"registryId": "AERO", "entryId": "x", "version": "one", "other": "y"}
    assert set(pointers(problem(await http.get("/registry/entry", params=query), 422))) == {"/version", ""}
    twice: list[tuple[str, str | int | float | bool | None]] = [
        ("registryId", "AERO"),
        ("registryId", "SPACE"),
        ("entryId", "x"),
    ]
    assert pointers(problem(await http.get("/registry/entry", params=twice), 422)) == ["/registryId"]


async def test_types_of_workflow_that_may_not_be_started_are_refused(http: httpx.AsyncClient) -> None:
    body = problem(await http.post("/workflow/start", json={"workflow": "APIRequestWorkflow", "input": {}}), 422)
    assert "/workflow" in pointers(body)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b'{"a": 1, "a": 2}', "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b"[" * 5_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b'{"data": "' + b"x" * MAX_BODY + b'"}', "application/json", 413),
        (b"x" * 10_000_000, "application/json", 413),
    ],
)
async def test_bodies_that_are_none(
    stack: Stack, http: httpx.AsyncClient, content: bytes, content_type: str, status: int
) -> None:
    size = stack.resources.ledger.size()
    problem(await http.post("/registry/update", content=content, headers={"Content-Type": content_type}), status)
    assert stack.resources.ledger.size() == size


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("If-Match", "4"),
        ("If-Match", '"1", "2"'),
        ("If-Match", '"x"'),
        ("If-None-Match", '"1"'),
        ("Idempotency-Key", '""'),
        ("Idempotency-Key", "x" * 300),
        ("Idempotency-Key", "a b"),
        ("Idempotency-Key", '"a'),
    ],
)
async def test_headers_that_mean_nothing(http: httpx.AsyncClient, header: str, value: str) -> None:
    problem(await http.post("/registry/update", json=entry(), headers={header: value}), 400)


async def test_headers_that_are_too_large_are_refused(http: httpx.AsyncClient) -> None:
    problem(await http.get("/registry/entries", headers={"X-Filler": "x" * 40_000}), 431)
    with contextlib.suppress(httpx.ReadError, httpx.WriteError):  # it does not read on
        assert (await http.get("/registry/entries", headers={"X-Filler": "x" * 1_000_000})).status_code == 400


async def test_an_unknown_event_or_run_is_not_found(http: httpx.AsyncClient) -> None:
    problem(await http.get("/event/nobody"), 404)
    problem(await http.get("/workflow/status", params={"workflowId": "nobody"}), 404)
    problem(await http.post("/schema/validate", json={"schemaId": "nothing", "data": 1}), 404)
