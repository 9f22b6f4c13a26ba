"""Notifications on a whole service, to real HTTP servers that misbehave."""

import asyncio
import base64
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from standardwebhooks.webhooks import Webhook
from temporalio.client import WorkflowHandle

from coafi.index.pointers import IndexReader
from coafi.names import NotificationName, docs_path, notification_workflow_id
from tests.harness import Repository, Stack, documents, running_stack, until
from tests.starters.support import Home
from workflows.notification import NotificationResult, Outcome

KEY = "whsec_" + base64.b64encode(b"a-key-that-nobody-may-see-ever!!").decode()
TOKEN = "a-token-in-a-url-that-nobody-may-see"


@dataclass
class Receiver:
    """A subscriber's server.

    Attributes:
        answers: status, headers and delay of each answer in turn; the last one stays.
        seen: when each request came, its headers and its body.
    """

    answers: list[tuple[int, dict[str, str], float]] = field(default_factory=lambda: [(204, {}, 0.0)])
    port: int = 0
    seen: list[tuple[float, dict[str, str], bytes]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"http://127.0.0.1:{self.port}/hooks/{TOKEN}"


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a subscriber's server on a free port."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, headers, delay = state.answers[min(len(state.seen), len(state.answers) - 1)]
            state.seen.append((time.monotonic(), dict(self.headers.items()), body))
            state.over.wait(delay)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"x" * 100_000)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()


NAMES = ("good", "flaky", "busy", "gone", "redirecting", "refusing", "slow", "elsewhere")


@dataclass
class Notified:
    """A service with a subscriber of each kind, after one push."""

    stack: Stack
    repository: Repository
    receivers: dict[str, Receiver]
    redirected: Receiver

    async def handle(self, name: str, generation: int = 1) -> WorkflowHandle[Any, NotificationResult]:
        """The run that notifies a subscriber."""
        workflow_id = notification_workflow_id(
            NotificationName(name, self.repository.path.as_uri(), "main", generation)
        )
        return self.stack.client.get_workflow_handle(workflow_id, result_type=NotificationResult)

    async def result(self, name: str) -> NotificationResult:
        """How a notification ended."""
        handle = await self.handle(name)
        return await asyncio.wait_for(handle.result(), 60)


@pytest_asyncio.fixture(scope="module")
async def notified(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Notified]:
    home: Path = tmp_path_factory.mktemp("notified")
    with ExitStack() as servers:
        receivers = {name: servers.enter_context(receiver()) for name in NAMES}
        redirected = servers.enter_context(receiver())
        receivers["flaky"].answers = [(500, {}, 0.0), (503, {}, 0.0), (200, {}, 0.0)]
        receivers["busy"].answers = [(429, {"Retry-After": "3"}, 0.0), (200, {}, 0.0)]
        receivers["gone"].answers = [(410, {}, 0.0)]
        receivers["redirecting"].answers = [(302, {"Location": redirected.url}, 0.0)]
        receivers["refusing"].answers = [(400, {}, 0.0)]
        receivers["slow"].answers = [(200, {}, 60.0)]
        file = home / "subscribers.yaml"
        listed: list[dict[str, Any]] = [
            {"name": name, "url": one.url, "secret": KEY} for name, one in receivers.items()
        ]
        listed[-1]["branches"] = ["release/*"]
        listed.append({"name": "dead", "url": "http://127.0.0.1:1/", "secret": KEY})
        file.write_text(yaml.safe_dump(listed))
        file.chmod(0o600)
        async with running_stack(
            home,
            index_debounce=0.1,
            subscribers=file,
            notify_allow_private=True,
            notify_timeout=3.0,
            notify_patience=3.0,
            public_url="https://docs.example.org/base",
        ) as stack:
            repository = Repository.create(home / uuid.uuid4().hex)
            await (await stack.accepted(repository.push(documents(2)))).result()
            reader = IndexReader(stack.resources.database)
            await until(lambda: reader.newest(repository.path.as_uri(), "main") is not None)
            await until(lambda: bool(receivers["good"].seen))
            yield Notified(stack, repository, receivers, redirected)


async def test_a_subscriber_gets_one_message_that_the_library_verifies(notified: Notified) -> None:
    assert await notified.result("good") == NotificationResult(outcome=Outcome.DELIVERED, status=204)
    ((_, headers, body),) = notified.receivers["good"].seen
    message = Webhook(KEY).verify(body, headers)
    assert message["type"] == "documentation.updated"
    data = message["data"]
    assert data["repository"] == notified.repository.path.as_uri()
    assert data["commit"] == notified.repository.head
    assert data["verdicts"]["valid"] == 2
    assert data["commits"] == [notified.repository.head]
    assert data["indexUrl"] == f"https://docs.example.org/base{docs_path(data['repository'], 'main')}"
    assert headers["Content-Type"] == "application/json"


async def test_a_failure_is_tried_again_with_the_same_id_and_body(notified: Notified) -> None:
    assert (await notified.result("flaky")).outcome is Outcome.DELIVERED
    seen = notified.receivers["flaky"].seen
    assert len(seen) == 3
    assert len({(headers["webhook-id"], body) for _, headers, body in seen}) == 1
    for _, headers, body in seen:
        Webhook(KEY).verify(body, headers)


