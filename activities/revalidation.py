"""Known documents and entries against a schema that was published: a part of them, and the summary at the end."""

from dataclasses import dataclass

from pydantic import Field
from temporalio import activity

from activities import tries
from activities.boundary import boundary
from coafi.errors import Unavailable
from coafi.events import Wire
from coafi.names import ActivityName
from coafi.registry.revalidation import Part, PartDone, Place, Revalidation, Revalidator, Summary, Tally


class RevalidationTask(Wire):
    """A schema to hold all that is known against: the input of the run, and all that it carries on as a new one.

    Attributes:
        patience: seconds that a part is tried again while something is out of reach.
        place, tally: how far an earlier run has got, and what it has found out.
        max_parts: after so many parts the run continues as new, if Temporal does not suggest it before.
    """

    revalidation: Revalidation
    patience: float
    place: Place = Place()
    tally: Tally = Tally()
    max_parts: int = Field(default=500, ge=1)


class Concluded(Wire):
    """Where the summary was recorded."""

    entry: int


@dataclass(frozen=True)
class RevalidationActivities:
    """Holds what is known against a schema.

    Attributes:
        revalidator: does the work.
    """

    revalidator: Revalidator

    @activity.defn(name=ActivityName.REVALIDATE, no_thread_cancel_exception=True)
    @boundary
    def revalidate(self, task: Part) -> PartDone:
        """Do a part, and record the verdicts that change: ``FILE_REVALIDATED`` or ``ENTRY_REVALIDATED``."""
        return self.revalidator.part(task, _beat)

    @activity.defn(name=ActivityName.CONCLUDE_REVALIDATION, no_thread_cancel_exception=True)
    @boundary
    def conclude(self, task: Summary) -> Concluded:
        """Write ``SCHEMA_REVALIDATED``."""
        return Concluded(entry=self.revalidator.conclude(task))


def _beat(text: str) -> None:
    tries.heartbeat(text)
    if activity.is_cancelled():
        raise Unavailable("the worker was told to stop", remedy="nothing: the part is done again")
