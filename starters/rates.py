"""How often somebody may ask."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_CALLERS = 10_000
"""Callers that are remembered; whoever asked longest ago is forgotten first."""


@dataclass
class Rates:
    """A bucket of tokens for each caller: one is taken by each request, and they come back at a rate.

    Attributes:
        rate: requests per second, in the long run.
        burst: requests that may come at once.
        clock: seconds, monotonic.
    """

    rate: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _full_at: OrderedDict[str, float] = field(default_factory=OrderedDict, repr=False)

    def take(self, caller: str) -> float:
        """Count a request of ``caller``: 0.0, or the seconds until the next one is allowed."""
        # One number tells a bucket: when it will be full again (GCRA, as in ATM Forum's traffic management).
        now = self.clock()
        full_at = max(now, self._full_at.get(caller, now)) + 1 / self.rate
        early = full_at - now - self.burst / self.rate
        if early > 1e-9:
            return early
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > MOST_CALLERS:
            self._full_at.popitem(last=False)
        return 0.0


def whole_seconds(seconds: float) -> int:
    """For ``Retry-After``, which knows no fractions."""
    return max(1, math.ceil(seconds))
