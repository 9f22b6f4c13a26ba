"""Rates hold over all worker processes and change live; a flood of one repository does not starve another."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from coafi.names import ActivityName, Phase, TaskQueue
from starters.embedded import temporal_executable
from tests.guarantees.support import activities, finished, side_by_side
from tests.harness import Repository, Stack, history_of, running_stack, until, worker_process
from tests.strength import some
from workers.wiring import build_workers
from workflows.lifecycle import Receipt

Runs = Sequence[WorkflowHandle[Any, Receipt]]

LOW = 2.0
HIGH = 50.0
"""Activities per second: one that any machine keeps up with, and one that none is held up by."""

BURST = 4
"""Activities that a rate lets through at once when it begins."""

QUEUED = 48
FLOOD = 36
"""Runs that wait for a rate, and runs of a repository that would starve another."""

FEW = 5
"""Runs of the other repository."""

WITHOUT_ARTIFACTS: dict[str, str | bytes | None] = {"notes.txt": "a note"}


async def set_rate(stack: Stack, queue: TaskQueue, rate: float) -> None:
    """Change the rate as an operator does."""
    process = await asyncio.create_subprocess_exec(
        temporal_executable(),
        *("task-queue", "config", "set", "--address", stack.server.address, "--task-queue", queue),
        *("--task-queue-type", "activity", "--queue-rps-limit", str(rate), "--queue-rps-limit-reason", "test"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


async def started(runs: Runs, name: ActivityName) -> list[datetime]:
    """When the activities of that name have started, as far as they have ended."""
    histories = await asyncio.gather(*(history_of(run) for run in runs))
    return sorted(one.started for history in histories for one in activities(history, name) if one.started)


def per_second(times: Sequence[datetime]) -> float:
    return (len(times) - 1) / (times[-1] - times[0]).total_seconds()


async def all_queued(runs: Runs, name: ActivityName) -> None:
    async def queued(run: WorkflowHandle[Any, Receipt]) -> bool:
        return bool(activities(await history_of(run), name))

    for run in runs:
        await until(partial(queued, run))


async def some_started(runs: Runs, name: ActivityName, count: int) -> None:
    while len(await started(runs, name)) < count:  # noqa: ASYNC110  # Temporal has no event for it
        await asyncio.sleep(0.2)


async def _rate(home: Path, *, queue: TaskQueue, setting: str, name: ActivityName) -> None:
    async with running_stack(home, workers=False) as stack, AsyncExitStack() as later:
        payload = Repository.create(home / "repo").push(WITHOUT_ARTIFACTS)
        async with AsyncExitStack() as first:
            for worker in build_workers(stack.client, stack.resources, first):
                if worker.task_queue != queue:
                    await first.enter_async_context(worker)
            flood = [await stack.accepted(payload) for _ in range(QUEUED)]
            await all_queued(flood, name)
        for _ in range(2):
            later.enter_context(worker_process(stack, **{f"COAFI_{setting.upper()}": str(LOW)}))

        await some_started(flood, name, BURST + 6)
        changed = datetime.now(UTC)
        await set_rate(stack, queue, HIGH)
        receipts = await asyncio.gather(*(finished(run) for run in flood))
        assert {receipt.phase for receipt in receipts} == {Phase.PROCESSED}
        times = await started(flood, name)
        low = per_second([time for time in times if time < changed][BURST:])
        assert low < 1.5 * LOW, "two processes must share the rate"
        after = [time for time in times if time > changed]
        assert len(after) > BURST + 1, "there was no backlog any more"
        high = max(per_second(after[first : first + BURST + 2]) for first in range(len(after) - BURST - 1))
        print(f"{queue}: {low:.1f}/s at a rate of {LOW}, {high:.1f}/s at one of {HIGH}")  # noqa: T201  # a figure
        assert high > 2 * LOW, "the change must be felt while the backlog is there"


@pytest.mark.also_in_soak
async def test_a_rate_holds_over_two_processes_and_changes_live(tmp_path: Path) -> None:
    cases = {
        "git": partial(_rate, queue=TaskQueue.GIT, setting="git_rate", name=ActivityName.FETCH),
        "files": partial(_rate, queue=TaskQueue.FILES, setting="files_rate", name=ActivityName.PROCESS),
    }
    await side_by_side(tmp_path, some(cases, "git"))


async def _overtaken(home: Path, *, fair: bool) -> float:
    """The part of a flood that starts before the last run of others, which were queued after all of the flood."""
    options = f"--dynamic-config-value=matching.enableFairness={json.dumps(fair)}"
    async with (
        running_stack(home, workers=False, server_options=(options,), git_rate=HIGH) as stack,
        AsyncExitStack() as later,
    ):
        flooding, other = (Repository.create(home / name).push(WITHOUT_ARTIFACTS) for name in ("flooding", "other"))
        workers = {one.task_queue: one for one in build_workers(stack.client, stack.resources, later)}
        await later.enter_async_context(workers[TaskQueue.EVENTS])
        flood = [await stack.accepted(flooding) for _ in range(FLOOD)]
        await all_queued(flood, ActivityName.FETCH)
        few = [await stack.accepted(other) for _ in range(FEW)]
        await all_queued(few, ActivityName.FETCH)
        for queue in (TaskQueue.GIT, TaskQueue.FILES):
            await later.enter_async_context(workers[queue])
        for run in (*few, *flood):
            await finished(run)
        last = (await started(few, ActivityName.FETCH))[-1]
        before = sum(time < last for time in await started(flood, ActivityName.FETCH))
        print(f"fair={fair}: {before} of a flood of {FLOOD} went before the last of {FEW} others")  # noqa: T201  # a figure
        return before / FLOOD


@pytest.mark.also_in_soak
async def test_a_flood_of_one_repository_does_not_starve_another(tmp_path: Path) -> None:
    overtaken: dict[bool, float] = {}

    async def case(home: Path, *, fair: bool) -> None:
        overtaken[fair] = await _overtaken(home, fair=fair)

    cases = {"fair": partial(case, fair=True), "unfair": partial(case, fair=False)}
    await side_by_side(tmp_path, some(cases, "fair"))
    assert overtaken[True] < 0.5
    assert overtaken.get(False, 1) > 0.8, "without fairness the others wait for the whole flood"
