"""Who is told of changes of the registry, on a whole service and with real HTTP servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml
from standardwebhooks.webhooks import Webhook
from temporalio.api.enums.v1 import EventType as HistoryEventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from coafi.canonical import JsonObject
from coafi.names import EntryVersionName, Phase, registry_notification_workflow_id
from tests.harness import Stack, running_stack, until
from tests.workflows.registry import api, entry, moved, updated
from tests.workflows.test_notification import KEY, TOKEN, Receiver, receiver
from workflows.notification import NotificationResult, Outcome
from workflows.registry_update_notification import RegistryUpdateNotificationResult

PATIENCE = 3.0

WANTED = {
    "good": ["AERO"],
    "everything": ["A*", "S*", "schemas"],
    "flaky": ["AERO"],
    "busy": ["AERO"],
    "gone": ["AERO"],
    "refusing": ["AERO"],
    "slow": ["AERO"],
    "spacious": ["SPACE"],
    "reader": [],
}
"""Who wants to know of which registries. Nobody does of COM."""


@dataclass
class Told:
    """A service with a subscriber of each kind, after a new entry of AERO."""

    stack: Stack
    http: httpx.AsyncClient
    receivers: dict[str, Receiver]
    made: JsonObject

    def handle(self, of: JsonObject) -> WorkflowHandle[Any, RegistryUpdateNotificationResult]:
        """The run that tells of a version."""
        name = EntryVersionName(str(of["registryId"]), str(of["entryId"]), int(str(of["version"])))
        return self.stack.client.get_workflow_handle(
            registry_notification_workflow_id(name), result_type=RegistryUpdateNotificationResult
        )

    async def results(self, of: JsonObject | None = None) -> dict[str, NotificationResult]:
        """How everybody was told of a version; of the new entry, by default."""
        wanted = of or self.made
        await until(lambda: self.is_told(wanted))  # the caller is answered first
        return (await asyncio.wait_for(self.handle(wanted).result(), 60)).results

    async def is_told(self, of: JsonObject) -> bool:
        """Whether a run tells of a version."""
        try:
            await self.handle(of).describe()
        except RPCError:
            return False
        return True

    def about(self, name: str, of: JsonObject) -> list[tuple[dict[str, str], bytes]]:
        """Headers and bodies of what a subscriber was sent about an entry."""
        wanted = str(of["entryId"]).encode()
        return [(headers, body) for _, headers, body in self.receivers[name].seen if wanted in body]


@pytest_asyncio.fixture(scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    home: Path = tmp_path_factory.mktemp("told")
    with ExitStack() as servers:
        receivers = {name: servers.enter_context(receiver()) for name in WANTED}
        receivers["flaky"].answers = [(500, {}, 0.0), (503, {}, 0.0), (200, {}, 0.0)]
        receivers["busy"].answers = [(429, {"Retry-After": "3"}, 0.0), (200, {}, 0.0)]
        receivers["gone"].answers = [(410, {}, 0.0)]
        receivers["refusing"].answers = [(400, {}, 0.0)]
        receivers["slow"].answers = [(200, {}, 60.0)]
        listed: list[dict[str, Any]] = [
            {"name": name, "url": receivers[name].url, "secret": KEY, **({"registries": wanted} if wanted else {})}
            for name, wanted in WANTED.items()
        ]
        listed.append({"name": "dead", "url": "http://127.0.0.1:1/", "secret": KEY, "registries": ["AERO"]})
        file = home / "subscribers.yaml"
        file.write_text(yaml.safe_dump(listed))
        file.chmod(0o600)
        async with (
            running_stack(
                home, subscribers=file, notify_allow_private=True, notify_timeout=3.0, notify_patience=PATIENCE
            ) as stack,
            api(stack) as http,
        ):
            made, _ = await updated(http, entry(data={"name": "a-secret-of-the-wing"}))
            yield Told(stack, http, receivers, made)


async def test_the_caller_is_answered_while_others_are_still_told(told: Told) -> None:
    run = told.stack.handle(str(told.made["workflowId"]))
    assert (await run.result()).phase is Phase.PROCESSED
    described = await told.handle(told.made).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING, "it outlives the run that started it"
    assert described.parent_id == run.id


async def test_a_subscriber_gets_one_message_that_the_library_verifies(told: Told) -> None:
    assert (await told.results())["good"] == NotificationResult(outcome=Outcome.DELIVERED, status=204)
    made = told.made
    ((headers, body),) = told.about("good", made)
    message = Webhook(KEY).verify(body, headers)
    assert (message["type"], message["timestamp"]) == ("registry.entry.changed", made["changed"])
    data = message["data"]
    link = data.pop("entryUrl")
    wanted = ("registryId", "entryId", "version", "status", "class", "digest", "by", "ledgerEntry", "workflowId")
    assert data == {name: made[name] for name in wanted}
    assert "a-secret-of-the-wing" not in body.decode()
    assert (await told.http.get(link)).json() == made


async def test_the_link_stays_with_the_version(told: Told) -> None:
    made, _ = await updated(told.http, entry("SPACE"))
    await moved(told.http, made, "Review")
    await told.results(made)
    ((headers, body), *_) = told.about("spacious", made)
    link = Webhook(KEY).verify(body, headers)["data"]["entryUrl"]
    assert (await told.http.get(link)).json() == made


async def test_a_failure_is_tried_again_with_the_same_id_and_body(told: Told) -> None:
    assert (await told.results())["flaky"].outcome is Outcome.DELIVERED
    seen = told.receivers["flaky"].seen[:3]
    assert len(seen) == 3
    assert len({(headers["webhook-id"], body) for _, headers, body in seen}) == 1
    for _, headers, body in seen:
        Webhook(KEY).verify(body, headers)


async def test_what_a_subscriber_asks_us_to_wait_is_waited(told: Told) -> None:
    assert (await told.results())["busy"].outcome is Outcome.DELIVERED
    first, second = (moment for moment, _, _ in told.receivers["busy"].seen[:2])
    assert second - first >= 2.9


@pytest.mark.parametrize(
    ("name", "said"), [("refusing", "answered 400"), ("slow", "did not answer"), ("dead", "out of reach")]
)
async def test_whom_nobody_reaches_is_given_up_and_delays_no_other(told: Told, name: str, said: str) -> None:
    results = await told.results()
    assert results[name].outcome is Outcome.GIVEN_UP
    assert said in results[name].reason
    assert results["everything"].outcome is Outcome.DELIVERED
    assert told.receivers["everything"].seen[0][0] < told.receivers["slow"].seen[1][0], (
        "delivered before the slow one was tried again"
    )


async def test_who_is_gone_is_not_asked_again(told: Told) -> None:
    assert (await told.results())["gone"] == NotificationResult(outcome=Outcome.GONE, status=410)
    another, _ = await updated(told.http, entry())
    await until(lambda: bool(told.about("good", another)))
    assert told.about("gone", another) == []
    assert len(told.about("gone", told.made)) == 1


async def test_only_those_who_want_a_registry_hear_of_it(told: Told) -> None:
    assert set(await told.results()) == WANTED.keys() - {"spacious", "reader"} | {"dead"}
    made, _ = await updated(told.http, entry("SPACE"))
    assert set(await told.results(made)) == {"everything", "spacious"}
    assert len(told.about("spacious", made)) == 1
    assert told.receivers["reader"].seen == []
    assert told.about("good", made) == []


async def test_a_change_of_status_is_told_too_and_each_change_once(told: Told) -> None:
    made, _ = await updated(told.http, entry("SPACE"))
    reviewed, _ = await moved(told.http, made, "Review")
    await told.results(made)
    assert (await told.results(reviewed))["spacious"].outcome is Outcome.DELIVERED
    messages = [Webhook(KEY).verify(body, headers) for headers, body in told.about("spacious", made)]
    assert sorted((one["data"]["version"], one["data"]["status"]) for one in messages) == [
        (1, "Submission"),
        (2, "Review"),
    ]
    assert len({headers["webhook-id"] for headers, _ in told.about("spacious", made)}) == 2


async def test_where_nobody_wants_to_know_the_history_of_an_update_is_not_longer(told: Told) -> None:
    made, workflow_id = await updated(told.http, entry("COM"))
    run = told.stack.handle(workflow_id)
    await run.result()
    kinds = [HistoryEventType.Name(event.event_type) for event in (await run.fetch_history()).events]
    assert [kind.removeprefix("EVENT_TYPE_") for kind in kinds] == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "MARKER_RECORDED",
        "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
        "MARKER_RECORDED",
        "MARKER_RECORDED",
        "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert not await told.is_told(made)


async def test_a_run_that_is_done_again_tells_nobody_again(told: Told) -> None:
    made, workflow_id = await updated(told.http, entry("SPACE"))
    await told.results(made)
    await told.stack.handle(workflow_id).result()
    again = await told.stack.reset(workflow_id)
    assert (await again.result()).phase is Phase.PROCESSED
    assert len(told.about("spacious", made)) == 1


async def test_a_change_that_is_refused_is_told_to_nobody(told: Told) -> None:
    made, _ = await updated(told.http, entry("SPACE"))
    refused = await told.http.post(
        "/registry/update",
        json={"registryId": "SPACE", "entryId": made["entryId"], "data": {}},
        headers={"If-Match": '"7"'},
    )
    assert refused.status_code == 412
    await told.results(made)
    assert not await told.is_told({**made, "version": 2})
    assert len(told.about("spacious", made)) == 1


async def test_no_secret_and_no_url_enters_history_ledger_or_results(told: Told) -> None:
    await told.results()
    histories = []
    async for run in told.stack.client.list_workflows("WorkflowType!='none'"):
        handle = told.stack.client.get_workflow_handle(run.id, run_id=run.run_id)
        histories.append(str((await handle.fetch_history()).to_json()))
    assert len(histories) > 5
    text = " ".join([*histories, *(one.body.decode() for one in told.stack.entries())])
    assert KEY.removeprefix("whsec_") not in text
    assert TOKEN not in text
