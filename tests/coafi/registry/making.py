"""A registry on a real database and ledger, changed as a run does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.ledger.entry import Draft
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger as LocalLedger
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.names import EntryType
from coafi.registry.changes import Origin, Planned, apply, check_update, plan_status, plan_update
from coafi.registry.entry import Entry, EntryStatus, EntryUpdate, RegistryId, StatusUpdate
from coafi.registry.reader import EntryReader
from coafi.registry.reserving import reserved
from coafi.registry.store import PublishedSchemas, builtin_schemas
from tests.postgresql import where

TIME = datetime(2026, 11, 27, 8, 0, 0, 250_000, tzinfo=UTC)
ONWARD = (EntryStatus.REVIEW, EntryStatus.APPROVAL, EntryStatus.INTEGRATION)


@dataclass
class Registers:
    """What entries are changed and read with; every change is a run of its own unless one is named."""

    database: Database
    ledger: Ledger
    schemas: PublishedSchemas
    runs: list[str] = field(default_factory=list)
    namespace: str = "default"

    @property
    def reader(self) -> EntryReader:
        """What reads the entries."""
        return EntryReader(self.database)

    def origin(self, run: str | None = None, principal: str = "key:ci") -> Origin:
        """A run of a request."""
        self.runs.append(run or f"run-{len(self.runs)}")
        return Origin(principal=principal, workflow_id=self.runs[-1], event_id=self.runs[-1], time=TIME)

    def change(self, asked: EntryUpdate | StatusUpdate, *, run: str | None = None, principal: str = "key:ci") -> Entry:
        """Check, plan, record and apply, in the order in which a run does."""
        origin = self.origin(run, principal)
        checked = check_update(asked, self.schemas) if isinstance(asked, EntryUpdate) else None

        def unit(transaction: LedgerTransaction) -> Entry:
            if checked is not None:
                planned = plan_update(transaction.connection, checked, origin)
            else:
                assert isinstance(asked, StatusUpdate)
                planned = plan_status(transaction.connection, asked, origin)
            (recorded,) = transaction.append([draft(planned, origin, self.namespace)])
            return apply(transaction.connection, planned, recorded.index)

        with reserved(self.ledger, self.database, asked, origin):
            entry = self.ledger.transact(unit)
        self.schemas.refresh()
        return entry

    def put(self, entry_id: str, data: JsonObject, *, registry: str = "AERO", **more: Any) -> Entry:
        """Update an entry."""
        run, expected = more.pop("run", None), more.pop("expected", None)
        document = {"registryId": registry, "entryId": entry_id, "data": data, **more}
        return self.change(EntryUpdate.parse(document, expected), run=run)

    def move(self, entry_id: str, status: str, *, registry: str = "AERO", **more: Any) -> Entry:
        """Change an entry's status."""
        run, expected = more.pop("run", None), more.pop("expected", None)
        document = {"registryId": registry, "entryId": entry_id, "status": status, **more}
        return self.change(StatusUpdate.parse(document, expected), run=run)

    def integrate(self, entry_id: str, data: JsonObject, *, registry: str = "AERO") -> Entry:
        """Update an entry and lead it to its integration."""
        self.put(entry_id, data, registry=registry)
        for status in ONWARD:
            entry = self.move(entry_id, status, registry=registry)
        return entry

    def publish(self, schema_id: str, version: str, **document: Any) -> Entry:
        """Integrate a schema."""
        return self.integrate(schema_id, schema(schema_id, version, **document), registry="schemas")

    def get(self, entry_id: str, registry: str = "AERO", version: int | None = None) -> Entry:
        """Read an entry."""
        return self.reader.get(RegistryId(registry), entry_id, version)


def schema(schema_id: str, version: str = "1.0.0", **document: Any) -> JsonObject:
    """A JSON Schema as an entry's data."""
    return {"$id": f"urn:coafi:schema:{schema_id}:{version}", **document}


def draft(planned: Planned, origin: Origin, namespace: str = "default") -> Draft:
    """The ledger entry of a change."""
    return Draft(
        namespace=namespace,
        workflow_id=origin.workflow_id,
        step=planned.step,
        type=EntryType.REGISTRY_ENTRY_CHANGED,
        event_id=origin.event_id,
        utids=str(planned.values["utids"]),
        inputs=planned.inputs,
        data=planned.data,
    )


@contextmanager
def registers(home: Path) -> Iterator[Registers]:
    """Registries without entries but what the package ships."""
    database = Database(where(home))
    database.create_tables()
    schemas = PublishedSchemas(database)
    schemas.publish(builtin_schemas())
    ledger = LocalLedger(database, origin="test", signer=Signer("test", bytes(32)), state_directory=home / "ledger")
    try:
        yield Registers(database, ledger, schemas)
    finally:
        ledger.close()
        database.close()
