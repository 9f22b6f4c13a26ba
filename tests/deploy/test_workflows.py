"""What GitHub runs."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.deploy.compose import ROOT

FILE = ROOT / ".github" / "workflows" / "ci-cd.yml"


def run(*command: str) -> None:
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run([program, *command[1:], str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_what_github_understands() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows")


def test_an_auditor_finds_nothing() -> None:
    run("zizmor", "--offline", "--quiet")


def test_it_runs_what_the_makefile_has_and_pins_what_others_made() -> None:
    text = FILE.read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"lint", "test", "soak", "scan"} <= targets
    assert set(re.findall(r"run: make (\S+)", text)) == {"lint", "test", "soak", "scan"}
    uses = re.findall(r"uses: (\S+)( # v\S+)?", text)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) and version for action, version in uses)


def test_lists_of_what_it_is_made_of_are_of_what_the_image_installs() -> None:
    jobs = yaml.safe_load(FILE.read_text())["jobs"]
    words = next(step["run"].split() for step in jobs["sbom"]["steps"] if "run" in step)
    assert re.fullmatch(r"cyclonedx-bom==\d+\.\d+\.\d+", words[words.index("--spec") + 1])
    lock = words[words.index("requirements") + 1]
    assert (ROOT / lock).is_file()
    assert f"--requirement {Path(lock).name}" in (ROOT / "deploy" / "Dockerfile").read_text()
    kept = [step["with"]["path"] for step in jobs["sbom"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert kept == [words[words.index("--output-file") + 1]]
    (build,) = [step for step in jobs["image"]["steps"] if "build-push" in step.get("uses", "")]
    assert build["with"]["sbom"] is True


def test_only_what_was_pushed_is_published_and_deployed() -> None:
    workflow = yaml.safe_load(FILE.read_text())
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {}
    assert jobs["deploy-dev"]["environment"] == "development"
    assert jobs["deploy-production"]["environment"] == "production"
    assert "soak" in jobs["deploy-production"]["needs"]
    assert set(jobs["image"]["needs"]) == {"lint", "test", "policies"}
    for name in ("scan", "deploy-dev", "deploy-production"):
        assert "github.event_name != 'pull_request'" in jobs[name]["if"]
    (build,) = [step for step in jobs["image"]["steps"] if "build-push" in step.get("uses", "")]
    assert build["with"]["push"] == "${{ github.event_name != 'pull_request' }}"
    assert (ROOT / build["with"]["file"]).is_file()
