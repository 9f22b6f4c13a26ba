"""The HTTP gateway of a running service: what it takes, what it refuses, and that a refusal leaves no trace."""

import asyncio
import hashlib
import hmac
import json
import math
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.dispatch import Dispatcher
from coafi.canonical import JsonObject, sha256
from coafi.commits import source_of
from coafi.deliveries import DeliveryReader
from coafi.errors import IntegrityError, LedgerUnavailable, Unavailable
from coafi.names import EntryType, EventType, Phase, workflow_id
from coafi.webhooks import github
from starters.gateway import Gateway
from starters.run_counts import RunCounts
from tests.coafi.objects.files import object_file
from tests.harness import SECRET, Repository, Stack, documents, push_payload, running_stack, until
from tests.starters.conftest import MAX_BODY
from tests.strength import examples
from workers.client import connect

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def signed(body: bytes, *, kind: str = "push", delivery: str | None = None, **more: str) -> dict[str, str]:
    return {
        "X-GitHub-Event": kind,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": github.sign(body, SecretStr(SECRET)),
        **more,
    }


def as_bytes(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a refusal, which must be a problem after RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    detail: str = body["detail"]
    assert detail
    return detail


class Traces:
    """Whether a delivery left anything behind, in Temporal, ledger, deliveries or object store."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.entries = stack.resources.ledger.size()

    async def none(self, payload: JsonObject, body: bytes, delivery: str) -> bool:
        """Whether it left none."""
        repository = payload.get("repository")
        url = repository.get("clone_url") if isinstance(repository, dict) else None
        assert not self.stack.resources.objects.has(sha256(body))
        assert self.stack.resources.ledger.size() == self.entries
        try:
            await self.stack.handle(workflow_id(EventType.GIT_COMMIT, source_of(url), delivery)).describe()
        except RPCError:
            return True
        return False


async def get(stack: Stack, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(f"{stack.gateway}{path}")


async def metric(stack: Stack, name: str, **labels: str) -> float:
    text = (await get(stack, "/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_a_signed_push_is_accepted_and_processed(stack: Stack, repository: Repository) -> None:
    payload = repository.push(documents(2))
    response = await stack.push(payload, delivery="first-delivery")
    assert response.status_code == 202
    answer = response.json()
    assert answer["status"] == "accepted"
    assert answer["redelivery"] is False
    assert answer["workflowId"].endswith(":first-delivery")
    receipt = await stack.handle(answer["workflowId"], answer["runId"]).result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts["files"] == 2
    assert stack.resources.objects.get(sha256(as_bytes(payload))) == as_bytes(payload)


async def test_a_form_encoded_push_is_accepted(stack: Stack, repository: Repository) -> None:
    body = urlencode({"payload": json.dumps(repository.push({"a.json": "{}"}))}).encode()
    headers = signed(body, **{"Content-Type": "application/x-www-form-urlencoded"})
    response = await stack.post(body, headers)
    assert response.status_code == 202
    assert (await stack.handle(response.json()["workflowId"]).result()).phase is Phase.PROCESSED


async def test_a_redelivery_finds_the_run_that_is_open_and_the_run_that_has_ended(
    stack: Stack, repository: Repository
) -> None:
    payload = repository.push({"b.json": "{}"})
    unreachable = push_payload("https://127.0.0.1:1/x", "a" * 40)
    for body, end in ((payload, True), (unreachable, False)):
        delivery = str(uuid.uuid4())
        first = (await stack.push(body, delivery=delivery)).json()
        if end:
            await stack.handle(first["workflowId"]).result()
        again = (await stack.push(body, delivery=delivery)).json()
        assert first["redelivery"] is False
        assert again["redelivery"] is True
        assert (again["workflowId"], again["runId"]) == (first["workflowId"], first["runId"])


async def test_fifty_deliveries_at_once_are_one_run(stack: Stack, repository: Repository) -> None:
    payload = repository.push({"c.json": "{}"})
    delivery = str(uuid.uuid4())
    responses = await asyncio.gather(*(stack.push(payload, delivery=delivery) for _ in range(50)))
    assert {response.status_code for response in responses} == {202}
    answers = [response.json() for response in responses]
    assert len({(answer["workflowId"], answer["runId"]) for answer in answers}) == 1
    assert [answer["redelivery"] for answer in answers].count(False) == 1
    receipt = await stack.handle(answers[0]["workflowId"]).result()
    assert receipt.phase is Phase.PROCESSED
    received = [one for one in stack.entries(EntryType.EVENT_RECEIVED) if one.entry.event_id == delivery]
    assert len(received) == 1
    stack.verify()


async def test_another_body_under_a_known_delivery_id_is_refused(stack: Stack, repository: Repository) -> None:
    delivery = str(uuid.uuid4())
    first = await stack.accepted(repository.push({"d.json": "{}"}), delivery=delivery)
    await first.result()
    size = stack.resources.ledger.size()
    other = repository.push({"d.json": "[]"})
    detail = problem(await stack.push(other, delivery=delivery), 409)
    assert delivery in detail
    assert first.id in detail
    assert stack.resources.ledger.size() == size
    assert not stack.resources.objects.has(sha256(as_bytes(other)))


async def test_another_body_is_refused_also_before_the_first_was_claimed(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=False) as stack:
        first = push_payload("https://git.invalid/x", "a" * 40)
        assert (await stack.push(first, delivery="same")).status_code == 202
        problem(await stack.push(push_payload("https://git.invalid/x", "b" * 40), delivery="same"), 409)
        assert (await stack.push(first, delivery="same")).json()["redelivery"] is True


async def test_what_cannot_be_compared_with_the_body_of_its_run_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run is started for it, so nobody would compare it afterwards."""

    async def busy(*_: object) -> None:
        raise RPCError("namespace rate limit exceeded", RPCStatusCode.RESOURCE_EXHAUSTED, b"")

    async with running_stack(tmp_path, workers=False) as stack:
        first = push_payload("https://git.invalid/x", "a" * 40)
        assert (await stack.push(first, delivery="same")).status_code == 202
        with monkeypatch.context() as overloaded:
            overloaded.setattr(WorkflowHandle, "describe", busy)
            other = await stack.push(push_payload("https://git.invalid/x", "b" * 40), delivery="same")
            problem(other, 503)
            assert other.headers["Retry-After"] == "30"
        assert (await stack.push(first, delivery="same")).status_code == 202


async def test_deliveries_are_accepted_while_the_database_is_out_of_reach(
    stack: Stack, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("no database")

    monkeypatch.setattr(DeliveryReader, "get", fail)
    receipt = await (await stack.accepted(repository.push({"e.json": "{}"}))).result()
    assert receipt.phase is Phase.PROCESSED


async def test_a_redelivery_takes_up_what_a_terminated_run_left(stack: Stack) -> None:
    payload = push_payload("https://git.invalid/x", "a" * 40)
    delivery = str(uuid.uuid4())
    first = (await stack.push(payload, delivery=delivery)).json()
    await stack.handle(first["workflowId"]).terminate("by mistake")
    again = (await stack.push(payload, delivery=delivery)).json()
    assert again["redelivery"] is False
    assert again["workflowId"] == first["workflowId"]
    assert again["runId"] != first["runId"]
    second = stack.handle(again["workflowId"])
    await second.cancel()
    with pytest.raises(WorkflowFailureError):
        await second.result()


async def test_ping_is_answered(stack: Stack) -> None:
    body = as_bytes({"zen": "Keep it logically awesome."})
    response = await stack.post(body, signed(body, kind="ping"))
    assert (response.status_code, response.json()) == (200, {"status": "pong"})


@pytest.mark.parametrize(
    ("kind", "ref"), [("issues", None), ("pull_request", "refs/heads/main"), ("", None), ("push", "refs/tags/v1")]
)
async def test_what_is_authentic_but_not_wanted_is_ignored_without_a_trace(
    stack: Stack, kind: str, ref: str | None
) -> None:
    payload = push_payload("https://github.com/acme/docs", "a" * 40)
    payload = {**payload, "ref": ref, "unique": uuid.uuid4().hex}
    body, traces, delivery = as_bytes(payload), Traces(stack), str(uuid.uuid4())
    before = await metric(stack, "coafi_events_ignored_total")
    response = await stack.post(body, signed(body, kind=kind, delivery=delivery))
    assert response.status_code == 200
    assert response.json()["status"] == "ignored"
    assert await traces.none(payload, body, delivery)
    assert await metric(stack, "coafi_events_ignored_total") == before + 1


@pytest.mark.parametrize("kind", ["push", "ping", "issues"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        {"X-Hub-Signature-256": "garbage"},
        {"X-Hub-Signature-256": "sha256=é"},
        {"X-Hub-Signature-256": github.sign(b"another body", SecretStr(SECRET))},
        {"X-Hub-Signature": "sha1"},
    ],
    ids=["missing", "wrong", "malformed", "not ascii", "of another body", "SHA-1"],
)
async def test_without_the_right_signature_nothing_starts_and_nothing_is_kept(
    stack: Stack, headers: dict[str, str], kind: str
) -> None:
    payload = {**push_payload("https://github.com/acme/docs", "a" * 40), "unique": uuid.uuid4().hex}
    body, traces, delivery = as_bytes(payload), Traces(stack), str(uuid.uuid4())
    if "X-Hub-Signature" in headers:
        headers = {"X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()}
    before = await metric(stack, "coafi_events_refused_total", status="401", source="github")
    raw = {name: value.encode() for name, value in headers.items()}
    response = await stack.post(body, {"X-GitHub-Event": kind, "X-GitHub-Delivery": delivery, **raw})  # type: ignore[dict-item]  # bytes, because one is not ASCII
    assert "X-Hub-Signature-256" in problem(response, 401)
    assert SECRET not in response.text
    assert await traces.none(payload, body, delivery)
    assert await metric(stack, "coafi_events_refused_total", status="401", source="github") == before + 1


async def test_a_secret_that_is_being_rotated_out_still_counts(stack: Stack) -> None:
    gateway = _gateway(stack, secrets=("new", SECRET))
    body = as_bytes({})
    async with _in_process(gateway) as http:
        assert (await http.post("/webhooks/github", content=body, headers=signed(body, kind="ping"))).is_success
        bad = {**signed(body, kind="ping"), "X-Hub-Signature-256": github.sign(body, SecretStr("old"))}
        problem(await http.post("/webhooks/github", content=body, headers=bad), 401)


@pytest.mark.parametrize("delivery", ["", "a" * 129, "two words", "../../etc", "a:b", "ü"])
async def test_a_malformed_delivery_id_is_refused(stack: Stack, delivery: str) -> None:
    payload = {**push_payload("https://github.com/acme/docs", "a" * 40), "unique": uuid.uuid4().hex}
    body, traces = as_bytes(payload), Traces(stack)
    headers = {**signed(body), "X-GitHub-Delivery": delivery.encode()}
    assert "X-GitHub-Delivery" in problem(await stack.post(body, headers), 400)  # type: ignore[arg-type]  # bytes, because one is not ASCII
    assert await traces.none(payload, body, delivery)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b"\xff\xfe{}", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"a": ' * 20_000, "application/json"),
        (b'{"a": ' * 101 + b"1" + b"}" * 101, "application/json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "application/json"),
        (b"payload=", "application/x-www-form-urlencoded"),
        (b"other=1", "application/x-www-form-urlencoded"),
        (b"payload=%FF%FE", "application/x-www-form-urlencoded"),
        (b"\xff", "application/x-www-form-urlencoded"),
        (b"a=1&" * 50, "application/x-www-form-urlencoded"),
        (b"a", "multipart/form-data; boundary=x"),
    ],
)
async def test_a_body_that_holds_no_json_object_is_refused(stack: Stack, body: bytes, content_type: str) -> None:
    size = stack.resources.ledger.size()
    assert "body" in problem(await stack.post(body, signed(body, **{"Content-Type": content_type})), 400)
    assert stack.resources.ledger.size() == size
    assert not stack.resources.objects.has(sha256(body))


async def test_a_body_that_says_it_is_too_large_is_refused_unread(stack: Stack) -> None:
    host = urlsplit(stack.gateway)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 413 " in head.splitlines()[0]
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_turns_out_too_large_is_refused(stack: Stack) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 1):
            yield b"x" * 1000

    before = await metric(stack, "coafi_events_refused_total", status="413")
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.post(f"{stack.gateway}/webhooks/github", content=chunks(), headers=signed(b""))
    assert str(MAX_BODY) in problem(response, 413)
    assert await metric(stack, "coafi_events_refused_total", status="413") == before + 1


async def test_a_body_of_the_largest_size_is_read(stack: Stack) -> None:
    body = b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}'
    assert len(body) == MAX_BODY
    response = await stack.post(body, signed(body, kind="issues"))
    assert response.status_code == 200


