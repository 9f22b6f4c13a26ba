"""A witness of logs in memory, importable by the processes that tests start.

Run as ``python -m tests.coafi.federation.witnesses DIRECTORY NAME``: it sends one history or the other, by turns, of
the log to the witness in DIRECTORY, size by size, from the moment the file ``go`` is there, and writes each
cosignature to ``cosigned-NAME`` as soon as it has it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from coafi.database import Database
from coafi.errors import Unavailable
from coafi.federation.witness import (
    AddCheckpoint,
    NotConsistent,
    OtherSize,
    ShownLog,
    Witness,
    WitnessedLog,
    format_request,
)
from coafi.ledger.keys import Cosigner, Signer
from coafi.ledger.log import Ledger
from tests.coafi.ledger.making import HANG, opened
from tests.coafi.ledger.trees import MOST, SIGNER, Tree
from tests.postgresql import where

COSIGNER = Cosigner("witness.example/w1", bytes([7]) * 32)
LOG = WitnessedLog("plant-b", SIGNER.key, "https://plant-b.example")


@dataclass
class Logs:
    """Which logs are witnessed."""

    known: dict[str, WitnessedLog] = field(default_factory=lambda: {SIGNER.name: LOG})

    def of(self, origin: str) -> WitnessedLog | None:
        """See :class:`coafi.federation.witness.Logs`."""
        return self.known.get(origin)


@dataclass
class Setting:
    """A witness, and what is around it. ``shown`` is the log as it shows itself now."""

    witness: Witness
    ledger: Ledger
    logs: Logs
    shown: ShownLog
    now: float = 1_700_000_000.0


def setting_of(database: Database, ledger: Ledger, directory: Path) -> Setting:
    """A witness that keeps what it has seen in a database."""
    setting = Setting(None, ledger, Logs(), Tree(MOST))  # type: ignore[arg-type]  # made in the next line
    setting.witness = Witness(
        database,
        ledger,
        namespace="default",
        cosigner=COSIGNER,
        logs=setting.logs,
        shown=lambda _log: setting.shown,
        directory=directory / "witnessed",
        clock=lambda: datetime.fromtimestamp(setting.now, UTC),
    )
    return setting


@contextmanager
def witnessing(directory: Path) -> Iterator[Setting]:
    """A witness whose database is in ``directory``."""
    with opened(directory, lock_timeout=HANG) as ledger:
        database = Database(where(directory), write_lock_timeout=HANG)
        try:
            yield setting_of(database, ledger, directory)
        finally:
            database.close()


def request(tree: Tree, old: int, size: int, signer: Signer = SIGNER) -> bytes:
    """A request to cosign the first entries of a log."""
    proof = tuple(tree.consistency(old, size)) if 0 < old < size else ()
    return format_request(AddCheckpoint(old, proof, tree.signed(size, signer).note))


def main() -> None:
    """Race."""
    directory, name = Path(sys.argv[1]), sys.argv[2]
    histories = (Tree(MOST), Tree(MOST, forked=5))
    told = os.open(directory / f"cosigned-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with witnessing(directory) as setting:
        (directory / f"ready-{name}").touch()
        while not (directory / "go").exists():
            time.sleep(0.002)
        old, size, turn = 0, 1, int(name)
        while size <= MOST:
            turn += 1
            try:
                line = setting.witness.add_checkpoint(request(histories[turn % 2], old, size))
            except OtherSize as other:
                old, size = other.size, other.size + 1
            except (NotConsistent, Unavailable):
                continue
            else:
                note = histories[turn % 2].signed(size).checkpoint
                os.write(told, f"{size} {note.root.hex()} {line}".encode())
                old, size = size, size + 1


if __name__ == "__main__":
    main()
