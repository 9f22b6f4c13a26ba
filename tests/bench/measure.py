"""How a benchmark measures: two things in turn, several times, and the ratio of each pair.

Machines differ and have their moods. The two halves of a round run one right after the other, so whatever slows the
machine slows both, and their ratio stays.
"""

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

Side = Callable[[], Awaitable[object] | object]
"""One of two things that are compared: does all of it once."""


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        name, against: what was measured, and its baseline.
        unit: what ``value`` and ``baseline`` are given in, such as ``ms`` or ``entries/s``.
        value, baseline: medians over the rounds, or what was counted.
        ratio: the time of what was measured by the time of its baseline, the median; of counts, one by the other.
        low, high: the smallest and the largest ratio of a round.
        rounds: how many there were; 0 for a count.
    """

    area: str
    name: str
    against: str
    unit: str
    value: float
    baseline: float
    ratio: float
    low: float
    high: float
    rounds: int


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
        """Measure two things in turn, after a first round that does not count.

        Args:
            name, measured: what is measured.
            against, baseline: what it is measured against.
            units: how many of what one call works on, to report how many that is in a second; without it the
                milliseconds of a call are reported.
            rounds: how many count.
            prepare: called before every round, and not measured.
        """
        self.progress(f"{self.area}: {name}")
        pairs = []
        for _ in range(1 + self.amount(rounds, 2)):
            prepare()
            pairs.append((await _seconds(measured), await _seconds(baseline)))
        del pairs[0]
        ratios = [one / other for one, other in pairs]
        values = [units[0] / median(times) if units else median(times) * 1000 for times in zip(*pairs, strict=True)]
        unit = f"{units[1]}/s" if units else "ms"
        spread = (median(ratios), min(ratios), max(ratios))
        self.figures.append(Figure(self.area, name, against, unit, values[0], values[1], *spread, rounds=len(pairs)))

    def count(self, name: str, value: int, against: str, baseline: int, unit: str) -> None:
        """Report something that was counted, not timed: the machine does not matter."""
        spread = (value / baseline,) * 3
        self.figures.append(Figure(self.area, name, against, unit, value, baseline, *spread, rounds=0))


async def _seconds(side: Side) -> float:
    start = time.perf_counter()
    result = side()
    if inspect.isawaitable(result):
        await result
    return time.perf_counter() - start
