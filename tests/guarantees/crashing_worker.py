"""``coafi worker`` that dies by ``kill -9`` right after the ledger has committed an entry of a given type, once.

Run as ``python -m tests.guarantees.crashing_worker ENTRY_TYPE MARKER``: the file ``MARKER`` says that it has died.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from coafi.ledger.log import Ledger, LedgerTransaction
from starters.service import run_workers

T = TypeVar("T")


def main() -> None:
    """Run workers with a ledger that is deadly once."""
    entry_type, marker = sys.argv[1], Path(sys.argv[2])
    plain = Ledger._submit

    def deadly(self: Ledger, unit: Callable[[LedgerTransaction], T], expected: object) -> T:
        before = self.size()
        result = plain(self, unit, expected)  # type: ignore[arg-type]  # passed through
        new = self.entries(before, self.size())
        if not marker.exists() and any(one.entry.type == entry_type for one in new):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Ledger._submit = deadly  # type: ignore[method-assign]  # that is the point
    asyncio.run(run_workers())


if __name__ == "__main__":
    main()
