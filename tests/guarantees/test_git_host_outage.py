"""The git host out of reach: for a while nobody is needed; for good the run parks, and goes on where it stopped."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from coafi.canonical import JsonObject
from coafi.git.limits import KIB
from coafi.names import ActivityName, EntryType, Phase, TaskQueue
from coafi.recording import Decision
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer, serve
from tests.guarantees.support import activities, finished, local_activities, side_by_side
from tests.harness import Stack, document, history_of, push_payload, running_stack, until
from tests.starters.support import command
from workers.wiring import build_workers
from workflows.lifecycle import EventWorkflow, Receipt

BY_HTTP: dict[str, Any] = {"git_allow_http": True, "git_allow_private": True}
FILES = {f"docs/COAFI-ENG-{number:04d}-SPEC-A.md": document(number) for number in (1, 2)}
TRIES_OF_AN_UNKNOWN_COMMIT = 4.0
"""Seconds of patience that are enough for a commit to be found unknown."""


@dataclass
class GitHost:
    """A host of git repositories; while it is down, nobody listens on its port."""

    backend: GitServer
    port: int = 0
    _listener: asyncio.Server | None = None

    def url(self, name: str) -> str:
        """The URL of the repository ``name``."""
        return f"http://127.0.0.1:{self.port}/{name}"

    async def up(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def down(self) -> None:
        """Refuse connections."""
        if self._listener is not None:
            self._listener.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self.backend.port)
        await asyncio.gather(_pump(reader, requests), _pump(answers, writer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(64 * KIB):
            target.write(data)
            await target.drain()
    target.close()


@asynccontextmanager
async def git_host(root: Path) -> AsyncIterator[GitHost]:
    """A host of the repositories below ``root``, which has been up already and is down now."""
    with serve(root) as backend:
        host = GitHost(backend)
        await host.up()
        host.down()
        try:
            yield host
        finally:
            host.down()


@dataclass(frozen=True)
class Push:
    """A push whose commit may leave its branch afterwards."""

    repository: Repository
    before: str
    commit: str

    @classmethod
    def to(cls, path: Path) -> "Push":
        """Push ``FILES`` to a new repository; it gives out unreachable commits, as GitHub does."""
        repository = Repository.make(path)
        repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
        before = repository.commit({"README.md": "# Empty\n"})
        return cls(repository, before, repository.commit(FILES))

    def payload(self, host: GitHost) -> JsonObject:
        """What the webhook says of it."""
        return push_payload(host.url(self.repository.path.name), self.commit, before=self.before)

    def leaves_the_branch(self, *, for_good: bool) -> None:
        """Force-push another commit over it; ``for_good``: collect what nothing refers to any more."""
        git = self.repository.git
        git("reset", "--quiet", "--hard", self.before)
        self.repository.commit({"other.txt": "instead"})
        assert self.commit not in git("rev-list", "--all")
        if for_good:
            git("update-ref", "-d", "ORIG_HEAD")
            git("reflog", "expire", "--expire=now", "--all")
            git("gc", "--quiet", "--prune=now")
            assert git("cat-file", "--batch-check", stdin=self.commit.encode()).endswith("missing")


async def parked(stack: Stack, handle: WorkflowHandle[Any, Receipt], sequence: int = 1) -> None:
    async def is_parked() -> bool:
        state = await stack.state(handle)
        return state.phase is Phase.PARKED and state.failure is not None and state.failure.sequence == sequence

    await until(is_parked)


async def retry_all_by_command(stack: Stack) -> None:
    arguments = ("dead-letters", "retry", "--all", "--by", "ada", "--reason", "the host is back")
    environment = {"COAFI_HOME": str(stack.settings.home), "COAFI_TEMPORAL_ADDRESS": stack.server.address}
    done = await asyncio.to_thread(command, arguments, {**os.environ, **environment})
    assert done.returncode == 0, done.stderr


async def _down_for_twenty_seconds(home: Path) -> None:
    async with running_stack(home, **BY_HTTP) as stack, git_host(home) as host:
        handle = await stack.accepted(Push.to(home / "docs").payload(host))
        await asyncio.sleep(20)
        assert (await stack.state(handle)).phase is Phase.VALIDATED
        await host.up()
        receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["valid"] == 2
        assert receipt.decisions == ()
        (fetch,) = activities(await history_of(handle), ActivityName.FETCH)
        assert fetch.attempt > 1
        assert not stack.entries(EntryType.EVENT_PROCESSING_FAILED)
        stack.verify()


async def _parked_before_the_fetch(home: Path) -> None:
    async with (
        running_stack(home, git_patience=TRIES_OF_AN_UNKNOWN_COMMIT, **BY_HTTP) as stack,
        git_host(home) as host,
    ):
        rewritten, collected = Push.to(home / "rewritten"), Push.to(home / "collected")
        handle = await stack.accepted(rewritten.payload(host))
        hopeless = await stack.accepted(collected.payload(host))
        await parked(stack, handle)
        await parked(stack, hopeless)
        await handle.execute_update(EventWorkflow.retry, Decision(by="ada", reason="too early"))
        await parked(stack, handle, sequence=2)
        rewritten.leaves_the_branch(for_good=False)
        collected.leaves_the_branch(for_good=True)
        await host.up()
        await retry_all_by_command(stack)

        receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["valid"] == 2
        assert [one.reason for one in receipt.decisions] == ["too early", "the host is back"]
        history = await history_of(handle)
        assert local_activities(history).count(ActivityName.RECEIVE) == 1
        assert not activities(history, ActivityName.RECEIVE)
        assert [one.completed for one in activities(history, ActivityName.FETCH)] == [False, False, True]

        rejected = await finished(hopeless)
        assert rejected.phase is Phase.REJECTED
        assert collected.commit in rejected.findings[0].message

        failures = [one.entry.data for one in stack.entries(EntryType.EVENT_PROCESSING_FAILED)]
        assert [(one["step"], one["error"]) for one in failures] == [("git.fetch", "Unavailable")] * 3
        assert sorted(str(one["sequence"]) for one in failures) == ["1", "1", "2"]
        assert len(stack.entries(EntryType.EVENT_RECEIVED)) == 2
        stack.verify()


async def _parked_after_the_fetch(home: Path) -> None:
    async with (
        running_stack(home, workers=False, **BY_HTTP) as stack,
        git_host(home) as host,
        AsyncExitStack() as later,
    ):
        workers = {one.task_queue: one for one in build_workers(stack.client, stack.resources, later)}
        for queue in (TaskQueue.EVENTS, TaskQueue.GIT):
            await later.enter_async_context(workers[queue])
        await host.up()
        push = Push.to(home / "docs")
        handle = await stack.accepted(push.payload(host))

        async def fetched() -> bool:
            return bool(activities(await history_of(handle), ActivityName.PROCESS))

        await until(fetched)
        host.down()
        push.leaves_the_branch(for_good=True)
        shutil.rmtree(stack.settings.mirrors_directory)
        objects, away = stack.settings.objects_directory, home / "away"
        objects.rename(away)
        await later.enter_async_context(workers[TaskQueue.FILES])
        await parked(stack, handle)
        state = await stack.state(handle)
        assert state.failure is not None
        assert (state.failure.step, state.failure.error) == ("files.process/0", "IntegrityError")
        assert state.steps_done == ("event.receive", "git.fetch")

        if objects.exists():
            shutil.rmtree(objects)
        away.rename(objects)
        await handle.execute_update(EventWorkflow.retry, Decision(by="ada", reason="the disk is mounted"))
        receipt = await finished(handle)
        assert receipt.phase is Phase.PROCESSED
        assert receipt.counts["valid"] == 2
        history = await history_of(handle)
        (fetch,) = activities(history, ActivityName.FETCH)
        assert fetch.attempt == 1
        assert local_activities(history).count(ActivityName.RECEIVE) == 1
        stack.verify()


async def test_a_run_outlasts_the_outage_of_its_git_host_by_itself_or_goes_on_after_a_retry(tmp_path: Path) -> None:
    await side_by_side(
        tmp_path,
        {
            "down for 20 seconds": _down_for_twenty_seconds,
            "parked before the fetch": _parked_before_the_fetch,
            "parked after the fetch": _parked_after_the_fetch,
        },
    )
