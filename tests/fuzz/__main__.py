"""``python -m tests.fuzz``: give damaged input to parsers, and say which input did harm.

Each input may take ``CPU_SECONDS`` and the process ``MEMORY`` bytes. The kernel enforces both, also within a library:
a process that takes more is ended, and the last input that it began is the one. An input is made from its seed alone.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from coafi.errors import CoafiError
from coafi.logs import configure_logging
from coafi.settings import Settings
from tests.fuzz.mutate import mutant
from tests.fuzz.targets import TARGETS, Target

CPU_SECONDS = 10
"""For one input of at most 64 KiB, on a slow machine."""

MEMORY = 4 * 1024**3
"""Bytes of address space of one process."""


@dataclass(frozen=True)
class Harm:
    """What an input did."""

    target: str
    seed: str
    what: str
    data: bytes

    def __str__(self) -> str:
        shown = f"{self.data[:2_000]!r}{' …' if len(self.data) > 2_000 else ''} ({len(self.data)} bytes)"
        again = f"python -m tests.fuzz {self.target} --seed {self.seed}"
        return f"{self.target}: {self.what}\ninput: {shown}\nagain: {again}\n"


def harm_of(name: str, seed: str, targets: dict[str, Target] = TARGETS) -> str:
    """What the input with this seed does to a parser in this process; empty when it is taken or refused."""
    target = targets[name]
    data = mutant(_seeds(name, targets), f"{name}:{seed}")
    try:
        target.run(data)
    except Exception as error:
        expected: tuple[type[Exception], ...] = (CoafiError, *target.raises)
        return "" if isinstance(error, expected) else traceback.format_exc(limit=-12)
    return ""


def fuzz(names: Sequence[str], first: int, count: int, *, timeout: float = 170) -> list[Harm]:
    """Give parsers the inputs with the seeds from ``first`` on, in a process of their own, and another after its end.

    Args:
        timeout: seconds of wall time for one process.
    """
    found: list[Harm] = []
    jobs = [(list(names), first)]
    while jobs:
        some, start = jobs.pop()
        with tempfile.TemporaryDirectory(prefix="coafi-fuzz-") as directory:
            began = Path(directory) / "began"
            command = [sys.executable, "-m", "tests.fuzz", *some, "--seed", str(start), "--began", str(began)]
            done = subprocess.run(
                [*command, "--count", str(first + count - start)],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            last = began.read_text().split() if began.exists() else [some[0], str(start)]
        for line in done.stdout.splitlines():
            one: dict[str, Any] = json.loads(line)
            found.append(_harm(one["target"], one["seed"], one["what"]))
        if done.returncode in (0, 1):
            continue
        code = done.returncode
        said = f"it was ended by {signal.Signals(-code).name}" if code < 0 else done.stderr[-2_000:]
        found.append(_harm(last[0], last[1], said))
        if rest := some[some.index(last[0]) + 1 :]:
            jobs.append((rest, first))
        if int(last[1]) + 1 < first + count:
            jobs.append(([last[0]], int(last[1]) + 1))
    return found


def _harm(name: str, seed: str, what: str) -> Harm:
    return Harm(name, seed, what, mutant(_seeds(name, TARGETS), f"{name}:{seed}"))


_made: dict[str, list[bytes]] = {}


def _seeds(name: str, targets: dict[str, Target]) -> list[bytes]:
    if name not in _made:
        _made[name] = targets[name].seeds()
    return _made[name]


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Parsers: {', '.join(TARGETS)}. All by default.")] = None,
    seed: Annotated[int, typer.Option(help="The first input.")] = 0,
    count: Annotated[int, typer.Option(help="How many, one after the other.")] = 1,
    began: Annotated[Path | None, typer.Option(help="Keep the seed of the last input that was begun here.")] = None,
) -> None:
    """Give damaged input to parsers, and print what it did as a line of JSON. Exits with 1 when it did harm."""
    configure_logging(Settings(log_level="warning"))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    harmed = False
    for harm in _tried(names or list(TARGETS), range(seed, seed + count), began):
        sys.stdout.write(json.dumps(harm) + "\n")
        sys.stdout.flush()
        harmed = True
    raise typer.Exit(harmed)


def _tried(names: list[str], seeds: range, began: Path | None) -> Iterator[dict[str, str]]:
    for name in names:
        _seeds(name, TARGETS)
        for seed in seeds:
            if began is not None:
                began.write_text(f"{name} {seed}")
            # No handler in Python, which would wait for a library to return: the kernel ends the process.
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
            what = harm_of(name, str(seed))
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if what:
                yield {
                    "target": name,
                    "seed": str(seed),
                    "what": what,
                    "input": repr(mutant(_made[name], f"{name}:{seed}")),
                }


if __name__ == "__main__":
    typer.run(main)