async def test_what_the_subscriber_asks_us_to_wait_is_waited(notified: Notified) -> None:
    assert (await notified.result("busy")).outcome is Outcome.DELIVERED
    first, second = (moment for moment, _, _ in notified.receivers["busy"].seen)
    assert second - first >= 2.9


async def test_a_subscriber_that_is_gone_is_not_asked_again(notified: Notified) -> None:
    assert await notified.result("gone") == NotificationResult(outcome=Outcome.GONE, status=410)
    assert len(notified.receivers["gone"].seen) == 1


async def test_a_redirect_is_not_followed(notified: Notified) -> None:
    result = await notified.result("redirecting")
    assert result.outcome is Outcome.GIVEN_UP
    assert "redirect" in result.reason
    assert notified.redirected.seen == []


async def test_a_refusal_is_tried_a_few_times_and_given_up(notified: Notified) -> None:
    result = await notified.result("refusing")
    assert result.outcome is Outcome.GIVEN_UP
    assert "answered 400" in result.reason
    assert 2 <= len(notified.receivers["refusing"].seen) <= 5


@pytest.mark.parametrize(("name", "said"), [("slow", "did not answer"), ("dead", "out of reach")])
async def test_whom_nobody_reaches_delays_no_other_and_is_given_up(notified: Notified, name: str, said: str) -> None:
    result = await notified.result(name)
    assert result.outcome is Outcome.GIVEN_UP
    assert said in result.reason


async def test_who_wants_other_branches_hears_nothing(notified: Notified) -> None:
    assert notified.receivers["elsewhere"].seen == []


async def test_no_secret_and_no_url_enters_history_ledger_or_results(notified: Notified) -> None:
    histories = []
    async for run in notified.stack.client.list_workflows("WorkflowType!='none'"):
        handle = notified.stack.client.get_workflow_handle(run.id, run_id=run.run_id)
        histories.append(str((await handle.fetch_history()).to_json()))
    text = " ".join([*histories, *(one.body.decode() for one in notified.stack.entries())])
    assert "a-key-that-nobody" not in text
    assert KEY.removeprefix("whsec_") not in text
    assert TOKEN not in text


async def test_an_update_is_announced_once_and_the_next_one_too(notified: Notified) -> None:
    before = len(notified.receivers["good"].seen)
    await (await notified.stack.accepted(notified.repository.push(documents(2, text="Another.")))).result()
    await until(lambda: len(notified.receivers["good"].seen) > before)
    identities = [headers["webhook-id"] for _, headers, _ in notified.receivers["good"].seen]
    assert len(set(identities)) == len(identities)
    handle = await notified.handle("good", 2)
    assert (await handle.result()).outcome is Outcome.DELIVERED


async def test_who_is_gone_hears_nothing_until_an_operator_enables_it(notified: Notified) -> None:
    await notified.result("gone")

    def coafi(*command: str) -> str:
        settings = notified.stack.settings
        done = Home(settings.home.parent).coafi(
            "subscribers",
            *command,
            COAFI_HOME=str(settings.home),
            COAFI_SUBSCRIBERS=str(settings.subscribers),
            COAFI_NOTIFY_ALLOW_PRIVATE="true",
        )
        return done.stdout + done.stderr

    listed = {one["name"]: one["goneSince"] for one in json.loads(coafi("list", "--json"))}
    assert listed["good"] is None
    assert listed["gone"][:10] in coafi("list")

    async def announced(text: str) -> None:
        before = len(notified.receivers["good"].seen)
        await (await notified.stack.accepted(notified.repository.push(documents(2, text=text)))).result()
        await until(lambda: len(notified.receivers["good"].seen) > before)

    await announced("Said to those who are left.")
    assert len(notified.receivers["gone"].seen) == 1
    assert json.loads(coafi("enable", "gone", "--json")) == {"name": "gone", "wasGone": True}
    assert "was not gone" in coafi("enable", "gone")
    assert "there is no subscriber nobody" in coafi("enable", "nobody")
    await announced("Said to everybody again.")
    await until(lambda: len(notified.receivers["gone"].seen) == 2)


async def test_a_private_address_is_refused_unless_it_is_allowed(notified: Notified) -> None:
    from dataclasses import replace

    from coafi.errors import PolicyDenied
    from coafi.notify.deliver import Deliverer, webhook_client
    from coafi.notify.gone import GoneSubscribers
    from coafi.notify.subscribers import load_subscribers
    from tests.coafi.notify.test_message import notification

    assert notified.stack.settings.subscribers is not None
    subscribers = load_subscribers(notified.stack.settings.subscribers, allow_private=True)
    before = len(notified.receivers["good"].seen)
    async with webhook_client(1.0) as client:
        deliverer = Deliverer(subscribers, GoneSubscribers(notified.stack.resources.database), client, timeout=1.0)
        with pytest.raises(PolicyDenied, match="not a public address"):
            await deliverer.deliver(notification(subscriber="good"))
        assert len(notified.receivers["good"].seen) == before
        allowed = replace(deliverer, allow_private=True)
        assert (await allowed.deliver(notification(subscriber="good"))).status == 204
