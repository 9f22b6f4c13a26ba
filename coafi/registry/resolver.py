"""The resolver of UTidS: from an id to what it names, where that came from, and what the ledger has about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.deliveries import Delivery, DeliveryReader
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.ledger.entry import Recorded, entry_key
from coafi.ledger.port import Ledger
from coafi.names import CONCLUDE, EntryType
from coafi.ranges import Range, merge_ranges, ranges_of
from coafi.registry.entry import NAMES, Entry, RegistryId, RegistryWire
from coafi.registry.reader import EntryReader
from coafi.registry.tables import registry_version
from coafi.utids import PATTERN

MAX_ENTRIES = 1_000
"""Ledger entries that are looked up of an event that is still at work."""

_CONCLUDING = (EntryType.EVENT_PROCESSED, EntryType.EVENT_REJECTED, EntryType.EVENT_DEAD_LETTERED)


class Provenance(RegistryWire):
    """Where something came from.

    Attributes:
        source: as the event says it; empty for what the package ships.
        principal: whose key or token was verified.
        body_digest: SHA-256 of the request or delivery as it came in; ``None`` if it is not known.
        workflow_id: of the run that handled it.
        time: when it was received.
    """

    source: str
    principal: str
    body_digest: str | None
    workflow_id: str | None
    time: str


class Resolution(RegistryWire):
    """What a UTidS names.

    Attributes:
        utids: the id that was asked for; ``permanent`` is the one to remember, if there is one.
        kind: ``event``, or ``entry`` of a registry.
        names: an event by type, source, id and subject; an entry by registry and id; what an entry of ``UTIDS`` names.
        status: of an event its phase, ``open`` while it is at work; of an entry that of its newest version.
        entries: the ledger entries about it.
        complete: whether these are all of them that there will be; more follow on an event at work, and on entries.
    """

    utids: str
    permanent: str | None
    kind: Literal["event", "entry"]
    names: JsonObject
    status: str
    origin: Provenance
    entries: tuple[Range, ...]
    complete: bool


@dataclass(frozen=True)
class Resolver:
    """Resolves UTidS.

    Attributes:
        database: holds deliveries and entries.
        ledger: has what is recorded about them.
        namespace: part of every entry's key (``Settings.ledger_namespace``).
    """

    database: Database
    ledger: Ledger
    namespace: str

    def resolve(self, utids: str) -> Resolution:
        """What ``utids`` names.

        Raises:
            ValidationError: it is no UTidS.
            ResourceNotFoundError: it names nothing here.
            Unavailable: database or ledger are out of reach.
        """
        if PATTERN.fullmatch(utids) is None:
            raise ValidationError(
                "this is no UTidS", remedy="one is UTIDS-P- or UTIDS-T- and 26 digits of Crockford's Base32"
            )
        delivery = DeliveryReader(self.database).by_utids(utids)
        if delivery is not None:
            return self._event(utids, delivery)
        entry = EntryReader(self.database).by_utids(utids)
        if entry is not None:
            return self._entry(utids, entry)
        raise ResourceNotFoundError(
            f"{utids} names nothing here", remedy="ask the instance whose ledger or documents it comes from"
        )

    def _event(self, utids: str, delivery: Delivery) -> Resolution:
        received = self._recorded(delivery, "receive", EntryType.EVENT_RECEIVED)
        entries, complete = self._entries(delivery, received)
        permanent = delivery.utids if delivery.utids != delivery.temporary_utids else None
        return Resolution(
            utids=utids,
            permanent=permanent,
            kind="event",
            names={
                "type": delivery.event_type,
                "source": delivery.source,
                "id": delivery.delivery_id,
                "subject": delivery.subject,
            },
            status=delivery.outcome or "open",
            origin=Provenance(
                source=delivery.source,
                principal=str(received.data.get("principal", "")) if received else "",
                body_digest=delivery.body_digest,
                workflow_id=delivery.workflow_id,
                time=delivery.received_at,
            ),
            entries=entries,
            complete=complete,
        )

    def _entries(self, delivery: Delivery, received: Recorded | None) -> tuple[tuple[Range, ...], bool]:
        """The entries of an event. The last one names those before it, however many they are."""
        found = [Range(first=received.index, last=received.index)] if received else []
        if delivery.outcome is None:
            run = (self.namespace, delivery.workflow_id)
            recorded = self.ledger.by_event(delivery.delivery_id, limit=MAX_ENTRIES)
            own = (one for one in recorded if (one.entry.namespace, one.entry.workflow_id) == run)
            return merge_ranges([*found, *ranges_of(own)]), False
        for entry_type in _CONCLUDING:
            concluded = self._recorded(delivery, CONCLUDE, entry_type)
            if concluded is not None:
                found.append(Range(first=concluded.index, last=concluded.index))
                found.extend(_ranges(concluded))
        return merge_ranges(found), True

    def _recorded(self, delivery: Delivery, step: str, entry_type: EntryType) -> Recorded | None:
        index = self.ledger.index_of(entry_key(self.namespace, delivery.workflow_id, step, entry_type))
        return None if index is None else self.ledger.entry(index)

    def _entry(self, utids: str, entry: Entry) -> Resolution:
        table = registry_version.c
        query = (
            select(table.ledger_entry, table.by, table.workflow_id, table.changed)
            .where(table.registry_id == entry.registry_id.value, table.entry_id == entry.entry_id)
            .order_by(table.version)
        )
        with self.database.read() as connection:
            versions = connection.execute(query).all()
        names: JsonObject = {"registryId": entry.registry_id.value, "entryId": entry.entry_id, "version": entry.version}
        if entry.registry_id is RegistryId.UTIDS:
            names[NAMES] = entry.data.get(NAMES)
        return Resolution(
            utids=utids,
            permanent=entry.utids,
            kind="entry",
            names=names,
            status=entry.status.value,
            origin=self._made_by(versions[0].workflow_id, versions[0].by, versions[0].changed)
            if versions
            else Provenance(source="", principal=entry.by, body_digest=None, workflow_id=None, time=""),
            entries=merge_ranges(Range(first=row.ledger_entry, last=row.ledger_entry) for row in versions),
            complete=False,
        )

    def _made_by(self, workflow_id: str, principal: str, time: str) -> Provenance:
        """Where the first version of an entry came from: the request of the run that made it."""
        delivery = DeliveryReader(self.database).by_workflow_id(workflow_id)
        return Provenance(
            source=delivery.source if delivery else "",
            principal=principal,
            body_digest=delivery.body_digest if delivery else None,
            workflow_id=workflow_id,
            time=delivery.received_at if delivery else time,
        )


def _ranges(concluded: Recorded) -> Iterable[Range]:
    said = concluded.data.get("entries")
    for one in said if isinstance(said, list) else ():
        yield Range.model_validate(one)
