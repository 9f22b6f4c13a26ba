"""An entry is one run's alone while a remote ledger records its change.

Where the ledger is another instance's, the entry is recorded before the row is written (decision 0015). Another run
that made the version in between would leave an entry about a change that never was. So whoever changes an entry then
reserves it first, in a transaction of its own; where entry and row are one transaction nothing is done.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, delete, select, update

from coafi.database import Database
from coafi.database.statements import insert_missing
from coafi.errors import Refused, Unavailable
from coafi.ledger.port import Ledger
from coafi.registry.changes import Origin
from coafi.registry.entry import EntryUpdate, StatusUpdate
from coafi.registry.tables import registry_reservation

RESERVED_SECONDS = 600
"""How long a run that has gone keeps others from an entry."""


@contextmanager
def reserved(
    ledger: Ledger,
    database: Database,
    asked: EntryUpdate | StatusUpdate,
    origin: Origin,
    clock: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Keep an entry for one run while the block records its change.

    It stays reserved when the block ends in an outage, for the same run to try again.

    Raises:
        Unavailable: another run is changing the entry; or the database is out of reach.
    """
    if ledger.atomic:
        yield
        return
    _reserve(database, asked, origin, int(clock()))
    try:
        yield
    except Refused:
        _free(database, asked, origin)
        raise
    _free(database, asked, origin)


def _reserve(database: Database, asked: EntryUpdate | StatusUpdate, origin: Origin, now: int) -> None:
    key = {"registry_id": asked.registry_id.value, "entry_id": asked.entry_id}
    own = {"workflow_id": origin.workflow_id, "since": now}
    with database.write() as connection:
        insert_missing(connection, registry_reservation, [{**key, **own}])
        query = select(registry_reservation).where(_of(asked)).with_for_update()
        found = connection.execute(query).one_or_none()
        if found is None or (found.workflow_id != origin.workflow_id and found.since > now - RESERVED_SECONDS):
            by = found.workflow_id if found is not None else "another run"  # which has just ended
            raise Unavailable(
                f"{asked.registry_id}/{asked.entry_id} is being changed by {by}",
                remedy="try again when that is done",
                retry_after=1.0,
            )
        connection.execute(update(registry_reservation).where(_of(asked)).values(own))


def _free(database: Database, asked: EntryUpdate | StatusUpdate, origin: Origin) -> None:
    with database.write() as connection:
        connection.execute(
            delete(registry_reservation).where(_of(asked), registry_reservation.c.workflow_id == origin.workflow_id)
        )


def _of(asked: EntryUpdate | StatusUpdate) -> ColumnElement[bool]:
    table = registry_reservation.c
    return (table.registry_id == asked.registry_id.value) & (table.entry_id == asked.entry_id)
