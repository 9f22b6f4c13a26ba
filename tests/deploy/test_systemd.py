"""The systemd unit."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coafi.settings import Settings
from starters.cli import app

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "coafi.service"


def unit_values(key: str) -> list[str]:
    lines = UNIT.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def test_the_systemd_unit_runs_a_command_of_ours_with_settings_of_ours() -> None:
    (start,) = unit_values("ExecStart")
    program, *arguments = start.split()
    assert Path(program).name == "coafi"
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
    (environment,) = unit_values("Environment")
    names = {one.partition("=")[0].removeprefix("COAFI_").lower() for one in environment.split()}
    assert names <= set(Settings.model_fields)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/coafi/.venv/bin/coafi", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
