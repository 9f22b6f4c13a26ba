"""``coafi files check`` on real directories and work trees."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from coafi.documents.rules import RULES
from coafi.findings import Severity
from coafi.paths import display_path, judge_path
from starters import files
from starters.cli import app
from starters.output import err
from tests.coafi.documents.samples import GOOD
from tests.coafi.git.repositories import Repository
from tests.samples.repository import SAMPLES, commit, write
from tests.starters.support import COMMAND

BAD = GOOD.replace("COAFI-SCHEMA-0001-SPEC-A", "nonsense")
WARNED = GOOD + "\nSee [it](gone.md).\n"

SARIF: dict[str, Any] = {
    "required": ["$schema", "version", "runs"],
    "properties": {
        "$schema": {"const": files.SARIF_SCHEMA},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool", "columnKind", "originalUriBaseIds", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "version", "rules"],
                                "properties": {
                                    "rules": {
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id", "shortDescription", "help", "defaultConfiguration"]
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "originalUriBaseIds": {
                        "additionalProperties": {
                            "required": ["uri"],
                            "properties": {"uri": {"format": "uri", "pattern": "^file:///.*/$"}},
                        }
                    },
                    "results": {
                        "items": {
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"enum": [*RULES]},
                                "ruleIndex": {"type": "integer", "minimum": 0, "maximum": len(RULES) - 1},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"], "properties": {"text": {"minLength": 1}}},
                                "locations": {
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "properties": {
                                                    "artifactLocation": {
                                                        "required": ["uri", "uriBaseId"],
                                                        "properties": {"uri": {"format": "uri-reference"}},
                                                    },
                                                    "region": {
                                                        "additionalProperties": False,
                                                        "properties": {
                                                            "startLine": {"type": "integer", "minimum": 1},
                                                            "startColumn": {"type": "integer", "minimum": 1},
                                                        },
                                                    },
                                                }
                                            }
                                        }
                                    }
                                },
                            },
                        }
                    },
                },
            },
        },
    },
}
"""What of SARIF 2.1.0 is used here, as strictly as it can be said."""


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command in this process, in a directory."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        result = CliRunner().invoke(app, ["files", "check", *arguments])
    finally:
        os.chdir(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def process(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [COMMAND, "files", "check", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository.make(tmp_path / "r")
    made.write(
        {"docs/bad.md": BAD, "docs/warned.md": WARNED, "docs/good.md": GOOD.replace("0001", "0002"), "data.bin": b"\0"}
    )
    made.write({".gitignore": "ignored\n", "ignored/x.yaml": "a: ["})
    return made


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return commit(tmp_path_factory.mktemp("samples") / "r").repository.path


def test_findings_are_printed_for_people_with_a_summary(repository: Repository) -> None:
    done = process(repository.path)
    assert done.returncode == 1
    assert done.stdout == (
        "\ndocs/bad.md:3:14 error frontmatter/value\n"
        "  document_id is 'nonsense', which has not the expected form\n"
        "  → write it like COAFI-SCHEMA-0001-SPEC-A or GP-DOCS-0001-PROTOCOL-A\n"
        "\ndocs/warned.md:15:5 warning link/missing-file\n"
        "  the link leads to 'gone.md', which does not exist (seen from docs/)\n"
        "  → correct the target, or remove the link\n"
        "\n5 files; 3 valid, 1 invalid, 1 skipped; 1 error, 1 warning\n"
    )
    assert done.stderr == ""


def test_paths_are_shown_as_seen_from_here(repository: Repository) -> None:
    assert "\nbad.md:3:14" in run(repository.path / "docs", ".")[1]
    assert "\nr/docs/bad.md:3:14" in run(repository.path.parent, "r/docs")[1]
    assert f"\n{repository.path}/docs/bad.md:3:14" in run(Path("/usr"), str(repository.path))[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["docs/bad.md"], 1),
        (["docs/good.md"], 0),
        (["docs/warned.md"], 0),
        (["docs/warned.md", "--strict"], 1),
        (["docs/good.md", "--strict"], 0),
        (["data.bin", "--strict"], 0),
        (["docs/good.md", "docs/bad.md"], 1),
    ],
)
def test_the_exit_code_says_whether_there_is_something_to_mend(
    repository: Repository, arguments: Sequence[str], code: int
) -> None:
    assert run(repository.path, *arguments)[0] == code


def test_what_git_ignores_is_checked_only_when_it_is_named(repository: Repository) -> None:
    assert "ignored" not in run(repository.path)[1]
    assert run(repository.path, "ignored")[1].strip().startswith("0 files")
    assert "ignored/x.yaml" in run(repository.path, "ignored/x.yaml")[1]


def test_a_path_that_is_not_there_is_an_error(repository: Repository) -> None:
    done = process(repository.path, "docs", "none.md")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: there is no file or directory none.md\n  → check the path\n"


def test_a_format_that_is_none_is_an_error(repository: Repository) -> None:
    code, output = run(repository.path, "--format", "xml")
    assert code == 2
    assert "text, json, sarif, github" in output


def test_links_and_ids_see_the_whole_repository_also_when_one_file_is_named(repository: Repository) -> None:
    repository.write({"a.md": GOOD + "[b](docs/good.md#utids-management-schema)", "b.md": GOOD})
    output = run(repository.path, "a.md")[1]
    assert "is also the id of b.md, docs/warned.md" in output
    assert "link/" not in output


def test_a_directory_without_git_is_the_whole_repository(tmp_path: Path) -> None:
    write(tmp_path)
    code, output = run(tmp_path, "--json")
    told = json.loads(output)
    assert code == 1
    verdicts = {one["path"]: one["verdict"] for one in told["files"]}
    assert {sample.path: sample.verdict for sample in SAMPLES}.items() <= verdicts.items()
    assert verdicts["reports/latest.md"] == "skipped"


def test_json_is_for_programs(samples: Path) -> None:
    code, output = run(samples, "--json")
    told = json.loads(output)
    assert code == 1
    assert len(told["files"]) == len(SAMPLES) + 1
    by_path = {one["path"]: one for one in told["files"]}
    for sample in SAMPLES:
        findings = by_path[sample.path]["findings"]
        found = tuple((one["rule"], one["severity"], one.get("line"), one.get("column")) for one in findings)
        assert (by_path[sample.path]["verdict"], found) == (sample.verdict, sample.findings)
    assert sum(told["verdicts"].values()) == len(told["files"])
    assert told["findings"]["error"] == sum(one[1] == Severity.ERROR for sample in SAMPLES for one in sample.findings)
    assert run(samples, "--format", "json")[1] == output


def test_sarif_is_what_the_standard_asks_for(samples: Path, repository: Repository) -> None:
    repository.write({"docs/a b#é.md": BAD})
    code, output = run(samples, ".", str(repository.path), "--format", "sarif")
    log = json.loads(output)
    jsonschema.Draft202012Validator(SARIF, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(log)
    assert code == 1
    first, second = log["runs"]
    expected = [one for sample in SAMPLES for one in sample.findings if sample.verdict != "skipped"]
    assert len([one for one in first["results"] if one["locations"]]) >= len(expected)
    for result in first["results"]:
        assert first["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    places = [one["locations"][0]["physicalLocation"] for one in second["results"]]
    assert {
        "artifactLocation": {"uri": "docs/a%20b%23%C3%A9.md", "uriBaseId": "ROOT"},
        "region": {"startLine": 3, "startColumn": 14},
    } in places


def test_github_shows_findings_at_their_lines(repository: Repository) -> None:
    repository.write({"docs/a,b:%.md": BAD, "docs/large.txt": b"x"})
    output = run(repository.path / "docs", "--format", "github")[1]
    assert (
        "::error file=docs/bad.md,line=3,col=14,title=frontmatter/value::document_id is 'nonsense', which has not the "
        "expected form; write it like" in output
    )
    assert "::warning file=docs/warned.md,line=15,col=5,title=link/missing-file::" in output
    assert "::error file=docs/a%2Cb%3A%25.md,line=3" in output
    assert all(line.startswith("::") for line in output.splitlines())


def test_what_cannot_be_looked_at_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to("none.md")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "large.md").write_bytes(b"x" * (11 * 1024 * 1024))
    (tmp_path / os.fsdecode(b"\xff.md")).write_bytes(GOOD.encode())
    code, output = run(tmp_path, ".", "link.md", "--json")
    told = {
        one["path"]: (one["verdict"], one["findings"][0]["message"] if one["findings"] else "")
        for one in json.loads(output)["files"]
    }
    assert code == 0
    assert told["link.md"] == ("skipped", "the content was not looked at: it is a symbolic link")
    assert told["pipe.md"] == ("skipped", "the content was not looked at: it is a submodule or a special file")
    assert told["large.md"][0] == "skipped"
    assert told["large.md"][1].endswith("it has 11534336 bytes; up to 10485760 are checked")
    assert told["\\xff.md"] == ("skipped", "the content was not looked at: path-not-utf8")


def test_a_name_is_judged_and_shown_as_in_a_push(repository: Repository) -> None:
    names = [b"a\\b.json", b"caf\xe9.json", "x\u202ey.json".encode(), b"line\nbreak.json", b"good.json"]
    for name in names:
        (repository.path / os.fsdecode(name)).write_text("{")
    code, output = run(repository.path, "--format", "json", *(os.fsdecode(name) for name in names[:3]), ".")
    found = {one["path"]: one for one in json.loads(output)["files"]}
    assert {one["path"] for one in found.values()} >= {display_path(name) for name in names}
    for name in names[:-1]:
        one = found[display_path(name)]
        assert (one["verdict"], [finding["rule"] for finding in one["findings"]]) == ("skipped", ["file/omitted"])
        assert str(judge_path(name)) in one["findings"][0]["message"]
    assert found["good.json"]["verdict"] == "invalid"
    assert code == 1


def test_long_runs_show_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(files._PROGRESS_FROM):
        (tmp_path / f"{number}.yaml").write_text("a: 1")
    monkeypatch.setattr(err, "_force_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(files, "err", type(err)(stderr=True, force_terminal=True))
    assert "Checking" in run(tmp_path)[1]


def test_nothing_is_imported_that_only_the_service_needs(tmp_path: Path) -> None:
    heavy = ("temporalio", "sqlalchemy", "structlog", "pydantic_settings", "starlette", "rich.progress", "pygments")
    (tmp_path / "a.md").write_text(GOOD)
    script = (
        "import sys; sys.argv = ['coafi', 'files', 'check']\n"
        "from starters.cli import main\n"
        "try: main()\n"
        f"finally: assert not {{*sys.modules}} & {{*{heavy!r}}}, {{*sys.modules}} & {{*{heavy!r}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(60)
def test_many_files_are_checked_in_little_time(tmp_path: Path) -> None:
    for number in range(300):
        text = GOOD.replace("0001", f"{number:04}") + "".join(
            f"[x]({(number + one) % 300}.md#top)\n" for one in range(30)
        )
        (tmp_path / f"{number}.md").write_text(text)
    start = time.process_time()
    assert run(tmp_path)[0] == 0
    assert time.process_time() - start < 5


# ---------------------------------------------------------------------- pre-commit

HOOKS = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"


def test_the_hook_is_one_that_pre_commit_takes(repository: Repository, tmp_path: Path) -> None:
    validate = [sys.executable, "-m", "pre_commit", "validate-manifest", str(HOOKS)]
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home")}
    done = subprocess.run(validate, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_hook_refuses_a_commit_with_errors(repository: Repository, tmp_path: Path) -> None:
    """Run by pre-commit, with the installed command in place of an environment that would have to be downloaded."""
    hooks = Repository.make(tmp_path / "hooks")
    manifest = (
        HOOKS.read_text().replace("language: python", "language: system").replace("entry: coafi", f"entry: {COMMAND}")
    )
    revision = hooks.commit({".pre-commit-hooks.yaml": manifest})
    settings = f"repos:\n  - repo: {hooks.path}\n    rev: {revision}\n    hooks:\n      - id: coafi-files\n"
    repository.write({".pre-commit-config.yaml": settings})
    repository.git("add", "docs", ".pre-commit-config.yaml")
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    command = [sys.executable, "-m", "pre_commit", "run", "--color=never"]

    def commit_hook() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=repository.path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    refused = commit_hook()
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "docs/bad.md:3:14 error frontmatter/value" in refused.stdout
    repository.git("rm", "--quiet", "--cached", "docs/bad.md")
    (repository.path / "docs/bad.md").unlink()
    allowed = commit_hook()
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
