"""The dashboards of ``deploy/grafana``, and what their queries ask for."""

import json
import re
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY

from coafi import metrics
from tests.deploy.compose import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"

BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
PANELS: dict[str, dict[str, Any]] = {
    f"{name}/{panel['title']}": panel
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
}

VARIABLES = {"$__rate_interval": "10s", "$queue": ".+"}
"""What stands here for what Grafana puts into queries; a label that is not there does not match the second."""

METRIC = re.compile(r"\b(?:coafi|temporal|process)_\w+\b|\b(?:up|ALERTS)\b")


@dataclass(frozen=True)
class Query:
    """A query of a panel."""

    panel: str
    expression: str
    legend: str

    @property
    def metrics(self) -> set[str]:
        """Names of the series that it asks for."""
        return set(METRIC.findall(re.sub(r'"[^"]*"', "", self.expression)))

    @property
    def labels(self) -> set[str]:
        """Labels that it selects, groups, or shows by."""
        grouped = re.findall(r"\bby \(([^)]*)\)", self.expression)
        selected = re.findall(r'(\w+)\s*(?:=|!=|=~|!~)\s*"', self.expression)
        shown = re.findall(r"\{\{(\w+)\}\}", self.legend)
        return {*selected, *shown, *(label.strip() for labels in grouped for label in labels.split(","))}


def _filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


QUERIES = [
    Query(name, _filled(target["expr"]), target["legendFormat"])
    for name, panel in PANELS.items()
    for target in panel["targets"]
]


def own_series() -> dict[str, set[str]]:
    """The series of our own metrics and their labels, as a process exports them."""
    assert metrics.OPEN_RUNS is not None
    found: dict[str, set[str]] = {}
    for one in vars(metrics).values():
        if (name := getattr(one, "_name", None)) is None:
            continue
        (family,) = [family for family in REGISTRY.collect() if family.name == name]
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        for suffix in suffixes:
            found[name + suffix] = {*one._labelnames, *(("le",) if suffix == "_bucket" else ())}
    return found
