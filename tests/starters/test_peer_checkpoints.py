"""Checkpoints that peers tell of in messages: held against what was seen of their ledgers."""

from contextlib import ExitStack
from pathlib import Path

from coafi.federation.messages import CheckpointPublished, Message, new_message
from coafi.federation.witnessed import Grade, Witnessed, WitnessRecord
from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.ledger.cosignature import cosignatures
from coafi.ledger.fork import verify_fork
from coafi.ledger.keys import load_cosigner
from coafi.names import EntryType, peer_source, workflow_id
from tests.coafi.ledger.making import draft
from tests.coafi.ledger.serving import Served, served
from tests.harness import Stack, running_stack, until
from tests.starters.federation_support import Partner, partner
from tests.starters.ledger_events import caught_up, listening
from tests.starters.test_witness import free_port

ORIGIN = "a.example/bitt"


def published(message_id: str, signed: SignedCheckpoint) -> Message:
    """The message that a ledger has a checkpoint."""
    checkpoint = signed.checkpoint
    said = CheckpointPublished(
        origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex(), note=signed.note
    )
    return new_message("a.example", message_id, said, subject=ORIGIN)


async def told(stack: Stack, acme: Partner, message_id: str, signed: SignedCheckpoint) -> None:
    """Send a message about a checkpoint, and wait until it was looked at."""
    answer = await acme.send(published(message_id, signed))
    assert answer.status_code == 202, answer.text
    receipt = await acme.concluded(message_id)
    assert receipt.headers["coafi-phase"] == "PROCESSED"
    await stack.handle(workflow_id("federated.message", peer_source("a.example"), message_id)).result()


def reactions(stack: Stack) -> list[str]:
    """What the entries of the own ledger have started."""
    received = [one.entry for one in stack.entries(EntryType.EVENT_RECEIVED)]
    return [str(one.data["subject"]) for one in received if one.workflow_id.startswith("bitt.event:")]


def grow(one: Served, name: str, count: int) -> None:
    one.ledger.append([draft(f"{name}/{number}") for number in range(count)])


async def test_a_peer_that_shows_two_histories_in_messages_is_found_out(tmp_path: Path) -> None:
    port = free_port()
    async with running_stack(tmp_path / "b") as stack, listening(stack) as follower:
        record = WitnessRecord(stack.resources.database)

        def last() -> Witnessed:
            found = record.last(ORIGIN)
            assert found is not None
            return found

        with ExitStack() as there:
            log = there.enter_context(served(tmp_path / "a", ledger_origin=ORIGIN, gateway_port=port))
            key, secret = log.ledger.key, log.resources.settings.ledger_key_path.read_bytes()
            acme = partner(stack, url=log.url, ledger_key=str(key))
            grow(log, "common", 5)
            first = log.ledger.checkpoint(force=True)
            await told(stack, acme, "one", first)
            assert last().checkpoint == first.checkpoint
            witness = load_cosigner(stack.settings.witness_key_path).key
            assert len(cosignatures(last().signed.note, [witness])) == 1
            grow(log, "told to one", 8)
            second = log.ledger.checkpoint(force=True)
            await told(stack, acme, "two", second)
            await told(stack, acme, "late", first)
            assert last().checkpoint == second.checkpoint
            assert record.split_views() == []
        secrets = tmp_path / "other" / "home" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "ledger-key").write_bytes(secret)
        (secrets / "ledger-key").chmod(0o600)
        with served(tmp_path / "other", ledger_origin=ORIGIN, gateway_port=port) as other:
            grow(other, "common", 5)
            grow(other, "told to another", 11)
            await told(stack, acme, "three", other.ledger.checkpoint(force=True))
            await told(stack, acme, "four", other.ledger.checkpoint(force=True))
        (view,) = record.split_views()
        assert (view.grade, view.peer) == (Grade.PROVED, "a.example")
        assert view.fork is not None
        assert [one.size for one in verify_fork(view.fork, key)] == [13, 16]
        assert len(stack.entries(EntryType.PEER_SPLIT_VIEW)) == 1
        assert last().checkpoint == second.checkpoint
        await caught_up(stack, follower)
        await until(lambda: len(reactions(stack)) > 0)
        assert [one.partition(" ")[0] for one in reactions(stack)] == ["COAFI:LEDGER:PEER_SPLIT_VIEW"]
        stack.verify()


async def test_a_message_about_somebody_else_s_ledger_changes_nothing(tmp_path: Path) -> None:
    with served(tmp_path / "a", ledger_origin=ORIGIN) as log:
        grow(log, "first", 3)
        signed = log.ledger.checkpoint(force=True)
    async with running_stack(tmp_path / "b") as stack:
        acme = partner(stack)  # of whose ledger nothing is known
        await told(stack, acme, "one", signed)
        assert WitnessRecord(stack.resources.database).all() == []
