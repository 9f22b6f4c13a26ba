"""The envelope that every event travels in: CloudEvents 1.0.2 attributes and our extensions."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from coafi import names
from coafi.canonical import JsonObject, Sha256
from coafi.utids import PATTERN, temporary_utids

MAX_CAUSATION = 8
"""How many runs may lie between an event and one from outside: beyond is a loop."""

_Token = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Wire(BaseModel):
    """Base of the values that cross a process boundary: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EventRef(Wire):
    """What later steps need to know of an event: enough to key its ledger entries, without the payload.

    Attributes:
        id, source, type, bodydigest: as in :class:`Event`.
        utids: the permanent UTidS, once there is one.
    """

    id: str
    source: str
    type: str
    bodydigest: Sha256
    utids: str

    @property
    def workflow_id(self) -> str:
        """The id of the one run that handles this event."""
        return names.workflow_id(self.type, self.source, self.id)


class Event(Wire):
    """Something that happened outside, as its sender vouched for it. Its payload is not yet validated.

    Attributes:
        id: the sender's id of the delivery; with ``source`` it identifies the event.
        source: where it happened, such as ``https://github.com/acme/docs``.
        type: such as ``git.commit``.
        time: when it was received.
        utids: the temporary UTidS.
        bodydigest: SHA-256 of the raw body in the object store.
        principal: whose key or token was verified, such as ``github-webhook``; never the secret itself.
        causationid: workflow id of the run that caused this event, if one did.
        causationdepth: how many runs lie between this event and one from outside; capped against loops.
        traceparent: W3C trace context of the sender; linked, not trusted.
        data: the payload under the plan's wire names.
    """

    specversion: Literal["1.0"] = "1.0"
    id: _Token
    source: _Token
    type: Annotated[str, StringConstraints(pattern=r"^[a-z]+(\.[a-z]+)+$", max_length=100)]
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    utids: Annotated[str, StringConstraints(pattern=PATTERN.pattern)]
    bodydigest: Sha256
    principal: _Token
    causationid: _Token | None = None
    causationdepth: int = Field(default=0, ge=0, le=MAX_CAUSATION)
    traceparent: Annotated[str, StringConstraints(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None = None
    data: JsonObject

    @property
    def workflow_id(self) -> str:
        """The id of the one run that handles this event."""
        return names.workflow_id(self.type, self.source, self.id)

    def ref(self, utids: str) -> EventRef:
        """What later steps need to know, with the UTidS that validation gave."""
        return EventRef(id=self.id, source=self.source, type=self.type, bodydigest=self.bodydigest, utids=utids)


def new_event(
    *,
    event_type: names.EventType,
    source: str,
    delivery_id: str,
    time: datetime,
    body_digest: str,
    principal: str,
    data: JsonObject,
    traceparent: str | None = None,
    causationid: str | None = None,
    causationdepth: int = 0,
) -> Event:
    """An event as it is made at ingress, with its temporary UTidS."""
    return Event(
        id=delivery_id,
        source=source,
        type=event_type,
        time=time,
        utids=temporary_utids(event_type, source, delivery_id, body_digest),
        bodydigest=body_digest,
        principal=principal,
        data=data,
        traceparent=traceparent,
        causationid=causationid,
        causationdepth=causationdepth,
    )
