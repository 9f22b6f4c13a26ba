"""The run of an index, on a whole service: a flood gives few updates that name what they stand for; nothing is lost."""

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from git import Repo
from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy

from activities.index import IndexPolicy, IndexRequest, IndexState
from coafi.index.model import ProcessedCommit
from coafi.index.pointers import IndexPointer, IndexReader
from coafi.names import EntryType, SignalName, TaskQueue, WorkflowName, index_workflow_id
from coafi.objects.local import LocalObjectStore
from tests.harness import Repository, Stack, document, documents, push_payload, running_stack, until
from workflows.git_commit_processing import GitCommitProcessingWorkflow

POLICY = IndexPolicy(debounce=0.1, fetch=60, git=1, files=60)


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("index"), index_debounce=0.1) as running:
        yield running


class Branch:
    """A branch of a repository of its own, its index, and the run that keeps it."""

    def __init__(self, stack: Stack, *, max_updates: int = 200, debounce: float = 0.1) -> None:
        self._policy = POLICY.model_copy(update={"debounce": debounce})
        self.stack = stack
        self.repository = Repository.create(stack.settings.home.parent / uuid.uuid4().hex)
        self.url = self.repository.path.as_uri()
        self.asked: list[str] = []
        self._max_updates = max_updates

    async def ask(self, commit: str, name: str = "") -> None:
        """Ask for an update, as a commit's run does."""
        name = name or f"run-{uuid.uuid4()}"
        self.asked.append(name)
        await self.stack.client.start_workflow(
            WorkflowName.GIT_COMMIT_PROCESSING,
            IndexState(repository=self.url, branch="main", policy=self._policy, max_updates=self._max_updates),
            id=self.run.id,
            task_queue=TaskQueue.EVENTS,
            start_signal=SignalName.COMMIT_PROCESSED,
            start_signal_args=[
                IndexRequest(commit=ProcessedCommit(workflow_id=name, commit=commit, tree=None), policy=self._policy)
            ],
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )

    async def flood(self, commits: Iterable[str]) -> None:
        """Ask for many updates at once."""
        await asyncio.gather(*(self.ask(commit) for commit in commits))

    @property
    def run(self) -> WorkflowHandle[Any, Any]:
        """The run that keeps the index."""
        return self.stack.client.get_workflow_handle(index_workflow_id(self.url, "main"))

    @property
    def newest(self) -> IndexPointer | None:
        """The newest index."""
        return IndexReader(self.stack.resources.database).newest(self.url, "main")

    async def shows(self, commit: str) -> None:
        """Wait until the newest index is that of a commit."""
        await until(lambda: (newest := self.newest) is not None and newest.commit == commit)

    def named(self) -> list[list[str]]:
        """The runs that each update names, in full."""
        objects = LocalObjectStore(self.stack.settings.objects_directory)
        updates = [
            one.entry.data
            for one in self.stack.entries(EntryType.INDEX_UPDATED)
            if one.entry.workflow_id == self.run.id
        ]
        return [[one["workflow"] for one in json.loads(objects.get(str(data["commitsDigest"])))] for data in updates]

    async def is_quiet(self) -> bool:
        """Whether every request has been taken into account."""
        return (await self.run.query(GitCommitProcessingWorkflow.state)).waiting == 0


async def test_a_flood_of_500_commits_gives_few_updates_that_name_every_one(stack: Stack) -> None:
    branch = Branch(stack)
    shas = [branch.repository.commit({"a.md": f"# {number}\n"}) for number in range(5)]
    await branch.flood(shas[number % 5] for number in range(500))
    await until(branch.is_quiet)
    last = branch.repository.commit({"a.md": "# the last\n"})
    await branch.ask(last)
    await branch.shows(last)
    named = branch.named()
    assert len(named) < 10
    everyone = [name for names in named for name in names]
    assert sorted(everyone) == sorted(branch.asked), "each once, none lost"
    state = await branch.run.query(GitCommitProcessingWorkflow.state)
    assert state.updates < 20
    (update,) = [one for one in stack.entries(EntryType.INDEX_UPDATED) if one.entry.data.get("commit") == last]
    listed = update.entry.data["commits"]
    assert isinstance(listed, list)
    assert len(listed) <= int(str(update.entry.data["commitCount"]))
    assert len(update.body) < 65_535


