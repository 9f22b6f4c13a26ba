"""What a peer is to be told next, and what is on record of that it was told.

::

    own ledger ──► Projection ──► messages, in order ──► the peer's inbox
        ▲                                                     │ 202
        └── MESSAGE_DELIVERED, and the position ◄── its signed receipt

There is no queue: whoever looks again from the same position finds the same messages, with the same ids. A body that
was sent is kept until its delivery is on record (:mod:`coafi.federation.sent`), and sent again as it was.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from coafi import metrics
from coafi.canonical import JsonObject, Sha256, digest_of, sha256
from coafi.errors import IntegrityError, ValidationError
from coafi.events import Wire
from coafi.federation.messages import Message, MessageType
from coafi.federation.peers import Peer, PeerStatus, PeerStore, StoredPeer, find_peer
from coafi.federation.positions import Position, Positions, advance
from coafi.federation.projection import Projection, queued_message
from coafi.federation.sent import Body, SentBodies, Standing, forget_recorded
from coafi.ledger.entry import Draft, Recorded, entry_key
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.names import EntryType, outbox_workflow_id
from coafi.objects import ObjectStore

NOBODY = "the outbox"
"""Who pauses an outbox, when no person does."""

BATCH = 25
"""Messages that one look finds at most."""

SCANNED = 2_000
"""Entries that one look reads at most, ``PAGE`` at a time."""

PAGE = 250

COUNTED = 5_000
"""Entries in which the messages that are still to come are counted."""


class OutgoingRef(Wire):
    """A message that is to be delivered; all of it is in the object store, as it was made.

    Attributes:
        id: of the message.
        type: its name, such as ``RegistryEntryChanged``.
        entry: index of the ledger entry that it is made from; of a checkpoint, of the last one before it.
        after: the position once it is delivered.
        body: digest of the object that holds it.
        is_checkpoint: whether it tells a checkpoint.
    """

    id: str
    type: str
    entry: int
    after: int
    body: Sha256
    is_checkpoint: bool = False


class DeliveryOutcome(StrEnum):
    """What is on record about a delivery: what became of it on the other side."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True)
class Outgoing:
    """A message as it goes out.

    Attributes:
        body: what is kept of it.
        is_first: whether it was never sent before, as far as is known.
    """

    message: Message
    body: Body
    is_first: bool


@dataclass(frozen=True)
class Confirmed:
    """What is known of a message that the peer has taken.

    Attributes:
        receipt: digest of the object that holds the peer's signed receipt, as it came; ``None`` if there is none.
        peer_entry: index in the peer's ledger of the entry that the receipt proves.
        problem: why there is no receipt, or what is wrong with it.
    """

    message: OutgoingRef
    outcome: DeliveryOutcome
    receipt: str | None = None
    peer_entry: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Look:
    """What one look at the ledger finds; the attributes are those of ``activities.outbox.Collected``."""

    start: int
    position: int
    size: int
    host: str = ""
    more: bool = False
    messages: tuple[OutgoingRef, ...] = ()
    news: bool = False
    paused: str = ""
    ended: str = ""


@dataclass(frozen=True)
class Backlog:
    """What a peer has not been told yet.

    Attributes:
        behind: entries that were not dealt with.
        ahead: messages in the first ``COUNTED`` of them.
        counted: whether those were all.
        oldest: when the ledger took the entry of the first of these messages.
    """

    peer: Peer
    position: Position
    behind: int
    ahead: int
    counted: bool
    oldest: str | None