async def test_a_body_that_does_not_arrive_in_time_is_refused(stack: Stack) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with _in_process(_gateway(stack, body_timeout=0.1)) as http:
        response = await http.post("/webhooks/github", content=slow(), headers=signed(b""))
    problem(response, 408)


async def test_a_client_that_leaves_mid_body_leaves_nothing_behind(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    size = stack.resources.ledger.size()
    host = urlsplit(stack.gateway)
    for _ in range(5):
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
    await asyncio.sleep(0.2)
    assert (await get(stack, "/health")).status_code == 200
    assert stack.resources.ledger.size() == size
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webhooks/github", 405),
        ("PUT", "/webhooks/github", 405),
        ("POST", "/health", 405),
        ("GET", "/", 404),
        ("POST", "/webhooks/gitlab", 404),
        ("GET", "/webhooks/github/../../etc/passwd", 404),
    ],
)
async def test_what_no_route_serves_is_a_problem(stack: Stack, method: str, path: str, status: int) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.request(method, f"{stack.gateway}{path}")
    problem(response, status)
    assert status != 405 or response.headers["allow"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (TRACEPARENT, True),
        (None, False),
        ("garbage", False),
        (TRACEPARENT.upper(), False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        (f"{TRACEPARENT}-more", False),
        (f"ff{TRACEPARENT[2:]}", False),
    ],
)
async def test_a_trace_context_is_kept_when_it_is_one(stack: Stack, value: str | None, *, kept: bool) -> None:
    payload = push_payload("https://127.0.0.1:1/x", "0" * 40)
    response = await stack.push(payload, **({"traceparent": value} if value else {}))
    assert response.status_code == 202
    handle = stack.handle(response.json()["workflowId"])
    history = await handle.fetch_history()
    (event,) = history.events[0].workflow_execution_started_event_attributes.input.payloads
    assert json.loads(event.data).get("traceparent") == (value if kept else None)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"after": "not a commit"}, "/commitSha"),
        ({"after": 7}, "/commitSha"),
        ({"repository": {"clone_url": ["x"]}}, "/repositoryUrl"),
        ({"ref": "refs/heads/"}, "/branch"),
        ({"ref": ["refs/heads/main"]}, "/branch"),
        ({"before": {"a": 1}}, "/before"),
        ({"forced": "yes"}, "/forced"),
    ],
)
async def test_an_authentic_but_invalid_push_ends_rejected_with_findings_that_point_at_the_place(
    stack: Stack, change: JsonObject, pointer: str
) -> None:
    payload = {**push_payload("https://github.com/acme/docs", "a" * 40), **change}
    handle = await stack.accepted(payload)
    receipt = await handle.result()
    assert receipt.phase is Phase.REJECTED
    assert pointer in {finding.pointer for finding in receipt.findings}
    assert all(finding.message and finding.remedy for finding in receipt.findings)
    types = [one.entry.type for one in stack.entries() if one.entry.event_id == receipt.event_id]
    assert types == [EntryType.EVENT_RECEIVED, EntryType.EVENT_REJECTED]


