"""What a commit changed: every kind of change, every base, every hostile name."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.git.changes import (
    Change,
    ChangedFile,
    changed_files,
    compare_trees,
    contents_needed,
    count_changes,
    empty_tree,
    parse_raw_diff,
    read_commit,
)
from coafi.git.failures import MirrorDamaged
from coafi.git.limits import GitLimits
from coafi.git.mirror import Mirror
from coafi.git.runner import GitRunner, Watch
from coafi.paths import Omitted, display_path, judge_path
from tests.coafi.git.repositories import Repository

LIMITS = GitLimits()
TEXT = "".join(f"line {number}\n" for number in range(40))


@contextlib.contextmanager
def opened(repository: Repository) -> Iterator[Mirror]:
    """The repository itself as if it were a mirror: what it holds was checked by nobody."""
    mirror = Mirror(repository.path / ".git", "docs", GitRunner(), Watch())
    with mirror.objects:
        yield mirror


def changes(
    repository: Repository, base: str | None, commit: str, limits: GitLimits = LIMITS
) -> dict[bytes, ChangedFile]:
    base = base or empty_tree(40)
    with opened(repository) as mirror:
        flat = compare_trees(mirror, base, commit, limits)
        sizes = mirror.sizes(sorted(contents_needed(flat, limits)))
        return {file.path: file for file in changed_files(mirror, base, commit, limits, flat, sizes)}


def test_additions_modifications_and_deletions(repository: Repository) -> None:
    first = repository.commit({"a.md": "a", "b.md": "b"})
    (repository.path / "b.md").unlink()
    second = repository.commit({"a.md": "A", "c.md": "something else entirely"})
    found = changes(repository, first, second)
    assert {path: file.change for path, file in found.items()} == {
        b"a.md": Change.MODIFIED,
        b"b.md": Change.DELETED,
        b"c.md": Change.ADDED,
    }
    assert found[b"b.md"].omitted is Omitted.DELETED
    assert found[b"b.md"].blob is None
    assert found[b"b.md"].mode is None
    assert found[b"b.md"].old_blob is not None
    assert found[b"c.md"].old_blob is None
    assert found[b"a.md"].size == 1
    assert count_changes(found.values()) == {"added": 1, "deleted": 1, "modified": 1}


def test_a_first_commit_is_compared_with_the_empty_tree(repository: Repository) -> None:
    first = repository.commit({"a.md": "a", "d/b.md": "b"})
    assert [(file.path, file.change) for file in changes(repository, None, first).values()] == [
        (b"a.md", Change.ADDED),
        (b"d/b.md", Change.ADDED),
    ]


def test_a_rename_alone_and_a_rename_with_an_edit(repository: Repository) -> None:
    first = repository.commit({"a.md": TEXT, "b.md": TEXT + "b"})
    repository.git("mv", "a.md", "moved.md")
    repository.git("mv", "b.md", "edited.md")
    second = repository.commit({"edited.md": TEXT + "b and more\n"})
    found = changes(repository, first, second)
    assert {(file.old_path, path, file.change) for path, file in found.items()} == {
        (b"a.md", b"moved.md", Change.RENAMED),
        (b"b.md", b"edited.md", Change.RENAMED),
    }
    assert found[b"moved.md"].blob == found[b"moved.md"].old_blob
    assert found[b"edited.md"].blob != found[b"edited.md"].old_blob
    assert all(file.omitted is None for file in found.values())


def test_a_copy_of_a_file_that_changed_too(repository: Repository) -> None:
    first = repository.commit({"a.md": TEXT})
    second = repository.commit({"a.md": TEXT + "more\n", "copy.md": TEXT})
    found = changes(repository, first, second)
    assert found[b"copy.md"].change is Change.COPIED
    assert found[b"copy.md"].old_path == b"a.md"


def test_beyond_the_limit_only_exact_renames_are_found(repository: Repository) -> None:
    first = repository.commit({"a.md": TEXT, "b.md": TEXT + "b"})
    repository.git("mv", "a.md", "moved.md")
    repository.git("mv", "b.md", "edited.md")
    second = repository.commit({"edited.md": TEXT + "b and more\n"})
    for limits in (GitLimits(rename_limit=1), GitLimits(max_similarity_bytes=10)):
        found = changes(repository, first, second, limits)
        assert {path: file.change for path, file in found.items()} == {
            b"moved.md": Change.RENAMED,
            b"edited.md": Change.ADDED,
            b"b.md": Change.DELETED,
        }


def test_modes_and_types(repository: Repository) -> None:
    first = repository.commit({"run.sh": "run", "doc.md": "doc", "both.sh": "1"})
    (repository.path / "run.sh").chmod(0o755)
    (repository.path / "both.sh").chmod(0o755)
    (repository.path / "doc.md").unlink()
    (repository.path / "doc.md").symlink_to("/etc/passwd")
    second = repository.commit({"both.sh": "2"})
    found = changes(repository, first, second)
    assert found[b"run.sh"].change is Change.MODE_CHANGED
    assert (found[b"run.sh"].old_mode, found[b"run.sh"].mode) == ("100644", "100755")
    assert found[b"run.sh"].omitted is None
    assert found[b"both.sh"].change is Change.MODIFIED
    assert found[b"doc.md"].change is Change.TYPE_CHANGED
    assert found[b"doc.md"].omitted is Omitted.SYMLINK
    assert found[b"doc.md"].size == 0


def test_a_submodule_is_listed_and_not_followed(repository: Repository) -> None:
    first = repository.commit({"a.md": "a"})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{first},vendor/lib")
    repository.git("commit", "--quiet", "-m", "Submodule")
    found = changes(repository, first, repository.git("rev-parse", "HEAD"))
    assert found[b"vendor/lib"].omitted is Omitted.SUBMODULE
    assert found[b"vendor/lib"].blob == first


def test_a_file_over_the_limit_is_listed_without_content(repository: Repository) -> None:
    first = repository.commit({"large.bin": bytes(2_000), "small.bin": bytes(2)})
    found = changes(repository, None, first, GitLimits(max_blob_bytes=1_000))
    assert found[b"large.bin"].omitted is Omitted.TOO_LARGE
    assert found[b"large.bin"].size == 2_000
    assert found[b"small.bin"].omitted is None


def test_too_many_files_or_bytes_are_refused_with_the_limit_named(repository: Repository) -> None:
    first = repository.commit({f"{number}.md": bytes(100) for number in range(10)})
    with pytest.raises(ValidationError, match="limit is 9 files"):
        changes(repository, None, first, GitLimits(max_files=9))
    with pytest.raises(ValidationError, match="limit is 999 bytes"):
        changes(repository, None, first, GitLimits(max_commit_bytes=999))
    assert len(changes(repository, None, first, GitLimits(max_files=10, max_commit_bytes=1_000))) == 10


def test_files_are_in_the_order_of_their_paths_bytes(repository: Repository) -> None:
    first = repository.commit({name: name for name in ("a/b", "a.b", "a-b", "Z", "ä", "a0")})
    paths = list(changes(repository, None, first))
    assert paths == sorted(paths)


@pytest.mark.parametrize(
    "names",
    [
        (b"..", b"x"),
        (b"../x",),
        (b"/abs",),
        (b".git", b"hooks", b"post-checkout"),
        (b".GIT", b"config"),
        (b"a", b".git", b"config"),
        (b".git ", b"config"),
        (b"git~1", b"config"),
        (b".git:x",),
        (b".", b"x"),
        (b"a//b",),
        (".g\u200cit".encode(), b"config"),
        (b"a\\b",),
        (b"new\nline",),
        (b"tab\there",),
        (b"escape\x1b[31m",),
        ("right\u202eleft".encode(),),
        (b"x" * 300,),
    ],
)
def test_a_dangerous_path_keeps_its_place_but_not_its_content(repository: Repository, names: tuple[bytes, ...]) -> None:
    entry = ("100644", names[-1], repository.blob(b"content"))
    for name in reversed(names[:-1]):
        entry = ("40000", name, repository.raw_tree([entry]))
    commit = repository.commit_tree(repository.raw_tree([entry]))
    found = changes(repository, None, commit)
    assert [(file.path, file.omitted) for file in found.values()] == [(b"/".join(names), Omitted.UNSAFE_PATH)]
    assert not set("\n\t\x1b\u202e") & set(display_path(b"/".join(names)))


def test_a_path_that_is_not_utf8_is_listed_escaped(repository: Repository) -> None:
    tree = repository.raw_tree([("100644", b"caf\xe9.md", repository.blob(b"x"))])
    found = changes(repository, None, repository.commit_tree(tree))
    assert found[b"caf\xe9.md"].omitted is Omitted.PATH_NOT_UTF8
    assert display_path(b"caf\xe9.md") == "caf\\xe9.md"


@pytest.mark.parametrize(
    "path", ["a.md", "d/a b.md", ".gitignore", ".github/x.yml", "ü/ñ.md", "..a", "a..b", "-x", "git"]
)
def test_ordinary_paths_are_fine(path: str) -> None:
    assert judge_path(path.encode()) is None
    assert display_path(path.encode()) == path


@given(st.binary(max_size=60))
def test_any_path_is_shown_and_judged(path: bytes) -> None:
    shown = display_path(path)
    shown.encode("utf-8")
    if judge_path(path) is None:
        assert shown.encode() == path
        assert not {"", ".", "..", ".git"} & set(shown.split("/"))
        assert "\n" not in shown


@pytest.mark.parametrize("path", [b"d/" * 2_000 + b"a.md", b"a" * 4_096, b"\xff" * 1_000])
def test_a_path_that_an_entry_of_the_ledger_holds_is_shown_whole(path: bytes) -> None:
    assert display_path(path) == path.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize(
    "path", [b"a" * 70_000, b"d/" * 20_000, b"\xff" * 1_100, "\u202e".encode() * 700, "é".encode() * 9_000]
)
def test_a_path_that_is_too_long_is_shown_by_its_head_and_what_tells_it_from_others(path: bytes) -> None:
    shown = display_path(path)
    assert len(shown.encode()) <= 4_096
    head, _, digest = shown.partition("…")
    assert len(head) > 1_000
    assert digest == hashlib.sha256(path).hexdigest()
    assert display_path(path[:-2]) != shown


@given(st.binary(max_size=200))
def test_any_output_is_a_difference_or_refused(raw: bytes) -> None:
    with contextlib.suppress(MirrorDamaged):
        list(parse_raw_diff(raw))


def test_a_difference_that_ends_early_is_refused() -> None:
    entry = b":100644 100644 " + b"a" * 40 + b" " + b"b" * 40 + b" R100\0old\0"
    with pytest.raises(MirrorDamaged, match="too early"):
        list(parse_raw_diff(entry))


def test_a_mode_that_is_not_octal_is_refused() -> None:
    entry = b":100644 180755 " + b"a" * 40 + b" " + b"b" * 40 + b" M\0a\0"
    with pytest.raises(MirrorDamaged, match="not understood"):
        list(parse_raw_diff(entry))


def test_the_head_of_a_commit(repository: Repository) -> None:
    first = repository.commit({"a.md": "a"})
    second = repository.commit({"a.md": "b"}, message="Grüße\n\nA body.")
    with opened(repository) as mirror:
        commit = read_commit(mirror, second)
    assert commit.parents == (first,)
    assert commit.tree == repository.git("rev-parse", f"{second}^{{tree}}")
    assert commit.subject == "Grüße"
    assert (commit.author.name, commit.author.email) == ("Ada Lovelace", "ada@example.org")
    assert commit.author.time == "2026-11-05T10:00:00+01:00"
    assert commit.committer.time == "2026-11-05T11:00:00+01:00"


@pytest.mark.parametrize(
    ("author", "name", "time"),
    [
        (b"A <a@x> 99999999999999999 +0000", "A", None),
        (b"A <a@x> 0 -0330", "A", "1969-12-31T20:30:00-03:30"),
        (b"A <a@x> 0 +9999", "A", None),
        (b"no address at all", "no address at all", None),
        (b"\xff\x1b[31m <a@x> 0 +0000", "\ufffd[31m", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_the_head_of_a_strange_commit(repository: Repository, author: bytes, name: str, time: str | None) -> None:
    tree = repository.raw_tree([]).encode()
    raw = b"tree " + tree + b"\nauthor " + author + b"\ncommitter " + author + b"\n\n" + b"s" * 500
    sha = repository.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw)
    with opened(repository) as mirror:
        commit = read_commit(mirror, sha)
    assert (commit.author.name, commit.author.time) == (name, time)
    assert len(commit.subject) == 200


def test_a_tree_is_no_commit(repository: Repository) -> None:
    repository.commit({"a.md": "a"})
    with opened(repository) as mirror:
        with pytest.raises(ValidationError, match="is a tree"):
            read_commit(mirror, repository.git("rev-parse", "HEAD^{tree}"))
        with pytest.raises(MirrorDamaged):
            read_commit(mirror, "1" * 40)


def test_a_commit_that_is_too_large_is_refused(repository: Repository) -> None:
    commit = repository.commit({"a.md": "a"}, message="m" * 1_000)
    mirror = Mirror(repository.path / ".git", "docs", GitRunner(GitLimits(max_output_bytes=1_000)), Watch())
    with mirror.objects, pytest.raises(ValidationError, match="limit is 1000 bytes"):
        read_commit(mirror, commit)


def test_contents_come_in_order_and_whole(repository: Repository) -> None:
    contents = {"a": b"", "b": b"x\n" * 300_000, "c": b"\n", "d": b"blob 5\nblob", "e": b""}
    first = repository.commit(dict(contents))
    found = changes(repository, None, first)
    taken: list[bytes] = []
    with opened(repository) as mirror:
        mirror.objects.contents([(file.blob or "", file.size) for file in found.values()], taken.append)
    assert taken == list(contents.values())


def test_contents_that_are_missing_are_noticed(repository: Repository, tmp_path: Path) -> None:
    first = repository.commit({"a": b"a", "b": b"b"})
    blobs = [(file.blob or "", file.size) for file in changes(repository, None, first).values()]
    blob = blobs[1][0]
    (repository.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with opened(repository) as mirror, pytest.raises(MirrorDamaged, match="has nothing"):
        mirror.objects.contents(blobs, lambda _content: None)
    with pytest.raises(MirrorDamaged):
        changes(repository, None, first)


def test_empty_trees_are_known_by_name(tmp_path: Path) -> None:
    for length, kind in ((40, "sha1"), (64, "sha256")):
        repository = Repository.make(tmp_path / kind, f"--object-format={kind}")
        assert repository.git("hash-object", "-t", "tree", "/dev/null") == empty_tree(length)
