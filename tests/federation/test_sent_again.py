"""An outbox that starts again, when what it made before would be made otherwise now."""

from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest
import pytest_asyncio
from sqlalchemy import delete, func, select
from temporalio.client import WorkflowHandle

from activities.outbox import Order, OutboxWaker
from coafi.canonical import JsonObject
from coafi.federation.messages import LedgerPlace, Message
from coafi.federation.projection import Projection
from coafi.federation.sent import peer_sent
from coafi.names import outbox_workflow_id, peer_workflow_id
from coafi.recording import Decision
from tests.federation.pair import Pair, Side, confirmed, running_pair
from tests.harness import Repository, documents, until
from workflows.peer import PeerWorkflow
from workflows.peer_outbox import OutboxStanding, PeerOutboxWorkflow


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two instances, of which ``a`` has told ``b`` of two documents, and does not remember what it heard of that."""
    async with running_pair(tmp_path) as running:
        a, b = running.a, running.b
        await confirmed(a, a.send(1))
        inbox = b.stack.client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(b.other))
        await inbox.execute_update(PeerWorkflow.pause, Decision(by="bob", reason="so that there is no receipt yet"))
        repository = Repository.create(a.stack.settings.home.parent / "repository")
        await (await a.stack.accepted(repository.push(documents(2)))).result()

        async def both_taken() -> bool:
            return (await state(a)).unsettled >= 2

        await until(both_taken)
        await outbox(a).terminate("lost with Temporal's data")
        await inbox.execute_update(PeerWorkflow.resume, Decision(by="bob", reason="it is terminated"))
        await until(lambda: len(b.applied()) >= 3)
        yield running


def outbox(side: Side) -> WorkflowHandle[PeerOutboxWorkflow, OutboxStanding]:
    """The run of the outbox."""
    return side.stack.client.get_workflow_handle_for(PeerOutboxWorkflow.run, outbox_workflow_id(side.other))


async def state(side: Side) -> OutboxStanding:
    """Where the outbox stands."""
    return await outbox(side).query(PeerOutboxWorkflow.state)


def restrict(side: Side) -> None:
    """Let the other one have digests only, from now on."""
    peer = side.store.require(side.other)
    side.store.put(peer.model_copy(update={"restricted": ("*",)}), by="ada", reason="digests only from now on")


def forget(side: Side) -> None:
    """Keep of what was sent as much as the version before did: nothing."""
    with side.stack.resources.database.write() as connection:
        connection.execute(delete(peer_sent))


def sent(side: Side, delivered: JsonObject) -> Message:
    """The message that a delivery names."""
    return Message.model_validate_json(side.stack.resources.objects.get(str(delivered["sent"])))


@pytest.mark.parametrize("is_upgraded", [False, True], ids=["kept", "from-before"])
async def test_a_peer_that_was_restricted_meanwhile_has_what_it_has_and_hears_of_the_rest(
    pair: Pair, *, is_upgraded: bool
) -> None:
    a, b = pair.a, pair.b
    if is_upgraded:
        forget(a)
    restrict(a)
    said = await confirmed(a, *[a.send(number) for number in (7, 8)])
    assert [one["outcome"] for one in said] == ["accepted"] * 2
    await until(lambda: len(a.delivered()) == 5)
    documents_ = [one for one in a.delivered() if one["messageType"] == "DocumentPublished"]
    assert [one["outcome"] for one in documents_] == ["accepted"] * 2
    assert [sent(a, one).data["restricted"] for one in documents_] == [False] * 2
    assert len(b.applied()) == len(set(b.applied())) == 5
    assert (await state(a)).paused == ""
    with a.stack.resources.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(peer_sent)).scalar_one() == 0


async def test_what_was_never_sent_pauses_the_outbox_until_a_person_lets_it_pass(pair: Pair) -> None:
    a, b = pair.a, pair.b
    forget(a)
    with patch.object(Projection, "_place", lambda self, one: LedgerPlace(origin="elsewhere", index=one.index)):
        queued = a.send(7)
        await OutboxWaker(a.stack.client, a.outbox).wake(a.other)
        for _ in range(2):  # one pause for each of the two
            await until(lambda: is_paused(a))
            paused = (await state(a)).paused
            assert "the peer b.example has handled another body, " in paused
            assert "peers resume" in paused
            await resume(a, paused)
        (last,) = await confirmed(a, queued)
    assert last["outcome"] == "accepted"
    await until(lambda: len(a.delivered()) == 4)
    passed = [one for one in a.delivered() if one["outcome"] == "unconfirmed"]
    assert len(passed) == 2
    for one in passed:
        assert "that was let pass" in str(one["problem"])
        assert a.stack.resources.objects.get(str(one["receipt"]))
    assert len(b.applied()) == len(set(b.applied())) == 4


async def is_paused(side: Side) -> bool:
    """Whether the outbox is paused."""
    return (await state(side)).paused != ""


async def resume(side: Side, paused: str) -> None:
    """Let the outbox go on, which is paused for a reason, and wait until it is not for that one."""
    await outbox(side).signal(PeerOutboxWorkflow.resume, Order(by="ada", reason="so be it", pauses=False))

    async def goes_on() -> bool:
        return (await state(side)).paused != paused

    await until(goes_on)