async def test_an_empty_object_ends_rejected(stack: Stack) -> None:
    receipt = await (await stack.accepted({})).result()
    assert receipt.phase is Phase.REJECTED
    assert {finding.rule for finding in receipt.findings} == {"payload/required"}


async def test_a_deleted_branch_is_processed_without_files(stack: Stack, repository: Repository) -> None:
    payload = push_payload(repository.path.as_uri(), "0" * 40, before=repository.head, branch="gone")
    receipt = await (await stack.accepted(payload)).result()
    assert receipt.phase is Phase.PROCESSED
    assert receipt.counts == {"files": 0}


@pytest.mark.parametrize("branch", ["🌍" * 60, "b" * 255, "ü" * 255, "a\u202eb", "[red]x[/red]"])
async def test_a_branch_with_any_name_that_fits_ends_its_run(stack: Stack, repository: Repository, branch: str) -> None:
    payload = push_payload(repository.path.as_uri(), repository.head, branch=branch)
    receipt = await asyncio.wait_for((await stack.accepted(payload)).result(), 60)
    assert receipt.phase in (Phase.PROCESSED, Phase.REJECTED)


# Nothing here is fetched from: a text without "://" is no URL that is accepted.
texts = st.text(max_size=300).filter(lambda text: "://" not in text) | st.sampled_from(
    ["x" * 60_000, "\ud800", "\x00", "${jndi:ldap://x}", "../" * 50, "--upload-pack=id", "ext::sh -c id", "[/red]"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**30), 10**30) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
