"""Every durable string of the service, with its builder and its inverse.

What stands here is stored in Temporal, in the ledger or in operators' scripts: renaming breaks what already exists.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode

MAX_WORKFLOW_ID = 1_000
"""Characters of a workflow id: Temporal's limit."""

PRIORITY_APPLICATION = 3
"""Security 1, System 2, Application 3: the ecosystem's policy."""


class TaskQueue(StrEnum):
    """One task queue per limited resource."""

    EVENTS = "coafi-events"
    GIT = "coafi-git"
    FILES = "coafi-files"
    API = "coafi-api"
    DELIVERY = "coafi-delivery"
    TASKS = "coafi-tasks"


class ActivityName(StrEnum):
    """The activities, as the Web UI shows them."""

    RECEIVE = "event.receive"
    PARK = "event.park"
    FINISH = "event.finish"
    FETCH = "git.fetch"
    PROCESS = "files.process"
    GENERATE = "artifacts.generate"
    INDEX_REQUEST = "index.request"
    INDEX_REQUESTS = "index.request-all"
    TIP = "git.tip"
    INDEX_UPDATE = "index.update"
    ANNOUNCE = "notify.announce"
    DELIVER = "notify.deliver"
    OPERATE = "api.operate"
    START = "api.start"
    REVALIDATE = "schemas.revalidate"
    CONCLUDE_REVALIDATION = "schemas.conclude"
    REACT = "bitt.react"
    APPLY_MESSAGE = "peers.apply"
    SHELVE_MESSAGES = "peers.shelve"
    UNSHELVE_MESSAGES = "peers.unshelve"
    WITNESS = "peers.witness"
    OUTBOX_COLLECT = "outbox.collect"
    OUTBOX_DELIVER = "outbox.deliver"
    OUTBOX_SETTLE = "outbox.settle"
    OUTBOX_HOLD = "outbox.hold"
    RUN_TASK = "tasks.run"
    ALARM = "tasks.alarm"


class WorkflowName(StrEnum):
    """The types of workflow."""

    GIT_COMMIT = "GitCommitWorkflow"
    GIT_COMMIT_PROCESSING = "GitCommitProcessingWorkflow"
    NOTIFICATION = "NotificationWorkflow"
    API_REQUEST = "APIRequestWorkflow"
    REGISTRY_UPDATE_NOTIFICATION = "RegistryUpdateNotificationWorkflow"
    SCHEMA_REVALIDATION = "SchemaRevalidationWorkflow"
    BITT_EVENT = "BITTEventWorkflow"
    EVENT_NOTIFICATION = "EventNotificationWorkflow"
    PEER = "PeerWorkflow"
    FEDERATED_MESSAGE = "FederatedMessageWorkflow"
    PEER_OUTBOX = "PeerOutboxWorkflow"
    SCHEDULED_TASK = "ScheduledTaskWorkflow"


class SignalName(StrEnum):
    """The signals of long-lived runs."""

    COMMIT_PROCESSED = "commit_processed"
    MESSAGE = "message"
    WAKE = "wake"
    PAUSE = "pause"
    RESUME = "resume"


class UpdateName(StrEnum):
    """The updates that others than people send."""

    ANSWER = "answer"


class EventType(StrEnum):
    """The CloudEvents ``type`` of the events that have a handler."""

    GIT_COMMIT = "git.commit"
    API_REQUEST = "api.request"
    BITT_EVENT = "bitt.event"
    FEDERATED_MESSAGE = "federated.message"
    SCHEDULED_TASK = "scheduled.task"


class TaskName(StrEnum):
    """What a schedule can start."""

    COMPLIANCE_REPORT = "compliance-report"
    HEALTH_CHECK = "health-check"
    CLEAN_UP = "clean-up"
    ARCHIVE = "archive"
    PUBLISH_CHECKPOINT = "publish-checkpoint"
    VERIFY_LEDGER = "verify-ledger"
    COMPARE_HISTORY = "compare-history"
    RECONCILE = "reconcile"


SCHEDULES = "/schedules"
"""The CloudEvents ``source`` of what schedules start; it has no colon, see :func:`workflow_id`."""

