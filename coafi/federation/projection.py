"""Which entries of our own ledger become which message. Nothing else is ever sent: the outbox is a projection of them.

| entry | message | about |
|---|---|---|
| ``REGISTRY_ENTRY_CHANGED`` | ``RegistryEntryChanged`` | ``<registry>/<entry>`` |
| ``ARTIFACT_GENERATED``, a page of what has an id | ``DocumentPublished`` | ``<repository>@<branch>/<path>`` |
| ``COMPLIANCE_FINDING_OPENED``, if peers are to be told | ``ComplianceFailure`` | the entity's id |
| ``MESSAGE_QUEUED`` | what a person sends to one peer | as the person says |
| all there is, at most once a minute | ``CheckpointPublished`` | ``<origin>`` |

An entry that a peer's message caused becomes none, so nothing a peer told comes back to it, or goes round; nor does one
of another instance that shares the ledger. A message's id is made from the ledger's name and the entry's index: it is
the same whoever makes it, whenever. What it says depends on what the peer may see then, and on our URL, so the outbox
keeps what it has sent (:mod:`coafi.federation.sent`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import quote, urljoin

import pydantic
from sqlalchemy import select

from coafi.artifacts.model import ArtifactKind
from coafi.canonical import JsonObject, canonical_json, digest_of, sha256
from coafi.database import Database
from coafi.errors import IntegrityError, ResourceNotFoundError, ValidationError
from coafi.federation.messages import (
    SAID,
    CheckpointPublished,
    ComplianceFailure,
    DocumentPublished,
    LedgerPlace,
    Message,
    MessageType,
    RegistryEntryChanged,
    Said,
    new_message,
)
from coafi.federation.peers import Peer
from coafi.index.summaries import Summaries
from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.ledger.entry import Entry, Recorded
from coafi.ledger.port import Ledger
from coafi.names import (
    EntryType,
    EntryVersionName,
    EventType,
    docs_path,
    entry_path,
    peer_source,
    workflow_kind,
)
from coafi.objects import ObjectStore
from coafi.registry.entry import RegistryId
from coafi.registry.port import Registry
from coafi.results import FileResult, artifact_result, file_result

MAX_URL = 2_000
"""Characters of a link that a message may hold."""

MAX_DATA = 32 * 1024
"""Bytes of an entry's data, or of what a person sends, that a message holds. What is larger is fetched by its URL."""

_Make = Callable[["Projection", Peer, Recorded], Message | None]


