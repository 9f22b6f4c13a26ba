"""The end of an index's run that nobody asks any more, in skipped time."""

import sys
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.git import TipResult, TipTask
from activities.index import IndexPolicy, IndexRequest, IndexState, Updated
from coafi.git.fetch import Tip
from coafi.index.model import IndexTask, IndexUpdate, ProcessedCommit
from coafi.names import ActivityName, SignalName, TaskQueue
from workers.wiring import RUNNER
from workflows.git_commit_processing import IDLE, GitCommitProcessingWorkflow

POLICY = IndexPolicy(debounce=30, fetch=60, git=1, files=60)
REPOSITORY = "https://example.org/r"


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


async def test_whoever_is_superseded_looks_again_and_an_idle_run_ends() -> None:
    path = str(Path(sys.executable).with_name("temporal-test-server"))
    activities = Superseded()
    async with (
        await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=path, data_converter=pydantic_data_converter
        ) as environment,
        Worker(
            environment.client,
            task_queue=TaskQueue.EVENTS,
            workflows=[GitCommitProcessingWorkflow],
            workflow_runner=RUNNER,
        ),
        Worker(environment.client, task_queue=TaskQueue.GIT, activities=[activities.tip]),
        Worker(environment.client, task_queue=TaskQueue.FILES, activities=[activities.update]),
    ):
        started = await environment.get_current_time()
        commit = ProcessedCommit(workflow_id="run", commit="a" * 40)
        handle = await environment.client.start_workflow(
            GitCommitProcessingWorkflow.run,
            IndexState(repository=REPOSITORY, branch="main", policy=POLICY),
            id="index",
            task_queue=TaskQueue.EVENTS,
            start_signal=SignalName.COMMIT_PROCESSED,
            start_signal_args=[IndexRequest(commit=commit, policy=POLICY)],
        )
        standing: Any = await handle.result()
        assert activities.tips == 3
        assert (standing.updates, standing.last.generation, standing.waiting) == (1, 4, 0)
        assert await environment.get_current_time() - started >= IDLE
