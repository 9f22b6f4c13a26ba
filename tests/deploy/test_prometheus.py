"""Alert rules: they hold what they say, and ask for metrics and commands that there are."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from coafi import metrics
from starters.cli import app
from tests.deploy.compose import ROOT

DIRECTORY = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")

RULES: list[dict[str, Any]] = yaml.safe_load((DIRECTORY / "rules.yaml").read_text())["groups"][0]["rules"]


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on the path (Debian: prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", "rules.yaml"), ("test", "rules", "rules.test.yaml")])
def test_promtool_finds_that_they_do_what_they_say(words: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *words], cwd=DIRECTORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_ask_for_metrics_that_there_are() -> None:
    assert metrics.OPEN_RUNS is not None
    known = set()
    for family in REGISTRY.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        known |= {family.name + suffix for suffix in suffixes}
    asked = {name for rule in RULES for name in re.findall(r"\bcoafi_\w+", rule["expr"])}
    assert asked <= known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "action"}
    for command in re.findall(r"\bcoafi ((?:[a-z-]+ ?)+?)(?: (?:shows|says|--)|[;,]|$)", rule["annotations"]["action"]):
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command
    for page in re.findall(r"docs/[\w-]+\.md", rule["annotations"]["action"]):
        assert (ROOT / page).is_file()


def test_what_was_asked_for_is_there() -> None:
    names = {rule["alert"] for rule in RULES}
    assert {"CoafiRunsParked", "CoafiRunsReportProblems", "CoafiAlarm", "CoafiCheckpointStale"} <= names
