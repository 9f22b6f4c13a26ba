"""Which entries become which message for whom."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coafi.canonical import JsonObject, digest_of, sha256
from coafi.database import Database
from coafi.errors import ValidationError
from coafi.federation.messages import MessageType
from coafi.federation.outbox import BATCH, Confirmed, DeliveryOutcome, Outbox, OutgoingRef
from coafi.federation.peers import Peer, PeerStore
from coafi.federation.positions import Positions
from coafi.federation.projection import MAX_DATA, Projection, queued_message
from coafi.git.limits import GitLimits
from coafi.git.mirror import MirrorStore
from coafi.git.runner import GitRunner
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.log import Ledger
from coafi.names import EntryType, index_workflow_id, workflow_id
from coafi.objects.local import LocalObjectStore
from coafi.registry.local import LocalRegistry
from coafi.registry.store import builtin_schemas
from coafi.tasks.clean_up import CleanUp
from coafi.utids import entry_utids
from tests.coafi.ledger.making import SIGNER
from tests.coafi.tasks.test_clean_up import Histories
from tests.postgresql import where

ALL = tuple(MessageType)
API = workflow_id("api.request", "key:ci", "r-1")


class Home:
    """A ledger, and the outbox that is made of it."""

    def __init__(self, place: Path) -> None:
        self.database = Database(where(place))
        self.database.create_tables()
        self.objects = LocalObjectStore(place / "objects")
        self.ledger = Ledger(
            self.database, origin=SIGNER.name, signer=SIGNER, state_directory=place / "state", publish_seconds=0.0
        )
        registry = LocalRegistry(self.database, self.ledger)
        registry.publish(builtin_schemas())
        projection = Projection(
            "a.example", "default", self.ledger, registry, self.database, self.objects, "https://a.example"
        )
        self.store = PeerStore(self.database, self.ledger, "default")
        self.outbox = Outbox(self.store, Positions(self.database), projection, self.objects)

    def close(self) -> None:
        """Close what is open."""
        self.ledger.close()
        self.database.close()

    def peer(self, **changes: Any) -> Peer:
        """A peer that is told everything, whole."""
        values: dict[str, Any] = {"id": "b.example", "url": "https://b.example", "subscription": ALL, "restricted": ()}
        return self.store.put(Peer(**{**values, **changes}), by="ada").peer

    def append(self, entry_type: EntryType | str, data: JsonObject, run: str = API, **changes: Any) -> Recorded:
        """An entry that some run has made."""
        values: dict[str, Any] = {"namespace": "default", "utids": "", **changes}
        draft = Draft(
            workflow_id=run,
            step=digest_of(data),
            type=EntryType(entry_type),
            event_id="e",
            inputs={},
            data=data,
            **values,
        )
        return self.ledger.append([draft])[0]

    def changed(self, entry_id: str = "wing-12", version: int = 1, **changes: Any) -> Recorded:
        """An entry of a registry has changed."""
        data: JsonObject = {
            "registryId": "AERO",
            "entryId": entry_id,
            "version": version,
            "status": "Review",
            "class": "Core",
            "digest": "a" * 64,
            "utids": entry_utids("AERO", entry_id),
        }
        return self.append(EntryType.REGISTRY_ENTRY_CHANGED, data, **changes)

    def found(self, position: int | None = None, **changes: Any) -> list[str]:
        """Ids of the messages that one look finds."""
        asked: dict[str, Any] = {"news": False, "checkpoint": False, **changes}
        return [one.id for one in self.outbox.look("b.example", position, **asked).messages]


@pytest.fixture
def home(place: Path) -> Iterator[Home]:
    made = Home(place)
    yield made
    made.close()


def test_a_change_becomes_the_same_message_whenever_it_is_made(home: Home) -> None:
    peer = home.peer()
    entry = home.changed()
    message = home.outbox.projection.message(peer, entry)
    assert message is not None
    assert message.id == f"{home.outbox.projection.prefix}:{entry.index}"
    assert message.name == MessageType.REGISTRY_ENTRY
    assert message.subject == "AERO/wing-12"
    assert message.data["ledgerEntry"] == {"origin": SIGNER.name, "index": entry.index}
    assert home.outbox.projection.message(peer, home.ledger.entry(entry.index)) == message
    schema = home.outbox.projection.registry.schema(message.schema_id)
    assert list(schema.violations(message.data)) == []


def test_only_what_the_peer_subscribes_to_is_told(home: Home) -> None:
    home.peer(subscription=("RegistryEntryChanged:AERO/wing-*",))
    wing, tail = home.changed("wing-1"), home.changed("tail-1")
    assert home.found() == [f"{home.outbox.projection.prefix}:{wing.index}"]
    assert home.outbox.look("b.example", None, news=False, checkpoint=False).position == tail.index + 1


def test_what_a_peer_caused_and_what_others_recorded_is_no_message(home: Home) -> None:
    home.peer()
    home.changed("echo", run=workflow_id("federated.message", "urn:coafi:peer:b.example", "m-1"))
    home.changed("of-another-instance", namespace="other/default")
    home.append(EntryType.MESSAGE_DELIVERED, {"peer": "b.example"}, run="outbox:b.example")
    look = home.outbox.look("b.example", None, news=False, checkpoint=True)
    assert [one.id for one in look.messages] == []
    assert not look.news


def test_news_is_told_by_a_checkpoint_at_the_end_and_the_exchange_itself_is_none(home: Home) -> None:
    home.peer()
    home.append(EntryType.INDEX_UPDATED, {}, run=index_workflow_id("https://example.org/r", "main"))
    not_yet = home.outbox.look("b.example", None, news=False, checkpoint=False)
    assert (not_yet.messages, not_yet.news) == ((), True)
    (told,) = home.outbox.look("b.example", not_yet.position, news=True, checkpoint=True).messages
    assert told.is_checkpoint
    assert home.outbox.message(told).data["size"] == home.ledger.size()
    home.append(EntryType.MESSAGE_DELIVERED, {"peer": "b.example"}, run="outbox:b.example")
    assert home.found(told.after, checkpoint=True) == []


def test_a_batch_is_bounded_and_the_next_look_goes_on_behind_it(home: Home) -> None:
    home.peer()
    entries = [home.changed(f"e-{number}") for number in range(BATCH + 3)]
    first = home.outbox.look("b.example", None, news=False, checkpoint=False)
    assert (len(first.messages), first.more) == (BATCH, True)
    second = home.outbox.look("b.example", first.position, news=False, checkpoint=False)
    told = [one.entry for one in (*first.messages, *second.messages)]
    assert told == [one.index for one in entries]


def test_a_new_peer_is_told_what_happens_after_it_was_added_whatever_is_changed_of_it(home: Home) -> None:
    home.changed("before")
    home.peer(url="https://first.example")
    after = home.changed("after")
    home.peer()
    assert home.found() == [f"{home.outbox.projection.prefix}:{after.index}"]


def test_what_is_on_record_is_not_found_again_and_the_position_never_moves_back(home: Home) -> None:
    home.peer()
    for number in range(4):
        home.changed(f"e-{number}")
    one, two, three, four = home.outbox.look("b.example", None, news=False, checkpoint=False).messages
    home.outbox.record("b.example", [Confirmed(three, DeliveryOutcome.ACCEPTED)], position=one.entry)
    assert home.found() == [one.id, two.id, four.id]
    home.outbox.record(
        "b.example", [Confirmed(ref, DeliveryOutcome.ACCEPTED) for ref in (one, two, three)], position=three.after
    )
    home.outbox.record("b.example", [], position=one.entry)
    kept = home.outbox.positions.get("b.example")
    assert kept is not None
    assert (kept.position, kept.delivered, kept.reached) == (three.after, 3, three.entry)
    assert home.found() == [four.id]
    (backlog,) = home.outbox.backlog()
    assert (backlog.ahead, backlog.counted, backlog.oldest) == (1, True, home.ledger.entry(four.entry).entry.time)


def test_what_is_queued_goes_to_that_peer_once_whatever_it_subscribes_to(home: Home) -> None:
    home.peer(subscription=())
    home.peer(id="c.example", url="https://c.example", subscription=("*",))
    payload: JsonObject = {"component": "portal", "version": "2", "summary": "Off."}
    one = home.outbox.queue("b.example", MessageType.SYSTEM_UPDATE, payload, by="ada")
    same = home.outbox.queue("b.example", MessageType.SYSTEM_UPDATE, payload, by="bob")
    other = home.outbox.queue("b.example", MessageType.SYSTEM_UPDATE, payload, by="ada", again="x")
    assert (same.index, same.fresh) == (one.index, False)
    assert home.found() == [f"{home.outbox.projection.prefix}:{one_.index}" for one_ in (one, other)]
    assert home.outbox.look("c.example", None, news=False, checkpoint=False).messages == ()


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        (MessageType.SYSTEM_UPDATE, {"component": "portal"}, "version"),
        (MessageType.SYSTEM_UPDATE, {"component": "p", "version": "1", "summary": "x" * MAX_DATA}, "more than"),
        (MessageType.CHECKPOINT, {}, "told by the ledger itself"),
    ],
)
def test_what_is_no_message_is_not_queued(kind: MessageType, payload: JsonObject, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        queued_message(kind, payload)


def test_a_peer_that_may_not_see_it_gets_digests(home: Home) -> None:
    peer = home.peer(restricted=("*",))
    message = home.outbox.projection.message(peer, home.changed())
    assert message is not None
    assert message.data["restricted"] is True
    assert "data" not in message.data
    assert "api.request" not in message.model_dump_json()
    assert message.time == datetime.fromisoformat(home.ledger.entry(1).entry.time).astimezone(UTC)


def only(home: Home) -> OutgoingRef:
    """The one message that a look finds."""
    (ref,) = home.outbox.look("b.example", None, news=False, checkpoint=False).messages
    return ref


def test_what_was_sent_is_sent_again_as_it_was_also_to_a_peer_that_is_restricted_since(home: Home) -> None:
    sent = home.outbox.outgoing(home.peer(), of_a_change(home))
    restricted = home.peer(restricted=("*",))
    again = only(home)
    assert again.body == sent.body.kept
    resent = home.outbox.outgoing(restricted, again)
    assert (resent.message, resent.body) == (sent.message, sent.body)
    assert (sent.is_first, resent.is_first) == (True, False)
    assert sent.message.data["restricted"] is False


def of_a_change(home: Home) -> OutgoingRef:
    """A message about a change."""
    home.changed()
    return only(home)


def test_what_was_made_and_not_sent_is_told_as_the_peer_may_see_it_when_it_is(home: Home) -> None:
    home.peer()
    ref = of_a_change(home)
    assert home.outbox.message(ref).data["restricted"] is False
    sent = home.outbox.outgoing(home.peer(restricted=("*",), subscription=()), ref)
    assert sent.message.data["restricted"] is True
    assert sent.message.id == ref.id
    assert home.outbox.sent_bodies("b.example", ref) == {sent.body.digest: sent.body.kept}


def test_what_did_not_reach_the_peer_was_not_sent(home: Home) -> None:
    peer = home.peer()
    ref = of_a_change(home)
    first = home.outbox.outgoing(peer, ref)
    again = home.outbox.outgoing(peer, ref)
    home.outbox.did_not_go("b.example", again)  # the first may have
    assert home.outbox.sent.of("b.example", [ref.id]) == {ref.id: [first.body]}
    home.outbox.did_not_go("b.example", first)
    assert home.outbox.sent.of("b.example", [ref.id]) == {}


def test_what_was_sent_and_is_lost_is_made_anew_and_both_bodies_are_known(home: Home) -> None:
    home.peer()
    ref = of_a_change(home)
    first = home.outbox.outgoing(home.peer(), ref)
    home.objects.path(first.body.kept).unlink()
    peer = home.peer(restricted=("*",))
    second = home.outbox.outgoing(peer, only(home))
    assert second.message.data["restricted"] is True
    assert not second.is_first
    assert set(home.outbox.sent_bodies("b.example", ref)) == {first.body.digest, second.body.digest}


def test_a_body_is_kept_until_its_delivery_is_on_record(home: Home) -> None:
    peer = home.peer()
    home.changed("one")
    home.changed("two")
    one, two = home.outbox.look("b.example", None, news=False, checkpoint=False).messages
    for ref in (one, two):
        home.outbox.outgoing(peer, ref)
    home.outbox.record("b.example", [Confirmed(two, DeliveryOutcome.ACCEPTED)], position=one.entry)
    assert set(home.outbox.sent.of("b.example", [one.id, two.id])) == {one.id}
    home.outbox.record("b.example", [], position=one.after)
    assert home.outbox.sent.of("b.example", [one.id, two.id]) == {}


def test_clean_up_sees_that_a_body_may_have_to_be_sent_again(home: Home, place: Path) -> None:
    sent = home.outbox.outgoing(home.peer(), of_a_change(home))
    mirrors = MirrorStore(place / "mirrors", GitRunner(GitLimits()))
    clean_up = CleanUp(home.database, home.objects, home.ledger, Histories(), mirrors)
    needed, _ = clean_up.needed({sent.body.kept})
    assert sent.body.kept in needed


def test_a_body_from_before_bodies_were_kept_is_recognised(home: Home) -> None:
    peer = home.peer()
    ref = of_a_change(home)
    whole = sha256(home.outbox.message(ref).body)
    peer = home.peer(restricted=("*",))
    assert not home.outbox.recognised(peer, ref, "0" * 64)
    assert home.outbox.recognised(peer, ref, whole)
    assert home.outbox.sent_bodies("b.example", ref) == {whole: ref.body}


def test_what_the_peer_has_of_others_passes_once_somebody_lets_a_paused_outbox_go_on(home: Home) -> None:
    home.peer()
    ref = of_a_change(home)
    home.outbox.note_foreign("b.example", ref, "0" * 64)
    home.outbox.positions.hold("b.example", "")  # nobody was told of it
    assert not home.outbox.has_passed("b.example", ref)
    home.outbox.positions.hold("b.example", "the outbox: another body")
    assert not home.outbox.has_passed("b.example", ref)
    home.outbox.positions.hold("b.example", "")
    assert home.outbox.has_passed("b.example", ref)
    assert only(home).id == ref.id
