import os
from pathlib import Path

import pytest

from coafi.documents.local import LocalTree, read_file
from coafi.documents.tree import EntryKind
from tests.coafi.git.repositories import Repository


def test_the_tree_around_a_directory_is_its_work_tree(tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "r")
    repository.write({"docs/a.md": "# A", "b.md": "# B"})
    assert LocalTree.around(repository.path / "docs").paths == ("b.md", "docs/a.md")
    (tmp_path / "plain").mkdir()
    assert LocalTree.around(tmp_path / "plain").root == tmp_path / "plain"


def test_without_git_a_directory_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.make(tmp_path / "r")
    repository.write({"docs/a.md": "# A", ".gitignore": "docs"})
    monkeypatch.setenv("PATH", "")
    assert LocalTree.around(repository.path).paths == (".gitignore", "docs/a.md")


def test_names_that_are_not_utf_8_are_escaped_as_in_reports(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.md")).write_bytes(b"---\ndocument_id: X\n---\n# A\n")
    tree = LocalTree(tmp_path)
    (path,) = tree.paths
    assert path == "\\xff.md"
    assert tree.content(path) == b"---\ndocument_id: X\n---\n# A\n"
    assert tree.paths_of("X") == [path]


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "no.md").write_bytes(b"x")
    tree = LocalTree(tmp_path)
    assert tree.kind("pipe.md") is EntryKind.LINK
    assert tree.content("pipe.md") is None
    (tmp_path / "no.md").unlink()
    assert tree.content("no.md") is None
    assert read_file(tmp_path) is None


def test_a_submodule_is_a_link(tmp_path: Path) -> None:
    inner = Repository.make(tmp_path / "inner")
    inner.commit({"x.md": "# X"})
    outer = Repository.make(tmp_path / "outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.url, "lib")
    assert LocalTree(outer.path).kind("lib") is EntryKind.LINK
    assert LocalTree(outer.path).kind("lib/x.md") is None
