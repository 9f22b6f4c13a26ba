"""A process that is forked is what the command would have started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import Process, start
from tests.starters.support import COMMAND, HANG, Home, process
from tests.strength import thorough

pytestmark = pytest.mark.skipif(thorough(), reason="in the soak nothing is forked")


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    """A process that waits."""
    return start((COMMAND, "gateway"), Home(tmp_path).environment(COAFI_TEMPORAL_ADDRESS="127.0.0.1:1"), tmp_path / "o")


@pytest.mark.parametrize("arguments", [("--help",), ("ledger", "verify", "--json"), ("no-command",)])
def test_it_prints_and_ends_as_the_command_does(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    out, err, environment = tmp_path / "out", tmp_path / "err", Home(tmp_path).environment()
    code = start((COMMAND, *arguments), environment, out, errors=err).wait(HANG)
    expected = process(arguments, environment)
    assert (code, out.read_bytes(), err.read_bytes()) == (expected.returncode, expected.stdout, expected.stderr)


def test_a_module_runs_as_the_main_one_with_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "1")
    (tmp_path / "shown.py").write_text(
        "import os, sys\nprint(__name__, sys.argv[1:], sorted(name for name in os.environ if name[0] in 'OT'))\n"
    )
    log = tmp_path / "log"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert start((sys.executable, "-m", "shown", "a"), {"THEIRS": "1"}, log).wait(HANG) == 0
    assert log.read_text() == "__main__ ['a'] ['THEIRS']\n"


def test_it_has_one_thread_and_dies_of_a_signal(sleeper: Process, tmp_path: Path) -> None:
    assert sleeper.pid != os.getpid()
    assert psutil.Process(psutil.Process(sleeper.pid).ppid()).num_threads() == 1, "what forks must have no others"
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0)
    sleeper.kill()
    assert sleeper.wait(HANG) == -signal.SIGKILL
    sleeper.send_signal(signal.SIGTERM)  # nobody, by now
