"""Trees of commits: recorded once, read without git."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy import text as sql

from coafi.canonical import sha256
from coafi.database import Database
from coafi.documents.facts import DocumentFacts, document_facts
from coafi.documents.tree import EntryKind
from coafi.errors import IntegrityError
from coafi.objects.local import LocalObjectStore
from coafi.trees.commit import CommitContexts, CommitTree
from coafi.trees.facts import FactsStore
from coafi.trees.listing import TreeFile, directories_of, read_listing
from coafi.trees.recorder import TreePlan, TreeRecorder
from tests.postgresql import where


class Trees:
    """Records trees that are given as contents by path."""

    def __init__(self, home: Path) -> None:
        self.database = Database(where(home))
        self.database.create_tables()
        self.objects = LocalObjectStore(home / "objects")
        self.recorder = TreeRecorder(self.database, self.objects)
        self.contents: dict[str, bytes] = {}
        self.read: list[str] = []

    def plan(self, files: Mapping[str, str], *, modes: Mapping[str, str] | None = None) -> TreePlan:
        """The plan for a tree with these contents."""
        found = []
        for path, text in files.items():
            blob = sha256(text.encode())[:40]
            self.contents[blob] = text.encode()
            found.append(TreeFile(path, (modes or {}).get(path, "100644"), blob))
        return self.recorder.plan(found)

    def record(self, files: Mapping[str, str], *, modes: Mapping[str, str] | None = None) -> CommitTree:
        """Record a tree, and open it."""
        root = self.recorder.record(self.plan(files, modes=modes), self.give)
        return CommitTree(root, self.objects, self.database)

    def give(self, blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Give contents out, as git would."""
        for blob in blobs:
            self.read.append(blob)
            yield blob, self.contents[blob]


@pytest.fixture
def trees(place: Path) -> Iterator[Trees]:
    made = Trees(place)
    yield made
    made.database.close()


def document(document_id: str, heading: str = "Part") -> str:
    return f"---\ndocument_id: {document_id}\n---\n\n# {heading}\n"


def test_a_tree_tells_what_is_where(trees: Trees) -> None:
    files = {"README.md": "# Hello", "docs/a/x.md": "x", "docs/b.md": "b", "link": "docs", "sub": "0"}
    tree = trees.record(files, modes={"link": "120000", "sub": "160000"})
    assert tree.kind("") is EntryKind.DIRECTORY
    assert tree.kind("docs/a") is EntryKind.DIRECTORY
    assert tree.kind("docs/a/x.md") is EntryKind.FILE
    assert tree.kind("link") is EntryKind.LINK
    assert tree.kind("sub") is EntryKind.LINK
    assert list(tree.names("")) == ["README.md", "docs", "link", "sub"]
    assert list(tree.names("docs")) == ["a", "b.md"]
    for missing in ("nothing", "docs/nothing", "README.md/x", "docs/b.md/x", "link/a", "docs//b.md", "docs/"):
        assert tree.kind(missing) is None
        assert list(tree.names(missing)) == []


def test_facts_of_documents_and_the_paths_of_an_id(trees: Trees) -> None:
    tree = trees.record({"a.md": document("COAFI-X"), "b/c.md": document("COAFI-X", "Other"), "d.txt": "x"})
    facts = tree.facts("a.md")
    assert facts is not None
    assert (facts.document_id, "part" in facts.anchors) == ("COAFI-X", True)
    assert list(tree.paths_of("COAFI-X")) == ["a.md", "b/c.md"]
    assert list(tree.paths_of("COAFI-Y")) == []
    assert tree.facts("d.txt") is None
    assert tree.facts("b") is None
    assert tree.facts("nothing.md") is None