class Outbox:
    """Looks, and records.

    Args:
        peers: who there is.
        positions: how far each was told.
        projection: makes messages of entries.
        objects: where messages are kept as they are sent.
    """

    def __init__(self, peers: PeerStore, positions: Positions, projection: Projection, objects: ObjectStore) -> None:
        self.peers = peers
        self.positions = positions
        self.projection = projection
        self.objects = objects
        self.sent = SentBodies(projection.database)

    @property
    def ledger(self) -> Ledger:
        """Our own ledger."""
        return self.projection.ledger

    # ------------------------------------------------------------------------------ looks

    def look(self, peer_id: str, position: int | None, *, news: bool, checkpoint: bool) -> Look:
        """Look at the next part of the ledger.

        Args:
            position: where to begin; ``None``: where the last run got to, for sure.
            news: whether there is something that no checkpoint has told.
            checkpoint: whether one may be told now.

        Raises:
            Unavailable: database, ledger or object store are out of reach.
        """
        stored = self._stored(peer_id)
        if stored is None:
            return Look(start=position or 0, position=position or 0, size=0, ended="there is no such peer any more")
        peer = stored.peer
        known = self.positions.get(peer_id) or self.positions.begin(peer_id, self._beginning(stored))
        start = known.position if position is None else position
        if peer.status is not PeerStatus.ACTIVE:
            return Look(start=start, position=start, size=0, ended=f"the peer is {peer.status}")
        size = self.ledger.size()
        metrics.PEER_BACKLOG.labels(peer_id).set(max(0, size - start))
        if known.paused:
            return Look(start=start, position=start, size=size, paused=known.paused)
        found, at, fresh = self._scan(peer, known, start, size)
        news = (news or fresh) and self.projection.wants_checkpoints(peer)
        messages = self._kept(peer_id, found)
        if news and checkpoint and at >= size:
            messages += self._checkpoint(peer, at)
        if not messages and at > known.position == start:
            self.positions.skip(peer_id, at)
        return Look(
            start=start,
            position=at,
            size=size,
            host=urlsplit(peer.url).netloc,
            more=at < size,
            messages=tuple(messages),
            news=news,
        )

    def concerned(self, entries: Sequence[Recorded]) -> dict[str, bool]:
        """The peers that new entries may concern, by id; and whether more than a checkpoint does.

        Raises:
            Unavailable: the database is out of reach.
        """
        peers = [one for one in self.peers.all() if one.status is PeerStatus.ACTIVE]
        found: dict[str, bool] = {}
        is_news = any(map(self.projection.is_news, entries)) if peers else False
        for peer in peers:
            if any(self.projection.may_concern(peer, one) for one in entries):
                found[peer.id] = True
            elif is_news and self.projection.wants_checkpoints(peer):
                found[peer.id] = False
        return found

    def backlog(self) -> list[Backlog]:
        """What each peer has not been told yet, by peer.

        Raises:
            Unavailable: database or ledger are out of reach.
        """
        size = self.ledger.size()
        found = []
        for stored in self.peers.stored():
            position = self.positions.get(stored.peer.id) or _unbegun(stored, self._beginning(stored))
            ahead, oldest, at = 0, None, position.position
            while at < min(size, position.position + COUNTED):
                page = self.ledger.entries(at, min(at + PAGE, size))
                if not page:
                    break
                for one in page:
                    if self._waits(stored.peer, position, one):
                        ahead, oldest = ahead + 1, oldest or one.entry.time
                at += len(page)
            metrics.PEER_BACKLOG.labels(stored.peer.id).set(max(0, size - position.position))
            found.append(Backlog(stored.peer, position, max(0, size - position.position), ahead, at >= size, oldest))
        return found

    def _waits(self, peer: Peer, position: Position, recorded: Recorded) -> bool:
        message = self.projection.message(peer, recorded)
        return message is not None and not self._is_on_record(peer.id, position, recorded.index, message.id)

    def _scan(self, peer: Peer, known: Position, start: int, size: int) -> tuple[list[tuple[int, Message]], int, bool]:
        """Messages with the indices of their entries, the next position, and whether there was news."""
        found: list[tuple[int, Message]] = []
        at, news = start, False
        while at < min(size, start + SCANNED) and len(found) < BATCH:
            page = self.ledger.entries(at, min(at + PAGE, size))
            if not page:
                break
            for one in page:
                at = one.index + 1
                news = news or self.projection.is_news(one)
                message = self.projection.message(peer, one)
                if message is None or self._is_on_record(peer.id, known, one.index, message.id):
                    continue
                found.append((one.index, message))
                if len(found) >= BATCH:
                    break
        return found, at, news

    def _kept(self, peer_id: str, found: Sequence[tuple[int, Message]]) -> list[OutgoingRef]:
        """Keep messages as they are to be sent; one that was sent before stays as it was then."""
        bodies = self._bodies(peer_id, [message for _, message in found])
        return [
            OutgoingRef(id=message.id, type=message.name, entry=index, after=index + 1, body=bodies[message.id])
            for index, message in found
        ]

    def _bodies(self, peer_id: str, messages: Sequence[Message]) -> dict[str, str]:
        """The objects that hold messages, by id."""
        known = self.sent.of(peer_id, [one.id for one in messages])
        found = {one.message: one.kept for bodies in known.values() for one in bodies if one.standing is Standing.SENT}
        fresh = [one for one in messages if one.id not in found]
        digests = self.objects.put_many([one.model_dump_json().encode() for one in fresh]) if fresh else []
        return found | {one.id: digest for one, digest in zip(fresh, digests, strict=True)}

    def _checkpoint(self, peer: Peer, position: int) -> list[OutgoingRef]:
        signed = self.ledger.checkpoint(force=True)
        message = self.projection.checkpoint(peer, signed, datetime.now(UTC))
        if message is None:
            return []
        ref = OutgoingRef(
            id=message.id,
            type=message.name,
            entry=signed.size - 1,
            after=position,
            body=self._bodies(peer.id, [message])[message.id],
            is_checkpoint=True,
        )
        return [ref]

    def _beginning(self, stored: StoredPeer) -> int:
        """Where a new peer begins: with the first entry after the one that made it known."""
        entry = self.ledger.entry(stored.ledger_entry)
        for _ in range(stored.version):
            previous = entry.entry.data.get("previousEntry")
            if not isinstance(previous, int):
                break
            entry = self.ledger.entry(previous)
        return entry.index + 1

    def _stored(self, peer_id: str) -> StoredPeer | None:
        with self.projection.database.read() as connection:
            return find_peer(connection, peer_id)

    def _is_on_record(self, peer_id: str, known: Position, entry: int, message_id: str) -> bool:
        """Whether a delivery is recorded. Only after a run that was ended by force is there anything to look up."""
        return entry <= known.reached and self.ledger.index_of(self._key(peer_id, message_id)) is not None

    def message(self, ref: OutgoingRef) -> Message:
        """A message as a look made it.

        Raises:
            IntegrityError: the object that holds it is missing or damaged.
        """
        return Message.model_validate_json(self.objects.get(ref.body))

    # -------------------------------------------------------------------- bodies that went

    def outgoing(self, peer: Peer, ref: OutgoingRef) -> Outgoing:
        """A message as it is sent now: as it was sent before, or else as the peer may see it now.

        Its body is kept before it is sent. If what was sent is lost, it is made anew; the peer says then whether it
        had taken the other one.

        Raises:
            Unavailable: something here is out of reach.
            IntegrityError: it is lost, and cannot be made any more.
        """
        known = self._sent(peer.id, ref)
        for one in known:
            try:
                return Outgoing(Message.model_validate_json(self.objects.get(one.kept)), one, is_first=False)
            except IntegrityError:
                continue
        message = self._current(peer, ref)
        body = self._body(ref, message)
        fresh = self.sent.note(peer.id, body)
        return Outgoing(message, body, is_first=fresh and not known)

    def did_not_go(self, peer_id: str, sent: Outgoing) -> None:
        """Take back that a message was sent: the peer did not get it, or did not take this body."""
        if sent.is_first:
            self.sent.forget(peer_id, sent.body.message, sent.body.digest)

    def sent_bodies(self, peer_id: str, ref: OutgoingRef) -> dict[str, str]:
        """The bodies under which a message went: digests of the objects that hold it, by digest of the body."""
        found = {one.digest: one.kept for one in self._sent(peer_id, ref)}
        if not found:  # sent by a version that kept none
            try:
                found[sha256(self.message(ref).body)] = ref.body
            except IntegrityError:
                return {}
        return found

    def recognised(self, peer: Peer, ref: OutgoingRef, digest: str) -> bool:
        """Whether a body that is not known is what a version that kept none may have sent; if so, it is kept.

        That is the message with its contents, or with digests only.
        """
        if ref.is_checkpoint:
            return False
        for restricted in ((), ("*",)):
            message = self._made(peer.model_copy(update={"restricted": restricted}), ref)
            if message is not None and sha256(message.body) == digest:
                self.sent.note(peer.id, self._body(ref, message))
                return True
        return False

    def has_passed(self, peer_id: str, ref: OutgoingRef) -> bool:
        """Whether a person lets pass that the peer has something else under the message's id."""
        bodies = self.sent.of(peer_id, [ref.id]).get(ref.id, [])
        return any(one.standing is Standing.PASSED for one in bodies)

    def note_foreign(self, peer_id: str, ref: OutgoingRef, digest: str) -> None:
        """Keep that the peer has something else under the message's id, until a person lets that pass."""
        self.sent.note(peer_id, Body(ref.id, digest, "", ref.entry, Standing.FOREIGN))

    def _sent(self, peer_id: str, ref: OutgoingRef) -> list[Body]:
        return [one for one in self.sent.of(peer_id, [ref.id]).get(ref.id, []) if one.standing is Standing.SENT]

    def _current(self, peer: Peer, ref: OutgoingRef) -> Message:
        """A message that was not sent yet, as the peer may see it now: it may have waited since it was made."""
        lost: IntegrityError | None = None
        try:
            message = self.message(ref)
        except IntegrityError as error:
            lost = error
        else:
            if not peer.restricted or message.data.get("restricted") is not False:
                return message
        made = self._made(peer, ref)
        if made is not None:
            return made
        raise lost or IntegrityError(
            f"{ref.id} holds more than {peer.id} may see now, and what it was made of is gone",
            remedy=f"coafi peers resume {peer.id} --outgoing, which looks at the ledger again",
        )

    def _made(self, peer: Peer, ref: OutgoingRef) -> Message | None:
        """The message made anew, whatever the peer subscribes to now; a checkpoint is not."""
        if ref.is_checkpoint:
            return None
        return self.projection.message(peer.model_copy(update={"subscription": ("*",)}), self.ledger.entry(ref.entry))

    def _body(self, ref: OutgoingRef, message: Message) -> Body:
        kept = self.objects.put(message.model_dump_json().encode())
        return Body(ref.id, sha256(message.body), kept, ref.entry)

    # ---------------------------------------------------------------------------- records

    def on_record(self, peer_id: str, messages: Iterable[OutgoingRef]) -> list[str]:
        """The ids of those messages whose delivery is recorded."""
        return [one.id for one in messages if self.ledger.index_of(self._key(peer_id, one.id)) is not None]

    def record(self, peer_id: str, confirmed: Collection[Confirmed], *, position: int) -> None:
        """Record deliveries, and move the position on in the same transaction.

        Args:
            position: before which nothing is unsettled once these are.

        Raises:
            LedgerUnavailable: try again.
        """
        drafts = [self._draft(peer_id, one) for one in confirmed]
        reached = max((one.message.entry for one in confirmed), default=-1)

        def unit(transaction: LedgerTransaction) -> list[Recorded]:
            recorded = transaction.append(drafts) if drafts else []
            fresh = sum(one.fresh for one in recorded)
            advance(transaction.connection, peer_id, position=position, reached=reached, fresh=fresh)
            ids = [one.message.id for one in confirmed]
            forget_recorded(transaction.connection, peer_id, ids, position)
            return recorded

        for one in self.ledger.transact(unit):
            if one.fresh:
                metrics.PEER_DELIVERIES.labels(peer_id, str(one.entry.data["outcome"])).inc()

    def _key(self, peer_id: str, message_id: str) -> str:
        step = f"deliver/{message_id}"
        return entry_key(self.projection.namespace, outbox_workflow_id(peer_id), step, EntryType.MESSAGE_DELIVERED)

    def _draft(self, peer_id: str, confirmed: Confirmed) -> Draft:
        message = confirmed.message
        data: JsonObject = {
            "peer": peer_id,
            "message": message.id,
            "messageType": message.type,
            "entry": message.entry,
            "sent": message.body,
            "outcome": confirmed.outcome.value,
        }
        if confirmed.receipt is not None:
            data |= {"receipt": confirmed.receipt}
        if confirmed.peer_entry is not None:
            data |= {"peerEntry": confirmed.peer_entry}
        if confirmed.problem:
            data |= {"problem": confirmed.problem[:500]}
        return Draft(
            namespace=self.projection.namespace,
            workflow_id=outbox_workflow_id(peer_id),
            step=f"deliver/{message.id}",
            type=EntryType.MESSAGE_DELIVERED,
            event_id=message.id,
            utids="",
            inputs={"peer": peer_id, "message": message.id},
            data=data,
        )

    # ------------------------------------------------------------------------------ by hand

    def queue(
        self,
        peer_id: str,
        message_type: MessageType,
        payload: JsonObject,
        *,
        by: str,
        subject: str = "",
        again: str = "",
    ) -> Recorded:
        """Record that a person wants to tell a peer something; that is what the outbox finds.

        The same to the same peer is recorded once, unless ``again`` (any fresh text) asks for another one.

        Raises:
            ResourceNotFoundError: there is no such peer.
            ValidationError: it is disabled or gone; or the payload is not of the type, or too large.
            LedgerUnavailable: try again.
        """
        peer = self.peers.require(peer_id)
        if peer.status is not PeerStatus.ACTIVE:
            raise ValidationError(f"the peer {peer_id} is {peer.status}", remedy=f"coafi peers enable {peer_id}")
        said = queued_message(message_type, payload).model_dump(mode="json", by_alias=True, exclude_none=True)
        digest = digest_of(said)
        draft = Draft(
            namespace=self.projection.namespace,
            workflow_id=outbox_workflow_id(peer_id),
            step=f"queue/{message_type}/{digest_of([digest, subject, again])}",
            type=EntryType.MESSAGE_QUEUED,
            event_id=outbox_workflow_id(peer_id),
            utids="",
            inputs={"peer": peer_id, "messageType": message_type.value, "payload": digest, "subject": subject},
            data={
                "peer": peer_id,
                "messageType": message_type.value,
                "subject": subject or message_type.value,
                "payload": said,
                "by": by,
            },
        )
        (recorded,) = self.ledger.append([draft])
        return recorded


def _unbegun(stored: StoredPeer, position: int) -> Position:
    return Position(stored.peer.id, position, position - 1, 0, None, "", "", 0, None)
