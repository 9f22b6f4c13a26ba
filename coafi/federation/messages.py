"""What peers tell each other: CloudEvents 1.0.2 in binary mode, of a few types with a schema each.

Everything about a message but what it says is in ``ce-*`` headers; the body is its data, a JSON object. The type is
``coafi.federation.<name>.v<major>``, and the schema ``urn:coafi:schema:FederatedMessage.<name>.v<major>:<version>``.
Optional members may come with a new minor version of a schema; what would break a reader is a new major version, which
is another type, so that both can be sent for as long as it takes.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal
from urllib.parse import quote

import pydantic
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256, canonical_json
from coafi.cloudevents import UnsupportedMediaType, json_object
from coafi.errors import ValidationError
from coafi.events import MAX_CAUSATION, Event, Wire, new_event
from coafi.names import EventType, parse_peer_source, peer_source

CONTENT_TYPE: Final = "application/json"
SPECVERSION: Final = "1.0"

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of a body at most. What is larger stays where it is: a message holds its digest, and says where it is."""

MAX_ID: Final = 128

_TYPE = re.compile(r"coafi\.federation\.([A-Z][A-Za-z]{0,62})\.v([1-9][0-9]{0,2})")
_HEADER = re.compile(r"[\x21-\x7e]*( +[\x21-\x7e]+)*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~:-]*$", max_length=MAX_ID)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TooLarge(ValidationError):
    """The data are larger than a message may be, as canonical JSON."""


class MessageType(StrEnum):
    """The types of message there are, by the names under which a peer is allowed to send them."""

    SYSTEM_UPDATE = "SystemUpdateNotification"
    REGISTRY_ENTRY = "RegistryEntryChanged"
    DOCUMENT = "DocumentPublished"
    COMPLIANCE_FAILURE = "ComplianceFailure"
    CHECKPOINT = "CheckpointPublished"

    @property
    def event_type(self) -> str:
        """The ``ce-type`` of its version 1."""
        return f"coafi.federation.{self}.v1"


