"""``POST /events``: who is let in, who is not and why, and that nothing of those is left behind."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from coafi.canonical import MAX_DEPTH
from coafi.names import EntryType, Phase
from starters.rates import Rates
from starters.service import event_keys
from tests.harness import Stack, running_stack, settings_for
from tests.starters.ledger_events import (
    CONTENT_TYPE,
    OTHER_SECRET,
    SECRET,
    SOURCE,
    accepted,
    failure,
    post,
    signed,
)

THIRD = "https://third.example/log"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    secrets = {
        "https://ledger.example.org/*": (SecretStr(OTHER_SECRET), SecretStr(SECRET)),
        "https://third.example/*": (SecretStr(OTHER_SECRET),),
    }
    home = tmp_path_factory.mktemp("door")
    async with running_stack(home, events_secrets=secrets, events_max_body_bytes=20_000) as made:
        yield made


def refused(status: int) -> float:
    return REGISTRY.get_sample_value("coafi_events_refused_total", {"source": "events", "status": str(status)}) or 0.0


def objects(stack: Stack) -> int:
    return sum(one.is_file() for one in stack.settings.objects_directory.rglob("*"))


async def test_a_signed_event_is_accepted_and_a_replay_finds_its_run(stack: Stack) -> None:
    event = failure("replayed")
    body = json.dumps(event).encode()
    headers = signed(body)
    first = await post(stack, body, **headers)
    assert (first.status_code, first.json()["redelivery"]) == (202, False)
    run = stack.handle(first.json()["workflowId"])
    assert run.id == f"bitt.event:{SOURCE}:replayed"
    again = await post(stack, body, **headers)  # the very same request
    later = await post(stack, body, **signed(body, message_id="msg_2", moment=datetime.now(UTC) - timedelta(minutes=4)))
    assert [(one.status_code, one.json()["redelivery"]) for one in (again, later)] == [(202, True)] * 2
    assert (await run.result()).phase is Phase.PROCESSED
    received = [one for one in stack.entries(EntryType.EVENT_RECEIVED) if one.entry.workflow_id == run.id]
    (entry,) = received
    assert entry.data["principal"] == "events-webhook:https://ledger.example.org/*"
    assert entry.data["parameters"] == {
        "eventType": "GAIA:COMPLIANCE:FAILURE",
        "eventId": "replayed",
        "timestamp": "2026-11-27T12:00:00Z",
        "source": SOURCE,
        "complianceCheckId": "CHECK-7",
    }
    other = await post(stack, failure("replayed", failureReason="something else"))
    assert other.status_code == 409
    await stack.forget(run.id)
    assert (await post(stack, failure("replayed", failureReason="something else"))).status_code == 409


async def test_any_secret_of_a_source_will_do_and_any_signature(stack: Stack) -> None:
    unknown = "whsec_" + "A" * 44
    for name, secrets in {"old": (SECRET,), "new": (OTHER_SECRET,), "both": (unknown, SECRET)}.items():
        body = json.dumps(failure(f"rotated-{name}")).encode()
        assert (await post(stack, body, **signed(body, *secrets))).status_code == 202


async def test_a_cloud_event_of_another_type_is_taken_as_its_attributes_say(stack: Stack) -> None:
    event = {**failure("plain"), "type": "GAIA:COMPLIANCE:FAILURE", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    event["data"] = {"affectedEntities": ["AERO/wing-77"], "complianceCheckId": "CHECK-8"}
    receipt = await (await accepted(stack, event)).result()
    assert (receipt.phase, receipt.counts["opened"]) == (Phase.PROCESSED, 1)


def changed(**changes: Any) -> bytes:
    return json.dumps({**failure("refused"), **changes}).encode()


GOOD = changed()


def _nested(levels: int) -> bytes:
    return changed(data={"details": 7}).replace(b"7}", b"[" * (levels - 2) + b"]" * (levels - 2) + b"}")


def refusals() -> dict[str, tuple[int, bytes, dict[str, str]]]:
    """What is refused with which status; signed now, because a signature counts for minutes."""
    now = datetime.now(UTC)
    return {
        "no signature": (401, GOOD, {"Content-Type": CONTENT_TYPE}),
        "another secret": (401, GOOD, signed(GOOD, "whsec_" + "A" * 44)),
        "another body": (401, changed(subject="x"), signed(GOOD)),
        "too old": (401, GOOD, signed(GOOD, moment=now - timedelta(days=1))),
        "too new": (401, GOOD, signed(GOOD, moment=now + timedelta(days=1))),
        "no time": (401, GOOD, {**signed(GOOD), "webhook-timestamp": "nan"}),
        "no base64": (401, GOOD, {**signed(GOOD), "webhook-signature": "v1,%%%"}),
        "no pair": (401, GOOD, {**signed(GOOD), "webhook-signature": "v1"}),
        "many signatures": (401, GOOD, {**signed(GOOD), "webhook-signature": " ".join(["v1,AAAA"] * 50)}),
        "no text": (401, b"\xff\xfe", {**signed(b""), "Content-Type": CONTENT_TYPE}),
        "another source's secret": (403, body := changed(source=THIRD), signed(body, SECRET)),
        "our own source": (
            403,
            own := changed(source="bitt:coafi.local/bitt/default"),
            signed(own, SECRET),
        ),
        "no source of anybody": (403, nobody := changed(source="https://elsewhere.example"), signed(nobody)),
        "too large": (413, large := changed(data={"details": "x" * 30_000}), signed(large)),
        "a batch": (415, GOOD, {**signed(GOOD), "Content-Type": "application/cloudevents-batch+json; charset=utf-8"}),
        "binary mode": (415, GOOD, {**signed(GOOD), "Content-Type": "application/json", "ce-id": "1"}),
        "a form": (415, GOOD, {**signed(GOOD), "Content-Type": "application/x-www-form-urlencoded"}),
        "too deep": (422, deep := changed(causationdepth=9), signed(deep)),
        "no json": (400, b"{", signed(b"{")),
        "a list": (400, b"[]", signed(b"[]")),
        "a member twice": (400, twice := b'{"id": "1", "id": "2"}', signed(twice)),
        "nested too deeply": (400, nested := b"[" * 9_000 + b"]" * 9_000, signed(nested)),
        "a little too deeply": (400, deeply := _nested(MAX_DEPTH + 1), signed(deeply)),
        "a number that becomes a huge one": (400, grown := changed(data={"n": 1e20}), signed(grown)),
        "another version": (400, version := changed(specversion="0.3"), signed(version)),
        "binary data": (400, binary := changed(data_base64="AAAA"), signed(binary)),
        "xml data": (400, xml := changed(datacontenttype="application/xml"), signed(xml)),
        "no id": (400, no_id := changed(id=""), signed(no_id)),
        "a number for an id": (400, number := changed(id=7), signed(number)),
        "a huge number": (400, huge := changed(data={"n": 2**60}), signed(huge)),
        "a lone surrogate": (400, lone := changed(subject="\ud800"), signed(lone)),
    }


@pytest.mark.parametrize("name", refusals())
async def test_what_is_refused_leaves_nothing_behind(stack: Stack, name: str) -> None:
    status, body, headers = refusals()[name]
    before = (stack.resources.ledger.size(), objects(stack), refused(status))
    answer = await post(stack, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert SECRET not in answer.text
    assert (stack.resources.ledger.size(), objects(stack), refused(status)) == (*before[:2], before[2] + 1)
    runs = [one.id async for one in stack.client.list_workflows("CoafiEventId='refused'")]
    assert runs == []


async def test_the_deepest_event_that_is_taken_has_a_run_that_ends(stack: Stack) -> None:
    body = json.dumps(failure("deepest", x=7)).encode()
    body = body.replace(b'"x": 7', b'"x": ' + b"[" * (MAX_DEPTH - 3) + b"]" * (MAX_DEPTH - 3))
    answer = await post(stack, body)
    assert answer.status_code == 202, answer.text
    assert (await stack.handle(answer.json()["workflowId"]).result()).phase in {Phase.PROCESSED, Phase.REJECTED}


async def test_a_flood_is_slowed_down_and_others_are_not(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "take", lambda _self, caller: 2.0 if "ledger.example.org" in caller else 0.0)
    size = stack.resources.ledger.size()
    answer = await post(stack, failure())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert stack.resources.ledger.size() == size
    body = json.dumps(failure(source=THIRD)).encode()
    assert (await post(stack, body, **signed(body, OTHER_SECRET))).status_code == 202


async def test_the_handshake_of_webhooks_is_answered(stack: Stack) -> None:
    async with httpx.AsyncClient() as http:
        asked = await http.options(f"{stack.gateway}/events", headers={"WebHook-Request-Origin": "ledger.example.org"})
        assert asked.status_code == 200
        assert asked.headers["webhook-allowed-origin"] == "ledger.example.org"
        assert int(asked.headers["webhook-allowed-rate"]) == 3_000
        assert (await http.get(f"{stack.gateway}/events")).status_code == 405


async def test_nothing_is_accepted_that_temporal_has_not_taken(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_arguments: Any, **_keywords: Any) -> None:
        raise RuntimeError("not connected")

    monkeypatch.setattr(type(stack.client), "start_workflow", away)
    answer = await post(stack, failure("later"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    monkeypatch.undo()
    assert (await (await accepted(stack, failure("later"))).result()).phase is Phase.PROCESSED


def test_without_configured_secrets_one_is_made_that_only_its_owner_can_read(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    (key,) = event_keys(settings)
    assert (key.sources, key.principal) == ("*", "events-webhook")
    file = settings.secrets_directory / "events-webhook"
    assert file.read_text().strip() == key.secrets[0].get_secret_value()
    assert file.read_text().startswith("whsec_")
    assert file.stat().st_mode & 0o077 == 0
    assert event_keys(settings) == (key,)
    configured = settings.model_copy(update={"events_secrets": {"*": (SecretStr(SECRET),)}})
    assert event_keys(configured) == (replace(key, secrets=(SecretStr(SECRET),), principal="events-webhook:*"),)