def test_an_id_is_looked_for_in_this_tree_only(trees: Trees) -> None:
    before = trees.record({"a.md": document("COAFI-X"), "b.md": document("COAFI-Y")})
    after = trees.record({"a.md": document("COAFI-Z"), "b.md": document("COAFI-Y"), "c.md": document("COAFI-X")})
    assert list(before.paths_of("COAFI-X")) == ["a.md"]
    assert list(after.paths_of("COAFI-X")) == ["c.md"]
    assert list(after.paths_of("COAFI-Z")) == ["a.md"]


@pytest.mark.parametrize("cached", [4_096, 600])
def test_the_paths_of_many_ids_are_looked_up_together(
    trees: Trees, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of more than are kept."""
    files = {f"docs/{number:03}.md": document(f"COAFI-{number % 700}") for number in range(1_000)}
    tree = trees.record(files)
    monkeypatch.setattr("coafi.trees.commit._CACHED", cached)
    with patch.object(FactsStore, "paths", autospec=True, side_effect=FactsStore.paths) as asked:
        found = {path: tree.paths_of(f"COAFI-{number % 700}") for number, path in enumerate(files)}
    for number, path in enumerate(files):
        twin = f"docs/{(number + 700) % 1_400:03}.md"
        assert found[path] == sorted({path, twin} & files.keys())
    assert asked.call_count < 20


def test_of_an_id_that_is_everywhere_the_first_paths_are_known(trees: Trees) -> None:
    trees.record({f"{number}.md": document("COAFI-X" if number else "COAFI-Y") for number in range(9)})
    store = FactsStore(trees.database)
    assert store.paths(["COAFI-X", "COAFI-Y", "COAFI-Z"], 3) == {
        "COAFI-X": ["1.md", "2.md", "3.md"],
        "COAFI-Y": ["0.md"],
        "COAFI-Z": [],
    }


def test_what_other_repositories_hold_hides_no_twin(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents of an id were seen elsewhere, at paths that come first."""
    monkeypatch.setattr("coafi.trees.commit.MAX_PATHS", 10)
    monkeypatch.setattr("coafi.trees.commit.PAGE", 7)
    trees.record({f"!{number:02}.md": document("COAFI-X") for number in range(45)})
    tree = trees.record({"a.md": document("COAFI-X"), "b.md": document("COAFI-X"), "c.md": document("COAFI-Y")})
    with (
        patch.object(FactsStore, "paths", autospec=True, side_effect=FactsStore.paths) as asked,
        patch.object(FactsStore, "paths_after", autospec=True, side_effect=FactsStore.paths_after) as asked_again,
    ):
        assert list(tree.paths_of("COAFI-Y")) == ["c.md"]
        assert (asked.call_count, asked_again.call_count) == (1, 0)
        for _ in range(3):
            assert list(tree.paths_of("COAFI-X")) == ["a.md", "b.md"]
        assert (asked.call_count, asked_again.call_count) == (2, 6)


def test_a_flood_of_one_id_is_looked_through_up_to_a_limit(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coafi.trees.commit.MAX_PATHS", 10)
    monkeypatch.setattr("coafi.trees.commit.PAGE", 10)
    monkeypatch.setattr("coafi.trees.commit.MAX_SEEN", 30)
    many = {f"{number:02}.md": document("COAFI-X") for number in range(45)}
    tree = trees.record(many)
    assert list(tree.paths_of("COAFI-X")) == sorted(many)[:10]
    late = trees.record({"29.md": document("COAFI-X"), "44.md": document("COAFI-X")})
    assert list(late.paths_of("COAFI-X")) == ["29.md"]


def test_only_files_that_checks_need_can_be_read(trees: Trees) -> None:
    tree = trees.record(
        {".coafi.yaml": "rules: {}", "schemas/x.json": "{}", "secret.txt": "s", "docs/.coafi.yaml": "x"}
    )
    assert tree.read(".coafi.yaml") == b"rules: {}"
    assert tree.read("schemas/x.json") == b"{}"
    for other in ("secret.txt", "docs/.coafi.yaml", "schemas", "nothing"):
        assert tree.read(other) is None


def test_a_commit_costs_what_it_changes(trees: Trees) -> None:
    files = {f"docs/{area}/{number}.md": document(f"COAFI-{area}-{number}") for area in range(5) for number in range(9)}
    trees.record(files)
    trees.read.clear()
    plan = trees.plan({**files, "docs/3/4.md": document("COAFI-NEW")})
    assert [directory.path for directory in plan.new] == ["docs/3", "docs", ""]
    assert (len(plan.documents), plan.lost) == (1, ())
    with (
        patch.object(LocalObjectStore, "put_many", autospec=True, side_effect=LocalObjectStore.put_many) as put,
        patch.object(LocalObjectStore, "get", side_effect=AssertionError),
        patch.object(Database, "write", autospec=True, side_effect=Database.write) as written,
    ):
        trees.recorder.record(plan, trees.give)
    assert [len(call.args[1]) for call in put.call_args_list] == [3], "listings, together"
    assert written.call_count == 1
    assert len(trees.read) == 1
    again = trees.plan({**files, "docs/3/4.md": document("COAFI-NEW")})
    assert (again.new, again.documents, again.root) == ((), (), plan.root)


def test_what_was_recorded_by_half_is_recorded_anew(trees: Trees) -> None:
    files = {"a.md": document("COAFI-A"), "b/c.md": document("COAFI-C")}
    plan = trees.plan(files)

    def fail(blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        yield from list(trees.give(blobs))[:1]
        if blobs:
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # raised by the test itself
        trees.recorder.record(plan, fail)
    assert not trees.recorder.has(plan.root)
    tree = trees.record(files)
    assert list(tree.paths_of("COAFI-A")) == ["a.md"]
    assert list(tree.paths_of("COAFI-C")) == ["b/c.md"]


def test_a_content_that_is_not_given_out_has_no_facts(trees: Trees) -> None:
    plan = trees.plan({"large.md": document("COAFI-L"), "small.md": document("COAFI-S")})
    large = sha256(document("COAFI-L").encode())[:40]
    root = trees.recorder.record(plan, lambda blobs: trees.give([blob for blob in blobs if blob != large]))
    tree = CommitTree(root, trees.objects, trees.database)
    assert tree.kind("large.md") is EntryKind.FILE
    assert tree.facts("large.md") is None
    assert tree.facts("small.md") is not None


def test_the_empty_tree(trees: Trees) -> None:
    tree = trees.record({})
    assert tree.kind("") is EntryKind.DIRECTORY
    assert list(tree.names("")) == []


def test_a_lost_or_forged_listing_is_an_integrity_error(trees: Trees) -> None:
    with pytest.raises(IntegrityError):
        CommitTree("0" * 64, trees.objects, trees.database).kind("a")
    digest = trees.objects.put(b'{"format":"something else"}')
    with pytest.raises(IntegrityError, match="not the listing"):
        read_listing(trees.objects, digest)


def test_a_commit_has_one_context_for_all_its_batches(trees: Trees) -> None:
    root = trees.recorder.record(trees.plan({"a.md": "x"}), trees.give)
    contexts = CommitContexts(trees.objects, trees.database)
    assert contexts.of(root) is contexts.of(root)


def test_a_path_as_deep_as_git_allows(trees: Trees) -> None:
    path = "/".join("d" * 2_000) + "/x.md"
    tree = trees.record({path: document("COAFI-DEEP")})
    assert tree.kind(path) is EntryKind.FILE
    assert list(tree.paths_of("COAFI-DEEP")) == [path]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4)


@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.sampled_from("abc"), max_size=12))
def test_every_file_is_found_again_and_no_other(files: dict[str, str]) -> None:
    usable = {path: text for path, text in files.items() if not any(other.startswith(f"{path}/") for other in files)}
    directories = directories_of([TreeFile(path, "100644", text) for path, text in usable.items()], 1)
    assert {file.path: file.blob for one in directories for file in one.files} == usable
    assert directories[-1].path == ""
    order = [one.path for one in directories]
    assert all(order.index(path) < order.index(path.rpartition("/")[0]) for path in order if path)
    shuffled = [TreeFile(path, "100644", text) for path, text in reversed(usable.items())]
    assert directories_of(shuffled, 1)[-1].digest == directories[-1].digest


