"""``archive``: ranges of the ledger as files that prove themselves (:mod:`coafi.tasks.archive_file`).

Nothing is removed: entries stay in the ledger for good. An archive is for keeping somewhere else. Each run goes on
where the one before ended, and writes a list of all archives (``manifest.json``) beside them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import ClassVar

import pydantic
from pydantic import Field, JsonValue

from coafi.canonical import Sha256, canonical_json, sha256
from coafi.errors import IntegrityError, Unavailable
from coafi.ledger import merkle, tiles
from coafi.ledger.bundle import encode_bundle
from coafi.ledger.entry import Recorded, timestamp
from coafi.ledger.log import Ledger as OwnLedger
from coafi.ledger.port import Ledger
from coafi.names import EntryType, TaskName
from coafi.objects import ObjectStore
from coafi.tasks.archive_file import ArchiveHeader, pack, verify_archive
from coafi.tasks.results import TaskResults
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of

MANIFEST = "manifest.json"
"""The list of all archives of a directory."""

MAX_BODIES = 256 * 2**20
"""Bytes of delivered bodies in one archive; it ends before the entry that would pass it."""

_PAGE = 500


class Archive(TaskModel):
    """One archive, in the list of all.

    Attributes:
        file: its name; ``digest`` its SHA-256, which is also its name in the object store.
        first, stop: the entries in it.
    """

    file: str
    digest: Sha256
    size: int
    first: int
    stop: int
    since: str
    until: str


class ArchiveParameters(TaskModel):
    """What is asked for.

    Attributes:
        age: seconds; younger entries are left to a later time.
        entries: at most so many in a file.
        files: at most so many at a time.
    """

    age: float = Field(default=30 * 86_400.0, ge=0)
    entries: int = Field(default=10_000, ge=1, le=100_000)
    files: int = Field(default=100, ge=1, le=1_000)


class ArchiveResult(TaskResult):
    """What was archived.

    Attributes:
        archives: those of this run.
        stop: the first entry that is in no archive yet.
    """

    archives: tuple[Archive, ...] = ()
    stop: int = 0


@dataclass(frozen=True)
class Archiver:
    """Archives.

    Attributes:
        directory: where the files go, beside the object store.
    """

    name: ClassVar[TaskName] = TaskName.ARCHIVE
    parameters: ClassVar[type[TaskModel]] = ArchiveParameters

    ledger: Ledger
    objects: ObjectStore
    results: TaskResults
    directory: Path

    def run(self, job: Job) -> ArchiveResult:
        """Archive what has become old enough.

        Raises:
            Unavailable: the disk refuses; nothing is left half written.
        """
        asked = parameters_of(ArchiveParameters, job)
        if not isinstance(self.ledger, OwnLedger):
            return ArchiveResult(summary="the ledger is another instance's, which archives it")
        position = self._position()
        until = timestamp(job.due.astimezone(UTC) - timedelta(seconds=asked.age))
        made: list[Archive] = []
        while len(made) < asked.files:
            chosen, bodies = self._chosen(self.ledger, position, until, asked.entries)
            if not chosen:
                break
            made.append(self._write(self.ledger, chosen, bodies))
            position = chosen[-1].index + 1
            job.beat(f"archived entries up to {position:,}")
        if made:
            self._list(made)
        entries = sum(one.stop - one.first for one in made)
        return ArchiveResult(
            summary=f"{entries:,} entries in {len(made)} archives" if made else "nothing is old enough",
            counts={"entries": entries, "archives": len(made)} if made else {},
            artifacts={one.file: one.digest for one in made[:20]},
            archives=tuple(made),
            stop=position,
        )

    def _position(self) -> int:
        last = self.results.last(TaskName.ARCHIVE)
        if not last:
            return 0
        try:
            return ArchiveResult.model_validate_json(self.objects.get(last[0].result)).stop
        except (IntegrityError, pydantic.ValidationError):
            return 0  # archived again: the files are the same but for their checkpoints

    def _chosen(self, ledger: OwnLedger, first: int, until: str, most: int) -> tuple[list[Recorded], dict[str, bytes]]:
        """The entries of the next archive, and the bodies that they name."""
        chosen: list[Recorded] = []
        bodies: dict[str, bytes] = {}
        size = 0
        for one in _entries(ledger, first, min(first + most, ledger.size())):
            if one.entry.time > until:
                break
            digest = str(one.data.get("bodyDigest", ""))
            if one.entry.type == EntryType.EVENT_RECEIVED and digest not in bodies and self.objects.has(digest):
                body = self.objects.get(digest)
                if chosen and size + len(body) > MAX_BODIES:
                    break
                bodies[digest] = body
                size += len(body)
            chosen.append(one)
        return chosen, bodies

    def _write(self, ledger: OwnLedger, chosen: list[Recorded], bodies: dict[str, bytes]) -> Archive:
        first, stop = chosen[0].index, chosen[-1].index + 1
        signed = ledger.checkpoint(force=True)
        entries = [one.body for one in chosen]
        header = ArchiveHeader(
            origin=signed.checkpoint.origin,
            first=first,
            stop=stop,
            since=chosen[0].entry.time,
            until=chosen[-1].entry.time,
            subtrees=tuple(one.hex() for one in _subtrees(ledger, first)),
            proof=tuple(one.hex() for one in ledger.consistency_proof(stop, signed.size)),
            checkpoint=signed.note,
            entries=sha256(encode_bundle(entries)),
            bodies=tuple(bodies),
        )
        data = pack(header, entries, list(bodies.values()))
        verify_archive(data, ledger.keys)  # what cannot be verified is not written
        name = f"{first:012d}-{stop - 1:012d}.coafi.gz"
        digest = self.objects.put(data)
        self._place(name, data)
        return Archive(
            file=name, digest=digest, size=len(data), first=first, stop=stop, since=header.since, until=header.until
        )

    def _list(self, made: list[Archive]) -> None:
        """Add to the list of all archives."""
        known = {one.file: one for one in archives_of(self.directory)}
        known |= {one.file: one for one in made}
        listed: list[JsonValue] = [known[name].model_dump(mode="json", by_alias=True) for name in sorted(known)]
        self._place(MANIFEST, canonical_json({"format": "coafi.archives/1", "archives": listed}))

    def _place(self, name: str, data: bytes) -> None:
        """Write a file whole, or not at all."""
        temporary = self.directory / f".{name}.new"
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.directory / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Unavailable(
                f"the archive {self.directory / name} cannot be written: {error}",
                remedy="make room, or set COAFI_ARCHIVE_DIRECTORY",
            ) from error


class _Listed(TaskModel):
    format: str
    archives: tuple[Archive, ...]


def archives_of(directory: Path) -> tuple[Archive, ...]:
    """The archives that the list in a directory names; none without one.

    Raises:
        Unavailable: it cannot be read.
        IntegrityError: it is no such list.
    """
    try:
        data = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unavailable(f"{directory / MANIFEST} cannot be read: {error}", remedy="check the disk") from error
    try:
        return _Listed.model_validate_json(data).archives
    except pydantic.ValidationError:
        raise IntegrityError(
            f"{directory / MANIFEST} is no list of archives", remedy="move it away: the archives prove themselves"
        ) from None


def _entries(ledger: OwnLedger, first: int, stop: int) -> Iterator[Recorded]:
    for start in range(first, stop, _PAGE):
        yield from ledger.entries(start, min(start + _PAGE, stop))


def _subtrees(ledger: OwnLedger, size: int) -> list[bytes]:
    """The perfect subtrees of the tree of ``size`` entries, largest first."""
    found = []
    for node in merkle.nodes(merkle.Range(0, size)):
        where = tiles.place(node)
        wide = tiles.width(where.tile, size)
        row = ledger.tile(tiles.Tile(where.tile.level, where.tile.n, wide))
        found.append(tiles.node_in(row, where))
    return found