@dataclass(frozen=True)
class Projection:
    """Makes messages of entries.

    Attributes:
        peer: our own peer id.
        namespace: of our own entries (``Settings.ledger_namespace``).
        ledger, registry, database, objects: what entries refer to.
        public_url: base URL of our gateway, for links.
    """

    peer: str
    namespace: str
    ledger: Ledger
    registry: Registry
    database: Database
    objects: ObjectStore
    public_url: str = ""
    _branches: Callable[[str, str], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_branches", lru_cache(maxsize=256)(self._branch))

    @property
    def origin(self) -> str:
        """The name of our ledger."""
        return self.ledger.key.name

    def may_concern(self, peer: Peer, recorded: Recorded) -> bool:
        """Whether there may be a message for the peer in an entry; quick, and sometimes too optimistic."""
        entry = recorded.entry
        if not self._is_own(entry):
            return False
        if entry.type == EntryType.MESSAGE_QUEUED:
            return entry.data.get("peer") == peer.id
        known = _MESSAGES.get(entry.type)
        if known is None or _is_echo(entry):
            return False
        named = entry.data.get("peers")
        return peer.id in named if isinstance(named, list) else _hears_of(peer, known[0])

    def is_news(self, recorded: Recorded) -> bool:
        """Whether an entry is worth a checkpoint: what is written about the exchange with peers is none.

        Otherwise two peers would tell each other of their checkpoints for ever.
        """
        entry = recorded.entry
        return self._is_own(entry) and not _is_echo(entry) and workflow_kind(entry.workflow_id) not in _EXCHANGE

    def message(self, peer: Peer, recorded: Recorded) -> Message | None:
        """The message that an entry is for a peer, if it is one.

        Raises:
            Unavailable: what the entry refers to is out of reach.
        """
        if not self.may_concern(peer, recorded):
            return None
        if recorded.entry.type == EntryType.MESSAGE_QUEUED:
            return self._queued(recorded)
        return _MESSAGES[recorded.entry.type][1](self, peer, recorded)

    def checkpoint(self, peer: Peer, signed: SignedCheckpoint, time: datetime) -> Message | None:
        """The message that tells a checkpoint, if the peer wants it."""
        if not self.wants_checkpoints(peer):
            return None
        said = CheckpointPublished(
            origin=signed.checkpoint.origin, size=signed.size, root=signed.checkpoint.root.hex(), note=signed.note
        )
        message_id = f"{self.prefix}:checkpoint:{signed.size}"
        return new_message(self.peer, message_id, said, time=time, subject=said.origin)

    def wants_checkpoints(self, peer: Peer) -> bool:
        """Whether the peer wants to know of our checkpoints."""
        return peer.wants(MessageType.CHECKPOINT, self.origin)

    @property
    def prefix(self) -> str:
        """What the ids of all our messages begin with."""
        return f"bitt-{digest_of([self.origin, self.namespace])[:16]}"

    def _is_own(self, entry: Entry) -> bool:
        return entry.namespace == self.namespace

    def _new(self, recorded: Recorded, said: Said, subject: str) -> Message:
        entry = recorded.entry
        depth = entry.data.get("causationDepth", 0)
        return new_message(
            self.peer,
            f"{self.prefix}:{recorded.index}",
            said,
            time=datetime.fromisoformat(entry.time),
            subject=_short(subject),
            causationid=entry.utids or None,  # not the workflow id, which names repositories and people
            causationdepth=(depth if isinstance(depth, int) else 0) + 1,
        )

    def _place(self, recorded: Recorded) -> LedgerPlace:
        return LedgerPlace(origin=self.origin, index=recorded.index)

    def _link(self, path: str) -> str | None:
        if not self.public_url:
            return None
        url = urljoin(f"{self.public_url.rstrip('/')}/", path.removeprefix("/"))
        return url if len(url) <= MAX_URL else None

    # ------------------------------------------------------------------- by type of entry

    def _registry_entry(self, peer: Peer, recorded: Recorded) -> Message | None:
        data = recorded.entry.data
        registry_id, entry_id, version = str(data["registryId"]), str(data["entryId"]), int(str(data["version"]))
        subject = f"{registry_id}/{entry_id}"
        if not peer.wants(MessageType.REGISTRY_ENTRY, subject):
            return None
        restricted = peer.is_restricted(MessageType.REGISTRY_ENTRY, subject)
        said = RegistryEntryChanged(
            registry_id=registry_id,
            entry_id=entry_id,
            version=version,
            status=str(data["status"]),
            entry_class=str(data["class"]),
            digest=str(data["digest"]),
            utids=str(data["utids"]),
            restricted=restricted,
            data=None if restricted else self._data_of(registry_id, entry_id, version, str(data["digest"])),
            url=self._link(entry_path(EntryVersionName(registry_id, entry_id, version))),
            ledger_entry=self._place(recorded),
        )
        return self._new(recorded, said, subject)

    def _data_of(self, registry_id: str, entry_id: str, version: int, digest: str) -> JsonObject | None:
        """The data of a version, where they are here, whole, and not too large."""
        if self.registry.is_remote:
            return None
        try:
            data = self.registry.get(RegistryId(registry_id), entry_id, version).data
        except (ResourceNotFoundError, ValueError):
            return None
        written = canonical_json(data)
        return data if len(written) <= MAX_DATA and sha256(written) == digest else None

    def _document(self, peer: Peer, recorded: Recorded) -> Message | None:
        entry = recorded.entry
        if entry.data.get("artifact") != ArtifactKind.PAGE:
            return None
        file = self._file_of(recorded)
        if file is None:
            return None
        branch = self._branches(entry.event_id, entry.workflow_id)
        subject = f"{file.repository}@{branch}/{file.path}"
        if not peer.wants(MessageType.DOCUMENT, subject):
            return None
        summary = Summaries(self.database, self.objects).of([file])[file.entry]
        document_id = summary.get("documentId")
        if not isinstance(document_id, str):
            return None
        restricted = peer.is_restricted(MessageType.DOCUMENT, subject)
        open_: dict[str, str | None] = {}
        if not restricted:
            title = summary.get("title")
            open_ = {
                "title": title if isinstance(title, str) else None,
                "repository": file.repository,
                "path": file.path,
                "commit": file.commit,
                "url": self._link(docs_path(file.repository, file.commit, is_commit=True) + quote(file.path)),
            }
        said = DocumentPublished(
            document_id=document_id,
            version=recorded.index,
            kind=ArtifactKind.PAGE.value,
            digest=str(entry.data["digest"]),
            media_type=str(entry.data["mediaType"]).partition(";")[0],
            utids=entry.utids,
            restricted=restricted,
            ledger_entry=self._place(recorded),
            **open_,
        )
        return self._new(recorded, said, document_id if restricted else subject)

    def _finding(self, peer: Peer, recorded: Recorded) -> Message | None:
        data = recorded.entry.data
        entity, told = data["entity"], data["peers"]
        assert isinstance(entity, dict)  # noqa: S101  # so it is written
        subject = str(entity["id"])
        named = isinstance(told, list) and peer.id in told
        if not named and not (told == "subscribed" and peer.wants(MessageType.COMPLIANCE_FAILURE, subject)):
            return None
        restricted = peer.is_restricted(MessageType.COMPLIANCE_FAILURE, subject)
        message = str(data["message"])
        said = ComplianceFailure.model_validate(
            {
                "failureId": data["findingId"],
                "rule": data["rule"],
                "severity": data["severity"],
                "entities": [entity],
                "detected": data["detected"],
                "digest": sha256(message.encode()),
                "restricted": restricted,
                "message": None if restricted else message,
                "ledgerEntry": self._place(recorded),
            }
        )
        return self._new(recorded, said, subject)

    def _file_of(self, recorded: Recorded) -> FileResult | None:
        """The verdict of the very file that an artifact was made of."""
        artifact = artifact_result.c
        with self.database.read() as connection:
            made = connection.execute(select(artifact_result).where(artifact.entry == recorded.index)).one_or_none()
            if made is None:  # of another instance, or taken out by hand
                return None
            file = file_result.c
            query = (
                select(file_result)
                .where(file.repository == made.repository, file.path == made.path, file.blob == made.blob)
                .where(file.entry < recorded.index)
                .order_by(file.entry.desc())
                .limit(1)
            )
            row = connection.execute(query).one_or_none()
        return None if row is None else FileResult(**row._mapping)

    def _branch(self, event_id: str, workflow_id: str) -> str:
        """The branch that a push went to, as its receipt is recorded."""
        for one in self.ledger.by_event(event_id, limit=16):
            if one.entry.type == EntryType.EVENT_RECEIVED and one.entry.workflow_id == workflow_id:
                parameters = one.entry.data.get("parameters")
                return str(parameters.get("branch", "")) if isinstance(parameters, dict) else ""
        return ""

    def _queued(self, recorded: Recorded) -> Message | None:
        """What a person sends, exactly as it was queued."""
        data = recorded.entry.data
        try:
            said = SAID[MessageType(str(data["messageType"]))].model_validate(data["payload"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(
                f"entry {recorded.index} queues a message that is none: {type(error).__name__}",
                remedy="it was not made by `coafi peers send`",
            ) from None
        subject = data.get("subject")
        return self._new(recorded, said, subject if isinstance(subject, str) else str(data["messageType"]))


_MESSAGES: dict[str, tuple[MessageType, _Make]] = {
    EntryType.REGISTRY_ENTRY_CHANGED: (MessageType.REGISTRY_ENTRY, Projection._registry_entry),
    EntryType.ARTIFACT_GENERATED: (MessageType.DOCUMENT, Projection._document),
    EntryType.COMPLIANCE_FINDING_OPENED: (MessageType.COMPLIANCE_FAILURE, Projection._finding),
}
"""The entries that become messages."""

_EXCHANGE = frozenset({"peer", "outbox", "federation.peers"})
"""What the workflow ids begin with under which the exchange itself is recorded."""

_ECHOES = frozenset({EventType.FEDERATED_MESSAGE.value})
"""The types of event whose runs do what a peer has told us."""


def queued_message(message_type: MessageType, payload: JsonObject) -> Said:
    """What a person wants to send, if the type allows it.

    Raises:
        ValidationError: it does not, or it is too large.
    """
    if message_type is MessageType.CHECKPOINT:
        raise ValidationError(
            "checkpoints are told by the ledger itself", remedy="let the peer subscribe to CheckpointPublished"
        )
    if len(canonical_json(payload)) > MAX_DATA:
        raise ValidationError(
            f"the payload has more than {MAX_DATA:,} bytes", remedy="publish what is large, and send its URL and digest"
        )
    try:
        return SAID[message_type].model_validate(payload)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        said = "; ".join(f"{'/'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in problems)
        raise ValidationError(f"this is no {message_type}: {said}", remedy="see docs/federation.md") from None


def _is_echo(entry: Entry) -> bool:
    """Whether an entry is there because a peer sent something: made by that run, or about what the peer reports."""
    source = entry.data.get("source")
    return workflow_kind(entry.workflow_id) in _ECHOES or (
        isinstance(source, str) and source.startswith(peer_source(""))
    )


def _hears_of(peer: Peer, message_type: MessageType) -> bool:
    """Whether there is any subject about which the peer wants messages of this type."""
    return any(fnmatchcase(message_type, one.partition(":")[0]) for one in peer.subscription)


def _short(text: str) -> str:
    """``text`` as an attribute of a message can be."""
    printable = "".join(" " if ord(character) < 0x20 or ord(character) == 0x7F else character for character in text)
    return printable[:512] or "-"
