"""``publish-checkpoint``: a signed checkpoint of all there is, in the object store and on the record.

The entry ``CHECKPOINT_PUBLISHED`` is what others can be told by: whoever keeps the note can prove, years later, that
the log has only grown since.
"""

from dataclasses import dataclass
from typing import ClassVar

from coafi.ledger.log import Ledger as OwnLedger
from coafi.names import EntryType, TaskName
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder
from coafi.tasks.task import Job, NoParameters, TaskModel, TaskResult


class PublishCheckpointResult(TaskResult):
    """The checkpoint.

    Attributes:
        size, root: of the log.
        note: the C2SP signed note; empty where the ledger is another instance's.
    """

    size: int = 0
    root: str = ""
    note: str = ""


@dataclass(frozen=True)
class PublishCheckpoint:
    """Publishes checkpoints of the ledger that is kept here."""

    name: ClassVar[TaskName] = TaskName.PUBLISH_CHECKPOINT
    parameters: ClassVar[type[TaskModel]] = NoParameters

    recorder: EventRecorder
    objects: ObjectStore

    def run(self, job: Job) -> PublishCheckpointResult:
        """Sign a checkpoint and record it; after a crash, the one that was recorded first."""
        ledger = self.recorder.ledger
        if not isinstance(ledger, OwnLedger):
            return PublishCheckpointResult(summary="the ledger is another instance's, which signs its checkpoints")
        signed = ledger.checkpoint(force=True)
        checkpoint = signed.checkpoint
        digest = self.objects.put(signed.note.encode())
        draft = self.recorder.draft(
            job.event,
            EntryType.CHECKPOINT_PUBLISHED,
            step="checkpoint",
            inputs={},
            data={
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "note": signed.note,
                "digest": digest,
            },
        )
        (recorded,) = ledger.append([draft])
        data = recorded.data
        size, root, note = int(str(data["size"])), str(data["root"]), str(data["note"])
        return PublishCheckpointResult(
            summary=f"checkpoint of {size:,} entries, entry {recorded.index}",
            counts={"entries": size},
            artifacts={"checkpoint": self.objects.put(note.encode())},
            recorded=(recorded.index,),
            size=size,
            root=root,
            note=note,
        )