payloads = st.dictionaries(texts, values, max_size=2) | st.fixed_dictionaries(
    {},
    optional={
        "ref": values | st.sampled_from(["refs/heads/main", "refs/heads/" + "x" * 60_000]),
        "after": values | st.just("a" * 40),
        "before": values,
        "repository": values | st.fixed_dictionaries({"clone_url": values}),
        "head_commit": values | st.fixed_dictionaries({"message": values, "author": values}),
        "pusher": values | st.fixed_dictionaries({"name": values}),
        "created": values,
        "deleted": values,
        "forced": values,
    },
)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=payloads)
async def test_no_authentic_payload_breaks_gateway_or_run(stack: Stack, payload: JsonObject) -> None:
    body = json.dumps(payload).encode()
    response = await stack.post(body, signed(body))
    assert response.status_code in (200, 202, 400, 413), response.text
    if response.status_code == 202:
        handle = stack.handle(response.json()["workflowId"])
        receipt = await asyncio.wait_for(handle.result(), 30)
        assert receipt.phase in (Phase.REJECTED, Phase.PROCESSED)


async def test_health_and_ready_say_ok(stack: Stack) -> None:
    assert (await get(stack, "/health")).json() == {"status": "ok"}
    ready = await get(stack, "/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "errors": []})


async def test_metrics_count_what_happens(stack: Stack, repository: Repository) -> None:
    async def counts() -> dict[str, float]:
        return {
            "accepted": await metric(stack, "coafi_events_accepted_total", type="git.commit"),
            "refused": await metric(stack, "coafi_events_refused_total", source="github", status="400"),
            "processed": await metric(stack, "coafi_events_concluded_total", phase="PROCESSED"),
            "rejected": await metric(stack, "coafi_events_concluded_total", phase="REJECTED"),
            "received": await metric(stack, "coafi_step_seconds_count", step="event.receive", outcome="done"),
            "fetched": await metric(stack, "coafi_step_seconds_count", step="git.fetch", outcome="done"),
            "valid": await metric(stack, "coafi_files_processed_total", verdict="valid"),
            "entries": await metric(stack, "coafi_ledger_entries"),
        }

    before = await counts()
    assert before["entries"] == stack.resources.ledger.size()
    payload = repository.push({"metrics.json": '{"a": 1}'})
    delivery = str(uuid.uuid4())
    for _ in range(2):
        await stack.push(payload, delivery=delivery)
    await stack.handle(workflow_id(EventType.GIT_COMMIT, source_of(repository.path.as_uri()), delivery)).result()
    await (await stack.accepted({})).result()
    await stack.post(b"{", signed(b"{"))
    after = await counts()
    assert {name: after[name] - before[name] for name in before} == {
        "accepted": 3,
        "refused": 1,
        "processed": 1,
        "rejected": 1,
        "received": 2,
        "fetched": 1,
        "valid": 1,
        # EVENT_RECEIVED, FILE_PROCESSED, two artifacts, EVENT_PROCESSED; EVENT_RECEIVED, EVENT_REJECTED
        "entries": 7,
    }


async def test_a_run_that_parks_is_counted(stack: Stack) -> None:
    before = await metric(stack, "coafi_events_parked_total", step="git.fetch")
    handle = await stack.accepted(push_payload("https://git.invalid/acme/docs", "a" * 40))

    async def parked() -> bool:
        return (await stack.state(handle)).phase is Phase.PARKED

    await until(parked)
    await until(lambda: _parked_more_than(stack, before))


async def _parked_more_than(stack: Stack, before: float) -> bool:
    return await metric(stack, "coafi_events_parked_total", step="git.fetch") == before + 1


@pytest.mark.parametrize(
    ("error", "status"), [(LedgerUnavailable("the disk is gone"), 503), (IntegrityError("damaged"), 500)]
)
async def test_an_error_of_ours_is_not_blamed_on_the_sender(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(_self: object, _data: bytes) -> str:
        raise error

    monkeypatch.setattr("coafi.objects.ObjectStore.put", fail)
    response = await stack.push(push_payload("https://github.com/acme/docs", "a" * 40))
    problem(response, status)
    assert ("retry-after" in response.headers) == (status == 503)


async def test_a_defect_of_ours_is_told_without_a_traceback(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object, _data: bytes) -> str:
        raise KeyError("internal detail")

    monkeypatch.setattr("coafi.objects.ObjectStore.put", fail)
    response = await stack.push(push_payload("https://github.com/acme/docs", "a" * 40))
    problem(response, 500)
    assert "internal detail" not in response.text


async def test_a_store_that_cannot_be_written_is_not_ready(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coafi.deliveries.DeliveryReader.recent", _unavailable)
    response = await get(stack, "/ready")
    assert response.status_code == 503
    assert "no space left" in response.json()["errors"][0]


def _unavailable(_self: object, _limit: int) -> None:
    raise Unavailable("no space left")


def _gateway(stack: Stack, *, secrets: tuple[str, ...] = (SECRET,), body_timeout: float = 30) -> Gateway:
    return Gateway(
        dispatcher=Dispatcher(stack.client, 5),
        deliveries=DeliveryReader(stack.resources.database),
        objects=stack.resources.objects,
        ledger=stack.resources.ledger,
        github_secrets=tuple(SecretStr(secret) for secret in secrets),
        max_body_bytes=MAX_BODY,
        body_timeout=body_timeout,
    )


def _in_process(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(gateway.application()), base_url="http://gateway", timeout=30
    )


def test_bodies_are_kept_where_the_receipt_says(stack: Stack) -> None:
    received = [one.entry.data for one in stack.entries(EntryType.EVENT_RECEIVED)]
    digests = {str(data["bodyDigest"]) for data in received if data["principal"] == github.PRINCIPAL}
    assert digests
    assert all(object_file(stack.resources.objects, digest).is_file() for digest in digests)


async def test_what_waits_for_a_person_is_counted(stack: Stack) -> None:
    counts = RunCounts(stack.client, age=0.0)
    await counts.refresh()
    assert _open_runs("reported-problems") == 0
    before = _open_runs("parked")
    run = await stack.accepted(push_payload("https://git.invalid/acme/docs", "b" * 40))

    async def counted() -> bool:
        await counts.refresh()
        return _open_runs("parked") == before + 1

    await until(counted)
    await run.cancel()
    with suppress(WorkflowFailureError):
        await run.result()
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.gateway}/metrics")).text
    assert 'coafi_open_runs{state="parked"}' in text
    assert "coafi_ledger_unsigned_entries" in text


async def test_what_nobody_can_count_is_no_number(stack: Stack) -> None:
    away = await connect(stack.settings, "127.0.0.1:1", lazy=True)
    await RunCounts(away).refresh()
    assert math.isnan(_open_runs("parked"))
    assert math.isnan(REGISTRY.get_sample_value("coafi_queue_backlog", {"queue": "coafi-git", "kind": "activity"}) or 0)
    await RunCounts(stack.client).refresh()
    assert _open_runs("parked") >= 0


async def test_what_waits_for_a_worker_is_counted(tmp_path: Path) -> None:
    backlog = {"queue": "coafi-events", "kind": "workflow"}
    async with running_stack(tmp_path, workers=False) as stack:
        counts = RunCounts(stack.client, age=0.0)
        for _ in range(3):
            await stack.accepted(push_payload("https://git.invalid/acme/docs", "b" * 40))

        async def counted() -> bool:
            await counts.refresh()
            return REGISTRY.get_sample_value("coafi_queue_backlog", backlog) == 3

        await until(counted)
        age = REGISTRY.get_sample_value("coafi_queue_age_seconds", backlog)
        assert age is not None
        assert 0 < age < 60
        idle = {"queue": "coafi-git", "kind": "activity"}
        assert REGISTRY.get_sample_value("coafi_queue_backlog", idle) == 0
        assert REGISTRY.get_sample_value("coafi_queue_age_seconds", idle) == 0


def _open_runs(state: str) -> float:
    value = REGISTRY.get_sample_value("coafi_open_runs", {"state": state})
    assert value is not None
    return value
