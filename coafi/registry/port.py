"""What the service needs of the registry, wherever it is kept: in this database, or by another instance."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from coafi.canonical import JsonObject
from coafi.registry.changes import Origin
from coafi.registry.entry import Entry, EntrySummary, EntryUpdate, RegistryId, StatusUpdate
from coafi.registry.reader import MAX_PAGE, EntryDiff, EntryPage, EntryQuery, Glance
from coafi.registry.validation import CheckedSchema, Schema, SchemaLookup


class Schemas(SchemaLookup, Protocol):
    """The published schemas, for those who validate with them. Any number of threads may use it."""

    def find(self, schema_id: str) -> Schema | None:
        """The newest published version of a schema, or ``None``; what others publish is seen after about a second.

        Raises:
            Unavailable: it cannot be told now.
        """
        ...

    def schema(self, schema_id: str) -> Schema:
        """The newest published version of a schema.

        Raises:
            ResourceNotFoundError: there is no such schema.
            Unavailable: it cannot be told now.
        """
        ...

    def refresh(self) -> None:
        """See what was published up to now at the next look."""
        ...


@dataclass(frozen=True)
class PlannedChange:
    """A new version of an entry: what the ledger shall say of it, and what makes it.

    Attributes:
        step: the step of the run that the ledger entry names.
        inputs: what the ledger entry's request digest is made from.
        data: what the ledger entry says.
        apply: writes the rows, given the ledger entry's index; gives the new version.
    """

    step: str
    inputs: JsonObject
    data: JsonObject
    apply: Callable[[Connection, int], Entry]


Plan = Callable[[Connection], PlannedChange]
"""Decides on a change, from what the database holds now. A unit of the ledger calls it; it may do so several times.

Raises:
    Refused: the change cannot be made.
"""


class Registry(Schemas, Protocol):
    """Schemas, entries of every registry, and changes of them."""

    @property
    def is_remote(self) -> bool:
        """Whether another instance keeps it: whoever uses it may have to wait for that one."""
        ...

    def published(self) -> tuple[CheckedSchema, ...]:
        """The newest version of every published schema, by id.

        Raises:
            Unavailable: it cannot be told now.
        """
        ...

    def version(self, schema_id: str, version: str) -> Schema:
        """A published version of a schema, the newest or one before: what a verdict says it was held against.

        Raises:
            ResourceNotFoundError: there is no such version.
            Unavailable: the registry is out of reach.
        """
        ...

    def get(self, registry_id: RegistryId, entry_id: str, version: int | None = None) -> Entry:
        """An entry in its newest version, or in another one.

        Raises:
            ResourceNotFoundError: there is none.
            Unavailable: the registry is out of reach.
        """
        ...

    def glance(self, registry_id: RegistryId, entry_id: str) -> Glance | None:
        """An entry in its newest version, if the database can tell at once: for an event loop, which must not wait.

        ``None`` says only that it has none; :meth:`get` knows the schemas of the package too.

        Raises:
            Unavailable: it cannot tell at once, as where another instance keeps the registry.
        """
        ...

    def history(
        self, registry_id: RegistryId, entry_id: str, *, before: int | None = None, limit: int = MAX_PAGE
    ) -> tuple[EntrySummary, ...]:
        """The versions of an entry, the newest first.

        Args:
            before: only versions before this one.
            limit: 1 to ``MAX_PAGE``.

        Raises:
            ResourceNotFoundError: there is no such entry.
            Unavailable: the registry is out of reach.
        """
        ...

    def diff(self, registry_id: RegistryId, entry_id: str, old: int, new: int) -> EntryDiff:
        """What changed from one version of an entry to another.

        Raises:
            ResourceNotFoundError: there is no such entry, or no such version of it.
            Unavailable: the registry is out of reach.
        """
        ...

    def search(self, query: EntryQuery) -> EntryPage:
        """The entries that a query selects, a page of them.

        Raises:
            ValidationError: the cursor is none of this registry's, or there are too many words.
            Unavailable: the registry is out of reach.
        """
        ...

    def change(self, asked: EntryUpdate | StatusUpdate, origin: Origin) -> AbstractContextManager[Plan]:
        """Make a change: in the block, a unit of the ledger calls the plan, appends what it says, and applies it.

        What takes long comes before the block. The same run may do it again, and gets the version that it has made.

        Raises:
            Refused: the change cannot be made; the findings say why.
            Unavailable: something is out of reach.
        """
        ...
