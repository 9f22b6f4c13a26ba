"""What every tree promises to a check."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coafi.documents.facts import DocumentFacts
from coafi.documents.local import LocalTree
from coafi.documents.tree import EntryKind, Tree, is_support_file
from tests.coafi.documents.samples import GOOD
from tests.coafi.documents.trees import MemoryTree
from tests.coafi.git.repositories import Repository

FILES: dict[str, bytes | str] = {
    "README.md": "# Read me",
    ".coafi.yaml": "rules: {}",
    "docs/a.md": GOOD,
    "docs/b.md": GOOD,
    "docs/data.yaml": "a: 1",
    "docs/sub/é ü.md": "# Ü",
    "schemas/x.json": "{}",
}


def in_memory(_: Path) -> Tree:
    return MemoryTree(FILES, links=["docs/link", "docs/out"])


def in_directory(directory: Path) -> Tree:
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (directory / "docs/link").symlink_to("sub")
    (directory / "docs/out").symlink_to("/nowhere")
    return LocalTree(directory)


def in_work_tree(directory: Path) -> Tree:
    repository = Repository.make(directory / "r")
    in_directory(repository.path)
    repository.write({".gitignore": "ignored*\n", "ignored.md": GOOD, "docs/gone.md": GOOD})
    repository.git("add", "docs")
    (repository.path / "docs/gone.md").unlink()
    return LocalTree(repository.path)


@pytest.fixture(params=[in_memory, in_directory, in_work_tree], ids=lambda make: make.__name__)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    make: Callable[[Path], Tree] = request.param
    return make(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("README.md", EntryKind.FILE),
        ("docs/sub/é ü.md", EntryKind.FILE),
        ("", EntryKind.DIRECTORY),
        ("docs", EntryKind.DIRECTORY),
        ("docs/sub", EntryKind.DIRECTORY),
        ("docs/link", EntryKind.LINK),
        ("docs/out", EntryKind.LINK),
        ("docs/gone.md", None),
        ("ignored.md", None),
        ("DOCS", None),
        ("docs/link/é ü.md", None),
        ("README.md/x", None),
        (".git", None),
        ("a\x00b", None),
        ("x" * 5000, None),
        ("../x", None),
        ("/etc/passwd", None),
    ],
)
def test_what_stands_at_a_path(tree: Tree, path: str, kind: EntryKind | None) -> None:
    assert tree.kind(path) is kind


def test_names_of_a_directory(tree: Tree) -> None:
    assert [*tree.names("docs")] == ["a.md", "b.md", "data.yaml", "link", "out", "sub"]
    assert set(tree.names("")) >= {"README.md", "docs", "schemas"}
    assert [*tree.names("none")] == [*tree.names("README.md")] == []


def test_facts_are_of_markdown_files(tree: Tree) -> None:
    assert tree.facts("docs/sub/é ü.md") == DocumentFacts(document_id=None, anchors=("ü",))
    assert tree.facts("docs/data.yaml") is None
    assert tree.facts("docs/none.md") is None
    assert tree.facts("docs/link") is None


def test_documents_are_found_by_their_ids(tree: Tree) -> None:
    assert [*tree.paths_of("COAFI-SCHEMA-0001-SPEC-A")] == ["docs/a.md", "docs/b.md"]
    assert [*tree.paths_of("COAFI-NONE-0001-SPEC-A")] == []


def test_only_support_files_are_read(tree: Tree) -> None:
    assert tree.read(".coafi.yaml") == b"rules: {}"
    assert tree.read("schemas/x.json") == b"{}"
    assert tree.read("schemas.yaml") is None
    assert tree.read("README.md") is None


@pytest.mark.parametrize(
    ("path", "support"),
    [
        *(
            (path, True)
            for path in (".coafi.yaml", "schemas.yaml", "a.schema.json", "x/y.schema.yml", "x/y.schema.yaml")
        ),
        *((path, True) for path in ("schemas/a.json", "x/schemas/y/z.yaml", "schemas/a.yml")),
        *(
            (path, False)
            for path in ("x/.coafi.yaml", "x/schemas.yaml", "a.json", "schema.json", "schemas/a.md", "schemas")
        ),
        *((path, False) for path in (".schema.json", "x.schemas/a.json", "a.schema.json/b", "schemas.json")),
    ],
)
def test_support_files(path: str, support: bool) -> None:
    assert is_support_file(path) is support
