"""The bodies of answers, and how the end of a run becomes one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from coafi.findings import Finding
from coafi.names import Phase
from coafi.registry.entry import EntrySummary


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class HistoryAnswer(_Body):
    """Every version of an entry, the newest first."""

    registry_id: str
    entry_id: str
    versions: tuple[EntrySummary, ...]


class StartedAnswer(_Body):
    """A run that was started, or that was there."""

    workflow_id: str
    run_id: str | None
    event_id: str
    existed: bool
    location: str


class WorkflowAnswer(_Body):
    """Where a run stands. ``phase`` is that of the event, where it handles one."""

    workflow_id: str
    run_id: str
    type: str
    status: str
    phase: str | None
    started: str
    closed: str | None


class StoredAnswer(_Body):
    """The answer that a request got."""

    status: int
    body: JsonValue


class EventAnswer(_Body):
    """What became of an event.

    Attributes:
        phase: how it ended, or ``OPEN``.
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
    subject: str
    received: str | None
    concluded: str | None
    entries: tuple[int, ...]
    answer: StoredAnswer | None = None


class ViolationAnswer(_Body):
    """One place where data breaks a schema."""

    pointer: str
    keyword: str
    message: str


class ValidationAnswer(_Body):
    """Whether data fits a schema, and every place where it does not."""

    schema_id: str
    version: str
    digest: str
    valid: bool
    violations: tuple[ViolationAnswer, ...]


class ErrorPlace(_Body):
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


class Answer(_Body):
    """What a request is answered with: by its run, and to whoever sends it again.

    Attributes:
        status: of HTTP; below 400 ``body`` is the result, from there on it says what is wrong.
        etag: version of the entry that the body shows.
        location: where the thing is that was made.
    """

    status: int
    body: JsonValue
    etag: str | None = None
    location: str | None = None


class Refusal(_Body):
    """The body of an answer that says what is wrong."""

    detail: str
    errors: tuple[ErrorPlace, ...] = ()


STATUS = {
    "AuthorizationError": 403,
    "PolicyDenied": 403,
    "ResourceNotFoundError": 404,
    "IdempotencyConflict": 409,
    "PreconditionFailed": 412,
    "ValidationError": 422,
}
"""What a refusal is called in HTTP."""

GIVEN_UP = 500
WAITING = 202


def refusal(findings: tuple[Finding, ...], refused: str | None) -> Answer:
    """The answer of a request that was rejected.

    Args:
        refused: type of the error that rejected it; by default it is told by the first finding.
    """
    status = STATUS.get(refused or findings[0].rule.removeprefix("event/"), 422)
    detail = _sentence(findings[0]) if len(findings) == 1 else f"the request is wrong in {len(findings)} places"
    return _error(status, Refusal(detail=detail, errors=tuple(_place(one) for one in findings if one.pointer is not None)))


def error_places(findings: tuple[Finding, ...]) -> list[JsonValue]:
    """What is wrong where, for the ``errors`` of a problem."""
    return [_place(one).model_dump(mode="json", by_alias=True, exclude_none=True) for one in findings]


def given_up(why: str) -> Answer:
    """The answer of a request whose run ended without doing it."""
    return _error(GIVEN_UP, Refusal(detail=f"the request was given up: {why}"))


def waiting(phase: Phase) -> Answer:
    """What a caller is told whose request is not answered yet."""
    return Answer(status=WAITING, body={"phase": phase})


def _error(status: int, body: Refusal) -> Answer:
    return Answer(status=status, body=body.model_dump(mode="json", by_alias=True, exclude_none=True))


def _place(finding: Finding) -> ErrorPlace:
    return ErrorPlace(pointer=finding.pointer, detail=_sentence(finding), rule=finding.rule)


def _sentence(finding: Finding) -> str:
    return f"{finding.message} ({finding.remedy})" if finding.remedy else finding.message
