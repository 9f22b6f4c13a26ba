"""The code replays the histories of real runs: what is open when a new version starts goes on."""

import functools
import gzip
import importlib
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import NondeterminismError

from activities.events import Patience
from activities.peers import PeerRun
from coafi.events import Event, EventRef
from coafi.git.fetch import GitFetcher
from coafi.names import EntryType, NotificationName, Phase, WorkflowName, notification_workflow_id
from coafi.tasks.run import ScheduledTask
from tests.harness import Repository, documents, running_stack, until
from tests.histories.record import CASES, DIRECTORY, has_index, text_of, traces_of_a_machine
from tests.workflows.support import GIVES_UP, assert_receipt_names_every_entry, broken, parked, retried
from tests.workflows.test_notification import KEY, receiver
from workers.wiring import WORKFLOWS
from workflows.api_request import APIRequestWorkflow
from workflows.bitt_event import BITTEventWorkflow
from workflows.git_commit import GitCommitWorkflow
from workflows.lifecycle import Outcome, Receipt
from workflows.notification import NotificationResult
from workflows.notification import Outcome as NotificationOutcome
from workflows.peer import PeerStanding, PeerWorkflow
from workflows.scheduled_task import ScheduledTaskWorkflow

MOMENT = timedelta(seconds=1)

SANDBOX = SandboxedWorkflowRunner(
    SandboxRestrictions.default.with_passthrough_modules("activities", "coafi", "pydantic", "tests")
)
"""Finds clocks, randomness and I/O in the files of workflows, which it loads anew for every run."""


def history(name: str) -> WorkflowHistory:
    peers = {
        "peer": "peer:history.example",
        "peer-continued": "peer:continued.example",
        "peer-put-aside": "peer:aside.example",
        "peer-refuses-depth": "peer:deep.example",
    }
    workflow_id = peers.get(name, f"git.commit:history:{name}")
    return WorkflowHistory.from_json(workflow_id, (DIRECTORY / f"{name}.json").read_text())


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


CLOCK = """
import time
from temporalio import workflow
from workflows.git_commit import GitCommitWorkflow

@workflow.defn(name="GitCommitWorkflow")
class WithAClock(GitCommitWorkflow):
    @workflow.run
    async def run(self, event):
        time.time()
        return await super().run(event)
"""


async def test_a_clock_in_a_workflow_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_a_clock.py").write_text(CLOCK)
    monkeypatch.syspath_prepend(tmp_path)
    changed = importlib.import_module("with_a_clock").WithAClock
    with pytest.raises(RuntimeError, match=r"time\.time"):
        await replay("processed", changed)


@workflow.defn(name=WorkflowName.API_REQUEST)
class WithAnotherStepForRequests(APIRequestWorkflow):
    """Does something first that no history knows."""

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__(event)

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Wait, then do as before."""
        await workflow.sleep(MOMENT)
        return await super().run(event)


@pytest.mark.parametrize("name", ["api-answered", "api-precondition-failed", "api-parked-and-retried"])
async def test_a_change_that_open_requests_do_not_survive_is_noticed(name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replay(name, WithAnotherStepForRequests)


@workflow.defn(name=WorkflowName.BITT_EVENT)
class WithoutTelling(BITTEventWorkflow):
    """Tells nobody."""

    @workflow.init
    def __init__(self, event: Event) -> None:
        super().__init__(event)

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle the event, and no more."""
        return await self.handle(event, functools.partial(self._react, event))


async def test_a_change_that_open_events_of_ledgers_do_not_survive_is_noticed() -> None:
    with pytest.raises(NondeterminismError):
        await replay("bitt-event-notified", WithoutTelling)
    await replay("bitt-event", WithoutTelling)


@workflow.defn(name=WorkflowName.SCHEDULED_TASK)
class WithAnotherStepForTasks(ScheduledTaskWorkflow):
    """Does something first that no history knows."""

    @workflow.init
    def __init__(self, task: ScheduledTask) -> None:
        super().__init__(task)

    @workflow.run
    async def run(self, task: ScheduledTask) -> Receipt:
        """Wait, then do as before."""
        await workflow.sleep(MOMENT)
        return await super().run(task)


