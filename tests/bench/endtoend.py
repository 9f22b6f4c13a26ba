"""What a push costs from webhook to receipt, over a workflow of as many activities that do nothing.

Gateway, workers and the floor's workers share one process and one Temporal server.
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from pydantic import SecretStr
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from coafi.names import Phase
from coafi.webhooks import github
from tests.bench.floor import ACTIVITY_QUEUE, WORKFLOW_QUEUE, FloorWorkflow, nothing
from tests.bench.measure import Bench
from tests.harness import SECRET, Repository, Stack, documents, history_of, running_stack
from workers.wiring import SANDBOX
from workflows.lifecycle import Receipt

FILES = 5
"""Changed files of an ordinary push."""

HANG = 120
"""Seconds after which a run will not end any more."""

Run = WorkflowHandle[Any, Any]


@dataclass(frozen=True)
class Pushes:
    """Pushes that wait to be delivered."""

    stack: Stack
    http: httpx.AsyncClient
    waiting: list[tuple[bytes, int]]
    versions: "count[int]"

    def commit(self, repository: Repository, files: int) -> None:
        """Commit new contents, for a push to deliver."""
        payload = repository.push(documents(files, text=f"Version {next(self.versions)}."))
        self.waiting.append((json.dumps(payload).encode(), files))

    async def deliver(self) -> Run:
        """Deliver the next push and wait for its receipt."""
        body, files = self.waiting.pop()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": github.sign(body, SecretStr(SECRET)),
        }
        response = await self.http.post(f"{self.stack.gateway}/webhooks/github", content=body, headers=headers)
        handle = self.stack.handle(response.raise_for_status().json()["workflowId"])
        async with asyncio.timeout(HANG):
            receipt: Receipt = await handle.result()
        assert (receipt.phase, receipt.counts["valid"]) == (Phase.PROCESSED, files)
        return handle


async def measure(bench: Bench) -> None:
    """A flood, one push alone, one large commit."""
    async with (
        running_stack(bench.directory) as stack,
        _floor_workers(stack.client),
        httpx.AsyncClient(timeout=HANG) as http,
    ):
        pushes = Pushes(stack, http, [], count())
        repositories = [Repository.create(bench.directory / f"repository-{number}") for number in range(5)]
        flood, large = bench.amount(50, 3), bench.amount(2000, 40)

        def commit_flood() -> None:
            for number in range(flood):
                pushes.commit(repositories[number % len(repositories)], FILES)

        widths = await _count(bench, pushes, repositories[0], FILES)
        await bench.compare(
            f"a push of {FILES} files, webhook to receipt",
            pushes.deliver,
            "an empty run",
            lambda: _floor(stack.client, widths),
            rounds=15,
            prepare=lambda: pushes.commit(repositories[0], FILES),
        )
        await bench.compare(
            f"{flood} pushes of {FILES} files at once",
            lambda: asyncio.gather(*(pushes.deliver() for _ in range(flood))),
            f"{flood} empty runs",
            lambda: asyncio.gather(*(_floor(stack.client, widths) for _ in range(flood))),
            (flood, "runs"),
            rounds=3,
            prepare=commit_flood,
        )
        many = await _count(bench, pushes, repositories[1], large)
        await bench.compare(
            f"a push of {large:,} files, webhook to receipt",
            pushes.deliver,
            f"an empty run of {sum(many)} activities",
            lambda: _floor(stack.client, many),
            (large, "files"),
            rounds=2,
            prepare=lambda: pushes.commit(repositories[1], large),
        )


async def _count(bench: Bench, pushes: Pushes, repository: Repository, files: int) -> list[int]:
    """Deliver one push and count what it costs Temporal; how many regular activities of each kind it took.

    Where activities run side by side the numbers differ a little from run to run: results that arrive together share
    a workflow task.
    """
    pushes.commit(repository, files)
    run = await pushes.deliver()
    events = (await history_of(run)).events
    scheduled = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    widths = list(Counter(filter(None, scheduled)).values())
    floor = await _floor(pushes.stack.client, widths)
    against = f"an empty run of {sum(widths)} activities"
    for unit, attribute in (("history events", "history_length"), ("state transitions", "state_transition_count")):
        counts = [await _execution_info(one, attribute) for one in (run, floor)]
        bench.count(f"{unit} of a push of {files:,} files", counts[0], against, counts[1], unit)
    return widths


async def _execution_info(run: Run, attribute: str) -> int:
    description = await run.describe()
    number: int = getattr(description.raw_description.workflow_execution_info, attribute)
    return number


async def _floor(client: Client, widths: list[int]) -> Run:
    handle = await client.start_workflow(
        FloorWorkflow.run, widths, id=f"floor-{uuid.uuid4()}", task_queue=WORKFLOW_QUEUE
    )
    await handle.result()
    return handle


@asynccontextmanager
async def _floor_workers(client: Client) -> AsyncIterator[None]:
    with ThreadPoolExecutor(40) as threads:
        local = Worker(
            client,
            task_queue=WORKFLOW_QUEUE,
            workflows=[FloorWorkflow],
            activities=[nothing],
            activity_executor=threads,
            workflow_runner=SANDBOX,
        )
        async with local, Worker(client, task_queue=ACTIVITY_QUEUE, activities=[nothing], activity_executor=threads):
            yield