RECONCILED = "reconciled"
"""Whose word stands for a push that nobody delivered: the principal of its event, and what its delivery id begins
with."""


class EntryType(StrEnum):
    """The type of a ledger entry."""

    EVENT_RECEIVED = "EVENT_RECEIVED"
    EVENT_REJECTED = "EVENT_REJECTED"
    EVENT_UNPROCESSED = "EVENT_UNPROCESSED"
    EVENT_PROCESSING_FAILED = "EVENT_PROCESSING_FAILED"
    EVENT_DEAD_LETTERED = "EVENT_DEAD_LETTERED"
    EVENT_PROCESSED = "EVENT_PROCESSED"
    FILE_PROCESSED = "FILE_PROCESSED"
    ARTIFACT_GENERATED = "ARTIFACT_GENERATED"
    INDEX_UPDATED = "INDEX_UPDATED"
    REGISTRY_ENTRY_CHANGED = "REGISTRY_ENTRY_CHANGED"
    FILE_REVALIDATED = "FILE_REVALIDATED"
    ENTRY_REVALIDATED = "ENTRY_REVALIDATED"
    SCHEMA_REVALIDATED = "SCHEMA_REVALIDATED"
    LEDGER_KEY_CHANGED = "LEDGER_KEY_CHANGED"
    EVENT_DISPATCH_FAILED = "EVENT_DISPATCH_FAILED"
    COMPLIANCE_FINDING_OPENED = "COMPLIANCE_FINDING_OPENED"
    COMPLIANCE_FINDING_CLOSED = "COMPLIANCE_FINDING_CLOSED"
    PEER_CHANGED = "PEER_CHANGED"
    PEER_MESSAGE_APPLIED = "PEER_MESSAGE_APPLIED"
    PEER_SPLIT_VIEW = "PEER_SPLIT_VIEW"
    MESSAGE_QUEUED = "MESSAGE_QUEUED"
    MESSAGE_DELIVERED = "MESSAGE_DELIVERED"
    TASK_COMPLETED = "TASK_COMPLETED"
    ALARM_RAISED = "ALARM_RAISED"
    CHECKPOINT_PUBLISHED = "CHECKPOINT_PUBLISHED"


REGISTRY_CALLER = "Coafi-Registry-Caller"
"""The header with which an instance says that it asks for the registry of another one; its namespace follows."""

KEY_CHANGES = "ledger.keys"
"""What the entries about the ledger's own keys say instead of a namespace, a workflow and an event."""

WITNESS = "ledger.witness"
"""Likewise, of the entries about the ledgers of others, whose checkpoints are cosigned here."""


FINDING_CHANGES = "compliance.findings"
"""What the entries about findings that a person closes say instead of a workflow and an event."""
PEER_CHANGES = "federation.peers"
"""What the entries about peers say instead of a workflow and an event: a person changed something, no run did."""

CONCLUDE = "conclude"
"""The step that an event's last entry names."""


class Phase(StrEnum):
    """Where a run stands; the value of the search attribute ``CoafiPhase``."""

    RECEIVED = "RECEIVED"
    VALIDATED = "VALIDATED"
    PROCESSED = "PROCESSED"
    REJECTED = "REJECTED"
    PARKED = "PARKED"
    FAILED = "FAILED"
    DUPLICATE = "DUPLICATE"

    @property
    def goes_on(self) -> bool:
        """Whether a run in this phase still has work to do."""
        return self in (Phase.RECEIVED, Phase.VALIDATED, Phase.PARKED)


class SearchAttribute(StrEnum):
    """Custom search attributes, all of type Keyword; ``coafi up`` registers them, a cluster's operator must."""

    PHASE = "CoafiPhase"
    EVENT_ID = "CoafiEventId"
    EVENT_TYPE = "CoafiEventType"
    SOURCE = "CoafiSource"
    UTIDS = "CoafiUTidS"


class DeliveryName(NamedTuple):
    """What a workflow id says: the event's type, its source and the sender's delivery id."""

    event_type: str
    source: str
    delivery_id: str