class Message(Wire):
    """A message as its sender vouches for it. Whether its data fit the schema is found out by the run.

    Attributes:
        id: of the message; with ``source`` it identifies it. Every try at sending it has the same.
        source: ``urn:coafi:peer:<peer id>`` of the sender.
        type: see the module.
        time: when it happened.
        subject: what it is about, for people and for subscriptions.
        dataschema: the URN of the schema that the sender had.
        causationid: what caused it, as the sender names it.
        causationdepth: how many runs lie between it and an event from outside.
        traceparent: W3C trace context; linked, not trusted.
        data: what it says.
    """

    id: _Id
    source: _Text
    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
    time: AwareDatetime | None = None
    subject: _Text | None = None
    dataschema: _Text | None = None
    causationid: _Text | None = None
    causationdepth: int = Field(default=0, ge=0, le=1_000)
    traceparent: Annotated[str, StringConstraints(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None = None
    data: JsonObject

    @property
    def name(self) -> str:
        """The name of its type without its version, such as ``RegistryEntryChanged``; its type if that is no name."""
        found = _TYPE.fullmatch(self.type)
        return self.type if found is None else found[1]

    @property
    def schema_id(self) -> str:
        """The schema that its data must fit."""
        return schema_of(self.type)

    @property
    def is_known(self) -> bool:
        """Whether its type is one that this software handles."""
        return any(self.type == one.event_type for one in MessageType)

    @property
    def body(self) -> bytes:
        """The bytes that are sent: canonical JSON."""
        return canonical_json(self.data)

    def headers(self) -> dict[str, str]:
        """The headers that are sent, those of the signature excepted."""
        said = self.model_dump(mode="json", exclude={"data"}, exclude_none=True)
        if not self.causationdepth:
            del said["causationdepth"]
        return {
            "Content-Type": CONTENT_TYPE,
            "ce-specversion": SPECVERSION,
            **{f"ce-{name}": quote(str(value), safe=_PLAIN) for name, value in said.items()},
        }


class Via(StrEnum):
    """How a message came, and so who vouches for its sender."""

    HTTPS = "https"
    TEMPORAL = "temporal"


class ReceivedMessage(Wire):
    """A message and who sent it: the payload of a ``federated.message`` event, and the signal to a peer's run.

    Attributes:
        peer: whose it is. By ``https`` its signature was verified; by ``temporal`` whoever may write to the Temporal
            namespace says so.
        keyid: of the key that signed it, by ``https``.
        message: as it came.
    """

    peer: str
    via: Via
    keyid: str | None = None
    message: Message


def event_of(received: ReceivedMessage, *, body_digest: str, time: datetime) -> Event:
    """The event of a message. Its source is the peer that sent it, whatever the message says of that."""
    message = received.message
    signed_by = f"#{received.keyid}" if received.keyid else f" by {received.via}"
    return new_event(
        event_type=EventType.FEDERATED_MESSAGE,
        source=peer_source(received.peer),
        delivery_id=message.id,
        time=time,
        body_digest=body_digest,
        principal=f"peer:{received.peer}{signed_by}",
        data=received.model_dump(mode="json", exclude_none=True),
        traceparent=message.traceparent,
        causationid=message.causationid,
        causationdepth=min(message.causationdepth + 1, MAX_CAUSATION),
    )


def parse_message(headers: Iterable[tuple[str, str]], body: bytes) -> Message:
    """The message in a request, whose ``ce-*`` headers are there once each.

    Raises:
        ValidationError: it is none.
        TooLarge: its canonical form is: 1e15 is four bytes, and sixteen there.
    """
    lines = [(name.lower(), value) for name, value in headers]
    media_type = next((value for name, value in lines if name == "content-type"), "")
    if media_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise UnsupportedMediaType(f"the body must be {CONTENT_TYPE}", remedy="send CloudEvents in binary mode")
    said: dict[str, JsonValue] = {
        name.removeprefix("ce-"): _decoded(name, value) for name, value in lines if name.startswith("ce-")
    }
    if said.pop("specversion", None) != SPECVERSION:
        raise ValidationError(f"ce-specversion must be {SPECVERSION}", remedy="send CloudEvents in binary mode")
    depth = said.get("causationdepth", "0")
    if not isinstance(depth, str) or re.fullmatch(r"[0-9]{1,4}", depth) is None:
        raise ValidationError("ce-causationdepth is no number", remedy="say how many runs there were")
    known = {name: value for name, value in said.items() if name in Message.model_fields and name != "data"}
    try:
        message = Message.model_validate({**known, "causationdepth": int(depth), "data": json_object(body)})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValidationError(
            f"ce-{'/'.join(str(part) for part in first['loc'])}: {first['msg']}", remedy="see docs/federation.md"
        ) from None
    require_size(message)
    return message


def require_size(message: Message) -> None:
    """Refuse a message that is larger than one may be, as canonical JSON.

    Raises:
        TooLarge: it is.
    """
    if len(message.body) > MAX_MESSAGE:
        raise TooLarge(
            f"the message is larger than {MAX_MESSAGE:,} bytes as canonical JSON",
            remedy="send its digest, and where it is",
        )


def schema_of(event_type: str) -> str:
    """The id of the schema for a ``ce-type``; one that nobody has, where the type is none of ours."""
    found = _TYPE.fullmatch(event_type)
    return "FederatedMessage" if found is None else f"FederatedMessage.{found[1]}.v{found[2]}"


def is_from(message: Message, peer: str) -> bool:
    """Whether a message says that it comes from this peer."""
    try:
        return parse_peer_source(message.source) == peer
    except ValueError:
        return False


class _Said(BaseModel):
    """Base of what messages say. Wire names are the aliases."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LedgerPlace(_Said):
    """Where the sender has recorded what it tells.

    Attributes:
        origin: the name of its ledger, as in its checkpoints.
        index: of the entry.
    """

    origin: str
    index: int


class SystemUpdateNotification(_Said):
    """A system of the sender was or will be changed."""

    component: str
    version: str
    summary: str
    severity: Literal["info", "warning", "critical"] = "info"
    effective: AwareDatetime | None = None
    url: str | None = None
    restricted: bool = False
    ledger_entry: LedgerPlace | None = None


class RegistryEntryChanged(_Said):
    """An entry of a registry of the sender has a new version. ``data`` are left out where they are restricted."""

    registry_id: str
    entry_id: str
    version: int
    status: str
    entry_class: str = Field(alias="class")
    digest: Sha256
    utids: str
    restricted: bool = False
    data: JsonObject | None = None
    url: str | None = None
    ledger_entry: LedgerPlace | None = None


class DocumentPublished(_Said):
    """A document of the sender was published. Title and place are left out where they are restricted.

    Attributes:
        document_id: what it is called; the same for all its versions.
        version: grows with each publication; ours is the index of the ledger's entry.
        digest: SHA-256 of the artifact.
    """

    document_id: str
    version: int
    kind: str
    digest: Sha256
    media_type: str
    utids: str
    restricted: bool = False
    title: str | None = None
    repository: str | None = None
    path: str | None = None
    commit: str | None = None
    url: str | None = None
    ledger_entry: LedgerPlace | None = None


class AffectedEntity(_Said):
    """What a failure is about: an entry of a registry, a document, a UTidS."""

    kind: Literal["registry", "document", "utids"]
    id: str


class ComplianceFailure(_Said):
    """Something that the sender is responsible for breaks a rule. ``message`` is left out where it is restricted."""

    failure_id: str
    rule: str
    severity: Literal["info", "warning", "critical"]
    entities: tuple[AffectedEntity, ...]
    detected: AwareDatetime
    digest: Sha256 | None = None
    restricted: bool = False
    message: str | None = None
    url: str | None = None
    ledger_entry: LedgerPlace | None = None


class CheckpointPublished(_Said):
    """The sender's ledger has a new checkpoint: the signed note (C2SP tlog-checkpoint), whole."""

    origin: str
    size: int
    root: Sha256
    note: str


Said = SystemUpdateNotification | RegistryEntryChanged | DocumentPublished | ComplianceFailure | CheckpointPublished

SAID: Final[dict[MessageType, type[Said]]] = {
    MessageType.SYSTEM_UPDATE: SystemUpdateNotification,
    MessageType.REGISTRY_ENTRY: RegistryEntryChanged,
    MessageType.DOCUMENT: DocumentPublished,
    MessageType.COMPLIANCE_FAILURE: ComplianceFailure,
    MessageType.CHECKPOINT: CheckpointPublished,
}
"""What the messages of each type say, of version 1."""


def new_message(
    peer: str,
    message_id: str,
    said: Said,
    *,
    time: datetime | None = None,
    subject: str | None = None,
    causationid: str | None = None,
    causationdepth: int = 0,
    traceparent: str | None = None,
) -> Message:
    """A message of ours.

    Args:
        peer: our own peer id.
        message_id: the same on every try, and no other message's.
        said: what it says.
    """
    kind = next(one for one, model in SAID.items() if isinstance(said, model))
    return Message(
        id=message_id,
        source=peer_source(peer),
        type=kind.event_type,
        time=time or datetime.now(UTC),
        subject=subject,
        dataschema=f"urn:coafi:schema:{schema_of(kind.event_type)}:1.0.0",
        causationid=causationid,
        causationdepth=causationdepth,
        traceparent=traceparent,
        data=said.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


def _decoded(name: str, value: str) -> str:
    """A header's value: percent-encoding undone, once (CloudEvents over HTTP, 3.1.3.2)."""
    if _HEADER.fullmatch(value) is None:
        raise ValidationError(f"{name[:100]} holds other than printable ASCII", remedy="percent-encode it")
    raw = bytearray()
    position = 0
    for found in _ESCAPE.finditer(value):
        if found[1] is None:
            raise ValidationError(f"{name[:100]} holds a % that encodes nothing", remedy="write it as %25")
        raw += value[position : found.start()].encode() + bytes([int(found[1], 16)])
        position = found.end()
    raw += value[position:].encode()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValidationError(f"{name[:100]} is no UTF-8 once it is decoded", remedy="encode UTF-8") from None
