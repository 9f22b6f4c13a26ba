"""What a task asks of Temporal, in words of ours: the domain does not know it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

RUNNING = "RUNNING"
COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of an event, as Temporal remembers it.

    Attributes:
        status: Temporal's: ``RUNNING``, ``COMPLETED``, ``TERMINATED``, ``FAILED``, ``CANCELED``, ``TIMED_OUT``.
        phase: the search attribute ``CoafiPhase``.
        closed: when it ended.
    """

    workflow_id: str
    run_id: str
    status: str
    phase: str
    closed: datetime | None


class History(Protocol):
    """Temporal, as far as tasks need it. All methods block."""

    def retention(self) -> timedelta:
        """How long a run is remembered after its end.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        ...

    def runs(self, closed_after: datetime, beat: Callable[[str], None]) -> Iterator[Run]:
        """The runs of events that are open, or were closed after a moment.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        ...

    def find(self, workflow_id: str) -> Run | None:
        """The newest run with an id, if Temporal still knows one.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        ...

    def open_payloads(self, beat: Callable[[str], None]) -> Iterator[bytes]:
        """Everything that the histories of open runs hold, of whatever type.

        Raises:
            Unavailable: Temporal is out of reach.
        """
        ...

    def check(self) -> None:
        """See whether it answers.

        Raises:
            Unavailable: it does not.
        """
        ...
