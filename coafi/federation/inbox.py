"""What a peer's message does here: it is checked against what the peer may send, and what it tells is kept.

Everything is one transaction of the ledger, and may be repeated: the entry ``PEER_MESSAGE_APPLIED`` is keyed by the
message, and a row of ``peer_object`` gives way only to a newer version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue
from sqlalchemy import Connection, select

from coafi.canonical import JsonObject, digest_of
from coafi.database import Database
from coafi.database.statements import insert_or_replace
from coafi.errors import AuthorizationError, ValidationError
from coafi.events import EventRef, Wire
from coafi.federation.messages import (
    DocumentPublished,
    Message,
    MessageType,
    ReceivedMessage,
    RegistryEntryChanged,
    Via,
)
from coafi.federation.peers import Peer, PeerStatus, find_peer
from coafi.federation.tables import peer_object
from coafi.ledger.entry import Draft
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder, Range, merge_ranges, ranges_of

APPLY = "apply"
"""The step that ``PEER_MESSAGE_APPLIED`` names."""


class Kept(StrEnum):
    """What became of what a message tells of an entry or a document."""

    NEW = "new"
    OLDER = "older"
    SAME = "same"
    CONTRADICTS = "contradicts"


class PeerObject(Wire):
    """The newest that a peer has told of one of its entries or documents.

    Attributes:
        kind: ``registry`` or ``document``.
        id: ``<registry>/<entry>``, or what the document is called.
        version: grows with each change.
        digest: SHA-256 of the content.
        utids, url: empty where the peer said nothing.
        message: id of the message that told.
        ledger_entry: index of our entry about that message.
    """

    peer: str
    kind: str
    id: str
    version: int
    digest: str
    utids: str
    url: str
    message: str
    ledger_entry: int


class ApplyTask(Wire):
    """A message to apply."""

    event: EventRef
    received: ReceivedMessage


class Applied(Wire):
    """What came of a message.

    Attributes:
        entries: where it was recorded.
        kept: what became of what it tells; ``None`` where there is nothing to keep.
    """

    entries: tuple[Range, ...]
    kept: Kept | None = None


Effect = Callable[[LedgerTransaction, ApplyTask, Peer], tuple[Range, ...]]
"""What messages of a type do besides being kept, within the transaction that records them. Like that, it may be tried
several times; what it appends to the ledger must be keyed by the message, and its places are what it returns."""


@dataclass(frozen=True)
class PeerInbox:
    """Applies messages.

    Attributes:
        recorder: writes the ledger.
        objects: holds the bodies of messages.
        effects: what messages do besides, by type.
    """

    recorder: EventRecorder
    objects: ObjectStore
    effects: Mapping[MessageType, Effect] = field(default_factory=dict)

    def apply(self, task: ApplyTask) -> Applied:
        """Keep what a message tells, and record that.

        Raises:
            AuthorizationError: the peer may not send this, or may not any more.
            ValidationError: what the message tells contradicts itself.
            LedgerUnavailable: try again.
        """
        received = task.received
        message = received.message
        if received.via is Via.TEMPORAL:  # what came by HTTP is there already
            self.objects.put(message.body)
        _check_content(message)
        told = _told(message)
        known = self.recorder.ledger.index_of(self._draft(task, {}).key) is not None

        def unit(transaction: LedgerTransaction) -> Applied:
            stored = find_peer(transaction.connection, received.peer)
            if stored is None or not known:  # what was done once stays done, whatever the peer may do now
                _check_scope(None if stored is None else stored.peer, message)
            kept = None if told is None else _compare(transaction.connection, received.peer, told)
            (recorded,) = transaction.append([self._draft(task, _said(received, told, kept))])
            said = recorded.data.get("kept")
            if told is not None and kept is Kept.NEW:
                row = {**told, "peer": received.peer, "message": message.id, "ledger_entry": recorded.index}
                insert_or_replace(transaction.connection, peer_object, [row])
            effect = self.effects.get(MessageType(message.name))
            more = effect(transaction, task, stored.peer) if effect is not None and stored is not None else ()
            return Applied(
                entries=merge_ranges([*ranges_of([recorded]), *more]),
                kept=Kept(str(said)) if said is not None else None,
            )

        return self.recorder.ledger.transact(unit)

    def _draft(self, task: ApplyTask, data: JsonObject) -> Draft:
        return self.recorder.draft(task.event, EntryType.PEER_MESSAGE_APPLIED, step=APPLY, inputs={}, data=data)


class PeerObjects:
    """Reads what peers told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, peer: str, *, limit: int = 1_000) -> tuple[PeerObject, ...]:
        """What a peer has told, by kind and id, at most ``limit``."""
        query = select(peer_object).where(peer_object.c.peer == peer).order_by(peer_object.c.kind, peer_object.c.id)
        with self._database.read() as connection:
            return tuple(PeerObject(**row._mapping) for row in connection.execute(query.limit(limit)))


def _check_scope(peer: Peer | None, message: Message) -> None:
    if peer is None or peer.status is PeerStatus.DISABLED:
        raise AuthorizationError("the peer is not known here any more, or disabled", remedy="ask whoever runs this")
    if not peer.may_send(message.name):
        raise AuthorizationError(
            f"the peer {peer.id} may not send {message.name}",
            remedy=f"`coafi peers set {peer.id} --accept {message.name}` lets it",
        )


def _check_content(message: Message) -> None:
    data = message.data
    if message.name == MessageType.REGISTRY_ENTRY and "data" in data and digest_of(data["data"]) != data.get("digest"):
        raise ValidationError("the entry's data have another digest than the message says", remedy="send what it is")


def _told(message: Message) -> dict[str, str | int] | None:
    """The row of what a message tells, which fits its schema."""
    if message.name == MessageType.REGISTRY_ENTRY:
        entry = RegistryEntryChanged.model_validate(message.data)
        return _row("registry", f"{entry.registry_id}/{entry.entry_id}", entry)
    if message.name == MessageType.DOCUMENT:
        document = DocumentPublished.model_validate(message.data)
        return _row("document", document.document_id, document)
    return None


def _row(kind: str, name: str, said: RegistryEntryChanged | DocumentPublished) -> dict[str, str | int]:
    return {
        "kind": kind,
        "id": name,
        "version": said.version,
        "digest": said.digest,
        "utids": said.utids,
        "url": said.url or "",
    }


def _compare(connection: Connection, peer: str, told: Mapping[str, str | int]) -> Kept:
    key = (peer_object.c.peer == peer) & (peer_object.c.kind == told["kind"]) & (peer_object.c.id == told["id"])
    known = connection.execute(select(peer_object.c.version, peer_object.c.digest).where(key)).one_or_none()
    version = int(told["version"])
    if known is None or version > known.version:
        return Kept.NEW
    if version < known.version:
        return Kept.OLDER
    return Kept.SAME if known.digest == told["digest"] else Kept.CONTRADICTS


def _said(received: ReceivedMessage, told: Mapping[str, str | int] | None, kept: Kept | None) -> JsonObject:
    message = received.message
    said: JsonObject = {
        "peer": received.peer,
        "messageType": message.type,
        "causationDepth": message.causationdepth + 1,
    }
    if told is not None and kept is not None:
        about: dict[str, JsonValue] = {name: told[name] for name in ("kind", "id", "version", "digest", "utids")}
        said |= {"kept": kept.value, "about": about}
    return said
