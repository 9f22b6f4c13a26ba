"""``health-check``: whether everything that the service depends on answers.

Every dependency is a probe with a name; one that fails is an alarm, and holds up none of the others.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import structlog
from pydantic import Field

from coafi.errors import CoafiError
from coafi.names import TaskName
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of

log = structlog.stdlib.get_logger()

Probe = Callable[[Callable[[str], None]], str]
"""Sees whether something answers, and says a word about it; raises if it does not."""

Probes = Callable[[], Mapping[str, Probe]]
"""Names what there is to probe now: hosts and subscribers come and go."""


class Health(TaskModel):
    """What a probe found.

    Attributes:
        detail: what it is like, or what is wrong and what to do.
        milliseconds: that it took.
    """

    name: str
    ok: bool
    detail: str
    milliseconds: int


class HealthCheckParameters(TaskModel):
    """What is asked for.

    Attributes:
        skip: names of probes that are left out.
    """

    skip: tuple[str, ...] = Field(default=(), max_length=100)


class HealthCheckResult(TaskResult):
    """What all probes found."""

    dependencies: tuple[Health, ...] = ()


@dataclass(frozen=True)
class HealthCheck:
    """Probes everything."""

    name: ClassVar[TaskName] = TaskName.HEALTH_CHECK
    parameters: ClassVar[type[TaskModel]] = HealthCheckParameters

    probes: Probes
    clock: Callable[[], float] = field(default=time.perf_counter)

    def run(self, job: Job) -> HealthCheckResult:
        """Probe everything."""
        asked = parameters_of(HealthCheckParameters, job)
        found = []
        for name, probe in self.probes().items():
            if name not in asked.skip:
                job.beat(f"probing {name}")
                found.append(self._probed(name, probe, job.beat))
        failing = [one for one in found if not one.ok]
        return HealthCheckResult(
            summary=f"{len(failing)} of {len(found)} fail: {', '.join(one.name for one in failing)}"[:2_000]
            if failing
            else f"all {len(found)} answer",
            alarms=tuple(f"{one.name}: {one.detail}" for one in failing),
            counts={"dependencies": len(found), **({"failing": len(failing)} if failing else {})},
            dependencies=tuple(found),
        )

    def _probed(self, name: str, probe: Probe, beat: Callable[[str], None]) -> Health:
        started = self.clock()
        ok = True
        try:
            detail = probe(beat)
        except CoafiError as error:
            ok, detail = False, str(error)
        except Exception as error:  # whatever it is: that dependency fails, and the others are still to be probed
            log.warning("probe failed unexpectedly", dependency=name, exc_info=error)
            ok, detail = False, f"unexpected {type(error).__name__}: the worker's log has the traceback"
        return Health(name=name, ok=ok, detail=detail[:500], milliseconds=round((self.clock() - started) * 1_000))