async def test_nothing_is_lost_while_the_run_continues_as_new(stack: Stack) -> None:
    branch = Branch(stack, max_updates=1, debounce=0)
    sha = branch.repository.head
    await branch.ask(sha)
    first = (await branch.run.describe()).run_id

    async def updates() -> int:
        return (await branch.run.query(GitCommitProcessingWorkflow.state)).updates

    for number in itertools.count():
        await branch.flood([sha] * 5)
        await asyncio.sleep(0.03)
        if number % 5 == 0:
            sha = branch.repository.commit({"a.md": f"# {number}\n"})
        if number >= 30 and await updates() > 5:
            break
    await until(branch.is_quiet)
    last = branch.repository.commit({"a.md": "# the last\n"})
    await branch.ask(last)
    await branch.shows(last)
    assert sorted(name for names in branch.named() for name in names) == sorted(branch.asked)
    described = await branch.run.describe()
    assert described.run_id != first
    assert await updates() > 5


async def test_a_request_that_comes_twice_counts_once_also_after_continue_as_new(stack: Stack) -> None:
    branch = Branch(stack, max_updates=1)
    await branch.ask(branch.repository.head, "twice")
    await branch.ask(branch.repository.head, "twice")
    await branch.shows(branch.repository.head)
    for text in ("# 1\n", "# 2\n"):
        sha = branch.repository.commit({"a.md": text})
        await branch.ask(sha, "twice")
        await branch.ask(sha, f"other {text}")
        await branch.shows(sha)
    assert branch.named() == [["twice"], ["other # 1\n"], ["other # 2\n"]]


async def test_what_shows_nothing_new_makes_no_new_index(stack: Stack) -> None:
    branch = Branch(stack)
    await branch.ask(branch.repository.head, "first")
    await branch.shows(branch.repository.head)
    await branch.ask(branch.repository.head, "second")

    async def unchanged() -> bool:
        last = (await branch.run.query(GitCommitProcessingWorkflow.state)).last
        return last is not None and last.outcome == "unchanged"

    await until(unchanged)
    assert branch.named() == [["first"]]
    sha = branch.repository.commit({"a.md": "# new\n"})
    await branch.ask(sha, "third")
    await branch.shows(sha)
    assert branch.named() == [["first"], ["second", "third"]]


async def test_a_force_push_moves_the_index_back_and_a_late_commit_does_not(stack: Stack) -> None:
    branch = Branch(stack)
    old = branch.repository.head
    await branch.ask(old)
    await branch.shows(old)
    new = branch.repository.commit({"a.md": "# new\n"})
    await branch.ask(new)
    await branch.shows(new)
    await branch.ask(old, "late")  # of a run that took longer

    await until(branch.is_quiet)
    assert branch.newest is not None
    assert branch.newest.commit == new
    with Repo(branch.repository.path) as repo:
        repo.git.reset("--hard", old)
    await branch.ask(old, "forced")
    await branch.shows(old)
    assert branch.newest.generation == 3
    assert branch.named()[-1] == ["late", "forced"]


async def test_pushes_that_end_out_of_order_end_at_the_tip(stack: Stack) -> None:
    branch = Branch(stack)
    payloads = [branch.repository.push(documents(2, text=f"Version {number}.")) for number in range(4)]
    handles = [await stack.accepted(payload) for payload in reversed(payloads)]
    await asyncio.gather(*(handle.result() for handle in handles))
    await branch.shows(branch.repository.head)
    newest = branch.newest
    assert newest is not None

    def checked() -> bool:
        newest = branch.newest
        assert newest is not None
        index = json.loads(stack.resources.objects.get(newest.index_digest))
        return newest.commit == branch.repository.head and index["counts"]["verdicts"]["valid"] == 2

    await until(checked)
    assert {name for names in branch.named() for name in names} <= {handle.id for handle in handles}
    stack.verify()


