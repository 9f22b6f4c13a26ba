"""The registry of another instance, over its API (``starters.api``).

Reads go there and are answered from there. A change goes there with an ``Idempotency-Key`` that is made from the run
which asks for it: however often it is tried, the other side makes it once, and gives the same answer. What it made,
and where, is then recorded in the ledger of this instance::

    run ──► POST, with the run's key ──► entry, made there by a run of its own, with its ledger entry
        ──► REGISTRY_ENTRY_CHANGED here, which names that run and that ledger entry; the answer is kept

The other side is not believed: every answer is held against what was asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import pydantic
from pydantic import Field

from coafi.api.bodies import HistoryAnswer
from coafi.canonical import JsonObject, digest_of, sha256
from coafi.errors import IntegrityError, Refused, Unavailable
from coafi.registry.builtin import BuiltinSchemas, builtin_schemas
from coafi.registry.calls import RegistryClient
from coafi.registry.changes import Origin, no_entry
from coafi.registry.entry import (
    ENTRY_ID,
    MAX_DATA,
    MAX_VERSION,
    Entry,
    EntryStatus,
    EntrySummary,
    EntryUpdate,
    RegistryId,
    StatusUpdate,
)
from coafi.registry.port import Plan, PlannedChange
from coafi.registry.reader import MAX_PAGE, EntryDiff, EntryPage, EntryQuery, Glance
from coafi.registry.remote_schemas import RemoteSchemas
from coafi.registry.shipped import is_reserved
from coafi.registry.store import no_schema, no_version
from coafi.registry.validation import CheckedSchema, Schema

MAX_ENTRY: Final = 2 * MAX_DATA + 64 * 1024
"""Bytes of an answer with one entry."""

MAX_ENTRIES: Final = 4 * 2**20
"""Bytes of an answer with a page of entries, without their data."""

MAX_DIFF: Final = 16 * 2**20
"""Bytes of an answer with the difference of two versions."""

_DISTRUST = "ask who runs it; both sides may run different versions: upgrade the older one"


class RemoteRegistry:
    """The registry behind a gateway's ``/api/registry/``; see the port. Nothing is asked before it is used.

    What this software itself reads and writes is held against the schemas of its own package, whatever the other side
    has: another release of the software may run there.

    Args:
        client: asks the other side.
        namespace: keeps the requests of this instance apart from those of others with the same token.
        stale_seconds: how long known schemas hold while the other side is out of reach.
    """

    def __init__(self, client: RegistryClient, *, namespace: str, stale_seconds: float) -> None:
        self._client = client
        self._namespace = namespace
        self._own = BuiltinSchemas()
        self._schemas = RemoteSchemas(client, stale_seconds=stale_seconds)

    @property
    def is_remote(self) -> bool:
        """It is elsewhere."""
        return True

    @property
    def url(self) -> str:
        """Where it is."""
        return self._client.url

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # ---------------------------------------------------------------- schemas

    def find(self, schema_id: str) -> Schema | None:
        """See the port."""
        return self._own.find(schema_id) if is_reserved(schema_id) else self._schemas.find(schema_id)

    def schema(self, schema_id: str) -> Schema:
        """See the port."""
        found = self.find(schema_id)
        if found is None:
            raise no_schema(schema_id)
        return found

    def published(self) -> tuple[CheckedSchema, ...]:
        """See the port."""
        theirs = (one for one in self._schemas.published() if not is_reserved(one.schema_id))
        own = (schema.reference for schema in builtin_schemas() if is_reserved(schema.schema_id))
        return tuple(sorted((*own, *theirs), key=lambda one: one.schema_id))

    def version(self, schema_id: str, version: str) -> Schema:
        """See the port."""
        if is_reserved(schema_id):
            own = self._own.find(schema_id)
            if own is None or own.version != version:
                raise no_version(schema_id, version)
            return own
        return self._schemas.version(schema_id, version)

    def refresh(self) -> None:
        """See what was published up to now at the next look."""
        self._schemas.refresh()

    # ---------------------------------------------------------------- entries

    def get(self, registry_id: RegistryId, entry_id: str, version: int | None = None) -> Entry:
        """See the port."""
        _require_possible(registry_id, entry_id, version)
        query: dict[str, str | int] = {"registryId": registry_id.value, "entryId": entry_id}
        if version is not None:
            query["version"] = version
        reply = self._client.get("registry/entry", query, limit=MAX_ENTRY)
        entry = self._entry(self._client.parse(Entry, reply), registry_id, entry_id)
        if entry.version != (entry.version if version is None else version):
            raise self._lies(f"asked for version {version} of {registry_id}/{entry_id}, it shows {entry.version}")
        return entry

    def glance(self, registry_id: RegistryId, entry_id: str) -> Glance | None:
        """See the port: whoever asks another instance has to wait."""
        raise Unavailable(f"{registry_id}/{entry_id} is kept by another instance", remedy="read it in a thread")

    def history(
        self, registry_id: RegistryId, entry_id: str, *, before: int | None = None, limit: int = MAX_PAGE
    ) -> tuple[EntrySummary, ...]:
        """See the port."""
        _require_possible(registry_id, entry_id, None)
        query: dict[str, str | int] = {"registryId": registry_id.value, "entryId": entry_id, "limit": limit}
        if before is not None:
            query["before"] = before
        reply = self._client.get("registry/history", query, limit=MAX_ENTRIES)
        versions = self._client.parse(HistoryAnswer, reply).versions
        numbers = [one.version for one in versions]
        below = MAX_VERSION + 1 if before is None else before
        if (
            any((one.registry_id, one.entry_id) != (registry_id, entry_id) for one in versions)
            or len(numbers) > limit
            or any(later <= earlier for later, earlier in zip([below, *numbers], numbers, strict=False))
        ):
            raise self._lies(f"the versions of {registry_id}/{entry_id} that it shows are not those that it was asked")
        return versions

    def diff(self, registry_id: RegistryId, entry_id: str, old: int, new: int) -> EntryDiff:
        """See the port."""
        for version in (old, new):
            _require_possible(registry_id, entry_id, version)
        query: dict[str, str | int] = {
            "registryId": registry_id.value,
            "entryId": entry_id,
            "old": old,
            "new": new,
        }
        found = self._client.parse(EntryDiff, self._client.get("registry/diff", query, limit=MAX_DIFF))
        if (found.registry_id, found.entry_id, found.old, found.new) != (registry_id, entry_id, old, new):
            raise self._lies(f"it compares something else than versions {old} and {new} of {registry_id}/{entry_id}")
        return found

    def search(self, query: EntryQuery) -> EntryPage:
        """See the port."""
        asked = query.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        page = self._client.parse(EntryPage, self._client.get("registry/entries", asked, limit=MAX_ENTRIES))
        if len(page.entries) > query.limit or not all(_is_selected(one, query) for one in page.entries):
            raise self._lies("it shows other entries than those that it was asked for")
        return page

    # ---------------------------------------------------------------- changes

    @contextmanager
    def change(self, asked: EntryUpdate | StatusUpdate, origin: Origin) -> Iterator[Plan]:
        """See the port. It is made before the block, which only records it."""
        entry = self._made(asked, origin)
        planned = PlannedChange(
            step=f"registry/{entry.registry_id}/{entry.entry_id}/{entry.version}",
            inputs={
                "registryId": entry.registry_id.value,
                "entryId": entry.entry_id,
                "version": entry.version,
                "status": entry.status.value,
                "digest": entry.digest,
            },
            data=self._record(entry),
            apply=lambda _connection, _ledger_entry: entry,
        )
        yield lambda _connection: planned
        if asked.registry_id is RegistryId.SCHEMAS:
            self.refresh()

    def _made(self, asked: EntryUpdate | StatusUpdate, origin: Origin) -> Entry:
        headers = {"Idempotency-Key": self._key(origin)}
        if asked.expected == 0:
            headers["If-None-Match"] = "*"
        elif asked.expected is not None:
            headers["If-Match"] = f'"{asked.expected}"'
        endpoint = "registry/update" if isinstance(asked, EntryUpdate) else "registry/status"
        reply = self._client.post(endpoint, _body(asked), headers, limit=MAX_ENTRY)
        if reply.status == 202:
            waits = self._client.parse(_Accepted, reply)
            raise Unavailable(
                f"the run {waits.workflow_id} of the registry at {self.url} has not made the change yet"
                + (f": it is {waits.phase}" if waits.phase else ""),
                remedy="whoever runs that instance sees why; it is asked again for the same change",
                retry_after=2.0,
            )
        entry = self._entry(self._client.parse(Entry, reply), asked.registry_id, asked.entry_id)
        wanted = {name: value for name, value in _wanted(asked).items() if value is not None}
        answered = {name: getattr(entry, name) for name in wanted}
        if answered != wanted or not entry.version or entry.workflow_id is None or entry.ledger_entry is None:
            raise self._lies(f"it answers a change of {asked.registry_id}/{asked.entry_id} with another one")
        return entry

    def _key(self, origin: Origin) -> str:
        """One key for all tries of a run. No token is part of it: another token must not make another change."""
        return "coafi-" + sha256(f"{self._namespace}\n{origin.workflow_id}".encode())

    def _record(self, entry: Entry) -> JsonObject:
        """What the ledger here says of a change there."""
        said = entry.summary().model_dump(
            mode="json",
            by_alias=True,
            exclude_none=True,
            exclude={"created", "changed", "workflow_id", "ledger_entry", "checked_with"},
        )
        if not entry.reason:
            del said["reason"]
        if entry.checked_with is not None:
            said["schema"] = entry.checked_with.model_dump(by_alias=True)
        said["registry"] = {
            "url": self.url,
            "workflowId": entry.workflow_id,
            "ledgerEntry": entry.ledger_entry,
            "changed": entry.changed,
        }
        return said

    def _entry(self, entry: Entry, registry_id: RegistryId, entry_id: str) -> Entry:
        """An entry that was shown, if it is the one that was asked for, and one that could have been made."""
        if (entry.registry_id, entry.entry_id) != (registry_id, entry_id):
            raise self._lies(f"asked for {registry_id}/{entry_id}, it shows {entry.registry_id}/{entry.entry_id}")
        try:
            _Bounded.model_validate(dict(entry))
            EntryUpdate.parse(
                {
                    "registryId": entry.registry_id,
                    "entryId": entry.entry_id,
                    "class": entry.entry_class,
                    "owner": entry.owner,
                    "tags": list(entry.tags),
                    "reason": entry.reason,
                    "data": entry.data,
                }
            )
            digest = digest_of(entry.data)
        except (Refused, pydantic.ValidationError) as error:
            raise self._lies(f"its entry {registry_id}/{entry_id} is none: {error}") from error
        if entry.digest != digest:
            raise self._lies(f"the data of {registry_id}/{entry_id} has the digest {digest}, and not {entry.digest}")
        return entry

    def _lies(self, problem: str) -> IntegrityError:
        return IntegrityError(f"the registry at {self.url} cannot be trusted: {problem}", remedy=_DISTRUST)


class _Accepted(pydantic.BaseModel):
    """What is said of a change that waits."""

    workflow_id: str = Field(alias="workflowId", max_length=2_000)
    phase: str | None = Field(default=None, max_length=100)


class _Bounded(pydantic.BaseModel):
    """What an entry says of where it came from, within the limits of a ledger entry."""

    utids: Annotated[str, Field(max_length=40)]
    by: Annotated[str, Field(max_length=200)]
    created: Annotated[str, Field(max_length=32)]
    changed: Annotated[str, Field(max_length=32)]
    workflow_id: Annotated[str, Field(max_length=2_000)] | None


def _body(asked: EntryUpdate | StatusUpdate) -> JsonObject:
    """What is asked for; what is not said is left out."""
    said = asked.model_dump(mode="json", by_alias=True, exclude={"expected"}, exclude_defaults=True)
    if isinstance(asked, EntryUpdate):
        said["data"] = asked.data
    return said


def _wanted(asked: EntryUpdate | StatusUpdate) -> dict[str, object]:
    """What the new version must be like."""
    version = None if asked.expected is None else asked.expected + 1
    if isinstance(asked, StatusUpdate):
        return {"status": asked.status, "version": version, "reason": asked.reason}
    return {
        "status": EntryStatus.SUBMISSION,
        "version": version,
        "digest": digest_of(asked.data),
        "entry_class": asked.entry_class,
        "owner": asked.owner,
        "tags": asked.tags,
        "reason": asked.reason,
    }


def _require_possible(registry_id: RegistryId, entry_id: str, version: int | None) -> None:
    """Refuse here what cannot be there, as the tables would: the other side would say that the request is wrong."""
    if ENTRY_ID.fullmatch(entry_id) is None or (version is not None and not 0 <= version <= MAX_VERSION):
        raise no_entry(registry_id, entry_id, version)


def _is_selected(entry: EntrySummary, query: EntryQuery) -> bool:
    """Whether an entry is like all that is said, as far as its summary tells."""
    return (
        query.registry_id in (None, entry.registry_id)
        and query.status in (None, entry.status)
        and query.entry_class in (None, entry.entry_class)
        and query.owner in (None, entry.owner)
        and set(query.tags) <= set(entry.tags)
    )
