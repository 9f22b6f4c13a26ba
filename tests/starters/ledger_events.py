"""Signed events of an external ledger, for tests of the door and of what comes of them."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from temporalio.client import WorkflowHandle

from coafi.canonical import JsonObject
from coafi.following import LedgerFollower
from starters.listener import running_listener
from tests.harness import Stack
from workflows.lifecycle import Receipt

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
OTHER_SECRET = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
SOURCE = "https://ledger.example.org/bitt"
SECRETS = {"https://ledger.example.org/*": (SecretStr(SECRET),)}
CONTENT_TYPE = "application/cloudevents+json"


def failure(event_id: str = "", *, source: str = SOURCE, **details: Any) -> JsonObject:
    """A CloudEvent about a compliance failure."""
    name = event_id or uuid.uuid4().hex
    return {
        "specversion": "1.0",
        "id": name,
        "source": source,
        "type": "bitt.event",
        "time": "2026-11-27T12:00:00Z",
        "data": {
            "eventType": "GAIA:COMPLIANCE:FAILURE",
            "eventId": name,
            "timestamp": "2026-11-27T12:00:00Z",
            "source": source,
            "details": {
                "complianceCheckId": "CHECK-7",
                "failureReason": "no safety assessment",
                "affectedEntities": ["AERO/wing-12", "COAFI-ENG-0001-SPEC-A"],
                **details,
            },
        },
    }


def signed(body: bytes, *secrets: str, moment: datetime | None = None, message_id: str = "msg_1") -> dict[str, str]:
    """The headers that vouch for a body."""
    moment = moment or datetime.now(UTC)
    signatures = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets or (SECRET,)]
    return {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def post(stack: Stack, event: JsonObject | bytes, *, path: str = "/events", **headers: str) -> httpx.Response:
    """Send an event as its ledger would."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.post(f"{stack.gateway}{path}", content=body, headers=headers or signed(body))


async def accepted(stack: Stack, event: JsonObject) -> WorkflowHandle[Any, Receipt]:
    """Send an event that must be accepted; the handle of its run."""
    response = await post(stack, event)
    assert response.status_code == 202, response.text
    return stack.handle(response.json()["workflowId"])


def subscriptions(path: Path, *wanted: JsonObject) -> Path:
    """A file of subscriptions."""
    path.write_text(yaml.safe_dump(list(wanted)))
    return path


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[LedgerFollower]:
    """The listener of a stack, which has begun."""
    async with running_listener(stack.client, stack.resources) as follower:
        while (known := follower.followers.get(follower.name)) is None or not known.holder:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield follower


async def caught_up(stack: Stack, follower: LedgerFollower) -> None:
    """Wait until the listener has dealt with every entry that there is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                known = follower.followers.get(follower.name)
                if known is not None and known.position >= stack.resources.ledger.size():
                    return
                await asyncio.sleep(0.05)
    raise AssertionError("the listener stays behind")
