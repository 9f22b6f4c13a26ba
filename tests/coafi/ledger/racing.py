"""A process that appends entry by entry, together with others that start when it does.

Run as ``python -m tests.coafi.ledger.racing DIRECTORY NAME COUNT``: it appends COUNT entries of its own, each followed
by one that all append, from the moment the file ``go`` is there, and then says what it was told in ``told-NAME``.
"""

import json
import sys
import time
from pathlib import Path

from coafi.errors import LedgerUnavailable
from coafi.ledger.entry import Recorded
from coafi.ledger.log import Ledger
from tests.coafi.ledger.making import HANG, draft, opened


def main() -> None:
    """Race."""
    directory, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    told = []
    with opened(directory, publish_seconds=0.05, lock_timeout=HANG) as ledger:
        (directory / f"ready-{name}").touch()
        while not (directory / "go").exists():
            time.sleep(0.002)
        for number in range(count):
            for step in (f"{name}/{number}", f"shared/{number}"):
                recorded = append_patiently(ledger, step)
                told.append((recorded.index, step, recorded.fresh))
    (directory / f"told-{name}").write_text(json.dumps(told))


def append_patiently(ledger: Ledger, step: str) -> Recorded:
    """Append until it is done, as a step of a run does."""
    while True:
        try:
            return ledger.append([draft(step, inputs={"step": step})])[0]
        except LedgerUnavailable:
            time.sleep(0.01)


if __name__ == "__main__":
    main()
