"""The gateway keeps to its OpenAPI document: every example is sent, and every answer held against it."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio

from coafi.api.examples import ENTRY, REGISTRY, examples, ordered
from coafi.api.openapi import SAMPLES
from coafi.api.routes import BY_ENDPOINT, ROUTES, Operation
from coafi.deliveries import DeliveryReader
from coafi.utids import entry_utids, naming_utids
from tests.harness import Stack, running_stack
from tests.starters.api_support import PROBLEM, Promise, caller, send, settled

MAX_BODY = 20_000

UPDATE: dict[str, object] = {"registryId": "SPACE", "entryId": "probe", "data": {"name": "Probe"}}


class Api(NamedTuple):
    """A service, a caller who may do everything and has sent the examples, and what was promised and answered."""

    stack: Stack
    client: httpx.AsyncClient
    promise: Promise
    answers: dict[Operation, httpx.Response]


@pytest_asyncio.fixture(scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    home = tmp_path_factory.mktemp("api")
    async with (
        running_stack(home, git_hosts=("git.example",), api_max_body_bytes=MAX_BODY) as stack,
        caller(stack) as client,
        httpx.AsyncClient(base_url=stack.gateway) as anybody,
    ):
        promise = Promise((await anybody.get("/openapi.json")).json())
        answers = {route.operation: await send(client, route, example) for route, example in ordered()}
        yield Api(stack, client, promise, answers)


@pytest.mark.parametrize("operation", Operation)
async def test_an_example_gets_the_answer_that_the_document_shows(api: Api, operation: Operation) -> None:
    (route,) = [one for one in ROUTES if one.operation is operation]
    answer, example = api.answers[operation], examples()[operation]
    assert answer.status_code == example.status, answer.text
    api.promise.check(route.path, route.method, answer)
    assert ("coafi-event" in answer.headers) == route.durable
    assert settled(answer.json()) == settled(example.body)


def shell(text: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", text], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )


async def test_the_curl_of_an_example_gets_the_same_answer(api: Api) -> None:
    owner = api.client.headers["authorization"].removeprefix("Bearer ")
    for route in ROUTES:
        (sample,) = api.promise.document["paths"][route.path][route.method.lower()][SAMPLES]
        # The same keys of the same caller: what changes something gives the stored answer.
        done = await asyncio.to_thread(shell, sample["source"], GATEWAY=api.stack.gateway, KEY=owner)
        assert done.returncode == 0, done.stderr
        expected = settled(examples()[route.operation].body)
        if route.operation is Operation.START_WORKFLOW:
            expected["existed"] = True
        assert settled(json.loads(done.stdout)) == expected, route.path


async def test_what_is_not_answered_in_time_is_accepted_as_promised(api: Api) -> None:
    answer = await api.client.post("/api/registry/update", json=UPDATE, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    api.promise.check("/api/registry/update", "POST", answer)
    assert answer.headers["preference-applied"] == "wait=0"
    event = await api.client.get(answer.headers["location"])
    api.promise.check("/api/event/{id}", "GET", event)


@pytest.mark.parametrize("path", ["/api/registry/entry", "/api/registry/schemas"])
async def test_what_the_caller_has_is_not_sent_again(api: Api, path: str) -> None:
    target = f"{path}?registryId={REGISTRY}&entryId={ENTRY}" if path.endswith("entry") else path
    first = await api.client.get(target)
    again = await api.client.get(target, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    api.promise.check(path, "GET", again)


async def test_every_refusal_is_as_promised(api: Api) -> None:
    update, body = "/api/registry/update", json.dumps(UPDATE)
    typed = {"content-type": "application/json"}
    refused: list[tuple[int, str, str, httpx.Response]] = []

    async def post(status: int, path: str, content: str, **headers: str) -> None:
        answer = await api.client.post(path, content=content, headers={**typed, **headers})
        refused.append((status, path, "POST", answer))

    await post(400, update, "{bad")
    await post(400, update, body, **{"If-Match": "1"})
    await post(400, update, body, **{"If-Match": '"1"', "If-None-Match": "*"})
    await post(400, "/api/workflow/start", body, **{"Idempotency-Key": '""'})
    await post(401, update, body, authorization="Bearer nobody")
    await post(404, "/api/registry/status", '{"registryId": "AERO", "entryId": "none", "status": "Review"}')
    await post(404, "/api/schema/validate", '{"schemaId": "none", "data": 1}')
    await post(412, update, json.dumps({**UPDATE, "registryId": REGISTRY, "entryId": ENTRY}), **{"If-Match": '"1"'})
    await post(413, update, json.dumps({**UPDATE, "data": {"text": "x" * MAX_BODY}}))
    await post(415, update, body, **{"content-type": "text/plain"})
    await post(422, update, "[]")
    await post(422, update, '{"registryId": "MOON", "data": 4}')
    await post(422, "/api/registry/status", f'{{"registryId": "AERO", "entryId": "{ENTRY}", "status": "Integration"}}')
    await post(422, update, body, **{"Idempotency-Key": examples()[Operation.UPDATE_ENTRY].headers["Idempotency-Key"]})
    await post(431, update, body, **{"X-Long": "x" * 33_000})
    reads = {
        "/api/registry/entry": ["?registryId=AERO&entryId=none", "?registryId=MOON"],
        "/api/registry/entries": ["", "?limit=0", "?limit=1&limit=2", "?cursor=none", "?owner=%00"],
        "/api/registry/history": ["?registryId=AERO&entryId=none", "?entryId=none"],
        "/api/registry/schemas": ["?x=1"],
        "/api/registry/schema": ["?schemaId=none", "?schemaId=GitCommitEventPayload&version=1"],
        "/api/registry/diff": [f"?registryId=AERO&entryId={ENTRY}&old=1&new=9", "?old=x"],
        "/api/workflow/status": ["?workflowId=none", ""],
        "/api/event/{id}": ["none", "x" * 2_001],
        "/utids/{id}": [naming_utids("nobody"), "UTIDS-P-U"],
    }
    expected = {
        "/api/registry/entries": [200, 422, 422, 422, 422],
        "/api/registry/schemas": [422],
        "/api/event/{id}": [404, 400],
        "/utids/{id}": [404, 400],
    }
    for path, queries in reads.items():
        for status, query in zip(expected.get(path, [404, 422]), queries, strict=True):
            refused.append((status, path, "GET", await api.client.get(path.replace("{id}", "") + query)))
    for status, path, method, answer in refused:
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        api.promise.check(path, method, answer)
        assert status == 200 or answer.headers["content-type"] == PROBLEM


async def test_the_permission_that_the_document_names_is_the_one_that_is_needed(api: Api) -> None:
    async with caller(api.stack, "nobody", "none-at-all") as nobody:
        for route, example in ordered():
            answer = await send(nobody, route, example)
            assert answer.status_code == 403, route.path
            api.promise.check(route.path, route.method, answer)
            permission = api.promise.document["paths"][route.path][route.method.lower()]["x-coafi-permission"]
            assert permission in answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
async def test_a_method_that_is_not_there_is_told_which_are(api: Api, method: str) -> None:
    for methods in BY_ENDPOINT.values():
        (route,) = methods.values()
        if method == route.method or (method == "HEAD" and route.method == "GET"):
            continue
        answer = await api.client.request(method, route.path.replace("{id}", "x"))
        assert answer.status_code == 405, (method, route.path)
        assert answer.headers["allow"] == ("GET, HEAD" if route.method == "GET" else "POST")
        if method != "HEAD":
            api.promise.check_problem("MethodNotAllowed", answer)
    for path in ("/api/", "/openapi.json"):
        answer = await api.client.request(method, path)
        if method not in ("GET", "HEAD"):
            assert answer.status_code == 405
            assert {*answer.headers["allow"].split(", ")} == {"GET", "HEAD"}
            api.promise.check_problem("MethodNotAllowed", answer)


@pytest.mark.parametrize("path", ["/api/none", "/api/registry", "/api/event/", "/api/utids/x", "/utids/", "/api/event"])
async def test_an_endpoint_that_is_not_there_is_a_problem(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.status_code == 404
    api.promise.check_problem("NotFound", answer)


@pytest.mark.parametrize(("path", "media_type"), [("/openapi.json", "application/json"), ("/api/", "text/html")])
async def test_what_the_api_can_do_is_told_to_everybody_and_cached(api: Api, path: str, media_type: str) -> None:
    async with httpx.AsyncClient(base_url=api.stack.gateway) as anybody:
        first = await anybody.get(path)
        assert first.status_code == 200
        assert first.headers["content-type"].startswith(media_type)
        assert first.headers["cache-control"] == "public, max-age=60"
        assert first.headers["x-content-type-options"] == "nosniff"
        assert (await anybody.head(path)).headers["etag"] == first.headers["etag"]
        for known in (first.headers["etag"], f"W/{first.headers['etag']}", "*", f'"x", {first.headers["etag"]}'):
            again = await anybody.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
        assert (await anybody.get(path, headers={"If-None-Match": '"x"'})).content == first.content
        assert (await anybody.get("/api")).headers["location"].endswith("/api/")


async def test_a_utids_leads_to_an_event_from_either_of_its_ids(api: Api) -> None:
    event = api.answers[Operation.READ_EVENT].json()
    found = (await api.client.get(f"/utids/{event['utids']}")).json()
    assert found["kind"] == "event"
    assert found["names"]["id"] == event["eventId"]
    assert found["origin"]["principal"] == "key:ci"
    indices = [number for one in found["entries"] for number in range(one["first"], one["last"] + 1)]
    assert indices == event["entries"]
    delivery = DeliveryReader(api.stack.resources.database).by_utids(event["utids"])
    assert delivery is not None
    temporary = delivery.temporary_utids
    assert temporary is not None
    assert temporary.startswith("UTIDS-T-")
    assert (await api.client.get(f"/utids/{temporary}")).json() == {**found, "utids": temporary}


async def test_who_may_resolve_a_utids_needs_its_own_permission(api: Api) -> None:
    path = f"/utids/{entry_utids(REGISTRY, ENTRY)}"
    async with httpx.AsyncClient(base_url=api.stack.gateway) as anybody:
        answer = await anybody.get(path)
        assert answer.status_code == 401
        api.promise.check("/utids/{id}", "GET", answer)
    async with caller(api.stack, "reader", "reader") as reader:
        assert (await reader.get(path)).status_code == 200


async def test_a_request_that_says_twice_who_asks_is_refused(api: Api) -> None:
    valid = api.client.headers["authorization"]
    async with httpx.AsyncClient(base_url=api.stack.gateway) as twice:
        for second in (valid, "Bearer nobody"):
            given = [("Authorization", valid), ("Authorization", second)]
            answer = await twice.get("/api/registry/entries", headers=given)
            assert answer.status_code == 401
            api.promise.check("/api/registry/entries", "GET", answer)


async def test_who_asks_too_often_is_told_when_to_come_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("rates")
    async with running_stack(home, workers=False, api_rate=0.1, api_burst=1) as stack, caller(stack) as client:
        promise = Promise((await client.get("/openapi.json")).json())
        assert (await client.get("/api/registry/entries")).status_code == 200
        answer = await client.get("/api/registry/entries")
        assert answer.status_code == 429
        promise.check("/api/registry/entries", "GET", answer)
        stack.server.stop()
        async with caller(stack, "another") as another:
            answer = await another.post("/api/registry/update", json=UPDATE, headers={"Prefer": "wait=1"})
        assert answer.status_code == 503, answer.text
        promise.check("/api/registry/update", "POST", answer)
