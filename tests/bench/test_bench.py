"""The cheap benchmarks run, and what they print is complete. How fast anything is, is not looked at."""

import json
import math
import subprocess
import sys


def test_a_quick_run_reports_a_ratio_for_everything_it_measures() -> None:
    areas = ["ledger", "files", "git"]
    options = [option for area in areas for option in ("--only", area)]
    command = [sys.executable, "-m", "tests.bench", "--quick", "--json", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    figures = report["figures"]
    assert {figure["area"] for figure in figures} == set(areas)
    assert len({figure["name"] for figure in figures}) == len(figures)
    for figure in figures:
        numbers = [figure[name] for name in ("low", "ratio", "high", "value", "baseline")]
        assert all(math.isfinite(number) and number > 0 for number in numbers), figure
        assert figure["low"] <= figure["ratio"] <= figure["high"]
        assert figure["name"] in done.stderr, "progress is told"
    assert {"cores", "python"} <= report["machine"].keys()