def test_documents_that_are_asked_for_in_turn_are_looked_up_together(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"docs/{number:05d}.md": document(f"COAFI-ENG-{number:05d}") for number in range(4_500)}
    tree = trees.record({**files, "docs/nothing.txt": "no document", "docs/sub/x.md": document("COAFI-X")})
    asked: list[int] = []
    look_up = FactsStore.facts

    def counted(store: FactsStore, blobs: Sequence[str]) -> dict[str, DocumentFacts]:
        asked.append(len(blobs))
        return look_up(store, blobs)

    monkeypatch.setattr(FactsStore, "facts", counted)
    for path, content in files.items():
        assert tree.facts(path) == document_facts(content.encode())
    assert len(asked) < len(files) / 50
    assert max(asked) < 500
    assert tree.facts("docs/nothing.txt") is None
    found = tree.facts("docs/sub/x.md")
    assert found is not None
    assert found.document_id == "COAFI-X"
    assert tree.facts("docs/00000.md") == document_facts(files["docs/00000.md"].encode()), "also when it was forgotten"


FILES = {
    ".coafi.yaml": "rules: {}",
    "README.md": document("COAFI-R"),
    "docs/a.md": document("COAFI-A"),
    "docs/deep/b.md": document("COAFI-B"),
    "schemas/x.json": "{}",
}


