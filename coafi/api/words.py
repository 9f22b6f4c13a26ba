"""What the OpenAPI document says in words: of operations, headers, members of answers, and errors."""

from collections.abc import Mapping
from dataclasses import dataclass

from coafi.api.requests import MAX_KEY
from coafi.api.routes import Operation, Route
from coafi.canonical import JsonObject
from coafi.registry.entry import MAX_DATA, MAX_DEPTH, MAX_TAGS

TITLE = "COAFI API"

SUMMARY = "The registries of COAFI, work that others may start, and what became of it."


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gateway lets through: sizes in bytes, times in seconds.

    Attributes:
        body: of a request.
        headers: of a request, together.
        body_seconds: that a body may take to arrive.
        wait: for an answer, where the request says nothing.
        longest_wait: for an answer, whatever the request says.
        rate: requests of a caller in a second, in the long run.
        burst: requests of a caller at once.
    """

    body: int
    headers: int
    body_seconds: float
    wait: float
    longest_wait: float
    rate: float
    burst: int


def introduction(limits: Limits) -> tuple[tuple[str, str], ...]:
    """What holds for every operation: headings and paragraphs in Markdown."""
    return (
        (
            "Authentication",
            "Every request needs a token: `Authorization: Bearer …`, with an API key that `coafi auth key add` has "
            "made or a JSON Web Token of an issuer that the service trusts. Without one the answer is `401`. Each "
            "operation takes one permission, `api:{endpoint}:{method}`; without it the answer is `403` and names it. "
            "Only the reference at `/api/` and `/openapi.json` are open to everybody.",
        ),
        (
            "Changes and answers",
            "What changes something or starts work is done by a durable run, once, and is recorded in the ledger. The "
            f"gateway waits for its answer: {limits.wait:g} s, or as long as the request wants with `Prefer: wait=N` "
            f"(at most {limits.longest_wait:g} s). When the time is up the answer is `202` with `Location`, where the "
            "same answer can be fetched later; nothing is lost. What only reads is answered at once, and nothing about "
            "it is recorded.",
        ),
        (
            "Sending a request twice",
            "Give every change an `Idempotency-Key` of its own. The same key with the same body gets the answer that "
            "was stored, also years later, and nothing is done again. The same key with another body is `422`. Keys "
            "are each caller's own.",
        ),
        (
            "Changing what somebody else may change",
            "Every version of an entry has an `ETag`. A change with `If-Match` is done only if that version is still "
            "the newest; otherwise the answer is `412` and nothing has changed. `If-None-Match: *` asks for an entry "
            "that must not exist yet.",
        ),
        (
            "Errors",
            "Every error is `application/problem+json` (RFC 9457). `errors` lists every place that is wrong, with a "
            "JSON Pointer into the body or the query. A method that an endpoint does not have is `405` with `Allow`, "
            "and an endpoint that does not exist is `404`.",
        ),
        (
            "Limits",
            f"A body may have {_size(limits.body)} and must arrive within {limits.body_seconds:g} s; the headers may "
            f"have {_size(limits.headers)}, and an `Idempotency-Key` {MAX_KEY} characters. The data of an entry may "
            f"have {_size(MAX_DATA)} and {MAX_DEPTH} levels, and an entry {MAX_TAGS} tags. A caller may ask "
            f"{limits.rate:g} times a second, and {limits.burst} times at once; then the answer is `429` with "
            "`Retry-After`. Members may be added to answers: read those that you know.",
        ),
    )


TAGS: Mapping[str, str] = {
    "Registry": "Entries of the registries, with every version of them.",
    "Schemas": "Published JSON Schemas, applied to data.",
    "Work": "Runs, and the events that they handle.",
    "UTidS": "Permanent ids of entries and events.",
}
"""The groups of operations."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of an operation.

    Attributes:
        id: ``operationId``.
        tag: its group.
        text: in Markdown.
        result: what the answer is when all went well.
    """

    id: str
    tag: str
    text: str
    result: str


OPERATIONS: Mapping[Operation, Words] = {
    Operation.UPDATE_ENTRY: Words(
        "updateEntry",
        "Registry",
        "Makes an entry, or a new version of one. Every version is kept. An update begins the life cycle anew: its "
        "status is `Submission`, whatever the version before had reached; `integratedVersion` stays. What the request "
        "leaves out (`class`, `owner`, `tags`) stays as it is; a new entry has class `Application` and belongs to the "
        "caller. Where a schema `registry.{registryId}` is published, the data must fit it. In the registry `schemas` "
        "the data is a JSON Schema 2020-12 with `$id: urn:coafi:schema:{entryId}:{version}`, which is accepted only if "
        "it refers to nothing outside itself and is safe to apply. In `UTIDS` the id follows from `data.names`.",
        "The new version.",
    ),
    Operation.CHANGE_STATUS: Words(
        "changeStatus",
        "Registry",
        "Moves an entry one step on, from `Submission` to `Review`, `Approval` and `Integration`, or back to "
        "`Submission` from `Review` or `Approval`. Each move is a version of its own. A schema is published when it "
        "reaches `Integration`: from then on data is held against it, and that version of it never changes.",
        "The new version.",
    ),
    Operation.READ_ENTRY: Words(
        "readEntry",
        "Registry",
        "The newest version of an entry, or the one that is named. With `If-None-Match` and the `ETag` of a version "
        "that the caller has, the answer is `304` while that is the newest.",
        "The entry.",
    ),
    Operation.SEARCH_ENTRIES: Words(
        "searchEntries",
        "Registry",
        "The newest versions of the entries that have all that is asked for, by registry and id, without their data. "
        "`cursor` leads to the next page, until it is `null`.",
        "A page of entries.",
    ),
    Operation.READ_HISTORY: Words(
        "readHistory",
        "Registry",
        "The versions of an entry, the newest first: who made each, when, in which run, and the index of its entry in "
        "the ledger. `before` leads to the next page.",
        "The versions.",
    ),
    Operation.COMPARE_VERSIONS: Words(
        "compareVersions",
        "Registry",
        "What changed between two versions in status, class, owner, tags and data, as a JSON Patch (RFC 6902) that "
        "turns `old` into `new`.",
        "The difference.",
    ),
    Operation.LIST_SCHEMAS: Words(
        "listSchemas",
        "Schemas",
        "The newest version of every published schema, with its digest and without the schema itself. With "
        "`If-None-Match` and the `ETag` of the list that the caller has, the answer is `304` while it is the same.",
        "The schemas, by id.",
    ),
    Operation.READ_SCHEMA: Words(
        "readSchema",
        "Schemas",
        "A published schema: its newest version, or the one that is named. A published version never changes.",
        "The schema.",
    ),
    Operation.START_WORKFLOW: Words(
        "startWorkflow",
        "Work",
        "Starts a run of `GitCommitWorkflow` over a commit, as a push to its repository would: every changed file is "
        "checked, and pages are generated. The same commit again finds the run that there is (`200`, `existed`).",
        "The run that was there.",
    ),
    Operation.READ_WORKFLOW: Words(
        "readWorkflow",
        "Work",
        "Where a run stands, as long as Temporal remembers it: a day or so after its end, after its settings. What was "
        "recorded stays: ask for the event.",
        "The run.",
    ),
    Operation.READ_EVENT: Words(
        "readEvent",
        "Work",
        "What became of an event, by the workflow id of its run, its own id or its UTidS: its phase, the indices of "
        "its entries in the ledger and, of a request to this API, the stored answer. The path is the `Location` of a "
        "`202` and the `Coafi-Event` of other answers. Callers may always read the events of their own requests.",
        "The event.",
    ),
    Operation.VALIDATE: Words(
        "validateData",
        "Schemas",
        "Holds data against the newest published version of a schema and names every place where it does not fit. "
        "Nothing is recorded. Data that does not fit is no error: the answer is `200`, and `valid` is false.",
        "The verdict.",
    ),
    Operation.RESOLVE: Words(
        "resolveUtids",
        "UTidS",
        "What a UTidS names, an event or an entry of a registry, where that came from, and the indices of what the "
        "ledger has about it. The temporary UTidS of an event leads to its permanent one.",
        "What it names.",
    ),
}
"""Of every operation."""

CREATED: Mapping[Operation, str] = {
    Operation.UPDATE_ENTRY: "The entry is new.",
    Operation.START_WORKFLOW: "The run was started.",
}
"""What ``201`` means, where it is answered."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header: what it says, the schema of its value, an example, and whether it is always there."""

    text: str
    schema: JsonObject
    example: str
    required: bool = True


