"""An example of every operation, in an order in which they can be sent: the life of one entry.

The answers are what a service gives whose API key is called ``ci`` (a test sends them all), but for times, ids of runs
and indices of the ledger, which differ each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from coafi.api.requests import ApiRequest, event_path
from coafi.api.routes import BY_ENDPOINT, ROUTES, Operation, Route
from coafi.auth.principal import Principal
from coafi.canonical import JsonObject, digest_of, sha256
from coafi.commits import source_of
from coafi.names import EventType, workflow_id
from coafi.registry.builtin import builtin_schemas
from coafi.utids import entry_utids, permanent_utids

NAME = "ci"
"""Of the API key with which the examples are sent."""

CALLER = f"key:{NAME}"
KEY = "2f1c9a60-7d0f-4c53-9d0e-6f6f3f6f0b11"
REGISTRY, ENTRY = "AERO", "wing-spar-12"
DATA: JsonObject = {"name": "Wing spar", "material": "Ti-6Al-4V", "mass": 12.5}
REPOSITORY, COMMIT = "https://github.com/acme/docs", "8f1d6c0b5a4e39281706f5e4d3c2b1a098765432"

CREATED, CHANGED = "2026-11-02T09:15:04.120Z", "2026-11-02T09:16:40.031Z"
RUN_ID, STARTED_RUN_ID = "0199f0d2-6c1e-7d53-8a0b-1f2e3d4c5b6a", "0199f0d4-11aa-7b02-9c3d-2e4f60718293"

VOLATILE = frozenset(
    {"created", "changed", "received", "concluded", "started", "closed", "time", "runId", "ledgerEntry", "entries"}
)
"""Members of answers that differ each time; ``entries`` where they are indices of the ledger."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request and its answer.

    Attributes:
        asked: the body, the query, or the id in the path.
        headers: of the request.
        status: of the answer; ``body`` is what it says.
    """

    asked: JsonObject
    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)


def ordered() -> list[tuple[Route, Example]]:
    """Every route with its example, in an order in which they succeed on a new service."""
    changes = [route for route in ROUTES if route.durable]
    return [(route, examples()[route.operation]) for route in (*changes, *(one for one in ROUTES if not one.durable))]


@cache
def examples() -> Mapping[Operation, Example]:
    """The example of every operation."""
    which: JsonObject = {"registryId": REGISTRY, "entryId": ENTRY}
    update: JsonObject = {
        **which,
        "data": DATA,
        "class": "Core",
        "tags": ["titanium", "wing"],
        "reason": "New design of the wing",
    }
    run, event_utids = _of_update(update)
    first: JsonObject = {
        **which,
        "version": 1,
        "status": "Submission",
        "class": "Core",
        "owner": CALLER,
        "tags": ["titanium", "wing"],
        "utids": entry_utids(REGISTRY, ENTRY),
        "digest": digest_of(DATA),
        "created": CREATED,
        "changed": CREATED,
        "by": CALLER,
        "reason": "New design of the wing",
        "workflowId": run,
        "ledgerEntry": 12,
        "integratedVersion": None,
        "checkedWith": None,
    }
    status: JsonObject = {**which, "status": "Review", "reason": "Ready to be looked at"}
    second: JsonObject = {
        **first,
        "version": 2,
        "status": "Review",
        "changed": CHANGED,
        "reason": "Ready to be looked at",
        "workflowId": workflow_id(EventType.API_REQUEST, f"urn:coafi:api:{CALLER}", f"{KEY[:-1]}2"),
        "ledgerEntry": 15,
    }
    work: JsonObject = {
        "workflow": "GitCommitWorkflow",
        "input": {"repositoryUrl": REPOSITORY, "commitSha": COMMIT, "branch": "main"},
    }
    delivery = f"submit-{digest_of([REPOSITORY, 'main', None, COMMIT, ''])[:32]}"
    started = workflow_id(EventType.GIT_COMMIT, source_of(REPOSITORY), delivery)
    shipped = {schema.schema_id: schema for schema in builtin_schemas()}
    payload, small = shipped["GitCommitEventPayload"], shipped["APIRequest.registry.schemas.GET"]
    unfit: JsonObject = {"repositoryUrl": REPOSITORY, "commitSha": 17}
    answer: JsonObject = {"status": 201, "body": {**first, "data": DATA}}
    return {
        Operation.UPDATE_ENTRY: Example(
            update, 201, {**first, "data": DATA}, {"Idempotency-Key": KEY, "If-None-Match": "*"}
        ),
        Operation.CHANGE_STATUS: Example(
            status, 200, {**second, "data": DATA}, {"Idempotency-Key": f"{KEY[:-1]}2", "If-Match": '"1"'}
        ),
        Operation.START_WORKFLOW: Example(
            work,
            201,
            {
                "workflowId": started,
                "runId": STARTED_RUN_ID,
                "eventId": delivery,
                "existed": False,
                "location": event_path(started),
            },
            {"Prefer": "wait=5"},
        ),
        Operation.READ_ENTRY: Example(which, 200, {**second, "data": DATA}),
        Operation.SEARCH_ENTRIES: Example(
            {"registryId": REGISTRY, "tags": ["wing"], "text": "spar", "limit": 20},
            200,
            {"entries": [second], "cursor": None},
        ),
        Operation.READ_HISTORY: Example(which, 200, {**which, "versions": [second, first]}),
        Operation.COMPARE_VERSIONS: Example(
            {**which, "old": 1, "new": 2},
            200,
            {**which, "old": 1, "new": 2, "patch": [{"op": "replace", "path": "/status", "value": "Review"}]},
        ),
        Operation.LIST_SCHEMAS: Example(
            {},
            200,
            {
                "schemas": [
                    one.reference.model_dump(mode="json", by_alias=True)
                    for one in sorted(builtin_schemas(), key=lambda one: one.schema_id)
                ]
            },
        ),
        Operation.READ_SCHEMA: Example(
            {"schemaId": small.schema_id, "version": small.version},
            200,
            {
                "schemaId": small.schema_id,
                "version": small.version,
                "digest": small.digest,
                "document": small.document,
            },
        ),
        Operation.READ_WORKFLOW: Example(
            {"workflowId": run},
            200,
            {
                "workflowId": run,
                "runId": RUN_ID,
                "type": "APIRequestWorkflow",
                "status": "COMPLETED",
                "phase": "PROCESSED",
                "started": CREATED,
                "closed": CREATED,
            },
        ),
        Operation.READ_EVENT: Example(
            {"id": run},
            200,
            {
                "eventId": KEY,
                "type": "api.request",
                "source": f"urn:coafi:api:{CALLER}",
                "workflowId": run,
                "runId": RUN_ID,
                "utids": event_utids,
                "phase": "PROCESSED",
                "runStatus": None,
                "subject": f"POST registry/update {REGISTRY} {ENTRY}",
                "received": CREATED,
                "concluded": CREATED,
                "entries": [11, 12, 13],
                "answer": answer,
            },
        ),
        Operation.VALIDATE: Example(
            {"schemaId": payload.schema_id, "data": unfit},
            200,
            {
                "schemaId": payload.schema_id,
                "version": payload.version,
                "digest": payload.digest,
                "valid": False,
                "violations": [
                    {"pointer": one.pointer, "keyword": one.keyword, "message": one.message}
                    for one in payload.violations(unfit)
                ],
            },
        ),
        Operation.RESOLVE: Example(
            {"id": entry_utids(REGISTRY, ENTRY)},
            200,
            {
                "utids": entry_utids(REGISTRY, ENTRY),
                "permanent": entry_utids(REGISTRY, ENTRY),
                "kind": "entry",
                "names": {**which, "version": 2},
                "status": "Review",
                "origin": {
                    "source": f"urn:coafi:api:{CALLER}",
                    "principal": CALLER,
                    "bodyDigest": sha256(_request(update).document()),
                    "workflowId": run,
                    "time": CREATED,
                },
                "entries": [{"first": 12, "last": 12}, {"first": 15, "last": 15}],
                "complete": False,
            },
        ),
    }


def _request(body: JsonObject) -> ApiRequest:
    return ApiRequest(
        endpoint=BY_ENDPOINT["registry/update"]["POST"].endpoint,
        method="POST",
        request_id=KEY,
        principal=Principal(name=CALLER, roles=("admin",), permissions=("api:*:*",)),
        if_match=0,
        body=body,
    )


def _of_update(body: JsonObject) -> tuple[str, str]:
    """The workflow id and the UTidS of the event of the first request."""
    request = _request(body)
    return (
        workflow_id(EventType.API_REQUEST, request.source, KEY),
        permanent_utids(EventType.API_REQUEST, request.source, KEY, digest_of(request.payload())),
    )