def workflow_id(event_type: str, source: str, delivery_id: str) -> str:
    """The id of the run that handles a delivery: ``<type>:<source>:<delivery id>``, each part percent-encoded.

    The same delivery always gives the same id: that is what makes a redelivery find the run that exists. A source is
    a URL as a rule and keeps its colons to stay readable; the first and the last colon are those between the parts.

    The id of a ``scheduled.task`` is made by Temporal, which puts the time of the schedule behind it, with colons:
    there the delivery id keeps them and the source does not, and the first two colons are those between the parts.
    """
    if event_type == EventType.SCHEDULED_TASK:
        return f"{event_type}:{quote(source, safe='/')}:{quote(delivery_id, safe=':')}"
    return f"{quote(event_type, safe='')}:{quote(source, safe='/:')}:{quote(delivery_id, safe='')}"


def parse_workflow_id(value: str) -> DeliveryName:
    """The inverse of :func:`workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`workflow_id`.
    """
    event_type, _, rest = value.partition(":")
    scheduled = event_type == EventType.SCHEDULED_TASK
    source, colon, delivery_id = rest.partition(":") if scheduled else rest.rpartition(":")
    if not colon:
        raise ValueError(f"{value!r} is not <type>:<source>:<delivery id>")
    return DeliveryName(unquote(event_type), unquote(source), unquote(delivery_id))


class IndexName(NamedTuple):
    """What the workflow id of an index says: canonical URL of the repository, and the branch."""

    repository: str
    branch: str


def index_workflow_id(repository: str, branch: str) -> str:
    """The id of the run that keeps the index of a branch: ``index:<repository>:<branch>``, each part percent-encoded.

    Colons and slashes of the repository stay, slashes of the branch too: the last colon is the one between them.
    """
    return f"index:{quote(repository, safe='/:')}:{quote(branch, safe='/')}"


def parse_index_workflow_id(value: str) -> IndexName:
    """The inverse of :func:`index_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`index_workflow_id`.
    """
    kind, _, rest = value.partition(":")
    repository, colon, branch = rest.rpartition(":")
    if kind != "index" or not colon:
        raise ValueError(f"{value!r} is not index:<repository>:<branch>")
    return IndexName(unquote(repository), unquote(branch))


class NotificationName(NamedTuple):
    """What the workflow id of a notification says: for whom, and of which generation of which index."""

    subscriber: str
    repository: str
    branch: str
    generation: int


def notification_workflow_id(name: NotificationName) -> str:
    """The id of the run that notifies one subscriber of one update: ``notify:<subscriber>:<generation>:index:…``."""
    index = index_workflow_id(name.repository, name.branch)
    return f"notify:{quote(name.subscriber, safe='')}:{name.generation}:{index}"


def parse_notification_workflow_id(value: str) -> NotificationName:
    """The inverse of :func:`notification_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`notification_workflow_id`.
    """
    kind, _, rest = value.partition(":")
    subscriber, _, rest = rest.partition(":")
    generation, _, index = rest.partition(":")
    if kind != "notify" or not generation.isdecimal():
        raise ValueError(f"{value!r} is not notify:<subscriber>:<generation>:index:…")
    return NotificationName(unquote(subscriber), *parse_index_workflow_id(index), int(generation))


class EntryVersionName(NamedTuple):
    """What the workflow id of a change of the registry says: which version of which entry."""

    registry: str
    entry_id: str
    version: int


def registry_notification_workflow_id(name: EntryVersionName) -> str:
    """The id of the run that tells of a new version: ``registry-update:<registry>:<entry>:<version>``.

    Each part is percent-encoded, the colons of an entry's id too.
    """
    return f"registry-update:{quote(name.registry, safe='')}:{quote(name.entry_id, safe='')}:{name.version}"


def parse_registry_notification_workflow_id(value: str) -> EntryVersionName:
    """The inverse of :func:`registry_notification_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`registry_notification_workflow_id`.
    """
    kind, *parts = value.split(":")
    if kind != "registry-update" or len(parts) != 3 or not parts[2].isdecimal():
        raise ValueError(f"{value!r} is not registry-update:<registry>:<entry>:<version>")
    return EntryVersionName(unquote(parts[0]), unquote(parts[1]), int(parts[2]))


class SchemaName(NamedTuple):
    """What the workflow id of a re-validation says: which version of which schema."""

    schema_id: str
    version: str


