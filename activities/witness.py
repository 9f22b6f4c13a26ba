"""Holding the checkpoints that peers tell of against what was seen of their ledgers: ``peers.witness``."""

from dataclasses import dataclass

from temporalio import activity

from activities.boundary import boundary
from coafi import metrics
from coafi.events import Wire
from coafi.federation.messages import CheckpointPublished
from coafi.federation.witness import Sight, Witness
from coafi.names import ActivityName


class SeeTask(Wire):
    """A checkpoint that a peer says its ledger has."""

    peer: str
    said: CheckpointPublished


class SeenCheckpoint(Wire):
    """What it is; ``kept`` are the entries of the checkpoint that is kept now."""

    sight: Sight
    size: int
    kept: int


@dataclass(frozen=True)
class WitnessActivities:
    """Looks at checkpoints.

    Attributes:
        witness: does the work.
    """

    witness: Witness

    @activity.defn(name=ActivityName.WITNESS, no_thread_cancel_exception=True)
    @boundary
    def see(self, task: SeeTask) -> SeenCheckpoint:
        """Cosign a checkpoint that continues the last one; keep the proof if it is of another history."""
        seen = self.witness.published(task.peer, task.said)
        metrics.PEER_CHECKPOINTS.labels(task.peer, seen.sight).inc()
        return SeenCheckpoint(sight=seen.sight, size=seen.size, kept=seen.kept)
