"""A request that a run shall do, as the payload of its event."""

from typing import Literal
from urllib.parse import quote

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from coafi.api.routes import BY_ENDPOINT, Route
from coafi.auth.principal import Principal
from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.errors import ResourceNotFoundError
from coafi.events import Wire

MAX_NAME = 100
"""Characters of a principal's name in a source, percent-encoded; a longer one is told by its digest."""


def source_of(name: str) -> str:
    """The ``source`` of the requests of a principal: ``urn:coafi:api:`` and the name. Keys are the caller's own."""
    quoted = quote(name, safe=":@+")
    return f"urn:coafi:api:{quoted if len(quoted) <= MAX_NAME else sha256(name.encode())}"


MAX_KEY = 200
"""Characters of an ``Idempotency-Key``."""


class ApiRequest(Wire):
    """The payload of ``api.request``: what is asked for, and by whom. No token is in it.

    Attributes:
        endpoint: such as ``registry/update``.
        request_id: the caller's ``Idempotency-Key``, or one that was made for it.
        principal: whose token was verified, with what it permits.
        if_match: the version of the entry that the caller has seen; 0 when there must be none.
        body: what was sent.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    endpoint: str
    method: Literal["POST"]
    request_id: str
    principal: Principal
    if_match: int | None = Field(default=None, ge=0)
    body: JsonObject

    @property
    def route(self) -> Route:
        """What is asked for.

        Raises:
            ResourceNotFoundError: there is no such endpoint, or no run does it.
        """
        route = BY_ENDPOINT.get(self.endpoint, {}).get(self.method)
        if route is None or not route.durable:
            raise ResourceNotFoundError(
                f"no run does {self.method} {self.endpoint}", remedy="see the endpoints at /api/"
            )
        return route

    @property
    def source(self) -> str:
        """The ``source`` of its event: keys are the caller's own."""
        return source_of(self.principal.name)

    def document(self) -> bytes:
        """What stands for the request in the object store, as its body: all that the caller asked for.

        Not the bytes that were sent: a request that is sent again with its keys in another order is the same one.
        """
        said: JsonObject = {"endpoint": self.endpoint, "method": self.method, "body": self.body}
        if self.if_match is not None:
            said["ifMatch"] = self.if_match
        return canonical_json(said)

    def payload(self) -> JsonObject:
        """The event's data."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def event_path(workflow_id: str) -> str:
    """Where the gateway says what became of an event."""
    return f"/api/event/{quote(workflow_id, safe=':')}"
