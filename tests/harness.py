"""A whole service for a test: real Temporal, real SQLite, real git, real HTTP, each in a directory of its own."""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from git import Actor, Repo
from pydantic import SecretStr
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError

from coafi.canonical import JsonObject
from coafi.errors import Unavailable
from coafi.events import EventRef
from coafi.git.manifest import BatchRef
from coafi.ledger.entry import Recorded
from coafi.ledger.verifier import verify_log
from coafi.names import EntryType
from coafi.processing import BatchProcessor, BatchTask
from coafi.settings import Settings
from coafi.trees.recorder import TreeRecorder
from coafi.webhooks import github
from starters.embedded import TemporalServer
from starters.service import running_gateway
from tests.processes import Process, start
from workers.client import connect
from workers.resources import Resources, open_resources
from workers.wiring import running_workers
from workflows.lifecycle import EventWorkflow, Receipt, RunState

SECRET = "a-webhook-secret-that-nobody-may-see"
ACTOR = Actor("Test Author", "test@example.org")

FORGET_SOON = tuple(
    f'--dynamic-config-value=history.{queue}ProcessorUpdateAckInterval="500ms"' for queue in ("transfer", "visibility")
)
"""Temporal deletes a closed run only once its queues are acknowledged, by default every half minute."""


@dataclass
class Stack:
    """A running service. ``client`` and ``resources`` are what its workers use."""

    settings: Settings
    server: TemporalServer
    client: Client
    resources: Resources
    gateway: str

    async def push(
        self, payload: JsonObject, *, delivery: str | None = None, secret: str = SECRET, **headers: str
    ) -> httpx.Response:
        """Deliver a push as GitHub would."""
        body = json.dumps(payload).encode()
        return await self.post(
            body,
            {
                "X-GitHub-Event": "push",
                "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
                "X-Hub-Signature-256": github.sign(body, SecretStr(secret)),
                **headers,
            },
        )

    async def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """Send any bytes to the webhook."""
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.post(
                f"{self.gateway}/webhooks/github", content=body, headers={"Content-Type": "application/json", **headers}
            )

    async def accepted(self, payload: JsonObject, *, delivery: str | None = None) -> WorkflowHandle[Any, Receipt]:
        """Deliver a push that must be accepted; the handle of its run."""
        response = await self.push(payload, delivery=delivery)
        assert response.status_code == 202, response.text
        return self.handle(response.json()["workflowId"])

    def handle(self, workflow_id: str, run_id: str | None = None) -> WorkflowHandle[Any, Receipt]:
        """A typed handle."""
        return self.client.get_workflow_handle(workflow_id, run_id=run_id, result_type=Receipt)

    async def state(self, handle: WorkflowHandle[Any, Receipt]) -> RunState:
        """Where a run stands."""
        return await handle.query(EventWorkflow.state)

    def entries(self, entry_type: EntryType | None = None) -> list[Recorded]:
        """Everything in the ledger, or all of one type."""
        ledger = self.resources.ledger
        found = ledger.entries(0, ledger.size())
        return [one for one in found if entry_type is None or one.entry.type == entry_type]

    def verify(self) -> int:
        """Verify the whole ledger independently: gapless, untampered, no step twice. Its size, while it may grow."""
        ledger = self.resources.ledger
        checkpoint = ledger.checkpoint(force=True)
        size = verify_log(ledger.bodies(), checkpoint.note, ledger.keys, stored_tiles=ledger.tiles()).checkpoint.size
        keys = [one.entry.key for one in self.entries()[:size]]
        assert len(keys) == len(set(keys)) == size
        return size

    async def forget(self, workflow_id: str) -> None:
        """Make Temporal forget a run, as its retention does."""
        await self.client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=self.client.namespace, workflow_execution=WorkflowExecution(workflow_id=workflow_id)
            )
        )

        async def gone() -> bool:
            try:
                await self.handle(workflow_id).describe()
            except RPCError:
                return True
            return False

        await until(gone)

    async def reset(self, workflow_id: str, event_id: int = 3) -> WorkflowHandle[Any, Receipt]:
        """Reset a run to a workflow task, by default the first one."""
        answer = await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                reason="test",
                workflow_task_finish_event_id=event_id,
                request_id=str(uuid.uuid4()),
            )
        )
        return self.handle(workflow_id, answer.run_id)


