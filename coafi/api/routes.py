"""The one table of what can be asked for at ``/api/{endpoint}``, and of UTidS at ``/utids/{id}``.

An endpoint that changes something or starts work is *durable*: a run of ``APIRequestWorkflow`` does it. One that only
reads is answered by the gateway itself; nothing about it is recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from coafi.api.bodies import (
    EventAnswer,
    HistoryAnswer,
    SchemaAnswer,
    SchemasAnswer,
    StartedAnswer,
    ValidationAnswer,
    WorkflowAnswer,
)
from coafi.registry.entry import Entry
from coafi.registry.reader import EntryDiff, EntryPage
from coafi.registry.resolver import Resolution

Method = Literal["GET", "POST"]


class Operation(StrEnum):
    """What is done for a request."""

    UPDATE_ENTRY = "update-entry"
    CHANGE_STATUS = "change-status"
    START_WORKFLOW = "start-workflow"
    READ_ENTRY = "read-entry"
    SEARCH_ENTRIES = "search-entries"
    READ_HISTORY = "read-history"
    COMPARE_VERSIONS = "compare-versions"
    LIST_SCHEMAS = "list-schemas"
    READ_SCHEMA = "read-schema"
    READ_WORKFLOW = "read-workflow"
    READ_EVENT = "read-event"
    RESOLVE = "resolve"
    VALIDATE = "validate"


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    Attributes:
        endpoint: what follows ``prefix``; one that ends with ``/{id}`` takes an id in its path.
        method: of HTTP.
        operation: what is done.
        result: the body of the answer.
        summary: one line for the documentation.
        durable: whether a run does it.
        prefix: what its path begins with.
    """

    endpoint: str
    method: Method
    operation: Operation
    result: type[BaseModel]
    summary: str
    durable: bool = False
    prefix: str = "/api/"

    @property
    def path(self) -> str:
        """Where it is asked for; ``{id}`` stands for an id."""
        return self.prefix + self.endpoint

    @property
    def name(self) -> str:
        """The endpoint without an id."""
        return self.endpoint.removesuffix("/{id}")

    @property
    def takes_id(self) -> bool:
        """Whether its path ends with an id."""
        return self.endpoint.endswith("/{id}")

    @property
    def is_registry(self) -> bool:
        """Whether the instance that keeps the registry answers it."""
        return self.endpoint.startswith("registry/")

    @property
    def permission(self) -> str:
        """What a caller must have been given: ``api:{endpoint}:{method}``."""
        return permission_for(self.name, self.method)

    @property
    def schema_id(self) -> str:
        """The schema of its body, or of its query: ``APIRequest.{endpoint}.{method}``, dots for slashes."""
        return schema_for(self.name, self.method)


ROUTES: tuple[Route, ...] = (
    Route("registry/update", "POST", Operation.UPDATE_ENTRY, Entry, "Create or change an entry", durable=True),
    Route("registry/status", "POST", Operation.CHANGE_STATUS, Entry, "Move an entry on or back", durable=True),
    Route("registry/entry", "GET", Operation.READ_ENTRY, Entry, "Read an entry, or one of its versions"),
    Route("registry/entries", "GET", Operation.SEARCH_ENTRIES, EntryPage, "Search entries, page by page"),
    Route("registry/history", "GET", Operation.READ_HISTORY, HistoryAnswer, "List the versions of an entry"),
    Route("registry/diff", "GET", Operation.COMPARE_VERSIONS, EntryDiff, "Compare two versions of an entry"),
    Route("registry/schemas", "GET", Operation.LIST_SCHEMAS, SchemasAnswer, "List the schemas that are published"),
    Route("registry/schema", "GET", Operation.READ_SCHEMA, SchemaAnswer, "Read a published version of a schema"),
    Route("workflow/start", "POST", Operation.START_WORKFLOW, StartedAnswer, "Start work", durable=True),
    Route("workflow/status", "GET", Operation.READ_WORKFLOW, WorkflowAnswer, "Where a run stands"),
    Route("event/{id}", "GET", Operation.READ_EVENT, EventAnswer, "What became of an event, with its stored answer"),
    Route("schema/validate", "POST", Operation.VALIDATE, ValidationAnswer, "Check data against a published schema"),
    Route("utids/{id}", "GET", Operation.RESOLVE, Resolution, "What a UTidS names, and its origin", prefix="/"),
)
"""Every endpoint and method."""


def permission_for(endpoint: str, method: str) -> str:
    """The permission that a request takes."""
    return f"api:{endpoint}:{method}"


def schema_for(endpoint: str, method: str) -> str:
    """The id of the schema that a request must fit."""
    return f"APIRequest.{endpoint.replace('/', '.')}.{method}"


def _by_endpoint() -> Mapping[str, Mapping[str, Route]]:
    found: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        found.setdefault(route.name, {})[route.method] = route
    return found


BY_ENDPOINT = _by_endpoint()
"""The routes by endpoint without an id, then by method."""
