"""``verify-ledger``: every hash, column, tile, checkpoint and key of the whole log."""

from dataclasses import dataclass
from typing import ClassVar

from coafi.errors import IntegrityError
from coafi.ledger.audit import audit
from coafi.ledger.log import Ledger as OwnLedger
from coafi.ledger.port import Ledger
from coafi.names import TaskName
from coafi.tasks.task import Job, NoParameters, TaskModel, TaskResult


class VerifyLedgerResult(TaskResult):
    """What the verification found.

    Attributes:
        sound: ``None`` where the ledger is another instance's, which verifies it itself.
        size, root: of the log that was found sound.
        steps_back: how often the clock was set back between two entries.
    """

    sound: bool | None
    size: int = 0
    root: str = ""
    steps_back: int = 0


@dataclass(frozen=True)
class VerifyLedger:
    """Verifies the ledger that is kept here."""

    name: ClassVar[TaskName] = TaskName.VERIFY_LEDGER
    parameters: ClassVar[type[TaskModel]] = NoParameters

    ledger: Ledger

    def run(self, job: Job) -> VerifyLedgerResult:
        """Verify everything; what is wrong is an alarm, not an error."""
        if not isinstance(self.ledger, OwnLedger):
            return VerifyLedgerResult(summary="the ledger is another instance's, which verifies it", sound=None)
        try:
            report = audit(self.ledger, lambda entries: job.beat(f"verified {entries:,} entries"))
        except (IntegrityError, TypeError, ValueError) as error:  # the latter: a column holds another type of value
            return VerifyLedgerResult(
                summary="the ledger is NOT sound", alarms=(f"the ledger is not sound: {error}",), sound=False
            )
        checkpoint = report.log.checkpoint
        return VerifyLedgerResult(
            summary=f"{checkpoint.size:,} entries are sound",
            counts={"entries": checkpoint.size},
            sound=True,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            steps_back=report.steps_back,
        )
