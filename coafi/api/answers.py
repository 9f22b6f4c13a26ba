"""How the end of a run becomes the answer to its request."""

from pydantic import JsonValue

from coafi.api.bodies import Body, ErrorPlace
from coafi.errors import ValidationError
from coafi.findings import Finding
from coafi.ledger.wire import ERROR
from coafi.names import Phase
from coafi.recording import Failure, Refusal


class Answer(Body):
    """What a request is answered with: by its run, and to whoever sends it again.

    Attributes:
        status: of HTTP; below 400 ``body`` is the result, from there on it says what is wrong.
        etag: version of what the body shows.
        location: where the thing is that was made.
    """

    status: int
    body: JsonValue
    etag: str | None = None
    location: str | None = None


class Refused(Body):
    """The body of an answer that says what is wrong; ``type`` is that of the problem (RFC 9457)."""

    type: str
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

NO_TYPE = "about:blank"
"""The type of a problem of which nothing is known but its status."""

GIVEN_UP = 500
WAITING = 202


def refusal(findings: tuple[Finding, ...], refused: Refusal | None) -> Answer:
    """The answer of a request that was rejected.

    Args:
        findings: what is wrong; at least one.
        refused: by what, if it was not refused at its receipt: then the first finding tells.
    """
    kind = refused.error if refused else findings[0].rule.removeprefix("event/")
    if kind not in STATUS:
        kind = ValidationError.__name__
    if refused is not None:
        detail = refused.message
    else:
        detail = _sentence(findings[0]) if len(findings) == 1 else f"the request is wrong in {len(findings)} places"
    return _error(
        STATUS[kind],
        Refused(
            type=problem_type(kind),
            detail=detail,
            errors=tuple(_place(one) for one in findings if one.pointer is not None),
        ),
    )


def error_places(findings: tuple[Finding, ...]) -> list[JsonValue]:
    """What is wrong where, for the ``errors`` of a problem."""
    return [_place(one).model_dump(mode="json", by_alias=True, exclude_none=True) for one in findings]


def given_up(failure: Failure | None) -> Answer:
    """The answer of a request whose run ended without doing it: discarded, abandoned or cancelled."""
    why = f": {failure.message}" if failure else ""
    detail = f"the request was given up{why}; to try again, send it with a new key"
    return _error(GIVEN_UP, Refused(type=NO_TYPE, detail=detail))


def waiting(phase: Phase, parks: int = 0) -> Answer:
    """What a caller is told whose request is not answered yet.

    Args:
        phase: where its run stands.
        parks: how often it has parked.
    """
    return Answer(status=WAITING, body={"phase": phase, "parks": parks})


def parks_of(answer: Answer) -> int:
    """How often the run has parked that is not done yet; 0 for an answer."""
    body = answer.body if answer.status == WAITING and isinstance(answer.body, dict) else {}
    parks = body.get("parks")
    return parks if isinstance(parks, int) else 0


def problem_type(kind: str) -> str:
    """The type of a problem, for programs: the name of the error in the tree of :mod:`coafi.errors`."""
    return ERROR + kind if kind in STATUS else NO_TYPE


def _error(status: int, body: Refused) -> Answer:
    return Answer(status=status, body=body.model_dump(mode="json", by_alias=True, exclude_none=True))


def _place(finding: Finding) -> ErrorPlace:
    return ErrorPlace(pointer=finding.pointer, detail=_sentence(finding), rule=finding.rule)


def _sentence(finding: Finding) -> str:
    return f"{finding.message} ({finding.remedy})" if finding.remedy else finding.message
