"""How a benchmark measures: things in turn, several times, and the ratio of what belongs to one round.

Machines differ and have their moods. The sides of a round run one right after the other, so whatever slows the machine
slows them all, and their ratio stays.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

Side = Callable[[], Awaitable[object] | object]
"""One of the things that are compared: does all of it once."""


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        unit: what ``value`` and ``baseline`` are given in, such as ``ms`` or ``entries/s``.
        value, baseline: medians over the rounds, or what was counted; ``baseline`` only where something is compared.
        against: what the baseline is.
        ratio: how fast it is by how fast the baseline is, the median: 0.5 is half as fast.
        low, high: the smallest and the largest ratio of a round.
        aim: what we want it to be, for people; nothing is asserted.
    """

    area: str
    name: str
    unit: str
    value: float
    against: str = ""
    baseline: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    aim: str = ""


@dataclass
class Bench:
    """One run of the benchmarks, and what it has found so far.

    Attributes:
        quick: small amounts will do, to see that it works.
        progress: is told what begins.
        directory: for everything that the area writes.
    """

    quick: bool
    progress: Callable[[str], None]
    area: str = ""
    directory: Path = Path()
    figures: list[Figure] = field(default_factory=list)

    def amount(self, full: int, quick: int) -> int:
        """How many of something: ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full

    async def compare(
        self,
        name: str,
        measured: Side,
        against: str,
        baseline: Side,
        units: tuple[int, str] | None = None,
        *,
        rounds: int = 5,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """Compare with one baseline; see :meth:`compare_all`."""
        await self.compare_all(name, measured, {against: baseline}, units, rounds=rounds, prepare=prepare)

    async def compare_all(
        self,
        name: str,
        measured: Side,
        baselines: Mapping[str, Side],
        units: tuple[int, str] | None = None,
        *,
        rounds: int = 5,
        warm_up: bool = True,
        prepare: Callable[[], object] = lambda: None,
        aims: Mapping[str, str] | None = None,
    ) -> None:
        """Measure something and each of its baselines in turn.

        Args:
            name, measured: what is measured.
            baselines: what it is measured against, by name.
            units: how many of what one call works on, to report how many that is in a second; without it the
                milliseconds of a call are reported.
            rounds: how many count.
            warm_up: whether a first round does not count.
            prepare: called before every round, and not measured.
            aims: what the ratio to a baseline should be, by name.
        """
        self.progress(f"{self.area}: {name}")
        times: list[list[float]] = []
        warm_up = warm_up and not self.quick
        for _ in range(warm_up + self.amount(rounds, 1)):
            prepare()
            times.append([await _seconds(side) for side in (measured, *baselines.values())])
        columns = list(zip(*times[warm_up:], strict=True))
        values = [units[0] / median(column) if units else median(column) * 1000 for column in columns]
        for against, column, value in zip(baselines, columns[1:], values[1:], strict=True):
            ratios = [other / one for one, other in zip(columns[0], column, strict=True)]
            self.figures.append(
                Figure(
                    self.area,
                    name,
                    f"{units[1]}/s" if units else "ms",
                    values[0],
                    against,
                    value,
                    *(median(ratios), min(ratios), max(ratios)),
                    aim=(aims or {}).get(against, ""),
                )
            )

    def report(self, name: str, value: float, unit: str, *, aim: str = "") -> None:
        """Report something that has nothing to be compared with: what was counted, or what a machine used."""
        self.figures.append(Figure(self.area, name, unit, value, aim=aim))


async def _seconds(side: Side) -> float:
    start = time.perf_counter()
    result = side()
    if inspect.isawaitable(result):
        await result
    return time.perf_counter() - start
