"""The code replays the histories of real runs: what is open when a new version starts goes on."""

import functools
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker
from temporalio.workflow import NondeterminismError

from activities.events import Patience
from coafi.events import Event, EventRef
from coafi.git.fetch import GitFetcher
from coafi.names import Phase, WorkflowName
from tests.harness import Repository, documents, running_stack
from tests.histories.record import CASES, DIRECTORY, text_of, traces_of_a_machine
from tests.workflows.support import GIVES_UP, assert_receipt_names_every_entry, broken, parked, retried
from workers.wiring import SANDBOX, WORKFLOWS
from workflows.git_commit import GitCommitWorkflow
from workflows.lifecycle import Outcome, Receipt

MOMENT = timedelta(seconds=1)


def history(name: str) -> WorkflowHistory:
    return WorkflowHistory.from_json(f"git.commit:history:{name}", (DIRECTORY / f"{name}.json").read_text())


async def replay(name: str, *workflows: type) -> None:
    replayer = Replayer(
        workflows=workflows or WORKFLOWS, workflow_runner=SANDBOX, data_converter=pydantic_data_converter
    )
    await replayer.replay_workflow(history(name))


@pytest.mark.parametrize("name", CASES)
async def test_the_code_replays_the_history(name: str) -> None:
    await replay(name)


@workflow.defn(name=WorkflowName.GIT_COMMIT)
class WithAnotherStep(GitCommitWorkflow):
    """Does something first that no history knows."""

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Wait, then do as before."""
        await workflow.sleep(MOMENT)
        return await super().run(event)


@workflow.defn(name=WorkflowName.GIT_COMMIT)
class WithOneStepLess(GitCommitWorkflow):
    """Does nothing between receipt and conclusion."""

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Receive and finish."""
        return await super().run(event)

    async def _process_commit(self, event: Event, ref: EventRef, patience: Patience) -> Outcome:
        return Outcome(counts={"files": 0}, digests={})


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (WithAnotherStep, "processed"),
        (WithAnotherStep, "duplicate"),
        (WithOneStepLess, "processed"),
        (WithOneStepLess, "parked-and-discarded"),
    ],
)
async def test_a_change_that_open_runs_do_not_survive_is_noticed(changed: type, name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replay(name, changed)


async def test_a_step_more_is_no_change_for_runs_that_do_not_come_by_it() -> None:
    await replay("branch-deleted", WithOneStepLess)


def test_every_case_has_its_history_and_they_are_small() -> None:
    files = {file.stem: file for file in DIRECTORY.glob("*.json")}
    assert files.keys() == CASES.keys()
    assert sum(file.stat().st_size for file in files.values()) < 300_000


@pytest.mark.parametrize("name", CASES)
def test_a_history_says_nothing_about_the_machine_it_was_made_on(name: str) -> None:
    text = (DIRECTORY / f"{name}.json").read_text()
    assert traces_of_a_machine(text) == []
    assert text_of(history(name)) == text
    assert "stackTrace" not in text


async def test_a_run_whose_every_task_is_replayed_goes_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.wiring.Worker", functools.partial(Worker, max_cached_workflows=0))
    async with running_stack(tmp_path) as stack:
        repository = Repository.create(tmp_path / "repository")
        with broken(GitFetcher, "fetch", GIVES_UP):
            run = await stack.accepted(repository.push(documents(3)))
            await parked(stack, run)
        await retried(run)
        receipt = await run.result()
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["artifacts"] == 6
        assert_receipt_names_every_entry(stack, receipt)
        stack.verify()
