"""The benchmarks run, and what they print is complete. How fast anything is, is not looked at."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
@pytest.mark.timeout(2_700)
@pytest.mark.parametrize(
    "areas",
    [["ledger", "api", "postgresql", "index", "end-to-end", "memory", "federation", "flood", "order", "capacity"]],
)
def test_a_quick_run_reports_and_draws_everything_it_measures(tmp_path: Path, areas: list[str]) -> None:
    chart = tmp_path / "bench.png"
    options = [option for area in areas for option in ("--only", area)]
    command = [sys.executable, "-m", "tests.bench", "--quick", "--json", "--chart", str(chart), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    figures = report["figures"]
    assert {figure["area"] for figure in figures} == set(areas)
    assert len({(figure["area"], figure["name"], figure["against"]) for figure in figures}) == len(figures)
    for figure in figures:
        assert math.isfinite(figure["value"])
        assert figure["value"] >= 0
        if figure["against"]:
            numbers = [figure[name] for name in ("low", "ratio", "high", "baseline")]
            assert all(math.isfinite(number) and number > 0 for number in numbers), figure
            assert figure["low"] <= figure["ratio"] <= figure["high"]
            assert figure["name"] in done.stderr, "progress is told"
    exact = {figure["name"]: figure["value"] for figure in figures if figure["unit"] in ("artifacts", "transactions")}
    if "end-to-end" in areas:
        assert exact["a push of 20 files, moved: generated"] == 0
        assert exact["a push of 20 files, moved: from the cache"] == 40
        assert exact["a push of 10 files alone: ledger"] == 4
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert {"cores", "python"} <= report["machine"].keys()
