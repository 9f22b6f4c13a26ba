"""The ratios of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Figure


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw a bar for every ratio, with its spread, into a PNG file; what is not compared has none."""
    from matplotlib.figure import Figure as Canvas  # It takes half a second to import.

    bars = [
        (f"{one.name}\nagainst {one.against}", one.ratio, one.ratio - one.low, one.high - one.ratio)
        for one in reversed(figures)
        if one.ratio is not None and one.low is not None and one.high is not None
    ]
    if not bars:
        return
    labels, ratios, below, above = zip(*bars, strict=True)
    canvas = Canvas(figsize=(11, 1.5 + 0.5 * len(bars)), layout="constrained")
    axes = canvas.subplots()
    found = axes.barh(labels, ratios, xerr=(below, above), color="#4477aa", ecolor="#222222", capsize=3)
    axes.bar_label(found, fmt="%.3g", padding=6)
    axes.axvline(1, color="#aa3377", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set_xlabel("how fast it is by how fast the baseline is (1: as fast)")
    canvas.savefig(path, dpi=110)
