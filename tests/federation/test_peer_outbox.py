"""The outbox of one peer on a whole service, to real HTTP servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from activities.outbox import Order, OutboxState
from coafi.federation.peers import PeerStatus, PeerStore
from coafi.names import TaskQueue
from tests.federation.partner import Told, notice, partner, sender_of, told
from tests.harness import Stack, history_of, running_stack, until
from tests.workflows.support import names_of
from workflows.peer_outbox import PeerOutboxWorkflow

ADA = Order(by="ada", reason="the peer is back")


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service in this process, with little patience."""
    async with running_stack(tmp_path_factory.mktemp("outbox"), peers_patience=6.0, peers_timeout=2.0) as running:
        yield running


async def has_paused(one: Told) -> bool:
    """Whether the outbox is paused, and that is kept."""
    kept = one.outbox.positions.get(one.peer.id)
    return (await one.state()).paused != "" and kept is not None and kept.paused != ""


async def test_messages_arrive_in_order_signed_and_once(stack: Stack) -> None:
    with partner() as peer:
        peer.sender = sender_of(stack)
        one = told(stack, peer.url, "in-order")
        queued = [one.queue(number) for number in range(60)]
        await one.wake()
        await until(lambda: len(peer.seen) >= 60)
        assert peer.taken == one.ids(*queued)
        assert [message.data["summary"] for _, message, _ in peer.seen] == [notice(n)["summary"] for n in range(60)]
        assert {message.source for _, message, _ in peer.seen} == {f"urn:coafi:peer:{stack.settings.federation_peer}"}
        await one.wake()
        await until(lambda: _did(one, "outbox.collect", 4))
        assert len(peer.seen) == 60
        # What durability costs: a message of a batch less than an event of history, however the batches fall.
        assert len((await history_of(one.run)).events) < 60


async def _did(one: Told, activity: str, times: int = 1) -> bool:
    return names_of(await history_of(one.run)).count(activity) >= times


async def test_a_lone_message_costs_few_events_of_history(stack: Stack) -> None:
    with partner() as peer:
        one = told(stack, peer.url, "lone")
        one.queue(1)
        await one.wake()
        await until(lambda: _did(one, "outbox.settle"))
        assert len(peer.seen) == 1
        events = (await history_of(one.run)).events
        assert len(events) <= 14  # and five for the receipt, which is not there yet


async def test_a_failure_is_tried_again_with_the_same_message_and_holds_the_next_one(stack: Stack) -> None:
    with partner() as peer:
        peer.answers = [(503, {}), (500, {}), (202, {})]
        peer.sender = sender_of(stack)
        one = told(stack, peer.url, "flaky")
        queued = [one.queue(number) for number in range(3)]
        await one.wake()
        await until(lambda: len(peer.taken) == 3)
        assert [status for _, _, status in peer.seen] == [503, 500, 202, 202, 202]
        assert len({message.model_dump_json() for _, message, _ in peer.seen[:3]}) == 1
        assert peer.taken == one.ids(*queued)
        first, second, third = (moment for moment, _, _ in peer.seen[:3])
        assert 0.7 <= second - first < third - first - 0.7


async def test_what_the_peer_asks_us_to_wait_is_waited(stack: Stack) -> None:
    with partner() as peer:
        peer.answers = [(429, {"Retry-After": "2"}), (202, {})]
        one = told(stack, peer.url, "busy")
        one.queue(1)
        await one.wake()
        await until(lambda: len(peer.taken) == 1)
        first, second = (moment for moment, _, _ in peer.seen)
        assert second - first >= 1.9


async def test_a_peer_that_is_gone_is_sent_nothing_more(stack: Stack) -> None:
    with partner() as peer:
        peer.answers = [(202, {}), (410, {})]
        one = told(stack, peer.url, "gone")
        for number in range(3):
            one.queue(number)
        await one.wake()
        standing = await one.run.result()
        assert "410" in standing.ended
        stored = one.outbox.peers.get("gone")
        assert stored is not None
        assert stored.status is PeerStatus.GONE
        assert len(peer.seen) == 2
        assert "gone" not in one.outbox.concerned(stack.entries())


async def test_what_is_refused_pauses_the_outbox_and_nothing_is_skipped(stack: Stack) -> None:
    with partner() as peer:
        peer.answers = [(202, {}), (422, {})]
        one = told(stack, peer.url, "refusing")
        queued = [one.queue(number) for number in range(3)]
        await one.wake()
        await until(lambda: has_paused(one))
        standing = await one.state()
        assert standing.paused.startswith("the outbox: ")
        assert "the peer refusing answered 422" in standing.paused
        assert standing.delivered == 1
        peer.answers = [(202, {})]
        await one.run.signal(PeerOutboxWorkflow.resume, ADA)
        await until(lambda: len(peer.taken) == 3)
        assert peer.taken == one.ids(*queued)


async def test_what_came_before_with_another_body_is_taken_while_the_peer_is_at_it(stack: Stack) -> None:
    with partner() as peer:
        peer.answers = [(409, {}), (202, {})]
        one = told(stack, peer.url, "conflicting")
        queued = [one.queue(number) for number in range(2)]
        await one.wake()
        await until(lambda: len(peer.seen) >= 2)
        assert [(message.id, status) for _, message, status in peer.seen] == [
            *zip(one.ids(*queued), (409, 202), strict=True)
        ]
        assert (await one.state()).paused == ""


