"""Every durable string of the service, with its builder and its inverse.

What stands here is stored in Temporal, in the ledger or in operators' scripts: renaming breaks what already exists.
"""

from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote, unquote


class TaskQueue(StrEnum):
    """One task queue per limited resource."""

    EVENTS = "coafi-events"
    GIT = "coafi-git"
    FILES = "coafi-files"


class ActivityName(StrEnum):
    """The activities, as the Web UI shows them."""

    RECEIVE = "event.receive"
    PARK = "event.park"
    FINISH = "event.finish"
    FETCH = "git.fetch"
    PROCESS = "files.process"
    GENERATE = "artifacts.generate"


class WorkflowName(StrEnum):
    """The types of workflow."""

    GIT_COMMIT = "GitCommitWorkflow"


class EventType(StrEnum):
    """The CloudEvents ``type`` of the events that have a handler."""

    GIT_COMMIT = "git.commit"


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
    """
    return f"{quote(event_type, safe='')}:{quote(source, safe='/:')}:{quote(delivery_id, safe='')}"


def parse_workflow_id(value: str) -> DeliveryName:
    """The inverse of :func:`workflow_id`.

    Raises:
        ValueError: the id was not made by :func:`workflow_id`.
    """
    event_type, _, rest = value.partition(":")
    source, colon, delivery_id = rest.rpartition(":")
    if not colon:
        raise ValueError(f"{value!r} is not <type>:<source>:<delivery id>")
    return DeliveryName(unquote(event_type), unquote(source), unquote(delivery_id))