def assert_all_is_known(tree: CommitTree) -> None:
    for path in ("README.md", "docs/a.md", "docs/deep/b.md"):
        facts = tree.facts(path)
        assert facts is not None
        assert facts.document_id is not None
        assert list(tree.paths_of(facts.document_id)) == [path]
    assert (tree.read(".coafi.yaml"), tree.read("schemas/x.json")) == (b"rules: {}", b"{}")


def forget_all(database: Database, *tables: str) -> None:
    with database.write() as connection:
        for table in tables:
            connection.execute(sql(f"DELETE FROM {table}"))  # noqa: S608  # a constant


def test_a_database_that_does_not_know_what_the_store_holds_learns_it(trees: Trees) -> None:
    """From a backup that is older than the objects, or new beside an old store."""
    trees.record(FILES)
    forget_all(trees.database, "document_facts", "document_path", "support_object", "learned_directory")
    assert_all_is_known(trees.record({**FILES, "other.txt": "a later push that changes none of it"}))


def test_a_database_from_before_it_knew_what_was_learned_learns_it_once(trees: Trees) -> None:
    trees.record(FILES)
    forget_all(trees.database, "learned_directory")
    trees.read.clear()
    plan = trees.plan(FILES)
    assert (len(plan.new), plan.documents, plan.support) == (4, (), ())
    assert_all_is_known(trees.record(FILES))
    assert trees.read == [], "what contents say was known"
    assert trees.plan(FILES).new == ()


def test_a_store_that_lacks_what_the_database_knows_gets_it_again(trees: Trees) -> None:
    tree = trees.record(FILES)
    shutil.rmtree(trees.objects.root)
    trees.objects = LocalObjectStore(trees.objects.root)
    trees.recorder = TreeRecorder(trees.database, trees.objects)
    with pytest.raises(IntegrityError):
        CommitTree(tree._root, trees.objects, trees.database).kind("docs")
    assert not trees.recorder.has(tree._root)
    assert_all_is_known(trees.record(FILES))
    assert trees.recorder.has(tree._root)