async def test_a_deleted_branch_loses_its_index_and_a_new_one_of_its_name_gets_one(stack: Stack) -> None:
    repository = Repository.create(stack.settings.home.parent / uuid.uuid4().hex)
    url, reader = repository.path.as_uri(), IndexReader(stack.resources.database)
    with Repo(repository.path) as repo:
        repo.git.checkout("-b", "feature/x")
    sha = repository.commit({"docs/COAFI-ENG-0001-SPEC-A.md": document(1)})

    async def push(after: str) -> None:
        payload = push_payload(url, after, branch="feature/x")
        assert (await (await stack.accepted(payload)).result()).phase == "PROCESSED"

    def newest() -> IndexPointer | None:
        return reader.newest(url, "feature/x")

    await push(sha)
    await until(lambda: (one := newest()) is not None and one.commit == sha)
    with Repo(repository.path) as repo:
        repo.git.checkout("main")
        repo.git.branch("-D", "feature/x")
    await push("0" * 40)
    await until(lambda: (one := newest()) is not None and one.deleted)
    entry = stack.entries(EntryType.INDEX_UPDATED)[-1].entry
    assert entry.data["deleted"] is True
    assert (url, "feature/x") not in [(one.repository, one.branch) for one in reader.all()]
    with Repo(repository.path) as repo:
        repo.git.branch("feature/x", sha)
    await push(sha)
    await until(lambda: (one := newest()) is not None and one.commit == sha and one.generation == 3)


async def test_an_update_that_fails_says_why_and_the_next_commit_tries_again(stack: Stack, tmp_path: Path) -> None:
    branch = Branch(stack)
    moved = branch.repository.path.rename(branch.repository.path.with_name(uuid.uuid4().hex))
    await branch.ask("a" * 40, "in vain")

    async def failed() -> bool:
        return "repository" in (await branch.run.query(GitCommitProcessingWorkflow.state)).problem

    await until(failed)
    assert branch.newest is None
    moved.rename(branch.repository.path)
    await branch.ask(branch.repository.head, "again")
    await branch.shows(branch.repository.head)
    assert branch.named() == [["in vain", "again"]]

    async def mended() -> bool:  # the run hears of the index after its readers
        return (await branch.run.query(GitCommitProcessingWorkflow.state)).problem == ""

    await until(mended)


async def test_a_branch_that_never_was_gets_no_index(stack: Stack) -> None:
    repository = Repository.create(stack.settings.home.parent / uuid.uuid4().hex)
    handle = await stack.accepted(push_payload(repository.path.as_uri(), repository.head, branch="nowhere"))
    await handle.result()
    run = stack.client.get_workflow_handle(index_workflow_id(repository.path.as_uri(), "nowhere"))

    async def absent() -> bool:
        last = (await run.query(GitCommitProcessingWorkflow.state)).last
        return last is not None and last.outcome == "absent"

    await until(absent)
    assert IndexReader(stack.resources.database).newest(repository.path.as_uri(), "nowhere") is None


async def test_a_run_that_is_rejected_asks_for_no_index(stack: Stack) -> None:
    url = (stack.settings.home.parent / "nothing-there").as_uri()
    receipt = await (await stack.accepted(push_payload(url, "a" * 40))).result()
    assert receipt.phase == "REJECTED"
    listed = [run.id async for run in stack.client.list_workflows(f"WorkflowId='{index_workflow_id(url, 'main')}'")]
    assert listed == []


async def test_the_history_of_a_push_stays_small(stack: Stack) -> None:
    repository = Repository.create(stack.settings.home.parent / uuid.uuid4().hex)
    handle = await stack.accepted(repository.push(documents(10)))
    await handle.result()
    assert len((await handle.fetch_history()).events) <= 32


async def test_a_document_that_no_push_brought_has_the_id_that_its_tree_tells(stack: Stack) -> None:
    branch = Branch(stack)
    sha = branch.repository.commit({"docs/COAFI-ENG-0001-SPEC-A.md": document(1)})
    await branch.ask(sha)
    await branch.shows(sha)
    assert branch.newest is not None
    index = json.loads(stack.resources.objects.get(branch.newest.index_digest))
    (one,) = [one for one in index["documents"] if one["path"].startswith("docs/")]
    assert (one["verdict"], one["documentId"], one["area"]) == ("unchecked", "COAFI-ENG-0001-SPEC-A", "ENG")
