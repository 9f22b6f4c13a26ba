"""Notifications, and their messages after Standard Webhooks 1.0 (https://www.standardwebhooks.com)."""

import json
from abc import abstractmethod
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import Field, SecretStr
from standardwebhooks.webhooks import Webhook

from coafi.bitt.event import BittEvent
from coafi.canonical import JsonObject, Sha256, canonical_json, sha256
from coafi.events import EventRef, Wire
from coafi.git.manifest import Oid
from coafi.index.update import UPDATED
from coafi.ranges import Range
from coafi.registry.entry import EntryClass, EntryStatus, RegistryId

LONGEST_WAIT = 3_600.0
"""Seconds that a subscriber can make us wait before the next try."""

MAX_DETAILS = 24 * 1024
"""Bytes of an event's details that a message holds at most; of larger ones it holds the digest and the size."""

ENTRY_CHANGED = "registry.entry.changed"
"""The type of the message about a new version of an entry."""


PEER_MESSAGE = "peer.message.received"
"""The type of the message about a message of a peer."""

ALARM_RAISED = "task.alarm.raised"
"""The type of the message about an alarm of a scheduled task."""


class Message(Wire):
    """What one subscriber is told; no secret is in it.

    Attributes:
        subscriber: its name.
        time: when it happened, RFC 3339.
    """

    subscriber: str
    time: str

    @property
    @abstractmethod
    def type(self) -> str:
        """The type of the message."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells this message from every other."""

    @abstractmethod
    def data(self) -> JsonObject:
        """What it says."""

    @property
    def message_id(self) -> str:
        """The ``webhook-id``; the same with every try."""
        return f"msg_{sha256(self.identity.encode())[:32]}"

    @property
    def content_type(self) -> str:
        """Of the body."""
        return "application/json"

    def body(self) -> bytes:
        """The message; the same bytes with every try."""
        value = {"type": self.type, "timestamp": self.time, "data": self.data()}
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Notification(Message):
    """One update of one index. ``time`` is when the ledger took it.

    Attributes:
        repository: canonical URL.
        commit: the tip; ``None`` when the branch is gone.
        generation: of the index.
        verdicts: how many documents are what.
        index_url: where the index is.
        commits: SHAs that the update stands for, the last ones of ``commit_count``.
        entry: ledger index of the update.
    """

    repository: str
    branch: str
    commit: Oid | None
    generation: int
    verdicts: dict[str, int]
    index_url: str
    commits: tuple[Oid, ...]
    commit_count: int = Field(ge=0)
    entry: int | None

    @property
    def type(self) -> str:
        """See :class:`Message`."""
        return UPDATED

    @property
    def identity(self) -> str:
        """See :class:`Message`."""
        return f"{self.subscriber} {self.generation} {self.repository} {self.branch}"

    def data(self) -> JsonObject:
        """See :class:`Message`."""
        return {
            "repository": self.repository,
            "branch": self.branch,
            "commit": self.commit,
            "deleted": self.commit is None,
            "generation": self.generation,
            "verdicts": dict(self.verdicts),
            "indexUrl": self.index_url,
            "commits": list(self.commits),
            "commitCount": self.commit_count,
            "ledgerEntry": self.entry,
        }


class EntryChange(Wire):
    """A new version of an entry, but for its data, whose digest stands for it.

    Attributes:
        by: whose request made it.
        ledger_entry: index of its ``REGISTRY_ENTRY_CHANGED``.
        workflow_id: of the run that made it.
        entry_url: where the version is.
    """

    registry_id: RegistryId
    entry_id: str
    version: int
    status: EntryStatus
    entry_class: EntryClass
    digest: Sha256
    by: str
    ledger_entry: int
    workflow_id: str
    entry_url: str


class EntryNotice(Message):
    """One change of one entry. ``time`` is when it was made."""

    change: EntryChange

    @property
    def type(self) -> str:
        """See :class:`Message`."""
        return ENTRY_CHANGED

    @property
    def identity(self) -> str:
        """See :class:`Message`."""
        change = self.change
        return f"{self.subscriber} {change.registry_id}/{change.entry_id}/{change.version} {change.workflow_id}"

    def data(self) -> JsonObject:
        """See :class:`Message`."""
        change = self.change
        return {
            "registryId": change.registry_id,
            "entryId": change.entry_id,
            "version": change.version,
            "status": change.status,
            "class": change.entry_class,
            "digest": change.digest,
            "by": change.by,
            "ledgerEntry": change.ledger_entry,
            "workflowId": change.workflow_id,
            "entryUrl": change.entry_url,
        }


