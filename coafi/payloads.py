"""What the events of each type carry: the schema that a payload must fit, and what the record says of it."""

from collections.abc import Mapping
from typing import Protocol

import pydantic
from pydantic import JsonValue

from coafi import commits
from coafi.api.requests import ApiRequest
from coafi.api.routes import schema_for
from coafi.auth.principal import allows
from coafi.bitt.event import PAYLOAD_SCHEMA
from coafi.canonical import JsonObject
from coafi.database import storable
from coafi.errors import ResourceNotFoundError
from coafi.events import MAX_CAUSATION, Event
from coafi.federation.messages import MessageType, ReceivedMessage, is_from, schema_of
from coafi.findings import Finding, Severity
from coafi.names import EventType, peer_source

MAX_SUBJECT = 500
"""Most characters of an event's subject."""


class Payload(Protocol):
    """What has to be known of a type of event."""

    def schema_id(self, data: JsonObject) -> str:
        """The schema of the payload, or of the part that is checked."""
        ...

    def instance(self, data: JsonObject) -> JsonValue:
        """The part that the schema is about."""
        ...

    def refusal(self, event: Event) -> Finding | None:
        """Why the event is refused whatever its schema says."""
        ...

    def parameters(self, data: JsonObject) -> JsonObject:
        """What is asked for, for the ledger: of a payload that fits its schema."""
        ...

    def subject(self, data: JsonObject) -> str:
        """One line for lists: what the event is about, whatever is in it."""
        ...


class _GitCommit:
    """``git.commit``."""

    asked = ("repositoryUrl", "commitSha", "before", "branch", "deleted")
    """The other fields of the payload tell about people, or are taken from git."""

    def schema_id(self, _data: JsonObject) -> str:
        return commits.PAYLOAD_SCHEMA

    def instance(self, data: JsonObject) -> JsonValue:
        return data

    def refusal(self, _event: Event) -> None:
        return None

    def parameters(self, data: JsonObject) -> JsonObject:
        return {name: data[name] for name in self.asked if name in data}

    def subject(self, data: JsonObject) -> str:
        repository, branch, commit = (_text(data.get(name)) for name in ("repositoryUrl", "branch", "commitSha"))
        return f"{repository} {branch} {commit[:12]}"


