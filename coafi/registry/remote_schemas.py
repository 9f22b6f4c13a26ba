"""The published schemas of another instance's registry, as they are remembered here.

One small request a second, while anybody asks, tells whether there are others; a schema itself is fetched when it is
first used, and kept. While the other side is out of reach, those that are known go on being used for a while
(``COAFI_REGISTRY_STALE``). That is safe: a published version never changes, and every verdict says which version it
was made with. It does not go on for ever, because what was published meanwhile would be ignored for ever.
"""

import threading
import time
from collections.abc import Callable
from typing import Annotated, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from coafi.canonical import JsonObject, Sha256
from coafi.errors import IntegrityError, Refused, Unavailable
from coafi.registry.acceptance import accept_schema, schema_of
from coafi.registry.calls import NOTHING, OF_READS, RegistryClient
from coafi.registry.entry import MAX_DATA, require_depth
from coafi.registry.store import FRESH_SECONDS, ordered
from coafi.registry.validation import CheckedSchema, Schema

MAX_SCHEMA = 2 * MAX_DATA
"""Bytes of an answer with one schema."""

MAX_LIST = 4 * 2**20
"""Bytes of the list of all schemas."""

_DISTRUST: Final = "stop using it, and ask who runs it: published schemas never change"

log = structlog.get_logger(__name__)

_NUMBER = "(0|[1-9][0-9]{0,8})"
_SchemaId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
_Version = Annotated[str, StringConstraints(pattern=rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}$")]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class _Listed(_Answer):
    schema_id: _SchemaId
    version: _Version
    digest: Sha256


class _List(_Answer):
    schemas: Annotated[tuple[_Listed, ...], Field(max_length=10_000)]


class _Document(_Listed):
    document: JsonObject


class RemoteSchemas:
    """Looks schemas up that another instance has published. Any number of threads may use it.

    Args:
        client: asks that instance.
        stale_seconds: how long what is known holds while it is out of reach.
        clock: seconds that only grow.
    """

    def __init__(
        self, client: RegistryClient, *, stale_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: dict[str, _Listed] = {}
        self._known: dict[str, Schema] = {}
        self._etag = ""
        self._confirmed = float("-inf")
        self._look_at = float("-inf")
        self._failure: Unavailable | None = None

    def find(self, schema_id: str) -> Schema | None:
        """The newest published version of a schema, or ``None``.

        Raises:
            Unavailable: the other side has been out of reach for too long, or the schema was not fetched before.
            IntegrityError: it shows something else than what it has published.
        """
        self._look_if_due()
        listed = self._newest.get(schema_id)
        if listed is None:
            return None
        known = self._known.get(schema_id)
        if known is None or known.version != listed.version:
            known = self._known[schema_id] = self._fetch(listed)
        return known

    def published(self) -> tuple[CheckedSchema, ...]:
        """The newest version of each, by id.

        Raises:
            Unavailable, IntegrityError: as :meth:`find`.
        """
        self._look_if_due()
        return tuple(
            CheckedSchema(schema_id=one.schema_id, version=one.version, digest=one.digest)
            for _, one in sorted(self._newest.items())
        )

    def version(self, schema_id: str, version: str) -> Schema:
        """One version of a schema.

        Raises:
            ResourceNotFoundError: there is none.
            Unavailable, IntegrityError: as :meth:`find`.
        """
        query = {"schemaId": schema_id, "version": version}
        reply = self._client.get("registry/schema", query, limit=MAX_SCHEMA, refusals=OF_READS)
        found = self._client.parse(_Document, reply)
        listed = self._newest.get(schema_id)
        digest = listed.digest if listed is not None and listed.version == version else found.digest
        return self._shown(found, CheckedSchema(schema_id=schema_id, version=version, digest=digest), schema_of)

    def refresh(self) -> None:
        """See what was published up to now at the next look."""
        self._look_at = float("-inf")

    def _look_if_due(self) -> None:
        now = self._clock()
        if now < self._look_at:
            if self._failure is not None and not self._holds(now):
                raise _again(self._failure)
            return
        # While what is known still holds, one thread asks, and nobody waits for it.
        if not self._lock.acquire(blocking=not self._holds(now)):
            return
        try:
            if self._clock() >= self._look_at:
                self._look()
            elif self._failure is not None and not self._holds(now):
                raise _again(self._failure)
        finally:
            self._lock.release()

    def _look(self) -> None:
        began = self._clock()
        try:
            self._ask()
        except Unavailable as error:
            self._look_at = self._clock() + FRESH_SECONDS
            if self._failure is None:
                log.warning(
                    "schemas of the other instance are out of reach", reason=str(error), known=len(self._newest)
                )
            self._failure = error
            if not self._holds(began):
                raise
        else:
            if self._failure is not None:
                log.info("schemas of the other instance are there again")
            self._failure = None
            self._confirmed = began
            self._look_at = self._clock() + FRESH_SECONDS

    def _ask(self) -> None:
        reply = self._client.get("registry/schemas", {}, limit=MAX_LIST, etag=self._etag, refusals=NOTHING)
        if reply.status == 304:
            return
        listed = self._client.parse(_List, reply).schemas
        newest = {one.schema_id: one for one in listed}
        if len(newest) != len(listed):
            raise self._lies("it lists a schema twice")
        for schema_id, known in self._newest.items():
            shown = newest.get(schema_id)
            if shown is None or ordered(shown.version) < ordered(known.version):
                # A gateway there that has not looked yet, for a second. For longer it is a database that was put back.
                now = shown.version if shown else "no more"
                raise Unavailable(
                    f"the registry at {self._client.url} shows schema {schema_id} {now} after {known.version}",
                    remedy="it passes within seconds; if it does not, the database there was put back to an old copy",
                )
            if shown.version == known.version and shown.digest != known.digest:
                raise self._lies(f"its schema {schema_id} {known.version} has changed")
        self._newest = newest
        self._etag = reply.etag

    def _fetch(self, listed: _Listed) -> Schema:
        query = {"schemaId": listed.schema_id, "version": listed.version}
        reply = self._client.get("registry/schema", query, limit=MAX_SCHEMA, refusals=NOTHING)
        return self._shown(self._client.parse(_Document, reply), CheckedSchema(**dict(listed)), accept_schema)

    def _shown(self, found: _Document, wanted: CheckedSchema, accept: Callable[[str, JsonObject], Schema]) -> Schema:
        """The schema that was asked for, if it is what is shown, and is safe to use here too."""
        try:
            require_depth(found.document)
            schema = accept(wanted.schema_id, found.document)
            shown = schema.reference
        except Refused as error:
            raise Unavailable(
                f"the registry at {self._client.url} shows as schema {wanted.schema_id} {wanted.version} what is not"
                f" accepted here: {error.message}",
                remedy="both sides may run different versions: upgrade the older one",
            ) from error
        if shown != wanted:
            raise self._lies(
                f"asked for schema {wanted.schema_id} {wanted.version} with the digest {wanted.digest}, it shows"
                f" version {shown.version} with {shown.digest}"
            )
        return schema

    def _holds(self, now: float) -> bool:
        """Whether what is known may be used although it cannot be confirmed."""
        return now - self._confirmed < self._stale_seconds

    def _lies(self, problem: str) -> IntegrityError:
        return IntegrityError(f"the registry at {self._client.url} cannot be trusted: {problem}", remedy=_DISTRUST)


def _again(failure: Unavailable) -> Unavailable:
    """The same failure, for another caller."""
    return Unavailable(failure.message, remedy=failure.remedy, retry_after=failure.retry_after)