class EventReport(Wire):
    """An event of a ledger that was handled here, as others are told of it.

    Attributes:
        event_type: such as ``GAIA:COMPLIANCE:FAILURE``.
        time: when it happened.
        source: this service, as it calls itself.
        origin_source, origin_id: who reported it, and under which id.
        details: what it says; of much the digest.
        workflow_id: of the run that handled it; the cause of whatever the receiver does about it.
        depth: how many runs lie between this message and an event from outside.
        utids: of the event.
        entries: ledger indices of what was done about it.
    """

    event_type: str
    time: str
    source: str
    origin_source: str
    origin_id: str
    details: JsonObject
    workflow_id: str
    depth: int
    utids: str
    entries: tuple[Range, ...] = ()

    @classmethod
    def of(
        cls, told: BittEvent, event: EventRef, *, source: str, depth: int, entries: tuple[Range, ...]
    ) -> "EventReport":
        """The report of an event."""
        body = canonical_json(told.details)
        small = len(body) <= MAX_DETAILS
        return cls(
            event_type=told.event_type,
            time=told.timestamp,
            source=source,
            origin_source=told.source,
            origin_id=told.event_id,
            details=told.details if small else {"digest": sha256(body), "size": len(body)},
            workflow_id=event.workflow_id,
            depth=depth,
            utids=event.utids,
            entries=entries,
        )


class EventNotice(Message):
    """One event, for one subscriber: a CloudEvent, so that another instance can take it at ``POST /events``."""

    report: EventReport

    @property
    def type(self) -> str:
        """See :class:`Message`."""
        return self.report.event_type

    @property
    def identity(self) -> str:
        """See :class:`Message`."""
        return f"{self.subscriber} {self.report.source} {self.report.workflow_id}"

    @property
    def content_type(self) -> str:
        """See :class:`Message`."""
        return "application/cloudevents+json"

    def data(self) -> JsonObject:
        """See :class:`Message`."""
        return self.report.details

    def body(self) -> bytes:
        """See :class:`Message`: the members that all messages have, and the attributes of a CloudEvent."""
        report = self.report
        value: JsonObject = {
            "specversion": "1.0",
            "id": self.message_id,
            "source": report.source,
            "type": self.type,
            "time": self.time,
            "timestamp": self.time,
            "datacontenttype": "application/json",
            "originsource": report.origin_source,
            "originid": report.origin_id,
            "utids": report.utids,
            "causationid": report.workflow_id,
            "causationdepth": report.depth,
        }
        if report.entries:
            value["ledgerentry"] = report.entries[0].first
        value["data"] = self.data()
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class PeerNotice(Message):
    """A message of a peer that was applied. ``time`` is when it came.

    Attributes:
        peer: who sent it.
        peer_message: what the peer calls it.
        message_type: its name, such as ``SystemUpdateNotification``.
        subject: what it is about; empty where the peer does not say.
        said: what it says, unless that is long.
        workflow_id: of the run that handled it.
        ledger_entry: index of its ``PEER_MESSAGE_APPLIED``.
    """

    peer: str
    peer_message: str
    message_type: str
    subject: str
    said: JsonObject | None
    workflow_id: str
    ledger_entry: int

    @property
    def type(self) -> str:
        """See :class:`Message`."""
        return PEER_MESSAGE

    @property
    def identity(self) -> str:
        """See :class:`Message`."""
        return f"{self.subscriber} {self.workflow_id}"

    def data(self) -> JsonObject:
        """See :class:`Message`."""
        return {
            "peer": self.peer,
            "messageId": self.peer_message,
            "messageType": self.message_type,
            "subject": self.subject,
            "said": self.said,
            "workflowId": self.workflow_id,
            "ledgerEntry": self.ledger_entry,
        }


class AlarmNotice(Message):
    """What a scheduled task found that somebody has to know. ``time`` is when it was due.

    Attributes:
        workflow_id: of the run that found it.
        alarms: the first of ``count``.
        entry: ledger index of its ``ALARM_RAISED``; ``None`` when the ledger could not be written.
    """

    workflow_id: str
    task: str
    schedule: str
    alarms: tuple[str, ...]
    count: int = Field(ge=1)
    entry: int | None

    @property
    def type(self) -> str:
        """See :class:`Message`."""
        return ALARM_RAISED

    @property
    def identity(self) -> str:
        """See :class:`Message`."""
        return f"{self.subscriber} {ALARM_RAISED} {self.workflow_id}"

    def data(self) -> JsonObject:
        """See :class:`Message`."""
        return {
            "task": self.task,
            "schedule": self.schedule,
            "alarms": list(self.alarms),
            "count": self.count,
            "workflowId": self.workflow_id,
            "ledgerEntry": self.entry,
        }


def headers(
    message_id: str, body: bytes, key: SecretStr, moment: datetime, content_type: str = "application/json"
) -> dict[str, str]:
    """The headers of one try at a message.

    Args:
        key: ``whsec_`` and Base64.
        moment: of this try, in UTC: receivers refuse what is older than a few minutes.
    """
    return {
        "Content-Type": content_type,
        "User-Agent": "coafi-event-handlers",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(key.get_secret_value()).sign(message_id, moment, body.decode()),
    }


def seconds_of(retry_after: str | None, now: datetime, longest: float = LONGEST_WAIT) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, at most ``longest``; ``None`` if it asks for none."""
    if retry_after is None:
        return None
    try:
        if retry_after.strip().isdecimal():
            return min(float(retry_after), longest)
        moment = parsedate_to_datetime(retry_after)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(0.0, (moment - now).total_seconds()), longest)
    except (ValueError, OverflowError):  # a year of eleven digits, an offset beyond the calendar
        return None