def revalidation_workflow_id(name: SchemaName) -> str:
    """The id of the run that holds all that is known against a schema: ``revalidate:<schema>:<version>``."""
    return f"revalidate:{quote(name.schema_id, safe='')}:{quote(name.version, safe='')}"


def parse_revalidation_workflow_id(value: str) -> SchemaName:
    """The inverse of :func:`revalidation_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`revalidation_workflow_id`.
    """
    kind, *parts = value.split(":")
    if kind != "revalidate" or len(parts) != 2:
        raise ValueError(f"{value!r} is not revalidate:<schema>:<version>")
    return SchemaName(unquote(parts[0]), unquote(parts[1]))


def event_notification_workflow_id(event_workflow_id: str) -> str:
    """The id of the run that tells of an event that was handled: ``notify-event:<workflow id of the event's run>``."""
    return f"notify-event:{event_workflow_id}"


def parse_event_notification_workflow_id(value: str) -> DeliveryName:
    """The inverse of :func:`event_notification_workflow_id`: the event's delivery.

    Raises:
        ValueError: the id was not made by :func:`event_notification_workflow_id`.
    """
    kind, _, rest = value.partition(":")
    if kind != "notify-event":
        raise ValueError(f"{value!r} is not notify-event:<workflow id>")
    return parse_workflow_id(rest)


def workflow_kind(workflow_id: str) -> str:
    """What a workflow id begins with: an event's type, or what kind of long-lived run it is."""
    return unquote(workflow_id.partition(":")[0])


def peer_workflow_id(peer: str) -> str:
    """The id of the run that takes what a peer sends: ``peer:<peer id>``, percent-encoded."""
    return _of_peer("peer", peer)


def parse_peer_workflow_id(value: str) -> str:
    """The inverse of :func:`peer_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`peer_workflow_id`.
    """
    return _peer_of("peer", value)


_PEER_SOURCE = "urn:coafi:peer:"


def peer_source(peer: str) -> str:
    """What the messages of a peer say that they come from: ``urn:coafi:peer:<peer id>``."""
    return _PEER_SOURCE + peer


def parse_peer_source(value: str) -> str:
    """The inverse of :func:`peer_source`.

    Raises:
        ValueError: it is no source of a peer.
    """
    if not value.startswith(_PEER_SOURCE) or value == _PEER_SOURCE:
        raise ValueError(f"{value!r} is not {_PEER_SOURCE}<peer id>")
    return value.removeprefix(_PEER_SOURCE)


def outbox_workflow_id(peer: str) -> str:
    """The id of the run that tells a peer what happens here: ``outbox:<peer id>``, percent-encoded."""
    return _of_peer("outbox", peer)


def parse_outbox_workflow_id(value: str) -> str:
    """The inverse of :func:`outbox_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`outbox_workflow_id`.
    """
    return _peer_of("outbox", value)


def _of_peer(kind: str, peer: str) -> str:
    return f"{kind}:{quote(peer, safe='')}"


def _peer_of(kind: str, value: str) -> str:
    found, _, rest = value.partition(":")
    if found != kind or not rest or ":" in rest:
        raise ValueError(f"{value!r} is not {kind}:<peer id>")
    return unquote(rest)


SCHEDULE_PREFIX = "coafi:"
"""What the id of a schedule begins with that is ours; no other one is ever touched."""


def schedule_id(name: str) -> str:
    """The id of the Temporal Schedule of this name: ``coafi:<name>``."""
    return f"{SCHEDULE_PREFIX}{name}"


def parse_schedule_id(value: str) -> str:
    """The inverse of :func:`schedule_id`.

    Raises:
        ValueError: the id was not made by :func:`schedule_id`.
    """
    name = value.removeprefix(SCHEDULE_PREFIX)
    if name == value or not name:
        raise ValueError(f"{value!r} is not {SCHEDULE_PREFIX}<name>")
    return name


def action_workflow_id(schedule: str) -> str:
    """What Temporal makes the id of a run of a schedule from: it puts ``-`` and the time behind it, RFC 3339 in UTC."""
    return workflow_id(EventType.SCHEDULED_TASK, SCHEDULES, schedule)


