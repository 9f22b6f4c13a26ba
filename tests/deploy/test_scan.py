"""The scan for policies: ``make scan`` does it, with a scanner of its own; here is what makes it worth something."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.compose import ROOT

DEPLOY = ROOT / "deploy"
CONFIG = yaml.safe_load((DEPLOY / "checkov.yaml").read_text())
KINDS = ("dockerfile", "github_actions", "kubernetes", "terraform")


def scan(tmp_path: Path, *, found: str, kinds: tuple[str, ...] = KINDS) -> "subprocess.CompletedProcess[str]":
    """Run the script with a scanner that says what it is told."""
    scanner = tmp_path / "checkov"
    says = "\n".join(f'case "$*" in *config-file*|*{kind}*) echo "{kind} scan results:";; esac' for kind in kinds)
    scanner.write_text(f'#!/bin/sh\n{says}\ncase "$*" in {found}) exit 1;; esac\n')
    scanner.chmod(0o755)
    command = [str(DEPLOY / "scan.sh"), str(scanner)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_succeeds_when_all_was_looked_at_and_nothing_found(tmp_path: Path) -> None:
    assert scan(tmp_path, found="nothing").returncode == 0


@pytest.mark.parametrize("found", ["*config-file*", "*github_actions*"])
def test_it_fails_on_a_finding(found: str, tmp_path: Path) -> None:
    assert scan(tmp_path, found=found).returncode == 1


@pytest.mark.parametrize("missing", KINDS)
def test_it_fails_when_something_was_not_looked_at(missing: str, tmp_path: Path) -> None:
    done = scan(tmp_path, found="nothing", kinds=tuple(kind for kind in KINDS if kind != missing))
    assert done.returncode == 1
    assert done.stderr == f"Nothing of the kind {missing} was looked at.\n"


def test_all_that_deploys_is_looked_at() -> None:
    assert {*CONFIG["framework"], "github_actions"} >= set(KINDS)
    assert not {"deploy", ".github"} & set(CONFIG["skip-path"])


def test_whatever_is_left_out_has_a_reason() -> None:
    lines = (DEPLOY / "checkov.yaml").read_text().splitlines()
    listed = [line for line in lines if line.strip().startswith("- CKV")]
    assert len(listed) == len(CONFIG["skip-check"])
    assert all(re.fullmatch(r" +- CKV\w+ # .{10,}", line) for line in listed)
    for path in (*DEPLOY.rglob("*.tf"), DEPLOY / "Dockerfile"):
        for line in path.read_text().splitlines():
            assert "checkov:skip" not in line or re.search(r"#checkov:skip=CKV\w+:.{10,}", line), (path, line)
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        for line in path.read_text().splitlines():
            assert "checkov.io/skip" not in line or re.search(r"skip\d+: CKV\w+=.{10,}", line), (path, line)


def test_the_scanner_is_locked() -> None:
    text = (DEPLOY / "scan.lock").read_text()
    pinned = re.findall(r"^(\S+)==\S+.*\\\n +--hash=sha256:", text, re.MULTILINE)
    assert "checkov" in pinned
    assert len(pinned) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE))
    assert "--require-hashes --requirement deploy/scan.lock" in (ROOT / "Makefile").read_text()
