"""What is said of the sample repository, on disk and as a history."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coafi.documents.check import check_file
from coafi.documents.context import CheckContext
from coafi.documents.local import LocalTree
from coafi.documents.tree import Tree
from tests.coafi.documents.samples import BUILTIN
from tests.coafi.documents.trees import MemoryTree
from tests.samples.repository import LATEST, SAMPLES, Sample, commit, contents, write


def in_memory(_: Path) -> Tree:
    return MemoryTree(contents(), links=[LATEST])


def on_disk(directory: Path) -> Tree:
    write(directory)
    return LocalTree(directory)


def committed(directory: Path) -> Tree:
    commit(directory / "repository")
    return LocalTree(directory / "repository")


@pytest.fixture(scope="module", params=[in_memory, on_disk, committed], ids=lambda make: make.__name__)
def context(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CheckContext:
    make: Callable[[Path], Tree] = request.param
    return CheckContext.of(make(tmp_path_factory.mktemp("samples")))


def test_there_are_forty() -> None:
    assert len(contents()) == len(SAMPLES) == 40


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.path)
def test_every_sample_gets_its_verdict_and_its_findings(sample: Sample, context: CheckContext) -> None:
    report = check_file(sample.path, sample.content, BUILTIN, context=context)
    told = tuple((one.rule, str(one.severity), one.line, one.column) for one in report.findings)
    assert (report.verdict, told) == (sample.verdict, sample.findings)


def test_the_history_has_what_histories_have(tmp_path: Path) -> None:
    history = commit(tmp_path / "repository")
    git = history.repository.git

    def changes(sha: str) -> set[str]:
        shown = git("show", "--format=", "--name-status", "--find-renames", "--first-parent", "-m", sha)
        return {line[0] for line in shown.splitlines()}

    assert git("rev-list", "--max-parents=0", "HEAD") == history.first
    assert changes(history.first) == {"A"}
    assert changes(history.renames) == {"R"}
    assert changes(history.deletions) == {"D"}
    assert changes(history.empty) == set()
    assert changes(history.merge) == {"A"}
    assert len(git("rev-list", "--parents", "-n1", history.merge).split()) == 3
    assert git("rev-parse", "HEAD") == history.head
    assert set(git("ls-files").splitlines()) == {*contents(), LATEST}
    for path, content in contents().items():
        assert (history.repository.path / path).read_bytes() == content