def settings_for(home: Path, **changes: Any) -> Settings:
    """Settings of a test: everything below ``home``, free ports, repositories below it allowed."""
    values: dict[str, Any] = {
        "home": home / "home",
        "temporal_port": 0,
        "temporal_ui_port": 0,
        "gateway_port": 0,
        "github_webhook_secret": (SecretStr(SECRET),),
        "git_file_roots": (home,),
        # Whoever counts entries wants none that come by themselves; tests of the index say otherwise.
        "index_debounce": 3600.0,
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def temporal_server(settings: Settings, *options: str) -> AsyncIterator[TemporalServer]:
    """A Temporal server in the home of ``settings``, with further ``options``."""
    settings.home.mkdir(parents=True, exist_ok=True)
    for attempts_left in (2, 1, 0):
        server = TemporalServer.start(
            settings.home,
            port=settings.temporal_port,
            ui_port=settings.temporal_ui_port,
            options=("--headless", *FORGET_SOON, *options),
        )
        try:
            await server.wait_ready()
            break
        except Unavailable:  # a port was free a moment ago, and somebody was quicker
            server.stop()
            if not attempts_left:
                raise
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def running_stack(
    home: Path, *, workers: bool = True, server_options: tuple[str, ...] = (), **changes: Any
) -> AsyncIterator[Stack]:
    """A whole service in one process.

    Args:
        home: a directory of the test's own.
        workers: whether workers run; a test may bring its own.
        server_options: further options of the Temporal server.
        changes: settings that differ.
    """
    settings = settings_for(home, **changes)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(temporal_server(settings, *server_options))
        client = await connect(settings, server.address)
        resources = stack.enter_context(open_resources(settings))
        gateway = await stack.enter_async_context(running_gateway(client, resources))
        if workers:
            await stack.enter_async_context(running_workers(client, resources, gateway=gateway))
        yield Stack(settings, server, client, resources, gateway)


@contextmanager
def worker_process(stack: Stack, *command: str, **environment: str) -> Iterator[Process]:
    """Workers in a process of their own, as ``coafi worker`` or another ``command``; killed at the end."""
    settings = stack.settings
    arguments = command or (str(Path(sys.executable).with_name("coafi")), "worker")
    process = start(
        arguments,
        {
            **os.environ,
            "COAFI_HOME": str(settings.home),
            "COAFI_TEMPORAL_ADDRESS": stack.server.address,
            "COAFI_GIT_FILE_ROOTS": ",".join(str(root) for root in settings.git_file_roots),
            "COAFI_LOG_FORMAT": "json",
            **environment,
        },
        settings.home / f"worker-{uuid.uuid4().hex[:6]}.log",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def batch_task(processor: BatchProcessor, event: EventRef, batch: BatchRef) -> BatchTask:
    """A batch of a commit whose tree holds nothing else."""
    trees = TreeRecorder(processor.artifacts.database, processor.objects)
    tree = trees.record(trees.plan([]), lambda _blobs: iter(()))
    return BatchTask(event=event, repository="https://git.example/acme/docs", commit="a" * 40, tree=tree, batch=batch)


async def until(condition: Callable[[], Awaitable[bool] | bool], *, seconds: float = 60) -> None:
    """Wait until ``condition`` holds; the limit is there to end a hang, not to measure."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if await result if isinstance(result, Awaitable) else result:
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def history_of(handle: WorkflowHandle[Any, Any]) -> WorkflowHistory:
    """The whole history of a run."""
    return await handle.fetch_history()


@dataclass(frozen=True)
class Repository:
    """A git repository that a test commits to."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "Repository":
        """A new repository with one commit on ``main``."""
        repo = Repo.init(path, initial_branch="main", mkdir=True)
        made = cls(path)
        made.commit({"README.md": "# Empty\n"})
        repo.close()
        return made

    def commit(self, files: dict[str, str | bytes | None]) -> str:
        """Write (or, for ``None``, delete) files and commit; the commit's id."""
        with Repo(self.path) as repo:
            for name, content in files.items():
                path = self.path / name
                if content is None:
                    path.unlink()
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            repo.git.add(all=True)
            return repo.index.commit("Change", author=ACTOR, committer=ACTOR).hexsha

    def branch(self, name: str) -> str:
        """Begin a branch at the newest commit; that commit."""
        with Repo(self.path) as repo:
            repo.git.branch(name)
        return self.head

    @property
    def head(self) -> str:
        """The newest commit."""
        with Repo(self.path) as repo:
            return repo.head.commit.hexsha

    def push(self, files: dict[str, str | bytes | None], **changes: Any) -> JsonObject:
        """Commit files, and the payload of the push that reports it."""
        before = self.head
        return push_payload(self.path.as_uri(), self.commit(files), before=before, **changes)


def push_payload(url: str, after: str, *, before: str = "0" * 40, branch: str = "main") -> JsonObject:
    """The body of GitHub's push webhook, with the fields that matter."""
    return {
        "ref": f"refs/heads/{branch}",
        "before": before,
        "after": after,
        "created": before == "0" * 40,
        "deleted": after == "0" * 40,
        "forced": False,
        "repository": {"full_name": "acme/docs", "clone_url": url},
        "pusher": {"name": "ada"},
        "head_commit": {"id": after, "message": "Change", "author": {"name": "Ada"}},
    }


def document_id(number: int) -> str:
    """A valid id; its number has four digits, whatever ``number`` has."""
    group = str(number // 10_000) if number >= 10_000 else ""
    return f"COAFI-ENG{group}-{number % 10_000:04d}-SPEC-A"


def document(number: int, *, text: str = "Some text.") -> str:
    """A valid document."""
    return (
        f'---\ntitle: "Document {number}"\ndocument_id: {document_id(number)}\nversion: v1.0-RELEASE\n'
        f"status: ACTIVE\nauthor: Ada\ndate: 2025-04-27\ntags: [COAFI]\ninfoCode: INFO-SPEC\nutids: TBD\n---\n\n"
        f"# Document {number}\n\n{text}\n"
    )


def documents(count: int, *, text: str = "Some text.") -> dict[str, str | bytes | None]:
    """Valid documents under matching names."""
    return {f"docs/{document_id(number)}.md": document(number, text=text) for number in range(1, count + 1)}
