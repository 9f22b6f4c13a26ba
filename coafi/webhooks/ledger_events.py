"""Events of external ledgers: CloudEvents 1.0.2 in structured JSON, signed after Standard Webhooks 1.0.

Sources: https://github.com/cloudevents/spec (JSON event format), https://www.standardwebhooks.com.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Final

import pydantic
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, StringConstraints
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from coafi.canonical import JsonObject, sha256
from coafi.cloudevents import UnsupportedMediaType, json_object
from coafi.errors import AuthorizationError, ValidationError
from coafi.events import Event, new_event
from coafi.names import EventType

CONTENT_TYPE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

SIGNED: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
"""The headers of Standard Webhooks."""

_DETAILS = "see docs/ledger-events.md"
_MAX_SIGNATURES = 20

_Token = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


class ForeignSource(AuthorizationError):
    """Whoever signed it may not speak for this source."""


class TooDeep(ValidationError):
    """Too many runs lie between this event and one from outside: it looks like a loop."""


@dataclass(frozen=True)
class SourceKey:
    """Who may vouch for events of which sources.

    Attributes:
        sources: a pattern of sources.
        secrets: any of them may have signed, so that a secret can be rotated.
        principal: what the record calls whoever signed.
    """

    sources: str
    secrets: tuple[SecretStr, ...]
    principal: str


class _CloudEvent(BaseModel):
    """The attributes that are read. Others are allowed, and left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: _Token
    source: _Token
    type: _Token
    time: Annotated[str, Field(max_length=40)] | None = None
    datacontenttype: str = "application/json"
    causationid: _Token | None = None
    causationdepth: int = Field(default=0, ge=0, le=10_000)
    traceparent: str | None = None
    data: JsonValue = None


def check_media_type(content_type: str) -> None:
    """Refuse what is no single event in structured JSON.

    Raises:
        UnsupportedMediaType: it is a batch, an event in binary mode, or something else.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == BATCH:
        raise UnsupportedMediaType(
            "batches are not taken: each event has a run, and an answer, of its own",
            remedy=f"send the events one by one, as {CONTENT_TYPE}",
        )
    if media_type != CONTENT_TYPE:
        raise UnsupportedMediaType(f"the body must be {CONTENT_TYPE}", remedy="send CloudEvents in structured mode")


def verified_by(body: bytes, headers: Mapping[str, str], keys: Sequence[SourceKey]) -> tuple[SourceKey, ...]:
    """Everybody whose secret has signed a body, not long ago.

    Raises:
        AuthorizationError: nobody's has, or the time is not within five minutes of ours.
    """
    said = {name: headers.get(name, "") for name in SIGNED}
    missing = [name for name, value in said.items() if not value]
    if missing:
        raise AuthorizationError(f"header {' and '.join(missing)} is missing", remedy="sign it after Standard Webhooks")
    if said["webhook-signature"].count(" ") >= _MAX_SIGNATURES:
        raise AuthorizationError("there are too many signatures", remedy=f"send {_MAX_SIGNATURES} at most")
    reasons = set()
    found = []
    for key in keys:
        for secret in key.secrets:
            reason = _refusal(body, said, secret)
            if reason is None:
                found.append(key)
                break
            reasons.add(reason)
    if not found:
        raise AuthorizationError(
            f"header webhook-signature does not vouch for the body: {', '.join(sorted(reasons))}",
            remedy="use a secret that this service knows, and a clock that is right",
        )
    return tuple(found)


def event_of(
    body: bytes, signers: Sequence[SourceKey], *, received: datetime, own_source: str, max_depth: int
) -> Event:
    """The event in a signed body. Its payload is not yet validated: what it lacks stays lacking.

    Args:
        signers: whose secrets have signed it.
        own_source: for which nobody outside may speak.
        max_depth: runs between it and an event from outside, at most.

    Raises:
        ValidationError: it is no CloudEvent that has an envelope here.
        ForeignSource: none of those who signed may speak for its source.
        TooDeep: it looks like a loop.
    """
    told = _parsed(body)
    signer = next((one for one in signers if fnmatchcase(told.source, one.sources)), None)
    if signer is None or told.source == own_source:
        raise ForeignSource(
            f"whoever signed this may not speak for the source {told.source!r}",
            remedy="ask whoever runs this service for a secret that vouches for it",
        )
    if told.causationdepth > max_depth:
        raise TooDeep(
            f"{told.causationdepth} runs lie between this event and its cause, and {max_depth} may",
            remedy="look for services that tell each other of what each of them does",
        )
    event = new_event(
        event_type=EventType.BITT_EVENT,
        source=told.source,
        delivery_id=told.id,
        time=received,
        body_digest=sha256(body),
        principal=signer.principal,
        data=_payload(told),
        traceparent=told.traceparent if _TRACEPARENT.fullmatch(told.traceparent or "") else None,
    )
    return event.model_copy(update={"causationid": told.causationid, "causationdepth": told.causationdepth})


def _refusal(body: bytes, headers: Mapping[str, str], secret: SecretStr) -> str | None:
    """Why a secret does not vouch for a body; ``None`` if it does."""
    try:
        Webhook(secret.get_secret_value()).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        return str(error).lower()
    except ValueError:  # no Base64, no pair of version and signature, or no text
        return "malformed"
    return None


def _parsed(body: bytes) -> _CloudEvent:
    parsed = json_object(body)
    if parsed.get("specversion") != "1.0":
        raise ValidationError("specversion must be 1.0", remedy=f"send a CloudEvent; {_DETAILS}")
    if "data_base64" in parsed:
        raise ValidationError("data_base64 is not read", remedy="send data as JSON")
    try:
        told = _CloudEvent.model_validate(parsed)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise ValidationError(f"attribute {place}: {first['msg']}", remedy=_DETAILS) from None
    if told.datacontenttype.partition(";")[0].strip().lower() != "application/json":
        raise ValidationError("datacontenttype must be application/json", remedy="send data as JSON")
    return told


def _payload(told: _CloudEvent) -> JsonObject:
    """The payload: the data of an event of our own type, or the attributes of one of any other."""
    if told.type == EventType.BITT_EVENT:
        return told.data if isinstance(told.data, dict) else {}
    payload: JsonObject = {"eventType": told.type, "eventId": told.id, "source": told.source, "details": {}}
    if told.time is not None:
        payload["timestamp"] = told.time
    if told.data is not None:
        payload["details"] = told.data if isinstance(told.data, dict) else {"data": told.data}
    return payload