async def test_what_came_before_and_is_not_known_here_pauses_the_outbox_until_a_person_goes_on(stack: Stack) -> None:
    with partner() as peer:
        peer.answers, peer.receipts = [(409, {})], [(501, {})]
        one = told(stack, peer.url, "contradicting")
        (queued,) = one.ids(one.queue(1))
        await one.wake()
        await until(lambda: has_paused(one))
        standing = await one.state()
        assert f"has another body under {queued}" in standing.paused
        assert standing.delivered == 0
        await one.run.signal(PeerOutboxWorkflow.resume, ADA)

        async def goes_on() -> bool:
            return (await one.state()).delivered == 1

        await until(goes_on)


async def test_when_patience_ends_the_outbox_pauses_with_a_reason(stack: Stack) -> None:
    with partner() as away:
        port = away.port
    one = told(stack, f"http://127.0.0.1:{port}", "away")
    queued = [one.queue(number) for number in range(2)]
    await one.wake()
    await until(lambda: has_paused(one))
    standing = await one.state()
    assert "out of reach: ConnectError" in standing.paused
    kept = one.outbox.positions.get("away")
    assert kept is not None
    assert kept.tries >= 2
    assert kept.failing_at is not None
    with partner(port) as back:
        await one.wake()
        await asyncio.sleep(0.5)
        assert back.seen == []  # it is for a person to say that it goes on
        await one.run.signal(PeerOutboxWorkflow.resume, ADA)
        await until(lambda: len(back.taken) == 2)
        assert back.taken == one.ids(*queued)
        kept = one.outbox.positions.get("away")
        assert kept is not None
        assert (kept.tries, kept.problem, kept.paused) == (0, "", "")


async def test_an_operator_pauses_and_resumes_also_across_runs(stack: Stack) -> None:
    with partner() as peer:
        peer.delay = 0.3
        one = told(stack, peer.url, "paused")
        queued = [one.queue(number) for number in range(16)]
        await one.wake()
        await until(lambda: len(peer.taken) >= 2)
        await one.run.signal(PeerOutboxWorkflow.pause, Order(by="ada", reason="they migrate"))
        await until(lambda: has_paused(one))
        assert (await one.state()).paused == "ada: they migrate"
        await asyncio.sleep(2 * peer.delay)  # what was under way then comes in
        before = len(peer.taken)
        assert before < 16
        await one.run.terminate()
        await one.wake()
        await until(lambda: has_paused(one))
        assert len(peer.taken) == before
        await one.run.signal(PeerOutboxWorkflow.resume, ADA)
        await until(lambda: len(peer.taken) >= before + 16)
        # The first run was ended by force before receipts came, so the next one sent all of it again, in order.
        assert peer.taken[before:] == one.ids(*queued)


async def test_a_run_that_is_ended_by_force_is_followed_by_one_that_loses_nothing(stack: Stack) -> None:
    with partner() as peer:
        peer.delay = 0.05
        one = told(stack, peer.url, "terminated")
        queued = [one.queue(number) for number in range(40)]
        await one.wake()
        await until(lambda: len(peer.taken) >= 10)
        await one.run.terminate()
        await one.wake()
        await until(lambda: set(peer.taken) == set(one.ids(*queued)))
        known = list(dict.fromkeys(peer.taken))
        assert known == one.ids(*queued)


async def test_nothing_is_lost_or_doubled_over_several_runs(stack: Stack) -> None:
    with partner() as peer:
        one = told(stack, peer.url, "long-lived")
        queued = [one.queue(number) for number in range(70)]
        await stack.client.start_workflow(
            PeerOutboxWorkflow.run,
            OutboxState(peer="long-lived", max_sent=20),
            id=one.run.id,
            task_queue=TaskQueue.EVENTS,
        )
        for number in range(70, 90):
            queued.append(one.queue(number))
            await one.wake()
        await until(lambda: len(peer.taken) >= 90)
        assert peer.taken == one.ids(*queued)

        async def several_runs() -> bool:
            return len([run async for run in stack.client.list_workflows(f"WorkflowId='{one.run.id}'")]) >= 4

        async def all_delivered() -> bool:
            return (await one.state()).delivered == 90

        await until(several_runs)
        await until(all_delivered)


async def test_a_peer_that_does_not_know_our_key_yet_gets_all_once_it_does(stack: Stack) -> None:
    with partner() as peer:
        ours = sender_of(stack)
        peer.sender = ours.model_copy(update={"keys": ()})
        one = told(stack, peer.url, "rotated")
        queued = [one.queue(number) for number in range(3)]
        await one.wake()
        await until(lambda: len(peer.seen) >= 2)
        assert {status for _, _, status in peer.seen} == {401}
        peer.sender = ours
        await one.run.signal(PeerOutboxWorkflow.resume, ADA)
        await until(lambda: len(peer.taken) == 3)
        assert peer.taken == one.ids(*queued)


async def test_a_peer_that_has_lost_what_it_had_taken_is_sent_it_again(stack: Stack) -> None:
    with partner() as peer:
        peer.receipts = [(404, {}), (202, {})]
        one = told(stack, peer.url, "forgetful")
        queued = one.queue(1)
        await one.wake()
        await until(lambda: len(peer.taken) == 2)
        assert peer.taken == one.ids(queued) * 2


async def test_a_disabled_peer_waits_and_is_told_all_once_it_is_enabled(stack: Stack) -> None:
    with partner() as peer:
        one = told(stack, peer.url, "disabled")
        store = PeerStore(stack.resources.database, stack.resources.ledger, stack.settings.ledger_namespace)
        first = one.queue(1)
        store.disable("disabled", by="ada", reason="a test")
        await one.wake()
        await one.waker.wake("disabled")
        assert (await one.run.result()).ended == "the peer is disabled"
        store.enable("disabled", by="ada")
        second = one.queue(2)
        await one.wake()
        await until(lambda: len(peer.taken) == 2)
        assert peer.taken == one.ids(first, second)