class AlarmName(NamedTuple):
    """What the workflow id of an alarm's notification says: for whom, and which run raised it."""

    subscriber: str
    workflow_id: str


def alarm_workflow_id(name: AlarmName) -> str:
    """The id of the run that notifies one subscriber of an alarm: ``alarm:<subscriber>:<id of the run>``."""
    return f"alarm:{quote(name.subscriber, safe='')}:{name.workflow_id}"


def parse_alarm_workflow_id(value: str) -> AlarmName:
    """The inverse of :func:`alarm_workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`alarm_workflow_id`.
    """
    kind, _, rest = value.partition(":")
    subscriber, colon, workflow = rest.partition(":")
    if kind != "alarm" or not colon:
        raise ValueError(f"{value!r} is not alarm:<subscriber>:<id of the run>")
    return AlarmName(unquote(subscriber), workflow)


def fairness_key(source: str) -> str:
    """What shares a task queue evenly. Temporal allows 64 bytes: the end is what tells sources apart."""
    return source.encode()[-64:].decode("utf-8", "ignore")


# Slugs: names as one segment of a URL's path. Servers and proxies decode %2F at their own discretion, so nothing in a
# slug needs percent-encoding, and no client takes one for `.` or `..`.

_PLAIN = re.compile(r"[A-Za-z0-9._-]")
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")


class RefName(NamedTuple):
    """What a slug of a ref names: a branch, or a commit by its full SHA."""

    name: str
    is_commit: bool


def repository_slug(repository: str) -> str:
    """A repository's canonical URL as one segment: ``github.com~acme~docs``.

    ``https://`` is left out, ``/`` becomes ``~``, and every other byte but letters, digits, ``.``, ``_`` and ``-``
    becomes ``=XX``.
    """
    rest = repository.removeprefix("https://")
    return _slug(repository if "://" in rest else rest)


def parse_repository_slug(slug: str) -> str:
    """The inverse of :func:`repository_slug`.

    Raises:
        ValueError: the slug was not made by :func:`repository_slug`.
    """
    text = _unslug(slug)
    return _exactly(slug, text if "://" in text else f"https://{text}", repository_slug)


def branch_slug(branch: str) -> str:
    """A branch as one segment: ``feature~x``. One that looks like a full SHA starts with ``=``."""
    slug = _slug(branch)
    return f"={ord(slug[0]):02X}{slug[1:]}" if _COMMIT.fullmatch(slug) else slug


def parse_ref_slug(slug: str) -> RefName:
    """What a slug of a ref names: the full SHA of a commit stands for itself, all else is of :func:`branch_slug`.

    Raises:
        ValueError: the slug was not made by :func:`branch_slug`.
    """
    if _COMMIT.fullmatch(slug):
        return RefName(slug, is_commit=True)
    return RefName(_exactly(slug, _unslug(slug), branch_slug), is_commit=False)


def docs_path(repository: str, ref: str, *, is_commit: bool = False) -> str:
    """Where the gateway serves the documentation of a branch or a commit: ``/docs/<repository>/<ref>/``."""
    return f"/docs/{repository_slug(repository)}/{ref if is_commit else branch_slug(ref)}/"


def entry_path(name: EntryVersionName) -> str:
    """Where the gateway serves a version of an entry."""
    asked = {"registryId": name.registry, "entryId": name.entry_id, "version": name.version}
    return f"/api/registry/entry?{urlencode(asked)}"


def _slug(text: str) -> str:
    slug = "".join("~" if character == "/" else _escaped(character) for character in text)
    return f"=2E{slug[1:]}" if slug in (".", "..") else slug


def _escaped(character: str) -> str:
    """A plain character itself, every other one as its bytes."""
    if _PLAIN.fullmatch(character):
        return character
    return "".join(f"={byte:02X}" for byte in character.encode())


def _unslug(slug: str) -> str:
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), slug.replace("~", "/"))
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError as error:
        raise ValueError(f"{slug!r} is no slug") from error


def _exactly(slug: str, text: str, build: Callable[[str], str]) -> str:
    """``text``, if it is written the one way there is: a thing has one address."""
    if not slug or build(text) != slug:
        raise ValueError(f"{slug!r} is no slug")
    return text