REQUEST_HEADERS: Mapping[str, Header] = {
    "Prefer": Header(
        "How long to wait for the answer (RFC 7240): `wait=N` in seconds, or `respond-async` for `202` at once.",
        {"type": "string"},
        "wait=5",
    ),
    "Idempotency-Key": Header(
        "A key of this request's own, such as a UUID: printable ASCII, bare or in quotes. Sent again with the same "
        "body it gets the same answer; with another body it is `422`.",
        {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": r'^([!#-~]+|"([ !#-\[\]-~]|\\["\\])+")$'},
        "2f1c9a60-7d0f-4c53-9d0e-6f6f3f6f0b11",
    ),
    "If-Match": Header(
        "The `ETag` of the version that this replaces; if another one is the newest, the answer is `412`. `*` is as "
        "good as nothing.",
        {"type": "string", "pattern": r'^(\*|"[0-9]{1,10}")$'},
        '"1"',
    ),
    "If-None-Match": Header(
        "`*`: there must be no such entry yet, or the answer is `412`. Not together with `If-Match`.",
        {"type": "string", "const": "*"},
        "*",
    ),
}
"""Of requests that change something."""

KNOWN_VERSIONS = Header("What the caller has already, as `ETag` named it.", {"type": "string"}, '"2"')
"""``If-None-Match`` of what is only read."""

RESPONSE_HEADERS: Mapping[str, Header] = {
    "ETag": Header(
        "The version of the entry; of the list of schemas, its digest.",
        {"type": "string", "pattern": '^"[0-9a-f]{1,64}"$'},
        '"1"',
    ),
    "Location": Header(
        "Where to ask what became of the request or of the work that it started.",
        {"type": "string", "format": "uri-reference"},
        "/api/event/api.request:urn:coafi:api:key:ci:2f1c9a60-7d0f-4c53-9d0e-6f6f3f6f0b11",
    ),
    "Preference-Applied": Header("What of `Prefer` was followed.", {"type": "string"}, "wait=5", required=False),
    "Coafi-Event": Header(
        "Where the event of this request is, with this answer, if a run has looked at it.",
        {"type": "string", "format": "uri-reference"},
        "/api/event/api.request:urn:coafi:api:key:ci:2f1c9a60-7d0f-4c53-9d0e-6f6f3f6f0b11",
        required=False,
    ),
    "Retry-After": Header("Seconds after which to ask again.", {"type": "string", "pattern": "^[0-9]+$"}, "5"),
    "WWW-Authenticate": Header("How to say who asks.", {"type": "string"}, 'Bearer realm="coafi"'),
    "Allow": Header("The methods that there are.", {"type": "string"}, "POST"),
}
"""Of answers."""


@dataclass(frozen=True, slots=True)
class Error:
    """An error by its status.

    Attributes:
        name: of its component in the document.
        kind: its name in the tree of :mod:`coafi.errors`; empty where the status says it all.
        when: what has happened.
        remedy: what to do.
        headers: that come with it.
        detail: of an example.
    """

    name: str
    kind: str
    when: str
    remedy: str
    detail: str
    headers: tuple[str, ...] = ()


_OF_RUNS = ("Coafi-Event", "Preference-Applied")

ERRORS: Mapping[int, Error] = {
    400: Error(
        "Unreadable",
        "ValidationError",
        "A header, an id in the path or the body cannot be read: no JSON, no UTF-8, an integer beyond 2^53-1, a "
        "malformed key or version.",
        "Correct the place that the detail names.",
        "the body is not JSON: line 1, column 2: a name in quotes must stand here (correct it)",
    ),
    401: Error(
        "Unauthorized",
        "AuthorizationError",
        "There is no token, or it is not valid here: expired, revoked, or signed by somebody else.",
        "Send a valid one: `Authorization: Bearer …`.",
        "the request has no token (send Authorization: Bearer and a token or an API key)",
        ("WWW-Authenticate",),
    ),
    403: Error(
        "Forbidden",
        "PolicyDenied",
        "The caller lacks the permission that the detail names.",
        "Ask whoever runs the service for a role that has it.",
        "key:ci lacks the permission api:registry/update:POST",
        _OF_RUNS,
    ),
    404: Error(
        "NotFound",
        "ResourceNotFoundError",
        "What is asked for is not there: an endpoint, an entry or a version, a schema, a run, an event, a UTidS.",
        "Search for it, or make it first.",
        "there is no entry AERO/wing-spar-12 (see what there is with: coafi registry list)",
        _OF_RUNS,
    ),
    405: Error(
        "MethodNotAllowed",
        "",
        "The endpoint does not have this method.",
        "Take one of those in `Allow`.",
        "PUT is not for /api/registry/entry (see Allow)",
        ("Allow",),
    ),
    408: Error(
        "TooSlow",
        "ValidationError",
        "The body did not arrive in time.",
        "Send it again; the same `Idempotency-Key` is safe.",
        "the body did not arrive within 30 s (deliver it again)",
    ),
    409: Error(
        "Conflict",
        "IdempotencyConflict",
        "It contradicts what cannot change any more: a published version of a schema, or a commit that was submitted "
        "with another body.",
        "Choose a new version.",
        "schema registry.AERO 1.0.0 is published with other content (a published schema never changes: raise the "
        "version in its $id)",
        _OF_RUNS,
    ),
    412: Error(
        "PreconditionFailed",
        "PreconditionFailed",
        "The entry has another version than `If-Match` or `If-None-Match` expects; nothing was changed.",
        "Read the entry again, and decide anew.",
        "AERO/wing-spar-12 is at version 2, and the request expects version 1 (read it again, and decide anew)",
        _OF_RUNS,
    ),
    413: Error(
        "TooLarge",
        "ValidationError",
        "The body is larger than the gateway reads.",
        "Send less, or keep what is large elsewhere and name it by its digest.",
        "the body is larger than 1048576 bytes (raise COAFI_API_MAX_BODY_BYTES)",
    ),
    415: Error(
        "WrongMediaType",
        "ValidationError",
        "The body is not sent as JSON.",
        "Send `Content-Type: application/json`.",
        "the body is text/plain (send application/json)",
    ),
    421: Error(
        "Misdirected",
        "",
        "This instance uses the registry of another one itself, and was asked for it by a third.",
        "Name the instance that keeps the registry.",
        "this instance uses the registry of another one itself (name the instance that keeps the registry: in its "
        "settings, REGISTRY_API_URL is empty)",
    ),
    422: Error(
        "Invalid",
        "ValidationError",
        "The request can be read, and breaks its schema or a rule of the registry; or its `Idempotency-Key` came "
        "before with another body. `errors` names every place.",
        "Correct every place; give another request another key.",
        "the request is wrong in 2 places",
        _OF_RUNS,
    ),
    429: Error(
        "TooManyRequests",
        "",
        "The caller asks more often than it may.",
        "Wait, as `Retry-After` says.",
        "key:ci may ask 50 times a second (wait, as Retry-After says)",
        ("Retry-After",),
    ),
    431: Error(
        "HeadersTooLarge",
        "ValidationError",
        "The headers are larger than the gateway reads.",
        "Send fewer, or shorter ones.",
        "the headers have more than 32768 bytes (send fewer, or shorter ones)",
    ),
    500: Error(
        "Failed",
        "",
        "A defect of the service, or whoever runs it gave the request up.",
        "Ask whoever runs the service: its log, and the run of the event, say more.",
        "the request was given up: discarded by an operator",
        _OF_RUNS,
    ),
    503: Error(
        "Unavailable",
        "",
        "Something that the service needs is out of reach: its database, Temporal, the keys of an issuer.",
        "Ask again after `Retry-After`; the same `Idempotency-Key` is safe.",
        "Temporal does not answer (ask again)",
        ("Retry-After",),
    ),
}
"""Every error that is answered."""

_ALWAYS = {401, 403, 429, 431, 500, 503}
_OF_BODIES = {400, 408, 413, 415, 422}
_OWN: Mapping[Operation, set[int]] = {
    Operation.UPDATE_ENTRY: {409, 412},
    Operation.CHANGE_STATUS: {404, 409, 412},
    Operation.START_WORKFLOW: {409},
    Operation.READ_ENTRY: {404, 422},
    Operation.SEARCH_ENTRIES: {422},
    Operation.READ_HISTORY: {404, 422},
    Operation.COMPARE_VERSIONS: {404, 422},
    Operation.LIST_SCHEMAS: {422},
    Operation.READ_SCHEMA: {404, 422},
    Operation.READ_WORKFLOW: {404, 422},
    Operation.READ_EVENT: {400, 404},
    Operation.RESOLVE: {400, 404},
    Operation.VALIDATE: {404},
}


def errors_of(route: Route) -> list[int]:
    """The errors that a route may answer, besides those of the endpoint as such."""
    misdirected = {421} if route.is_registry else set()
    return sorted(_ALWAYS | misdirected | _OWN[route.operation] | (_OF_BODIES if route.method == "POST" else set()))


MEMBERS: Mapping[str, str] = {
    "registryId": "The registry.",
    "entryId": "The id of the entry in its registry.",
    "version": "Counts every change of the entry, from 1; 0 is a schema as the software ships it.",
    "status": "How far the version has come.",
    "class": "What kind of thing the entry is.",
    "owner": "Who answers for the entry.",
    "tags": "Words to find the entry by, sorted.",
    "utids": "The permanent id of the entry: the same for all its versions.",
    "digest": "SHA-256 of the canonical JSON (RFC 8785) of the data.",
    "created": "When the first version was made; empty for what the software ships.",
    "changed": "When this version was made; empty for what the software ships.",
    "by": "Whose request made this version.",
    "reason": "Why, where somebody said so.",
    "workflowId": "The run; an entry's is the one that made this version.",
    "ledgerEntry": "Index in the ledger of the entry that records this version.",
    "integratedVersion": "The last version that was integrated.",
    "checkedWith": "The schema that the data was held against, if there was one.",
    "data": "What the entry says.",
    "runId": "The run's execution in Temporal.",
    "schemaId": "The id of the schema.",
    "location": "Where to ask what became of it.",
    "pointer": "JSON Pointer (RFC 6901) to the place; empty for the whole.",
    "eventId": "The id of the event within its source.",
    "Accepted.status": "Always `accepted`.",
    "Accepted.workflowId": "The run that does the request.",
    "Accepted.phase": "Where the run stands, if it cannot go on by itself.",
    "CheckedSchema.version": "The version of the schema.",
    "CheckedSchema.digest": "SHA-256 of the schema's canonical JSON.",
    "EntryDiff.old": "The version that the patch starts from.",
    "EntryDiff.new": "The version that it arrives at.",
    "EntryDiff.patch": "The operations of a JSON Patch (RFC 6902).",
    "EntryPage.entries": "The entries, without their data.",
    "EntryPage.cursor": "Leads to the next page; `null` when there is none.",
    "ErrorPlace.detail": "What is wrong there, and what to do.",
    "ErrorPlace.rule": "A stable name of what is broken.",
    "Event.type": "The type of the event, such as `api.request` or `git.commit`.",
    "Event.source": "Whose event it is: the caller, or the repository.",
    "Event.utids": "The UTidS of the event.",
    "Event.phase": "How it ended: `PROCESSED`, `REJECTED` or `FAILED`; before that where its run stands, such as "
    "`PARKED`, or `OPEN`.",
    "Event.runStatus": "What Temporal says of the run while the event has no end; after `TERMINATED` nothing comes of "
    "it unless the request is sent again.",
    "Event.subject": "What it is about, in a few words.",
    "Event.received": "When it came.",
    "Event.concluded": "When it ended.",
    "Event.entries": "Indices of what the ledger has about it.",
    "Event.answer": "The answer that was given, if it is a request to this API that has ended.",
    "History.versions": "The versions, the newest first.",
    "Problem.type": "`urn:coafi:error:` and the name of the error; `about:blank`: as the status says.",
    "Problem.title": "The name of the status.",
    "Problem.status": "The status of the answer.",
    "Problem.detail": "What is wrong, and what to do.",
    "Problem.errors": "Every place that is wrong.",
    "Provenance.source": "The source of the event that it came with; empty for what the software ships.",
    "Provenance.principal": "Whose key or token was verified.",
    "Provenance.bodyDigest": "SHA-256 of the request or delivery as it came in.",
    "Provenance.workflowId": "The run that handled it.",
    "Provenance.time": "When it was received.",
    "Range.first": "The first index.",
    "Range.last": "The last index; the same as the first, if there is one.",
    "Resolution.utids": "The id that was asked for.",
    "Resolution.permanent": "The id to remember, once there is one.",
    "Resolution.kind": "What it names.",
    "Resolution.names": "An event by type, source, id and subject; an entry by registry, id and version.",
    "Resolution.status": "Of an event its phase, `open` while it is at work; of an entry that of its newest version.",
    "Resolution.origin": "Where it came from.",
    "Resolution.entries": "Indices of what the ledger has about it.",
    "Resolution.complete": "Whether no more entries will follow.",
    "Schema.version": "The version of the schema.",
    "Schema.digest": "SHA-256 of the schema's canonical JSON.",
    "Schema.document": "The JSON Schema itself.",
    "Schemas.schemas": "The newest version of each, by id.",
    "Started.workflowId": "The run of the work.",
    "Started.existed": "Whether it was there before.",
    "Stored.status": "Of HTTP.",
    "Stored.body": "As it was answered; of an error, what is wrong.",
    "Validation.version": "The version of the schema.",
    "Validation.digest": "SHA-256 of the schema's canonical JSON.",
    "Validation.valid": "Whether the data fits.",
    "Validation.violations": "Every place where it does not, 50 at most.",
    "Violation.pointer": "JSON Pointer (RFC 6901) into the data.",
    "Violation.keyword": "The keyword of the schema that is broken.",
    "Violation.message": "What is wrong there.",
    "Workflow.type": "The type of workflow.",
    "Workflow.status": "Of Temporal, such as `RUNNING` or `COMPLETED`.",
    "Workflow.phase": "Where the event stands that the run handles, if it handles one.",
    "Workflow.started": "When it began.",
    "Workflow.closed": "When it ended.",
}
"""Of the members of answers: by name, and where a name means something else by ``<component>.<name>``."""


def _size(count: int) -> str:
    for size, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count:,} bytes"
