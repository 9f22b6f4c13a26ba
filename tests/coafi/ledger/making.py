"""What the tests of the ledger share, importable by the processes they start."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.ledger.entry import Draft
from coafi.ledger.keys import Signer
from coafi.ledger.log import Ledger
from coafi.names import EntryType
from tests.postgresql import where

ORIGIN = "test.example/log"
SIGNER = Signer(ORIGIN, bytes(range(32)))
HANG = 60
"""Seconds after which something hangs; nothing here should take a fraction of it."""


def draft(
    step: int | str, *, inputs: JsonObject | None = None, data: JsonObject | None = None, event: str = "e1"
) -> Draft:
    return Draft(
        namespace="plant-b/default",
        workflow_id="git.commit:https://example.com/r:1",
        step=f"files.process/{step}",
        type=EntryType.FILE_PROCESSED,
        event_id=event,
        utids="utids:test:1",
        inputs={"step": step} if inputs is None else inputs,
        data={"path": f"docs/{step}.md"} if data is None else data,
    )


@contextmanager
def opened(directory: Path, *, publish_seconds: float = 3600, lock_timeout: float = 2.0) -> Iterator[Ledger]:
    """A ledger in ``directory``, which publishes only when it is told to and at its end."""
    database = Database(where(directory), write_lock_timeout=lock_timeout)
    database.create_tables()
    ledger = Ledger(
        database, origin=ORIGIN, signer=SIGNER, state_directory=directory / "state", publish_seconds=publish_seconds
    )
    try:
        yield ledger
    finally:
        ledger.close()
        database.close()


def append_from_process(directory: str, first: int, count: int, batch: int) -> None:
    """Append ``count`` entries from number ``first`` on, and say on stdout what is acknowledged, line by line."""
    with opened(Path(directory), publish_seconds=0.05, lock_timeout=HANG) as ledger:
        for start in range(first, first + count, batch):
            for recorded in ledger.append([draft(start + i) for i in range(batch)]):
                sys.stdout.write(f"{recorded.index} {recorded.entry.step} {recorded.fresh}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    append_from_process(sys.argv[1], *(int(argument) for argument in sys.argv[2:5]))
