"""The registry that is kept in this instance's own database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from coafi.database import Database
from coafi.errors import Unavailable
from coafi.ledger.port import Ledger
from coafi.registry.changes import Origin, Planned, apply, check_update, plan_status, plan_update
from coafi.registry.entry import Entry, EntrySummary, EntryUpdate, RegistryId, StatusUpdate
from coafi.registry.port import Plan, PlannedChange
from coafi.registry.reader import MAX_PAGE, EntryDiff, EntryPage, EntryQuery, EntryReader, Glance
from coafi.registry.reserving import reserved
from coafi.registry.store import PublishedSchemas


class LocalRegistry(PublishedSchemas):
    """Schemas and entries of a database, and changes that commit with their ledger entries; see the port.

    Args:
        database: where they are kept.
        ledger: where their changes are recorded.
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        super().__init__(database)
        self._ledger = ledger
        self._reader = EntryReader(database)

    @property
    def is_remote(self) -> bool:
        """It is here."""
        return False

    def get(self, registry_id: RegistryId, entry_id: str, version: int | None = None) -> Entry:
        """See the port."""
        return self._reader.get(registry_id, entry_id, version)

    def glance(self, registry_id: RegistryId, entry_id: str) -> Glance | None:
        """See the port."""
        return self._reader.glance(registry_id, entry_id)

    def history(
        self, registry_id: RegistryId, entry_id: str, *, before: int | None = None, limit: int = MAX_PAGE
    ) -> tuple[EntrySummary, ...]:
        """See the port."""
        return self._reader.history(registry_id, entry_id, before=before, limit=limit)

    def diff(self, registry_id: RegistryId, entry_id: str, old: int, new: int) -> EntryDiff:
        """See the port."""
        return self._reader.diff(registry_id, entry_id, old, new)

    def search(self, query: EntryQuery) -> EntryPage:
        """See the port."""
        return self._reader.search(query)

    @contextmanager
    def change(self, asked: EntryUpdate | StatusUpdate, origin: Origin) -> Iterator[Plan]:
        """See the port. What is slow is checked before the block, in which everybody waits for the ledger."""
        plan: Callable[[Connection], Planned]
        if isinstance(asked, EntryUpdate):
            checked = check_update(asked, self)
            plan = lambda connection: plan_update(connection, checked, origin)  # noqa: E731
        else:
            status = asked
            plan = lambda connection: plan_status(connection, status, origin)  # noqa: E731
        try:
            with reserved(self._ledger, self._database, asked, origin):
                yield lambda connection: _recordable(plan(connection))
        except Unavailable:
            self.refresh()  # a schema may have been published after the check: the next try is to know it
            raise
        if asked.registry_id is RegistryId.SCHEMAS:
            self.refresh()  # others see it within a second, this process at once


def _recordable(planned: Planned) -> PlannedChange:
    return PlannedChange(
        # The version is part of the key: where the ledger is elsewhere, its entry may be recorded, and the version
        # then be that of somebody who was quicker.
        step=f"{planned.step}/{planned.inputs['version']}",
        inputs=planned.inputs,
        data=planned.data,
        apply=lambda connection, ledger_entry: apply(connection, planned, ledger_entry),
    )