@pytest.mark.parametrize("name", ["task-done", "task-alarm", "task-given-up", "task-done-before"])
async def test_a_change_that_open_tasks_do_not_survive_is_noticed(name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replay(name, WithAnotherStepForTasks)


@workflow.defn(name=WorkflowName.PEER)
class WithAnotherStepForPeers(PeerWorkflow):
    """Does something first that no history knows."""

    @workflow.init
    def __init__(self, start: PeerRun) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: PeerRun) -> PeerStanding:
        """Wait, then do as before."""
        await workflow.sleep(MOMENT)
        return await super().run(start)


@pytest.mark.parametrize("name", ["peer", "peer-continued", "peer-put-aside", "peer-refuses-depth"])
async def test_a_change_that_open_runs_of_peers_do_not_survive_is_noticed(name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replay(name, WithAnotherStepForPeers)


BEFORE = {
    "peer-paused": "peer:a.example",
    "peer-took-depth": "peer:deep.example",
    "index-flooded": "index:https://example.org/r:main",
    "api-done-and-discarded": "api.request:urn:coafi:api:key:history:api-done-and-discarded",
}
"""Runs from before a patch. A peer's, paused, went on past what Temporal suggested, as nothing was put aside. Another
took a message that is nested too deeply. An index's was asked by 2,001 pushes that show nothing new, and goes on to its
second update, for the one that was left. A request's was discarded after its change was made, and told nobody."""


async def _replay_before(name: str) -> None:
    (file,) = (DIRECTORY / "before").glob(f"{name}.json*")
    text = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(WorkflowHistory.from_json(BEFORE[name], text))


@pytest.mark.parametrize("name", BEFORE)
async def test_a_run_from_before_a_patch_goes_on_as_it_began(name: str) -> None:
    await _replay_before(name)


@pytest.mark.parametrize("name", BEFORE)
async def test_that_run_would_go_another_way_without_its_patch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporalio.workflow.patched", lambda _id: True)
    with pytest.raises(NondeterminismError):
        await _replay_before(name)


def test_every_case_has_its_history_and_they_are_small() -> None:
    files = {file.stem: file for file in DIRECTORY.glob("*.json")}
    assert files.keys() == CASES.keys()
    assert sum(file.stat().st_size for file in files.values()) < 1_000_000


@pytest.mark.parametrize("name", CASES)
def test_a_history_says_nothing_about_the_machine_it_was_made_on(name: str) -> None:
    text = (DIRECTORY / f"{name}.json").read_text()
    assert traces_of_a_machine(text) == []
    assert text_of(history(name)) == text
    assert "stackTrace" not in text


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every workflow task begins with a replay of the whole history."""
    monkeypatch.setattr("workers.wiring.Worker", functools.partial(Worker, max_cached_workflows=0))


@pytest.mark.usefixtures("uncached")
async def test_a_run_whose_every_task_is_replayed_goes_the_same_way(tmp_path: Path) -> None:
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


@pytest.mark.usefixtures("uncached")
async def test_an_index_and_its_notifications_whose_every_task_is_replayed_go_the_same_way(tmp_path: Path) -> None:
    with receiver() as away:
        away.answers = [(503, {}, 0.0), (204, {}, 0.0)]
        subscribers = tmp_path / "subscribers.yaml"
        subscribers.touch(mode=0o600)
        subscribers.write_text(yaml.safe_dump([{"name": "partner", "url": away.url, "secret": KEY}]))
        async with running_stack(
            tmp_path, subscribers=subscribers, index_debounce=0.1, notify_allow_private=True
        ) as stack:
            repository = Repository.create(tmp_path / "repository")
            for number in (1, 2):
                await (await stack.accepted(repository.push(documents(number, text=f"Version {number}.")))).result()
                await until(functools.partial(has_index, stack, repository, number))
            await until(lambda: len(away.seen) == 3)
            assert len(stack.entries(EntryType.INDEX_UPDATED)) == 2
            for generation in (1, 2):
                name = NotificationName("partner", repository.path.as_uri(), "main", generation)
                run = stack.client.get_workflow_handle(notification_workflow_id(name), result_type=NotificationResult)
                assert (await run.result()).outcome is NotificationOutcome.DELIVERED
            stack.verify()
