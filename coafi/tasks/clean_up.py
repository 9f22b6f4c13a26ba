"""``clean-up``: caches and stores, by age and size. What anything still needs stays.

An object goes only if it is old and *nothing* names it: no entry of the ledger, no row of the database, no history of a
run that is open, and no object that one of these names, and so on. Whatever looks like a digest counts as one, in
whatever bytes it stands. What a damaged object named nobody knows, so while one that is needed is damaged no object
goes. Writing an object again, or finding it there, makes it young (:mod:`coafi.objects`), so what
is about to be named is not removed under somebody's hands.

Ledger entries, deliveries, registries and stored answers are no caches: they are kept.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import Field
from sqlalchemy import Table, delete, func, select

from coafi.artifacts.cache import artifact_cache
from coafi.artifacts.model import GENERATOR_VERSION
from coafi.database import Database, metadata
from coafi.errors import IntegrityError
from coafi.git.mirror import MirrorStore
from coafi.ledger.port import Ledger
from coafi.names import TaskName
from coafi.objects import ObjectStore, StoredObject
from coafi.registry.reserving import RESERVED_SECONDS
from coafi.registry.tables import registry_reservation
from coafi.tasks.history import History
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of

DAY = 86_400.0

LEAST_AGE = 7 * DAY
"""Seconds: nobody can ask for younger objects to be removed."""

SHOWN = 100
"""Objects that a result names."""

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_ROWS = 1_000
_LEDGER_TABLES = ("ledger_head", "ledger_entry", "ledger_tile", "ledger_checkpoint", "alembic_version")


class CleanUpParameters(TaskModel):
    """What is asked for.

    Attributes:
        dry_run: only say what would go.
        objects_age: seconds; younger objects stay.
        objects_bytes: objects go, the oldest first, until the store is as small as that; by default all that may go.
        mirrors_age: seconds; mirrors that nobody used for longer go. All together are kept within their quota anyway.
        old_artifacts: whether the cache forgets what older versions of the generator made.
    """

    dry_run: bool = False
    objects_age: float = Field(default=30 * DAY, ge=LEAST_AGE)
    objects_bytes: int = Field(default=0, ge=0)
    mirrors_age: float = Field(default=90 * DAY, ge=DAY)
    old_artifacts: bool = True


class CleanUpResult(TaskResult):
    """What went, or would go.

    Attributes:
        objects: the first ``SHOWN`` of the objects.
        mirrors: their names.
    """

    dry_run: bool
    objects: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True)
class CleanUp:
    """Cleans up."""

    name: ClassVar[TaskName] = TaskName.CLEAN_UP
    parameters: ClassVar[type[TaskModel]] = CleanUpParameters

    database: Database
    objects: ObjectStore
    ledger: Ledger
    history: History
    mirrors: MirrorStore
    now: Callable[[], float] = field(default=time.time)

    def run(self, job: Job) -> CleanUpResult:
        """Remove what nothing needs."""
        asked = parameters_of(CleanUpParameters, job)
        cached = self._old_artifacts(dry_run=asked.dry_run) if asked.old_artifacts else 0
        reserved = self._reservations(dry_run=asked.dry_run)
        mirrors = self.mirrors.evict(older_than=asked.mirrors_age, dry_run=asked.dry_run)
        total, going, damaged = self.removable(asked, job.beat)
        gone: list[StoredObject] = []
        for number, one in enumerate(going):
            if number % 100 == 0:
                job.beat(f"removing {number:,} of {len(going):,} objects")
            if asked.dry_run or self.objects.remove(one.digest, older_than=self.now() - asked.objects_age):
                gone.append(one)
        size = sum(one.size for one in gone)
        counts = {
            "objects": len(gone),
            "bytes": size,
            "kept": total - len(gone),
            "mirrors": len(mirrors),
            "cached": cached,
            "reservations": reserved,
        }
        would = "would remove" if asked.dry_run else "removed"
        return CleanUpResult(
            summary=f"{would} {len(gone):,} of {total:,} objects ({size:,} bytes), {len(mirrors)} mirrors",
            counts={name: count for name, count in counts.items() if count},
            dry_run=asked.dry_run,
            objects=tuple(one.digest for one in gone[:SHOWN]),
            mirrors=tuple(mirrors[:SHOWN]),
            alarms=tuple(
                f"the object {digest} is damaged, and what it names is not known: no object was removed; restore it"
                " from a backup, or take its file away if there is none"
                for digest in damaged[:SHOWN]
            ),
        )

    def removable(
        self, asked: CleanUpParameters, beat: Callable[[str], None] = lambda _text: None
    ) -> tuple[int, list[StoredObject], list[str]]:
        """How many objects there are, those that may go, the oldest first, and those that are needed and damaged.

        None may go while one of these is.

        Raises:
            Unavailable: something that may name an object is out of reach: then nothing may go.
        """
        stored = {one.digest: one for one in self.objects.listed()}
        old = {digest for digest, one in stored.items() if one.modified < self.now() - asked.objects_age}
        if not old:
            return len(stored), [], []
        needed, damaged = self.needed(set(stored), beat)
        if damaged:
            return len(stored), [], damaged
        going = sorted((stored[digest] for digest in old - needed), key=lambda one: (one.modified, one.digest))
        if not asked.objects_bytes:
            return len(stored), going, []
        excess = sum(one.size for one in stored.values()) - asked.objects_bytes
        chosen: list[StoredObject] = []
        for one in going:
            if excess <= 0:
                break
            chosen.append(one)
            excess -= one.size
        return len(stored), chosen, []

    def needed(self, stored: set[str], beat: Callable[[str], None] = lambda _text: None) -> tuple[set[str], list[str]]:
        """Those of the ``stored`` objects that something names, directly or through other objects; the damaged ones.

        Raises:
            Unavailable: something cannot be looked into.
        """
        found: set[str] = set()
        waiting: list[str] = []
        damaged: list[str] = []

        def mark(data: bytes) -> None:
            for name in _DIGEST.findall(data):
                digest = name.decode()
                if digest in stored and digest not in found:
                    found.add(digest)
                    waiting.append(digest)

        for number, data in enumerate(self._sources(beat)):
            if number % _ROWS == 0:
                beat(f"looked through {number:,} records")
            mark(data)
        looked = 0
        while waiting:
            looked += 1
            if looked % 100 == 0:
                beat(f"looked through {looked:,} objects")
            digest = waiting.pop()
            try:
                mark(self.objects.get(digest))
            except IntegrityError:
                damaged.append(digest)
        return found, damaged

    def _sources(self, beat: Callable[[str], None]) -> Iterator[bytes]:
        # Histories first: what a run learns afterwards it has just written, and that is young.
        yield from self.history.open_payloads(beat)
        yield from self.ledger.bodies()
        for table in metadata.sorted_tables:
            if table.name not in _LEDGER_TABLES:
                yield from self._rows(table)

    def _rows(self, table: Table) -> Iterator[bytes]:
        """Every value of a table."""
        key = list(table.primary_key.columns)
        with self.database.read() as connection:
            for row in connection.execution_options(yield_per=_ROWS).execute(select(table).order_by(*key)):
                yield b"\0".join(_bytes(row))

    def _old_artifacts(self, *, dry_run: bool) -> int:
        """Forget what older generators made; the artifacts that the ledger names stay, as it names them."""
        old = artifact_cache.c.generator != GENERATOR_VERSION
        with self.database.write() as connection:
            count = connection.execute(select(func.count()).select_from(artifact_cache).where(old)).scalar_one()
            if not dry_run:
                connection.execute(delete(artifact_cache).where(old))
        return int(count)

    def _reservations(self, *, dry_run: bool) -> int:
        """Forget reservations of runs that went away long ago: nobody honours them any more."""
        over = registry_reservation.c.since < int(self.now()) - 2 * RESERVED_SECONDS
        with self.database.write() as connection:
            count = connection.execute(select(func.count()).select_from(registry_reservation).where(over)).scalar_one()
            if not dry_run:
                connection.execute(delete(registry_reservation).where(over))
        return int(count)


def _bytes(row: Iterable[object]) -> Iterator[bytes]:
    for value in row:
        if isinstance(value, bytes):
            yield value
            yield value.hex().encode()
        elif value is not None:
            yield str(value).encode("utf-8", "replace")
