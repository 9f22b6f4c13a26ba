"""Names of branches: what git refuses we refuse, before git sees it."""

import subprocess
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coafi.errors import ValidationError
from coafi.git.refs import MAX_BRANCH, check_branch, check_head
from coafi.git.urls import UrlPolicy
from coafi.trees.facts import learned_directory
from tests.coafi.git.conftest import MakeFetcher
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer
from tests.coafi.objects.files import object_root
from tests.strength import examples

HOSTILE = ["", "-x", "--upload-pack=touch /tmp/x", "a..b", "a b", "*", "a?", "a[b", "a~1", "a^", "a:b", "a\\b", "@{-1}"]
HOSTILE += [
    "HEAD",
    "@",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a.",
    "a\x00b",
    "a\nb",
    "a\x7f",
    "\ud800",
]


@pytest.mark.parametrize("name", [*HOSTILE, "a" * (MAX_BRANCH + 1)])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="branch"):
        check_branch(name)


@pytest.mark.parametrize("name", ["main", "feature/x", "release-1.0", "ünïcode/→", "a@b", "refs/heads/main", "1"])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert check_branch(name) == name


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.sampled_from("ab/.@{-~^:?*[\\ l"), min_size=1, max_size=8))
@example("a.lock")
def test_it_accepts_no_name_that_git_refuses(name: str) -> None:
    try:
        check_branch(name)
    except ValidationError:
        return
    subprocess.run(["git", "check-ref-format", "--branch", name], check=True, capture_output=True)


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.sampled_from("ab/.@{-~^:?*[\\ lHEAD"), min_size=1, max_size=8))
@example("HEAD")
@example("-x")
@example("@")
def test_a_head_has_just_the_names_that_git_allows_for_refs(name: str) -> None:
    git = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False, capture_output=True)
    try:
        check_head(name)
    except ValidationError:
        assert git.returncode
    else:
        assert not git.returncode


def test_the_tip_of_exactly_this_branch_is_found(make_fetcher: MakeFetcher, repository: Repository) -> None:
    fetcher = make_fetcher()
    repository.commit({"a.md": b"# a\n"})
    repository.git("branch", "x/main")
    head = repository.git("rev-parse", "HEAD").strip()
    branch = repository.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    url = repository.path.as_uri()
    tip = fetcher.tip(url, branch, {})
    assert (tip.commit, tip.repository, tip.branch) == (head, url, branch)
    assert tip.tree is not None
    assert fetcher.tip(url, "heads/main", {}).commit is None
    assert fetcher.tip(url, "nothing", {}).commit is None
    repository.git("update-ref", "refs/other/refs/heads/only-there", head)
    assert fetcher.tip(url, "only-there", {}).commit is None


def test_a_tree_that_is_known_is_not_fetched_again(
    make_fetcher: MakeFetcher, repository: Repository, server: GitServer
) -> None:
    fetcher = make_fetcher()
    repository.commit({"a.md": b"# a\n"})
    branch = repository.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    url = server.url(repository.path.name)
    first = fetcher.tip(url, branch, {})
    assert first.commit is not None
    assert first.tree is not None
    posts = server.posts
    again = fetcher.tip(url, branch, {first.commit: first.tree})
    assert again == first
    assert server.posts - posts <= 1, "only the look-up"


def test_a_damaged_mirror_is_made_anew_for_a_tip(make_fetcher: MakeFetcher, repository: Repository) -> None:
    fetcher = make_fetcher()
    repository.commit({"a.md": b"# a\n"})
    branch = repository.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    url = repository.path.as_uri()
    first = fetcher.tip(url, branch, {})
    for pack in fetcher.mirrors.rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"damaged")
    for listing in object_root(fetcher.objects).rglob("*"):
        if listing.is_file():
            listing.unlink()
    assert fetcher.tip(url, branch, {}) == first


def test_a_tree_that_is_said_to_be_known_and_is_not_is_recorded_again(
    make_fetcher: MakeFetcher, repository: Repository
) -> None:
    """The store was emptied, or the database is an older one than who remembers the tree."""
    fetcher = make_fetcher()
    repository.commit({"a.md": b"# a\n"})
    branch = repository.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    url = repository.path.as_uri()
    first = fetcher.tip(url, branch, {})
    assert first.commit is not None
    assert first.tree is not None
    known = {first.commit: first.tree}
    fetcher.objects.remove(first.tree, older_than=time.time() + 60)
    assert fetcher.tip(url, branch, known) == first
    assert fetcher.trees.has(first.tree)
    with fetcher.trees.database.write() as connection:
        connection.execute(learned_directory.delete())
    assert fetcher.tip(url, branch, known) == first
    assert fetcher.trees.has(first.tree)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_reaches_git(make_fetcher: MakeFetcher, repository: Repository, name: str) -> None:
    with pytest.raises(ValidationError):
        make_fetcher(url_policy=UrlPolicy()).tip("https://nothing.invalid/x", name, {})
