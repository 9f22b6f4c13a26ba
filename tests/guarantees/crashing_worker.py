"""``coafi worker`` that dies by ``kill -9`` right after the ledger has committed an entry of a given type, once.

Run as ``python -m tests.guarantees.crashing_worker ENTRY_TYPE MARKER``: the file ``MARKER`` says that it has died. With
``UNCOMMITTED`` for the type it dies when all that a request asks for is written, and nothing is committed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from coafi.api import operations, stored
from coafi.api.stored import Operated
from coafi.ledger.appending import Appender
from coafi.ledger.entry import Draft
from coafi.ledger.group import LedgerTransaction
from coafi.ledger.reading import Reader
from starters.service import run_workers

T = TypeVar("T")

UNCOMMITTED = "UNCOMMITTED"


def main() -> None:
    """Run workers with a ledger that is deadly once."""
    entry_type, marker = sys.argv[1], Path(sys.argv[2])
    plain = Appender.submit

    def deadly(self: Appender, unit: Callable[[LedgerTransaction], T], expected: Sequence[Draft] = ()) -> T:
        reader = Reader(self._state)
        before = reader.size()
        result = plain(self, unit, expected)
        new = reader.entries(before, reader.size())
        if not marker.exists() and any(one.entry.type == entry_type for one in new):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    keep = stored.keep

    def deadly_keep(connection: Connection, workflow_id: str, operated: Operated) -> None:
        keep(connection, workflow_id, operated)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if entry_type == UNCOMMITTED:
        operations.keep = deadly_keep  # type: ignore[attr-defined]  # likewise
    Appender.submit = deadly  # type: ignore[method-assign]  # that is the point
    asyncio.run(run_workers())


if __name__ == "__main__":
    main()
