"""How many runs wait for a person, as metrics: Temporal is asked when somebody looks, and only so often."""

import asyncio
import time
from dataclasses import dataclass, field

import structlog
from temporalio.client import Client

from coafi import metrics
from coafi.names import Phase, SearchAttribute

log = structlog.stdlib.get_logger()

QUERIES = {
    "parked": f"ExecutionStatus = 'Running' AND {SearchAttribute.PHASE} = '{Phase.PARKED}'",
    # A workflow task that fails again and again: a defect, or code that does not fit the history.
    "reported-problems": "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL",
}
"""What is counted, and how Temporal is asked for it."""

TIMEOUT = 2.0


@dataclass
class RunCounts:
    """Counts open runs.

    Attributes:
        client: of Temporal.
        age: seconds that a count may be old.
    """

    client: Client
    age: float = 10.0
    _counted: float = field(default=float("-inf"), init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def refresh(self) -> None:
        """Bring the metric up to date. What Temporal does not tell in time is not shown."""
        async with self._turn:
            if time.monotonic() - self._counted < self.age:
                return
            for name, query in QUERIES.items():
                try:
                    async with asyncio.timeout(TIMEOUT):
                        count = (await self.client.count_workflows(query)).count
                except Exception as error:  # whatever the reason: an old number would be taken for a new one
                    metrics.OPEN_RUNS.labels(name).set(float("nan"))
                    log.warning("runs not counted", state=name, reason=f"{type(error).__name__}: {error}"[:300])
                else:
                    metrics.OPEN_RUNS.labels(name).set(count)
            self._counted = time.monotonic()
