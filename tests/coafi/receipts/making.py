"""Events that went through the real steps, on a real ledger, and their receipts; without Temporal and git."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import Any

from coafi.artifacts.cache import ArtifactService
from coafi.artifacts.model import GeneratorConfig
from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.events import Event, EventRef, new_event
from coafi.git.archive import write_archive
from coafi.git.changes import Change
from coafi.git.manifest import BatchRef, ManifestFile
from coafi.ledger.entry import Recorded
from coafi.ledger.keyfile import HeldKey, KeySource
from coafi.ledger.keys import Signer, Trusted
from coafi.ledger.log import Ledger
from coafi.names import EventType, Phase
from coafi.objects import ObjectStore
from coafi.objects.local import LocalObjectStore
from coafi.processing import BatchProcessor, Checked, Generated, GenerateTask
from coafi.receipts.make import write_receipt
from coafi.receipts.verify import VerifiedReceipt, verify_receipt
from coafi.recording import Conclusion, Decision, EventRecorder, Failure, Range, merge_ranges
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.trees.commit import CommitContexts
from tests.harness import batch_task, document

ORIGIN = "receipts.example/log"
SIGNER = Signer(ORIGIN, bytes(range(32)))
OTHER = Signer("other.example/log", bytes(32))
COMMIT = "a" * 40
MANIFEST = "5" * 64
FAILURE = Failure(step="git.fetch", sequence=1, error="Unavailable", message="the host is away")


@dataclass(frozen=True)
class Service:
    """A ledger, and what writes it."""

    ledger: Ledger
    objects: ObjectStore
    recorder: EventRecorder
    processor: BatchProcessor

    def receive(self, delivery: str = "d1", *, body: str = "0", run: str = "run-1", **changes: Any) -> EventRef:
        """Receive an event."""
        event = an_event(delivery, body=body, **changes)
        return event.ref(self.recorder.receive(event, run).utids)

    def process(self, ref: EventRef, files: dict[str, bytes]) -> tuple[Range, ...]:
        """Check files, and generate what derives from them; what was recorded."""
        if not files:
            return ()
        rows = [
            ManifestFile(
                position=position,
                path=path,
                change=Change.ADDED,
                mode="100644",
                blob=sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
                size=len(content),
                batch=0,
            )
            for position, (path, content) in enumerate(files.items())
        ]
        archive = self.objects.put(write_archive(rows, list(files.values())))
        batch = BatchRef(index=0, archive=archive, files=len(rows), size=sum(map(len, files.values())))
        task = batch_task(self.processor, ref, batch)
        checked = self.processor.check(task, Checked(), lambda _: None)
        generated = self.processor.generate(GenerateTask(task=task, checked=checked), Generated(), lambda _: None)
        return (*checked.entries, *generated.entries)

    def conclude(self, ref: EventRef, phase: Phase, entries: Sequence[Range] = (), **more: Any) -> int:
        """End the event; the index of that."""
        ranges = merge_ranges([*entries, *self._range(ref)])
        return self.recorder.conclude(ref, Conclusion(phase=phase, entries=ranges, **more)).entry

    def processed(self, delivery: str = "d1", files: dict[str, bytes] | None = None) -> EventRef:
        """A push of one valid document and one that is not, from its receipt to its end."""
        ref = self.receive(delivery)
        given = {"docs/a.md": document(1).encode(), "docs/ü.md": b"---\ntitle: [\n---\n"} if files is None else files
        entries = self.process(ref, given)
        self.conclude(ref, Phase.PROCESSED, entries, counts={"files": len(given)}, digests={"manifest": MANIFEST})
        return ref

    def rejected(self, delivery: str = "bad") -> EventRef:
        """An event whose payload is wrong."""
        return self.receive(delivery, data={"repositoryUrl": 7})

    def parked(self, delivery: str = "stuck") -> EventRef:
        """An event that waits for a decision."""
        ref = self.receive(delivery)
        self.recorder.park(ref, FAILURE)
        return ref

    def dead_lettered(self, delivery: str = "dead") -> EventRef:
        """An event that was given up."""
        ref = self.parked(delivery)
        self.conclude(ref, Phase.FAILED, failure=FAILURE, decisions=(Decision(by="ada", reason="gone"),))
        return ref

    def entries(self, ref: EventRef) -> list[Recorded]:
        """What is recorded of an event."""
        return [one for one in self.ledger.by_event(ref.id) if one.entry.workflow_id == ref.workflow_id]

    def receipt(self, ref: EventRef) -> bytes:
        """Its receipt."""
        file = io.BytesIO()
        write_receipt(self.ledger, self.entries(ref), file)
        return file.getvalue()

    def _range(self, ref: EventRef) -> list[Range]:
        return [Range(first=one.index, last=one.index) for one in self.entries(ref)]


def an_event(delivery: str, *, body: str = "0", data: JsonObject | None = None) -> Event:
    """A push, as ingress makes it."""
    payload: JsonObject = {
        "repositoryUrl": "https://git.example/acme/docs.git",
        "commitSha": COMMIT,
        "branch": "main",
        "author": "Zuzanna",
        "message": "of no concern",
    }
    return new_event(
        event_type=EventType.GIT_COMMIT,
        source="https://git.example/acme/docs",
        delivery_id=delivery,
        time=datetime(2026, 11, 23, tzinfo=UTC),
        body_digest=body * 64,
        principal="github-webhook",
        data=payload if data is None else data,
    )


@contextmanager
def service(directory: Path, signer: Signer | KeySource = SIGNER) -> Iterator[Service]:
    """A ledger in ``directory``, by a clock that goes a second further with each look."""
    directory.mkdir(exist_ok=True)
    source = HeldKey(signer) if isinstance(signer, Signer) else signer
    ticks = count()
    database = Database(directory / "coafi.db")
    database.create_tables()
    registry = PublishedSchemas(database)
    registry.publish(builtin_schemas())
    objects = LocalObjectStore(directory / "objects")
    ledger = Ledger(
        database,
        origin=source.current().name,
        signer=source,
        state_directory=directory / "state",
        clock=lambda: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=next(ticks)),
    )
    recorder = EventRecorder(ledger=ledger, registry=registry, namespace="default", build="1.2.3")
    processor = BatchProcessor(
        recorder=recorder,
        objects=objects,
        contexts=CommitContexts(objects, database),
        artifacts=ArtifactService(database, objects, GeneratorConfig()),
    )
    try:
        yield Service(ledger, objects, recorder, processor)
    finally:
        ledger.close()
        database.close()


def verified(receipt: bytes, *keys: Trusted) -> VerifiedReceipt:
    """What a receipt proves, by the key of :data:`SIGNER` unless others are given."""
    return verify_receipt(io.BytesIO(receipt), keys or (SIGNER.key,))


def statement(receipt: bytes) -> Any:
    """The statement in a receipt."""
    return json.loads(verified(receipt).statement)
