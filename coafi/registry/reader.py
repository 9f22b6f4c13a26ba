"""Reads the registry: one entry, its versions, what changed between two, and those that a query selects."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from sqlalchemy import ColumnElement, Connection, and_, func, select, tuple_

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.errors import ValidationError
from coafi.registry.changes import no_entry
from coafi.registry.difference import difference
from coafi.registry.entry import (
    ENTRY_ID,
    MAX_VERSION,
    Entry,
    EntryClass,
    EntryStatus,
    EntrySummary,
    Owner,
    RegistryId,
    RegistryWire,
    Tag,
    etag_of,
)
from coafi.registry.rows import COLUMNS, DATA, entry_of, summary_of, wire_of
from coafi.registry.search import MAX_ASKED, asked, words
from coafi.registry.shipped import shipped_entries
from coafi.registry.tables import registry_entry, registry_tag, registry_version

MAX_PAGE = 200
"""Entries, or versions, of one page."""

_NAMES = ", ".join(f'v."{column.name}"' for column in (*COLUMNS, DATA))
_NEWEST = (
    f"SELECT {_NAMES} FROM registry_entry AS e JOIN registry_version AS v"  # noqa: S608  # constants
    " ON v.registry_id = e.registry_id AND v.entry_id = e.entry_id AND v.version = e.version"
    " WHERE e.registry_id = {mark} AND e.entry_id = {mark}"
)


_VERSION = [column.key for column in COLUMNS].index("version")


class Glance(NamedTuple):
    """A version of an entry, as JSON, and its entity tag."""

    etag: str
    entry: bytes


class EntryQuery(RegistryWire):
    """Which entries are wanted: those that are like all that is said.

    Attributes:
        tags: tags that an entry must have, all of them.
        text: words that must occur in its id, owner, tags or data; without regard to case.
        cursor: ``EntryPage.cursor`` of the page before.
    """

    registry_id: RegistryId | None = None
    status: EntryStatus | None = None
    entry_class: EntryClass | None = Field(default=None, alias="class")
    owner: Owner | None = None
    tags: Annotated[tuple[Tag, ...], Field(max_length=10)] = ()
    text: str = Field(default="", max_length=200)
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(default=None, max_length=600)


class EntryPage(RegistryWire):
    """Some entries, by registry and id, as their newest versions are; ``cursor`` leads on, where there are more."""

    entries: tuple[EntrySummary, ...]
    cursor: str | None = None


class EntryDiff(RegistryWire):
    """What changed from one version to another, as a JSON Patch (RFC 6902) of ``EntryReader.comparable``."""

    registry_id: RegistryId
    entry_id: str
    old: int
    new: int
    patch: tuple[JsonObject, ...]


@dataclass(frozen=True)
class EntryReader:
    """Reads entries; needs nothing but the database."""

    database: Database

    def get(self, registry_id: RegistryId, entry_id: str, version: int | None = None) -> Entry:
        """An entry in its newest version, or in another one.

        Raises:
            ResourceNotFoundError: there is none.
            Unavailable: the database is out of reach.
        """
        with self.database.read() as connection:
            found = _get(connection, registry_id, entry_id, version)
        if found is None:
            raise no_entry(registry_id, entry_id, version)
        return found

    def glance(self, registry_id: RegistryId, entry_id: str) -> Glance | None:
        """An entry in its newest version, if that can be told at once; see :meth:`Database.glance`.

        Raises:
            Unavailable: it cannot.
        """
        if ENTRY_ID.fullmatch(entry_id) is None:
            return None
        rows = self.database.glance(_NEWEST.format(mark="?"), (registry_id.value, entry_id))
        return Glance(etag_of(rows[0][_VERSION]), wire_of(rows[0])) if rows else None

    def by_utids(self, utids: str) -> Entry | None:
        """The entry with this UTidS, in its newest version."""
        for shipped in shipped_entries().values():
            if shipped.utids == utids:
                return self.get(shipped.registry_id, shipped.entry_id)
        query = select(registry_entry.c.registry_id, registry_entry.c.entry_id).where(registry_entry.c.utids == utids)
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _get(connection, RegistryId(row.registry_id), row.entry_id, None)

    def history(
        self, registry_id: RegistryId, entry_id: str, *, before: int | None = None, limit: int = MAX_PAGE
    ) -> tuple[EntrySummary, ...]:
        """The versions of an entry, the newest first.

        Args:
            before: only versions before this one.

        Raises:
            ResourceNotFoundError: there is no such entry.
        """
        table = registry_version.c
        query = (
            select(*COLUMNS)
            .where(table.registry_id == registry_id.value, table.entry_id == entry_id)
            .order_by(table.version.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(table.version < before)
        with self.database.read() as connection:
            possible = ENTRY_ID.fullmatch(entry_id) is not None  # a database may refuse to look for another
            found = [summary_of(row) for row in connection.execute(query)] if possible else []
            shipped = _shipped(registry_id, entry_id)
            if shipped is not None and len(found) < limit and before != 0:
                found.append(shipped.summary())
            if not found and _get(connection, registry_id, entry_id, None) is None:
                raise no_entry(registry_id, entry_id)
        return tuple(found)

    def diff(self, registry_id: RegistryId, entry_id: str, old: int, new: int) -> EntryDiff:
        """What changed from one version of an entry to another.

        Raises:
            ResourceNotFoundError: there is no such entry, or no such version of it.
        """
        before, after = (comparable(self.get(registry_id, entry_id, version)) for version in (old, new))
        return EntryDiff(registry_id=registry_id, entry_id=entry_id, old=old, new=new, patch=difference(before, after))

    def search(self, query: EntryQuery) -> EntryPage:
        """The entries that a query selects, a page of them.

        Raises:
            ValidationError: the cursor is none of ours, or there are too many words.
        """
        wanted = asked(query.text)
        if len(wanted) > MAX_ASKED:
            raise ValidationError(f"more than {MAX_ASKED} words are searched", remedy="search for fewer")
        after = _place(query.cursor) if query.cursor is not None else None
        with self.database.read() as connection:
            found = [*self._rows(connection, query, wanted, after), *_shipped_page(connection, query, wanted, after)]
        found.sort(key=lambda one: (one.registry_id.value, one.entry_id))
        page = tuple(found[: query.limit])
        return EntryPage(entries=page, cursor=_cursor(page[-1]) if len(found) > query.limit else None)

    def _rows(
        self, connection: Connection, query: EntryQuery, wanted: tuple[str, ...], after: tuple[str, str] | None
    ) -> list[EntrySummary]:
        head, version = registry_entry.c, registry_version.c
        conditions: list[ColumnElement[bool]] = [
            getattr(head, name) == value
            for name, value in (
                ("registry_id", query.registry_id),
                ("status", query.status),
                ("entry_class", query.entry_class),
                ("owner", query.owner),
            )
            if value is not None
        ]
        position = func.strpos if connection.dialect.name == "postgresql" else func.instr
        conditions += [position(head.words, word) > 0 for word in wanted]
        for tag in query.tags:
            tagged = select(registry_tag.c.tag).where(
                registry_tag.c.tag == tag,
                registry_tag.c.registry_id == head.registry_id,
                registry_tag.c.entry_id == head.entry_id,
            )
            conditions.append(tagged.exists())
        if after is not None:
            conditions.append(tuple_(head.registry_id, head.entry_id) > after)
        same = and_(
            version.registry_id == head.registry_id, version.entry_id == head.entry_id, version.version == head.version
        )
        statement = (
            select(*COLUMNS)
            .select_from(registry_entry.join(registry_version, same))
            .where(*conditions)
            .order_by(head.registry_id, head.entry_id)
            .limit(query.limit + 1)
        )
        return [summary_of(row) for row in connection.execute(statement)]


def comparable(entry: Entry) -> JsonObject:
    """What two versions of an entry are compared in: everything that a request can change."""
    return {
        "status": entry.status.value,
        "class": entry.entry_class.value,
        "owner": entry.owner,
        "tags": list(entry.tags),
        "data": entry.data,
    }


def _get(connection: Connection, registry_id: RegistryId, entry_id: str, version: int | None) -> Entry | None:
    if ENTRY_ID.fullmatch(entry_id) is None or (version is not None and not 0 <= version <= MAX_VERSION):
        return None  # a database may refuse to look for it
    if version is None:
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        row: Any = connection.exec_driver_sql(_NEWEST.format(mark=mark), (registry_id.value, entry_id)).first()
    else:
        table = registry_version.c
        query = select(*COLUMNS, DATA).where(
            table.registry_id == registry_id.value, table.entry_id == entry_id, table.version == version
        )
        row = connection.execute(query).first()
    if row is not None:
        return entry_of(row)
    return _shipped(registry_id, entry_id) if not version else None


def _shipped(registry_id: RegistryId, entry_id: str) -> Entry | None:
    return shipped_entries().get(entry_id) if registry_id is RegistryId.SCHEMAS else None


def _shipped_page(
    connection: Connection, query: EntryQuery, wanted: tuple[str, ...], after: tuple[str, str] | None
) -> list[EntrySummary]:
    """The schemas of the package that a query selects, without those that have a version of their own."""
    if query.registry_id not in (None, RegistryId.SCHEMAS):
        return []
    table = registry_entry.c
    own = set(
        connection.scalars(
            select(table.entry_id).where(
                table.registry_id == RegistryId.SCHEMAS.value, table.entry_id.in_(shipped_entries())
            )
        )
    )
    return [
        entry.summary()
        for entry in shipped_entries().values()
        if entry.entry_id not in own
        and (after is None or (entry.registry_id.value, entry.entry_id) > after)
        and query.status in (None, entry.status)
        and query.entry_class in (None, entry.entry_class)
        and query.owner in (None, entry.owner)
        and set(query.tags) <= set(entry.tags)
        and _has(entry, wanted)
    ]


def _has(entry: Entry, wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return True
    own = words(entry.entry_id, entry.owner, entry.tags, entry.data)
    return all(word in own for word in wanted)


def _cursor(last: EntrySummary) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.registry_id.value, last.entry_id]).encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[str, str]:
    """Behind which entry a page begins."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        registry_id, entry_id = place
        if ENTRY_ID.fullmatch(entry_id):
            return RegistryId(registry_id).value, entry_id
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise ValidationError("the cursor is none that this service gave out", remedy="begin without one")