@pytest.mark.parametrize("damage", [b"", b"{", None])
def test_a_listing_of_another_size_is_written_again(trees: Trees, damage: bytes | None) -> None:
    tree = trees.record(FILES)
    file = trees.objects.path(tree._entry("docs/deep")[1])  # type: ignore[index]  # it is there
    file.unlink() if damage is None else file.write_bytes(damage)
    plan = trees.plan(FILES)
    assert [one.path for one in plan.lost] == ["docs/deep"]
    assert plan.new == ()
    assert_all_is_known(trees.record(FILES))


@pytest.mark.parametrize("path", ["", "docs/deep"])
def test_a_listing_that_could_not_be_read_is_written_again(trees: Trees, path: str) -> None:
    """Also one that has the right size: whoever cannot read it says so."""
    tree = trees.record(FILES)
    file = trees.objects.path(tree._entry(path)[1])  # type: ignore[index]  # it is there
    file.write_bytes(bytes(file.stat().st_size))
    assert trees.plan(FILES).new == ()
    with pytest.raises(IntegrityError):
        CommitTree(tree._root, trees.objects, trees.database).names(path)
    assert not trees.recorder.has(tree._root)
    assert {one.path for one in trees.plan(FILES).new} == {path, ""}
    trees.record({**FILES, "other.txt": "a later push"})
    assert_all_is_known(CommitTree(tree._root, trees.objects, trees.database) if path else trees.record(FILES))


@pytest.mark.parametrize("damage", [b"", b"{ ", None])
def test_a_schema_that_could_not_be_read_is_kept_again(trees: Trees, damage: bytes | None) -> None:
    tree = trees.record(FILES)
    file = trees.objects.path(sha256(b"{}"))
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(IntegrityError):
        tree.read("schemas/x.json")
    assert_all_is_known(trees.record(FILES))


def test_listings_are_on_the_disk_before_the_database_says_that_they_were_learned(trees: Trees) -> None:
    """So whatever a power cut leaves of them is written again."""
    plan, remember = trees.plan(FILES), FactsStore.remember
    stored: list[bool] = []

    def seen(store: FactsStore, *arguments: Any) -> None:
        stored.extend(trees.objects.get(one.digest) == one.listing for one in plan.new)
        remember(store, *arguments)

    with patch.object(FactsStore, "remember", autospec=True, side_effect=seen):
        trees.recorder.record(plan, trees.give)
    assert stored == [True] * 4


def test_documents_of_a_directory_that_moved_or_was_copied_are_found_where_they_are(trees: Trees) -> None:
    trees.record({"docs/a.md": document("COAFI-A")})
    moved = trees.record({"guides/a.md": document("COAFI-A")})
    assert list(moved.paths_of("COAFI-A")) == ["guides/a.md"]
    copied = trees.record({"docs/a.md": document("COAFI-A"), "copy/of/a.md": document("COAFI-A")})
    assert list(copied.paths_of("COAFI-A")) == ["copy/of/a.md", "docs/a.md"]


def test_a_directory_counts_as_learned_only_with_all_that_is_in_it(trees: Trees) -> None:
    """A tree takes several transactions; one of them fails."""
    files = {f"docs/{number // 2}/{number}.md": document(f"COAFI-{number}") for number in range(1_200)}
    plan, write = trees.plan(files), Database.write
    for allowed in range(7):
        left = iter(range(allowed))

        def some(database: Database, left: Iterator[int] = left) -> AbstractContextManager[Connection]:
            if next(left, None) is None:
                raise OSError
            return write(database)

        with patch.object(Database, "write", autospec=True, side_effect=some), contextlib.suppress(OSError):
            trees.recorder.record(plan, trees.give)
        known = trees.recorder._facts.learned((one.path, one.digest) for one in plan.new)
        assert (len(known) > 0) == (allowed > 4), "with the last paths, in the fifth transaction"
    trees.recorder.record(trees.plan(files), trees.give)
    assert trees.plan(files).new == ()
