"""What a command costs before it does anything, over a Python that does nothing."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.bench.measure import Bench
from tests.harness import running_stack


async def measure(bench: Bench) -> None:
    """Start commands, next to a running service."""
    coafi = str(Path(sys.executable).with_name("coafi"))
    async with running_stack(bench.directory, workers=False) as stack:
        found = {"COAFI_HOME": str(stack.settings.home), "COAFI_TEMPORAL_ADDRESS": stack.server.address}
        start = partial(subprocess.run, check=True, capture_output=True, env={**os.environ, **found})
        nothing = partial(start, [sys.executable, "-c", "pass"])
        for words in ("--help", "events list"):
            await bench.compare(
                f"coafi {words}", partial(start, [coafi, *words.split()]), "python -c pass", nothing, rounds=3
            )
