"""The bodies of answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256
from coafi.registry.entry import EntrySummary
from coafi.registry.validation import CheckedSchema, Schema


class Body(BaseModel):
    """What crosses HTTP: camelCase outside, snake_case inside."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class HistoryAnswer(Body):
    """Every version of an entry, the newest first."""

    registry_id: str
    entry_id: str
    versions: tuple[EntrySummary, ...]


class SchemasAnswer(Body):
    """The newest version of every published schema, by id."""

    schemas: tuple[CheckedSchema, ...]


class SchemaAnswer(Body):
    """A published version of a schema; ``digest`` is the SHA-256 of its canonical JSON."""

    schema_id: str
    version: str
    digest: Sha256
    document: JsonObject

    @classmethod
    def of(cls, schema: Schema) -> "SchemaAnswer":
        """The answer that shows a schema."""
        return cls(schema_id=schema.schema_id, version=schema.version, digest=schema.digest, document=schema.document)


class AcceptedAnswer(Body):
    """A request that is being worked on: ``location`` says what became of it. ``phase`` is there when it is parked."""

    status: Literal["accepted"] = "accepted"
    workflow_id: str
    location: str
    phase: str | None = None


class StartedAnswer(Body):
    """A run that was started, or that was there."""

    workflow_id: str
    run_id: str | None
    event_id: str
    existed: bool
    location: str


class WorkflowAnswer(Body):
    """Where a run stands. ``phase`` is that of the event, where it handles one."""

    workflow_id: str
    run_id: str
    type: str
    status: str
    phase: str | None
    started: str
    closed: str | None


class StoredAnswer(Body):
    """The answer that a request got."""

    status: int
    body: JsonValue


class EventAnswer(Body):
    """What became of an event.

    Attributes:
        phase: how it ended; before that where its run stands, such as ``PARKED``, or ``OPEN`` if nobody can tell.
        run_status: what Temporal says of the run while the event has no end: ``RUNNING``, or such as ``TERMINATED``:
            nothing more comes of that unless the request is sent again with its key.
        entries: ledger indices of what was recorded about it.
        answer: of a request to the API, once there is one.
    """

    event_id: str
    type: str
    source: str
    workflow_id: str
    run_id: str | None
    utids: str | None
    phase: str
    run_status: str | None = None
    subject: str
    received: str | None
    concluded: str | None
    entries: tuple[int, ...]
    answer: StoredAnswer | None = None


class ViolationAnswer(Body):
    """One place where data breaks a schema."""

    pointer: str
    keyword: str
    message: str


class ValidationAnswer(Body):
    """Whether data fits a schema, and every place where it does not."""

    schema_id: str
    version: str
    digest: str
    valid: bool
    violations: tuple[ViolationAnswer, ...]


class ErrorPlace(Body):
    """One thing that is wrong with a request, and where."""

    pointer: str | None = None
    detail: str
    rule: str | None = None


class Problem(BaseModel):
    """An error, after RFC 9457."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    errors: tuple[ErrorPlace, ...] = ()