class _ApiRequest:
    """``api.request``: its schema is that of the endpoint, and its caller needs a permission."""

    asked = ("registryId", "entryId", "status", "workflow")

    def schema_id(self, data: JsonObject) -> str:
        return schema_for(_text(data.get("endpoint")), _text(data.get("method")))

    def instance(self, data: JsonObject) -> JsonValue:
        return data.get("body")

    def refusal(self, event: Event) -> Finding | None:
        try:
            request = ApiRequest.model_validate(event.data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return Finding(
                severity=Severity.ERROR,
                rule="event/ValidationError",
                message=f"this is no request to the API: {first['msg']}",
                remedy="send it to the gateway, at /api/",
                pointer="".join(f"/{part}" for part in first["loc"]),
            )
        if request.source != event.source or request.principal.name != event.principal:
            return _refused("AuthorizationError", "the request names another caller than its event", "send it anew")
        try:
            needed = request.route.permission
        except ResourceNotFoundError as error:  # the gateway knows another table of endpoints than the workers
            return _refused("ResourceNotFoundError", error.message, error.remedy)
        if not allows(request.principal.permissions, needed):
            return _refused(
                "AuthorizationError",
                f"{request.principal.name} lacks the permission {needed}",
                "ask whoever runs the service for a role that has it",
            )
        return None

    def parameters(self, data: JsonObject) -> JsonObject:
        said: JsonObject = {name: data[name] for name in ("endpoint", "method", "ifMatch") if name in data}
        body = data.get("body")
        if isinstance(body, dict):
            said |= {name: body[name] for name in self.asked if isinstance(body.get(name), str)}
        return said

    def subject(self, data: JsonObject) -> str:
        body = data.get("body")
        about = [_text(body.get(name)) for name in self.asked if name in body] if isinstance(body, dict) else []
        return " ".join([_text(data.get("method")), _text(data.get("endpoint")), *about])


class _BittEvent:
    """``bitt.event``: whoever sends it vouches for what its payload says of its source, and for no other source."""

    asked = ("eventType", "eventId", "timestamp", "source")

    def schema_id(self, _data: JsonObject) -> str:
        return PAYLOAD_SCHEMA

    def instance(self, data: JsonObject) -> JsonValue:
        return data

    def refusal(self, event: Event) -> Finding | None:
        for name, said in (("source", event.source), ("eventId", event.id)):
            if event.data.get(name, said) != said:
                return Finding(
                    severity=Severity.ERROR,
                    rule="event/ValidationError",
                    message=f"the payload has another {name} than its envelope",
                    remedy="give both the same: an event has one identity",
                    pointer=f"/{name}",
                )
        return None

    def parameters(self, data: JsonObject) -> JsonObject:
        said: JsonObject = {name: data[name] for name in self.asked if name in data}
        details = data.get("details")
        if isinstance(details, dict):
            named = ("complianceCheckId", "entry", "key")
            said |= {name: details[name] for name in named if isinstance(details.get(name), str | int)}
        return said

    def subject(self, data: JsonObject) -> str:
        return f"{_text(data.get('eventType'))} {_text(data.get('source'))}"


class _FederatedMessage:
    """``federated.message``: its schema is that of the message's type, and it must come from the peer that sent it."""

    def schema_id(self, data: JsonObject) -> str:
        return schema_of(_text(_member(data, "message").get("type")))

    def instance(self, data: JsonObject) -> JsonValue:
        return _member(data, "message").get("data")

    def refusal(self, event: Event) -> Finding | None:
        try:
            received = ReceivedMessage.model_validate(event.data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return _refused(
                "ValidationError",
                f"this is no message: {first['msg']}",
                "send it to the gateway: see docs/federation.md",
            )
        message = received.message
        if event.source != peer_source(received.peer) or event.id != message.id:
            return _refused("AuthorizationError", "the message is another one than its event", "send it anew")
        if not is_from(message, received.peer):
            return _refused(
                "AuthorizationError",
                f"the peer {received.peer} speaks for itself alone: ce-source must be {peer_source(received.peer)}",
                "correct ce-source",
            )
        if not message.is_known:
            return _refused(
                "ValidationError",
                "there is no such type of message here",
                f"send one of {', '.join(one.event_type for one in MessageType)}",
            )
        if message.causationdepth >= MAX_CAUSATION:
            return _refused(
                "ValidationError",
                f"{message.causationdepth} runs lie between this message and what it comes from",
                "look for a loop: what handles a message must not make the same message again",
            )
        return None

    def parameters(self, data: JsonObject) -> JsonObject:
        message = _member(data, "message")
        said: JsonObject = {name: data[name] for name in ("peer", "via", "keyid") if name in data}
        return said | {name: message[name] for name in ("type", "subject", "dataschema", "time") if name in message}

    def subject(self, data: JsonObject) -> str:
        message = _member(data, "message")
        return " ".join([_text(message.get("type")), "from", _text(data.get("peer")), str(message.get("subject", ""))])


def _member(data: JsonObject, name: str) -> JsonObject:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


class _ScheduledTask:
    """``scheduled.task``: made by a schedule of ours."""

    asked = ("schedule", "task", "parameters", "scheduledTime")

    def schema_id(self, _data: JsonObject) -> str:
        return SCHEDULED_TASK_SCHEMA

    def instance(self, data: JsonObject) -> JsonValue:
        return data

    def refusal(self, _event: Event) -> None:
        return None

    def parameters(self, data: JsonObject) -> JsonObject:
        return {name: data[name] for name in self.asked if name in data}

    def subject(self, data: JsonObject) -> str:
        return " ".join(_text(data.get(name)) for name in ("task", "schedule", "scheduledTime"))


SCHEDULED_TASK_SCHEMA = "ScheduledTaskEventPayload"

PAYLOADS: Mapping[EventType, Payload] = {
    EventType.GIT_COMMIT: _GitCommit(),
    EventType.API_REQUEST: _ApiRequest(),
    EventType.BITT_EVENT: _BittEvent(),
    EventType.FEDERATED_MESSAGE: _FederatedMessage(),
    EventType.SCHEDULED_TASK: _ScheduledTask(),
}
"""Every type of event that has a handler."""


def subject_of(event: Event) -> str:
    """One line for lists: what an event is about."""
    return storable(PAYLOADS[EventType(event.type)].subject(event.data)[:MAX_SUBJECT])


def _refused(kind: str, message: str, remedy: str) -> Finding:
    return Finding(severity=Severity.ERROR, rule=f"event/{kind}", message=message, remedy=remedy)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else "?"
