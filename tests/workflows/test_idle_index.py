"""The run of an index in skipped time: when it updates, what it names and counts, and its end."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.git import TipResult, TipTask
from activities.index import IndexPolicy, IndexRequest, IndexState, Updated
from activities.notifications import Announced, AnnounceTask
from coafi.git.fetch import Tip
from coafi.index.model import IndexTask, IndexUpdate, ProcessedCommit
from coafi.names import ActivityName, SignalName, TaskQueue
from tests.harness import history_of
from workers.wiring import RUNNER
from workflows.git_commit_processing import IDLE, MAX_SEEN, GitCommitProcessingWorkflow

POLICY = IndexPolicy(debounce=30, fetch=60, git=1, files=60)
START = IndexState(repository="https://example.org/r", branch="main", policy=POLICY)
MAX_PAYLOAD = 256 * 1024
"""Bytes: from there on Temporal warns, and some servers are told to refuse."""


class Superseded:
    """Activities of a branch whose index somebody else publishes, for the first two tries."""

    def __init__(self) -> None:
        self.tips = 0

    @activity.defn(name=ActivityName.TIP)
    async def tip(self, task: TipTask) -> TipResult:
        """The tip, and a generation that grows behind our back."""
        self.tips += 1
        tip = Tip(repository=task.repository, branch=task.branch, commit="a" * 40, tree="b" * 64)
        return TipResult(generation=self.tips, tip=tip)

    @activity.defn(name=ActivityName.INDEX_UPDATE)
    async def update(self, task: IndexTask) -> Updated:
        """Too late twice."""
        outcome = "superseded" if task.generation < 3 else "moved"
        return Updated(update=IndexUpdate(outcome=outcome, generation=task.generation + 1, commit=task.commit))


class Outcomes:
    """Activities of a branch whose updates come out one after the other like this, and then show nothing new."""

    def __init__(self, *outcomes: str) -> None:
        self.outcomes = list(outcomes)
        self.looked_up: list[TipTask] = []
        self.tasks: list[IndexTask] = []
        self.announced: list[AnnounceTask] = []

    @activity.defn(name=ActivityName.TIP)
    async def tip(self, task: TipTask) -> TipResult:
        """Always the same."""
        self.looked_up.append(task)
        tip = Tip(repository=task.repository, branch=task.branch, commit="a" * 40, tree="b" * 64)
        return TipResult(generation=1, tip=tip)

    @activity.defn(name=ActivityName.INDEX_UPDATE)
    async def update(self, task: IndexTask) -> Updated:
        """The next outcome; somebody wants to know."""
        self.tasks.append(task)
        outcome = self.outcomes.pop(0) if self.outcomes else "unchanged"
        update = IndexUpdate(outcome=outcome, generation=1, commit=task.commit)
        return Updated(update=update, subscribers=("partner",))

    @activity.defn(name=ActivityName.ANNOUNCE)
    async def announce(self, task: AnnounceTask) -> Announced:
        """Tell nobody."""
        self.announced.append(task)
        return Announced(workflow_ids=())

    @property
    def named(self) -> list[list[str]]:
        """The runs that each update names."""
        return [[one.workflow_id for one in task.commits] for task in self.tasks]


@asynccontextmanager
async def serving(
    tip: Callable[..., Any], update: Callable[..., Any], announce: Sequence[Callable[..., Any]] = ()
) -> AsyncIterator[WorkflowEnvironment]:
    """A server that skips time, and workers with these activities."""
    path = str(Path(sys.executable).with_name("temporal-test-server"))
    async with (
        await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=path, data_converter=pydantic_data_converter
        ) as environment,
        Worker(
            environment.client,
            task_queue=TaskQueue.EVENTS,
            workflows=[GitCommitProcessingWorkflow],
            activities=announce,
            workflow_runner=RUNNER,
        ),
        Worker(environment.client, task_queue=TaskQueue.GIT, activities=[tip]),
        Worker(environment.client, task_queue=TaskQueue.FILES, activities=[update]),
    ):
        yield environment


@asynccontextmanager
async def showing(done: Outcomes) -> AsyncIterator[WorkflowEnvironment]:
    """The same, for a minute at most: a run that never rests never lets time be skipped."""
    async with asyncio.timeout(60), serving(done.tip, done.update, [done.announce]) as environment:
        yield environment


def pushes(count: int, prefix: str = "git.commit:https://github.com/acme/docs:delivery") -> tuple[ProcessedCommit, ...]:
    """Pushes that were processed, with names as long as they are in earnest."""
    return tuple(
        ProcessedCommit(workflow_id=f"{prefix}-{number:036}", commit="a" * 40, tree="b" * 64) for number in range(count)
    )


async def asked(
    environment: WorkflowEnvironment, start: IndexState, *names: str
) -> WorkflowHandle[GitCommitProcessingWorkflow, Any]:
    """The run, asked by these pushes; started if there is none."""
    if not names:
        return await environment.client.start_workflow(
            GitCommitProcessingWorkflow.run, start, id="index", task_queue=TaskQueue.EVENTS
        )
    for name in names:
        handle = await environment.client.start_workflow(
            GitCommitProcessingWorkflow.run,
            start,
            id="index",
            task_queue=TaskQueue.EVENTS,
            start_signal=SignalName.COMMIT_PROCESSED,
            start_signal_args=[IndexRequest(commit=ProcessedCommit(workflow_id=name, commit="a" * 40), policy=POLICY)],
        )
    return handle


async def payloads(handle: WorkflowHandle[Any, Any]) -> list[int]:
    """The sizes of what the run has as input and gives to its activities."""
    given = []
    for event in (await history_of(handle)).events:
        for one in (event.workflow_execution_started_event_attributes, event.activity_task_scheduled_event_attributes):
            given += [payload.ByteSize() for payload in one.input.payloads]
    return given


async def test_whoever_is_superseded_looks_again_and_an_idle_run_ends() -> None:
    activities = Superseded()
    async with serving(activities.tip, activities.update) as environment:
        started = await environment.get_current_time()
        handle = await asked(environment, START, "run")
        standing = await handle.result()
        assert activities.tips == 3
        assert (standing.updates, standing.last.generation, standing.waiting) == (1, 4, 0)
        assert standing.unnamed == 0
        assert await environment.get_current_time() - started >= IDLE


async def test_any_number_of_pushes_that_show_nothing_new_costs_one_update() -> None:
    done = Outcomes()
    async with showing(done) as environment:
        handle = await asked(environment, START.model_copy(update={"fresh": pushes(2_001, "run")}))
        standing = await handle.result()
        assert len(done.looked_up) == 1
        assert (standing.updates, standing.waiting, standing.unnamed) == (1, 0, 2_001)


async def test_pushes_that_no_entry_names_leave_room_for_those_that_come() -> None:
    done = Outcomes("unchanged", "unchanged", "moved", "moved")
    async with showing(done) as environment:
        handle = await asked(environment, START.model_copy(update={"unnamed": pushes(900)}), "fresh 1", "fresh 2")
        await environment.sleep(timedelta(minutes=1))
        for name in ("fresh 3", "fresh 4", "fresh 5"):
            await asked(environment, START, name)
            await environment.sleep(timedelta(minutes=1))
        assert [names[-1] for names in done.named] == ["fresh 2", "fresh 3", "fresh 4", "fresh 5"]
        assert [len(task.commits) + task.omitted for task in done.tasks] == [902, 903, 904, 1]
        assert [task.omitted > 0 for task in done.tasks] == [True, True, True, False]
        assert [task.commit_count for task in done.announced] == [904, 1]
        assert done.named[-1] == ["fresh 5"]
        assert (await handle.query(GitCommitProcessingWorkflow.state)).unnamed == 0
        assert max((await payloads(handle))[1:]) < MAX_PAYLOAD, "the first is what we started it with"


async def test_what_is_carried_is_bounded_and_counts_what_it_leaves_out() -> None:
    done = Outcomes("unchanged")
    seen = tuple(f"{number:024x}" for number in range(MAX_SEEN))
    many = START.model_copy(update={"fresh": pushes(2_000), "seen": seen, "max_updates": 1})
    async with showing(done) as environment:
        handle = await asked(environment, many)
        await environment.sleep(timedelta(minutes=10))
        assert len(done.tasks) == 1
        assert (await handle.describe()).run_id != handle.first_execution_run_id
        assert max(await payloads(environment.client.get_workflow_handle("index"))) < MAX_PAYLOAD
        await asked(environment, START, "fresh")
        done.outcomes.append("moved")
        standing = await handle.result()
        assert (standing.updates, standing.unnamed) == (2, 0)
        assert done.named[-1][-1] == "fresh"
        assert len(done.tasks[-1].commits) + done.tasks[-1].omitted == 2_001


async def test_what_came_during_the_last_update_of_a_run_is_taken_by_the_next_run() -> None:
    done, start = Outcomes("unchanged", "moved"), START.model_copy(update={"max_updates": 1})
    late = [f"late {number:0100}" for number in range(10)]

    @activity.defn(name=ActivityName.INDEX_UPDATE)
    async def update(task: IndexTask) -> Updated:
        if not done.tasks:
            handle = await asked(environment, start, *late)
            standing = await handle.query(GitCommitProcessingWorkflow.state)
            assert (standing.waiting, standing.unnamed) == (11, 900)
        return await done.update(task)

    async with asyncio.timeout(60), serving(done.tip, update, [done.announce]) as environment:
        first = await asked(environment, start.model_copy(update={"unnamed": pushes(900)}), "first")
        standing = await first.result()
        assert (standing.updates, standing.unnamed, standing.waiting) == (2, 0, 0)
        run = environment.client.get_workflow_handle("index", run_id=first.result_run_id)
        (*_, end) = (await history_of(run)).events
        (given,) = end.workflow_execution_continued_as_new_event_attributes.input.payloads
        carried = IndexState.model_validate_json(given.data)
        assert [one.workflow_id for one in carried.fresh] == late
        assert len(carried.unnamed) < len(done.named[0]), "the late ones have taken their room"
        assert len(carried.unnamed) + carried.omitted == 901
        assert done.named[1] == [one.workflow_id for one in (*carried.unnamed, *carried.fresh)]
        assert done.tasks[1].omitted == carried.omitted


async def test_names_that_no_entry_has_are_forgotten_with_an_idle_run_whose_result_counts_them() -> None:
    done = Outcomes("unchanged", "moved")
    async with showing(done) as environment:
        first = await (await asked(environment, START, "push 1", "push 2")).result()
        assert (first.unnamed, first.waiting) == (2, 0)
        second = await (await asked(environment, START, "push 3")).result()
        assert (second.unnamed, second.waiting) == (0, 0)
        assert done.named == [["push 1", "push 2"], ["push 3"]]
