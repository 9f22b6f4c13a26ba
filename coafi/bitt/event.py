"""An event of a ledger: from outside, through ``POST /events``, or an entry of the ledger that is kept here."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.compliance.entities import Entity, entity_of
from coafi.events import Event, new_event
from coafi.ledger.entry import Recorded
from coafi.names import EntryType, EventType, parse_workflow_id, workflow_kind

PAYLOAD_SCHEMA = "BITTEventPayload"

LEDGER_PREFIX = "COAFI:LEDGER:"
"""What the event type of an entry begins with; the entry's own type follows."""

PRINCIPAL = "listener"
"""Who vouches for events that are entries: the service itself."""

OWN_HANDLING = frozenset({EventType.BITT_EVENT.value, EventType.FEDERATED_MESSAGE.value, "peer", "outbox"})
"""What the workflow ids begin with of runs whose entries start nothing, or each would start the next."""

NEVER = frozenset({EntryType.EVENT_DISPATCH_FAILED.value})
"""Types of entries that start nothing, whoever wrote them."""

_MAX_REASON = 2_000


class BittEvent(BaseModel):
    """The payload of a ``bitt.event``, under its wire names; see the schema :data:`PAYLOAD_SCHEMA`."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    event_type: str
    event_id: str
    timestamp: str
    source: str
    details: JsonObject

    @property
    def entities(self) -> tuple[Entity, ...]:
        """What it is about, each once."""
        named = self.details.get("affectedEntities")
        found = [entity_of(one) for one in named] if isinstance(named, list) else _of_entry(self.details)
        return tuple(dict.fromkeys(one for one in found if one is not None))

    @property
    def rule(self) -> str:
        """Which check or rule was broken, as far as it says so."""
        check = self.details.get("complianceCheckId")
        return check if isinstance(check, str) and check else self.event_type

    @property
    def reason(self) -> str:
        """What is wrong, for people."""
        reason = self.details.get("failureReason")
        return reason[:_MAX_REASON] if isinstance(reason, str) and reason else f"{self.event_type} of {self.source}"


def own_source(origin: str, namespace: str) -> str:
    """The source of events that are entries of the own ledger: ``bitt:<origin>/<namespace>``.

    Instances that share a ledger differ in the namespace.
    """
    return f"bitt:{origin}/{namespace}"


def is_followed(recorded: Recorded, namespaces: Sequence[str]) -> bool:
    """Whether an entry may start anything: it is one of this instance's, and not of the handling of such an event."""
    entry = recorded.entry
    handling = workflow_kind(entry.workflow_id) in OWN_HANDLING
    return entry.namespace in namespaces and entry.type not in NEVER and not handling


def event_of_entry(recorded: Recorded, source: str) -> BittEvent:
    """An entry as an event of its ledger, ``COAFI:LEDGER:<type>``, with the entry's index as its id."""
    entry = recorded.entry
    return BittEvent(
        event_type=f"{LEDGER_PREFIX}{entry.type}",
        event_id=str(recorded.index),
        timestamp=entry.time,
        source=source,
        details={
            "entry": recorded.index,
            "key": entry.key,
            "event": entry.event_id,
            "workflow": entry.workflow_id,
            "step": entry.step,
            "utids": entry.utids,
            "data": entry.data,
        },
    )


def started_by_entry(told: BittEvent, recorded: Recorded, *, depth: int) -> tuple[Event, bytes]:
    """The event whose run handles an entry, and its raw body for the object store."""
    data = told.model_dump(mode="json", by_alias=True)
    body = canonical_json(data)
    event = new_event(
        event_type=EventType.BITT_EVENT,
        source=told.source,
        delivery_id=told.event_id,
        time=datetime.fromisoformat(told.timestamp),
        body_digest=sha256(body),
        principal=PRINCIPAL,
        data=data,
    )
    return event.model_copy(update={"causationid": recorded.entry.workflow_id, "causationdepth": depth}), body


def _of_entry(details: JsonObject) -> list[Entity | None]:
    """What an entry of ours is about: an entry of a registry, a file, or the event that it belongs to."""
    data, workflow_id = details.get("data"), details.get("workflow")
    if not isinstance(data, dict) or not isinstance(workflow_id, str):
        return []
    if "registryId" in data and "entryId" in data:
        return [entity_of(f"{data['registryId']}/{data['entryId']}")]
    if "path" in data:
        repository = data.get("repository") or _source(workflow_id)
        named = entity_of({"kind": "document", "id": f"{repository}/{data['path']}"})
        if named is not None:
            return [named]
    return [entity_of(details.get("utids"))]


def _source(workflow_id: str) -> str:
    try:
        return parse_workflow_id(workflow_id).source
    except ValueError:
        return workflow_id
