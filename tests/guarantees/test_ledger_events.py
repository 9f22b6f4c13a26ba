"""The listener skips nothing and starts nothing twice, and no chain of events goes on for ever."""

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from coafi.canonical import JsonObject
from coafi.following import Followers, LedgerFollower
from coafi.names import EntryType, Phase
from starters.listener import build_consumers
from tests.coafi.test_following import running
from tests.guarantees.support import finished
from tests.guarantees.test_remote_ledger import free_port
from tests.harness import Repository, Stack, documents, running_stack, until, worker_process
from tests.starters.ledger_events import OTHER_SECRET, SECRET, accepted, caught_up, failure, listening, subscriptions

OWN = "bitt:coafi.local/bitt/default"


async def bitt_runs(stack: Stack) -> Counter[str]:
    """How often each workflow id has a run."""
    return Counter([one.id async for one in stack.client.list_workflows("WorkflowType='BITTEventWorkflow'")])


async def is_quiet(stack: Stack) -> bool:
    """Whether no run is at work but those that wait for long."""
    return not [one async for one in stack.client.list_workflows("ExecutionStatus='Running'")]


async def test_a_listener_that_is_killed_before_its_position_moves_starts_nothing_twice(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml", {"name": "ends", "events": ["COAFI:LEDGER:EVENT_PROCESSED"], "notify": ["x"]}
    )
    marker = tmp_path / "died"
    async with running_stack(tmp_path, bitt_subscriptions=file) as stack:
        followers = Followers(stack.resources.database)
        followers.begin("listener", 0)
        run = await stack.accepted(Repository.create(tmp_path / "repo").push(documents(2)))
        receipt = await finished(run)
        command = (sys.executable, "-m", "tests.guarantees.crashing_listener", str(marker))
        with worker_process(stack, *command, COAFI_BITT_SUBSCRIPTIONS=str(file)) as process:
            assert await asyncio.wait_for(asyncio.to_thread(process.wait), 60) == -signal.SIGKILL
        left = followers.get("listener")
        assert left is not None
        assert (left.position, left.holder != "") == (0, True)  # it died with all its work done, and nothing moved
        workflow_id = f"bitt.event:{OWN}:{receipt.conclusion}"
        assert await bitt_runs(stack) == {workflow_id: 1}
        before = (await finished(stack.handle(workflow_id))).conclusion
        # Whoever comes next sees no life in the lease, takes over, and finds the run that there is.
        follower = LedgerFollower(
            stack.resources.ledger,
            followers,
            build_consumers(stack.client, stack.resources),
            lease_seconds=0.5,
            poll_seconds=0.05,
        )
        async with running(follower):
            await caught_up(stack, follower)
        assert await bitt_runs(stack) == {workflow_id: 1}
        assert (await finished(stack.handle(workflow_id))).conclusion == before
        # Also when Temporal has forgotten it: then a run finds the delivery claimed, and does nothing.
        await stack.forget(workflow_id)
        size = stack.resources.ledger.size()
        followers.place("listener", 0)
        async with running(follower):
            await caught_up(stack, follower)
        assert (await finished(stack.handle(workflow_id))).phase is Phase.DUPLICATE
        assert stack.verify() == size


async def test_entries_wait_in_the_ledger_while_temporal_is_away(tmp_path: Path) -> None:
    file = subscriptions(
        tmp_path / "subscriptions.yaml", {"name": "ends", "events": ["COAFI:LEDGER:EVENT_PROCESSED"], "notify": ["x"]}
    )
    async with running_stack(tmp_path, bitt_subscriptions=file, temporal_start_timeout=1.0) as stack:
        repository = Repository.create(tmp_path / "repo")
        followers = Followers(stack.resources.database)
        followers.begin("listener", 0)
        receipts = [await finished(await stack.accepted(repository.push({f"{n}.txt": "a note"}))) for n in range(3)]
        stack.server.process.send_signal(signal.SIGSTOP)
        try:
            async with listening(stack):
                await asyncio.sleep(2.5)
                known = followers.get("listener")
                assert known is not None
                assert known.position == 0
                stack.server.process.send_signal(signal.SIGCONT)
                wanted = {f"bitt.event:{OWN}:{receipt.conclusion}" for receipt in receipts}

                async def started() -> bool:
                    return (await bitt_runs(stack)).keys() == wanted

                await until(started)
        finally:
            stack.server.process.send_signal(signal.SIGCONT)
        for name in wanted:
            assert (await finished(stack.handle(name))).phase is Phase.PROCESSED
        assert set((await bitt_runs(stack)).values()) == {1}
        stack.verify()


async def test_two_instances_that_tell_each_other_of_everything_stop(tmp_path: Path) -> None:
    """A loop, tried in earnest: each notifies the other of every event, of what that writes, and of what follows."""
    ports = free_port(), free_port()
    everything: JsonObject = {
        "name": "all",
        "events": ["**"],
        "notify": ["all"],
        "open-findings": True,
        "tell-peers": "subscribed",
    }

    def instance(name: str, other: int, own_key: str, other_key: str) -> dict[str, Any]:
        home = tmp_path / name
        home.mkdir()
        subscribers = home / "subscribers.json"
        url = f"http://127.0.0.1:{ports[other]}/events"
        subscribers.write_text(json.dumps([{"name": "it", "url": url, "secret": other_key, "topics": ["all"]}]))
        subscribers.chmod(0o600)
        return {
            "gateway_port": ports[1 - other],
            "ledger_origin": f"{name}.example/bitt",
            "bitt_subscriptions": subscriptions(home / "subscriptions.yaml", everything),
            "subscribers": subscribers,
            "notify_allow_private": True,
            "events_secrets": {"*": (SecretStr(own_key),)},
            "causation_depth": 4,
        }

    async with (
        running_stack(tmp_path / "a", **instance("a", 1, SECRET, OTHER_SECRET)) as one,
        running_stack(tmp_path / "b", **instance("b", 0, OTHER_SECRET, SECRET)) as two,
        listening(one) as first,
        listening(two) as second,
    ):
        await finished(await accepted(one, failure("the-cause")))

        async def is_over() -> bool:
            for stack, follower in ((one, first), (two, second)):
                await caught_up(stack, follower)
            return await is_quiet(one) and await is_quiet(two)

        async def counts() -> list[int]:
            return [sum((await bitt_runs(stack)).values()) for stack in (one, two)]

        async def has_run_down() -> bool:
            return await counts() == [3, 2]

        # The cause, and one run for each step down: to the other, back, and so on, until the depth is reached.
        await until(has_run_down)
        await until(is_over)
        await asyncio.sleep(2)  # whatever would still come
        await until(is_over)
        assert await counts() == [3, 2]
        depths: list[int] = []
        for stack in (one, two):
            received = [run.data for run in stack.entries(EntryType.EVENT_RECEIVED)]
            assert {data["eventType"] for data in received} == {"bitt.event"}
            depths += [int(str(data["causationDepth"])) for data in received]
            stack.verify()
        assert sorted(depths) == [0, 1, 2, 3, 4]
        ends = [end.data["counts"] for stack in (one, two) for end in stack.entries(EntryType.EVENT_PROCESSED)]
        assert [end.get("capped") for end in ends if isinstance(end, dict)].count(1) == 1
