"""The whole way: from a URL and a commit to a manifest and archives, over files and over HTTP."""

import base64
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from coafi.database import Database
from coafi.documents.check import check_file
from coafi.errors import (
    CoafiError,
    IntegrityError,
    PolicyDenied,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.git.archive import read_archive
from coafi.git.changes import BaseKind, Change
from coafi.git.failures import AccessRefused, GitCancelled
from coafi.git.fetch import FetchRequest, FetchResult, GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.manifest import ManifestFile, read_manifest
from coafi.git.urls import UrlPolicy
from coafi.paths import Omitted
from coafi.registry.store import PublishedSchemas, builtin_schemas
from coafi.trees.commit import CommitContexts
from coafi.trees.recorder import TreeRecorder
from tests.coafi.git.conftest import MakeFetcher
from tests.coafi.git.repositories import ZERO, Repository
from tests.coafi.git.server import GitServer

TEXT = "".join(f"line {number}\n" for number in range(40))


def contents(fetcher: GitFetcher, result: FetchResult) -> dict[str, tuple[ManifestFile, bytes | None]]:
    """Every file of the archives, by path, after checking that they agree with manifest and result."""
    manifest = read_manifest(fetcher.objects, result.manifest)
    read = [pair for batch in result.batches for pair in read_archive(fetcher.objects.get(batch.archive))]
    assert tuple(file for file, _ in read) == manifest.files
    assert [file.position for file, _ in read] == list(range(result.files))
    assert manifest.batches == result.batches
    assert [sum(f.batch == batch.index for f, _ in read) for batch in result.batches] == [
        b.files for b in result.batches
    ]
    assert sum(len(content or b"") for _, content in read) == result.size
    assert sum(content is None for _, content in read) == result.omitted
    assert sum(result.changes.values()) == result.files
    return {file.path: (file, content) for file, content in read}


def test_a_push_of_several_commits(repository: Repository, fetcher: GitFetcher) -> None:
    before = repository.commit({"a.md": "a", "gone.md": "gone", "old.md": TEXT})
    repository.commit({"b.md": "between"})
    repository.git("mv", "old.md", "new.md")
    (repository.path / "gone.md").unlink()
    commit = repository.commit({"a.md": "A", "new.md": TEXT + "more\n", "bin": b"\x00\xff"}, message="The subject")
    result = fetcher.fetch(
        FetchRequest(repository_url=repository.url, commit=commit, before=before, branch="refs/heads/main")
    )
    assert (result.commit, result.base, result.base_kind, result.before_lost) == (
        commit,
        before,
        BaseKind.BEFORE,
        False,
    )
    assert result.changes == {"added": 2, "deleted": 1, "modified": 1, "renamed": 1}
    found = contents(fetcher, result)
    assert {path: content for path, (_, content) in found.items()} == {
        "a.md": b"A",
        "b.md": b"between",
        "bin": b"\x00\xff",
        "gone.md": None,
        "new.md": (TEXT + "more\n").encode(),
    }
    assert found["new.md"][0].old_path == "old.md"
    manifest = read_manifest(fetcher.objects, result.manifest)
    assert manifest.repository == repository.url
    assert manifest.subject == "The subject"
    assert manifest.author.email == "ada@example.org"
    assert b'"baseKind":"before"' in fetcher.objects.get(result.manifest)


def test_doing_it_again_or_elsewhere_gives_the_same(repository: Repository, make_fetcher: MakeFetcher) -> None:
    repository.commit({"a.md": TEXT})
    commit = repository.commit({f"{number}.md": f"{number}" for number in range(50)})
    request = FetchRequest(repository_url=repository.url, commit=commit)
    fetcher = make_fetcher()
    results = {
        fetcher.fetch(request).model_dump_json(),
        fetcher.fetch(request).model_dump_json(),
        make_fetcher("elsewhere").fetch(request).model_dump_json(),
    }
    assert len(results) == 1


def test_what_a_restored_database_does_not_know_of_a_tree_is_learned_again(
    repository: Repository, fetcher: GitFetcher, tmp_path: Path
) -> None:
    """The database is from before the push, or new; the objects are from after it."""
    ids = [f"COAFI-ENG-000{number}-SPEC-A" for number in (1, 2)]
    document = "---\ndocument_id: {}\n---\n\n# Part\n\nSee [part](COAFI-ENG-0001-SPEC-A.md#{}).\n"
    files = {f"docs/{one}.md": document.format(one, "no-such-part") for one in ids}
    files["docs/copy.md"] = document.format(ids[0], "part")
    request = FetchRequest(repository_url=repository.url, commit=repository.commit(files))
    restored = Database(tmp_path / "restored.db")
    restored.create_tables()
    registry = PublishedSchemas(restored)
    registry.publish(builtin_schemas())
    for trees in (fetcher.trees, TreeRecorder(restored, fetcher.objects)):
        tree = replace(fetcher, trees=trees).fetch(request).tree
        assert tree is not None
        context = CommitContexts(fetcher.objects, trees.database).of(tree)
        reports = [check_file(path, text.encode(), registry, context=context) for path, text in files.items()]
        for one in reports:
            rules = {finding.rule for finding in one.findings}
            assert ("document/duplicate-id" in rules) == (ids[1] not in one.path)
            assert ("link/missing-heading" in rules) == ("copy" not in one.path)
    restored.close()


def test_a_first_commit(repository: Repository, fetcher: GitFetcher) -> None:
    commit = repository.commit({"a.md": "a"})
    for before in (None, "", ZERO):
        result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit, before=before))
        assert (result.base_kind, result.before_lost, result.changes) == (BaseKind.ROOT, False, {"added": 1})


def test_a_new_branch_is_compared_with_the_first_parent(repository: Repository, fetcher: GitFetcher) -> None:
    parent = repository.commit({"a.md": "a"})
    commit = repository.commit({"b.md": "b"})
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit, before=ZERO))
    assert (result.base, result.base_kind, result.changes) == (parent, BaseKind.FIRST_PARENT, {"added": 1})


def test_a_merge_is_compared_with_its_first_parent(repository: Repository, fetcher: GitFetcher) -> None:
    repository.commit({"a.md": "a"})
    repository.git("switch", "--quiet", "--create", "side")
    repository.commit({"side.md": "side"})
    repository.git("switch", "--quiet", "main")
    first = repository.commit({"main.md": "main"})
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge", "side")
    commit = repository.git("rev-parse", "HEAD")
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))
    assert (result.base, list(contents(fetcher, result))) == (first, ["side.md"])
    assert len(read_manifest(fetcher.objects, result.manifest).parents) == 2


def test_the_base_of_another_commit_is_completed_when_it_is_asked_for(
    repository: Repository, fetcher: GitFetcher
) -> None:
    repository.commit({"a.md": "a"})
    middle = repository.commit({"b.md": "b"})
    last = repository.commit({"c.md": "c"})
    fetcher.fetch(FetchRequest(repository_url=repository.url, commit=last, before=middle))
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=middle))
    assert list(contents(fetcher, result)) == ["b.md"]


def test_a_force_push_is_compared_with_what_was_there_before(
    repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    repository.commit({"a.md": "a"})
    before = repository.commit({"dropped.md": "dropped"})
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    commit = repository.commit({"b.md": "b"})
    result = fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit, before=before))
    assert (result.base_kind, result.changes) == (BaseKind.BEFORE, {"added": 1, "deleted": 1})


def test_a_force_push_whose_before_is_gone_falls_back_and_says_so(
    repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    parent = repository.commit({"a.md": "a"})
    before = repository.commit({"dropped.md": "dropped"})
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    commit = repository.commit({"b.md": "b"})
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    result = fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit, before=before))
    assert (result.base, result.base_kind, result.before_lost) == (parent, BaseKind.FIRST_PARENT, True)
    assert list(contents(fetcher, result)) == ["b.md"]
    assert read_manifest(fetcher.objects, result.manifest).before_lost


def test_a_before_that_is_no_commit_counts_as_lost(repository: Repository, fetcher: GitFetcher) -> None:
    repository.commit({"a.md": "a"})
    commit = repository.commit({"b.md": "b"})
    blob = repository.git("rev-parse", "HEAD:b.md")
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit, before=blob))
    assert (result.base_kind, result.before_lost) == (BaseKind.FIRST_PARENT, True)


def test_a_commit_that_has_left_every_branch(repository: Repository, server: GitServer, fetcher: GitFetcher) -> None:
    repository.commit({"a.md": "a"})
    commit = repository.commit({"b.md": "b"})
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.git("reflog", "expire", "--expire=now", "--all")
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    result = fetcher.fetch(request)
    assert list(contents(fetcher, result)) == ["b.md"]
    repository.git("gc", "--quiet", "--prune=now")
    assert fetcher.fetch(request) == result


def test_an_unknown_commit_is_not_found(repository: Repository, server: GitServer, fetcher: GitFetcher) -> None:
    known = repository.commit({"a.md": "a"})
    for url in (repository.url, server.url("docs/.git")):
        for before in (None, known):
            with pytest.raises(ResourceNotFoundError, match="1111"):
                fetcher.fetch(FetchRequest(repository_url=url, commit="1" * 40, before=before))


def test_a_push_that_changes_nothing(repository: Repository, fetcher: GitFetcher) -> None:
    commit = repository.commit({"a.md": "a"})
    empty = repository.commit()
    for request in (
        FetchRequest(repository_url=repository.url, commit=empty),
        FetchRequest(repository_url=repository.url, commit=commit, before=commit),
    ):
        result = fetcher.fetch(request)
        assert (result.files, result.batches, result.changes) == (0, (), {})


def test_only_deletions_and_only_renames(repository: Repository, fetcher: GitFetcher) -> None:
    first = repository.commit({f"{number}.md": f"{number}\n" * 20 for number in range(40)})
    for number in range(40):
        repository.git("mv", f"{number}.md", f"moved-{number}.md")
    second = repository.commit()
    repository.git("rm", "--quiet", "-r", ".")
    third = repository.commit()
    renames = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=second, before=first))
    assert (renames.changes, renames.omitted, len(renames.batches)) == ({"renamed": 40}, 0, 1)
    deletions = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=third, before=second))
    assert (deletions.changes, deletions.omitted, deletions.size) == ({"deleted": 40}, 40, 0)
    assert all(content is None for _, content in contents(fetcher, deletions).values())


def test_what_is_skipped_says_why(repository: Repository, make_fetcher: MakeFetcher) -> None:
    fetcher = make_fetcher(limits=GitLimits(max_blob_bytes=1_000))
    base = repository.commit({"a.md": "a"})
    (repository.path / "link").symlink_to("/etc/passwd")
    repository.write({"large.bin": bytes(1_001), "fine.md": "fine"})
    repository.git("add", ".")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{base},sub")
    odd = repository.blob(b"odd")
    for name in (b"caf\xe9.md", b"new\nline.md"):
        repository.git("update-index", "-z", "--index-info", stdin=b"100644 " + odd.encode() + b"\t" + name + b"\0")
    repository.git("commit", "--quiet", "-m", "Odd")
    commit = repository.git("rev-parse", "HEAD")
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))
    found = contents(fetcher, result)
    assert {path: file.omitted for path, (file, _) in found.items()} == {
        "caf\\xe9.md": Omitted.PATH_NOT_UTF8,
        "fine.md": None,
        "large.bin": Omitted.TOO_LARGE,
        "link": Omitted.SYMLINK,
        "new\\nline.md": Omitted.UNSAFE_PATH,
        "sub": Omitted.SUBMODULE,
    }
    assert base64.b64decode(found["caf\\xe9.md"][0].raw_path or "") == b"caf\xe9.md"
    assert found["fine.md"][0].raw_path is None
    assert found["large.bin"][0].size == 1_001


@pytest.mark.parametrize("name", [b"..", b".git", b"../x", b"/abs", b"."])
def test_a_tree_that_no_honest_git_writes_is_refused_whole(
    repository: Repository, fetcher: GitFetcher, name: bytes
) -> None:
    tree = repository.raw_tree([("100644", name, repository.blob(b"x"))])
    commit = repository.commit_tree(tree)
    with pytest.raises(ValidationError, match="malformed or hostile"):
        fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))


def test_a_commit_of_two_thousand_files(repository: Repository, fetcher: GitFetcher) -> None:
    base = repository.commit({"a.md": "a"})
    commit = repository.commit({f"d{n % 7}/{n}.md": f"# {n}\n" * 20 for n in range(2_000)})
    beats: list[str] = []
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit, before=base), beats.append)
    assert (result.files, len(result.batches)) == (2_000, 32)
    assert len(contents(fetcher, result)) == 2_000
    assert len(result.model_dump_json(by_alias=True)) < 16_384


def test_too_many_files_are_refused(repository: Repository, make_fetcher: MakeFetcher) -> None:
    commit = repository.commit({"a.md": "a", "b.md": "b"})
    with pytest.raises(ValidationError, match="limit is 1 files"):
        make_fetcher(limits=GitLimits(max_files=1)).fetch(FetchRequest(repository_url=repository.url, commit=commit))


def test_a_download_over_the_limit_is_refused(repository: Repository, make_fetcher: MakeFetcher) -> None:
    commit = repository.commit({"a.bin": os.urandom(300_000)})
    with pytest.raises(ValidationError, match="100000 bytes"):
        make_fetcher(limits=GitLimits(max_file_bytes=100_000)).fetch(
            FetchRequest(repository_url=repository.url, commit=commit)
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"commit": "main"},
        {"commit": "abc123"},
        {"commit": "--upload-pack=x"},
        {"commit": ZERO},
        {"before": "HEAD~1"},
        {"before": "a" * 64},
        {"repository_url": "ext::sh -c id"},
        {"repository_url": "--upload-pack=id"},
    ],
)
def test_malformed_requests_are_refused(fetcher: GitFetcher, tmp_path: Path, fields: dict[str, str]) -> None:
    request = {"repository_url": (tmp_path / "repositories" / "docs").as_uri(), "commit": "a" * 40} | fields
    with pytest.raises(ValidationError):
        fetcher.fetch(FetchRequest(**request))


def test_forbidden_repositories_are_denied(repository: Repository, make_fetcher: MakeFetcher) -> None:
    commit = repository.commit({"a.md": "a"})
    fetcher = make_fetcher(url_policy=UrlPolicy())
    for url in (repository.url, "http://example.org/a", "https://127.0.0.1/a", "https://169.254.169.254/latest"):
        with pytest.raises(PolicyDenied):
            fetcher.fetch(FetchRequest(repository_url=url, commit=commit))


def test_nothing_of_the_remote_is_run(repository: Repository, fetcher: GitFetcher, tmp_path: Path) -> None:
    commit = repository.commit({"a.md": "a", ".gitattributes": "* filter=evil diff=evil\n"})
    marker = tmp_path / "pwned"
    hooks = repository.path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "pre-receive", "post-update", "reference-transaction", "post-merge", "fsmonitor"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    for name in ("core.fsmonitor", "uploadpack.packObjectsHook", "filter.evil.smudge", "diff.evil.textconv"):
        repository.git("config", name, f"touch {marker}")
    assert fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit)).files == 2
    assert not marker.exists()


def test_there_is_no_such_repository(tmp_path: Path, server: GitServer, fetcher: GitFetcher) -> None:
    for url in ((tmp_path / "repositories" / "none").as_uri(), server.url("none")):
        with pytest.raises(ResourceNotFoundError, match="no such repository"):
            fetcher.fetch(FetchRequest(repository_url=url, commit="a" * 40))


def test_over_http_contents_come_in_one_request_and_only_those_needed(
    repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    base = repository.commit({f"kept/{number}.bin": os.urandom(10_000) for number in range(30)})
    commit = repository.commit({f"{number}.md": f"# {number}\n" for number in range(100)})
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit, before=base)
    result = fetcher.fetch(request)
    assert len(contents(fetcher, result)) == 100
    assert server.posts == 2
    (mirror,) = fetcher.mirrors.glob("*/")
    assert sum(pack.stat().st_size for pack in mirror.rglob("*.pack")) < 100_000
    assert fetcher.fetch(request) == result
    assert server.posts == 2


def test_a_rename_with_an_edit_over_http_needs_no_lazy_fetch(
    repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    base = repository.commit({"a.md": TEXT, "b.md": "b"})
    repository.git("mv", "a.md", "c.md")
    commit = repository.commit({"c.md": TEXT + "more\n"})
    result = fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit, before=base))
    assert result.changes == {"renamed": 1}
    assert server.posts == 2


def test_a_server_without_filters_serves_too(
    repository: Repository, server: GitServer, make_fetcher: MakeFetcher
) -> None:
    base = repository.commit({"a.md": "a"})
    commit = repository.commit({f"{number}.md": f"# {number}\n" for number in range(10)})
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit, before=base)
    with_filter = make_fetcher().fetch(request)
    repository.git("config", "uploadpack.allowFilter", "false")
    posts = server.posts
    assert make_fetcher("elsewhere").fetch(request) == with_filter
    assert server.posts == posts + 1


def test_a_repository_of_sha256(tmp_path: Path, server: GitServer, fetcher: GitFetcher) -> None:
    repository = Repository.make(tmp_path / "repositories" / "modern", "--object-format=sha256")
    base = repository.commit({"a.md": "a"})
    commit = repository.commit({"b.md": "b"})
    result = fetcher.fetch(FetchRequest(repository_url=server.url("modern/.git"), commit=commit, before=base))
    assert {path: content for path, (_, content) in contents(fetcher, result).items()} == {"b.md": b"b"}
    root = fetcher.fetch(FetchRequest(repository_url=server.url("modern/.git"), commit=base, before="0" * 64))
    assert (root.base_kind, root.files) == (BaseKind.ROOT, 1)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessRefused),
        (403, AccessRefused),
        (404, ResourceNotFoundError),
        (429, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
        (200, ResourceNotFoundError),
    ],
)
def test_what_the_server_answers_decides_the_error(
    repository: Repository, server: GitServer, fetcher: GitFetcher, status: int, error: type[CoafiError]
) -> None:
    commit = repository.commit({"a.md": "a"})
    server.status = status
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    with pytest.raises(error):
        fetcher.fetch(request)
    server.status = None
    assert fetcher.fetch(request).files == 1


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(
    repository: Repository, server: GitServer, fetcher: GitFetcher, status: int
) -> None:
    commit = repository.commit({"a.md": "a"})
    server.status = status
    server.location = f"http://127.0.0.1:{server.port}/elsewhere"
    with pytest.raises(PolicyDenied, match="redirect"):
        fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit))
    assert not [request for request in server.requests if "elsewhere" in request]


def test_a_host_that_refuses_or_stalls_is_unavailable(
    repository: Repository, server: GitServer, make_fetcher: MakeFetcher
) -> None:
    fetcher = make_fetcher(limits=GitLimits(low_speed_seconds=1))
    commit = repository.commit({"a.md": "a"})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/docs"
        with pytest.raises(Unavailable, match="out of reach"):
            fetcher.fetch(FetchRequest(repository_url=url, commit=commit))
    with pytest.raises(Unavailable, match="cannot be resolved"):
        fetcher.fetch(FetchRequest(repository_url="http://nothing.invalid/docs", commit=commit))
    server.stall = True
    with pytest.raises(Unavailable, match="out of reach"):
        fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit))


def test_a_token_opens_the_repository_and_appears_nowhere(
    repository: Repository, server: GitServer, make_fetcher: MakeFetcher
) -> None:
    commit = repository.commit({"a.md": "a"})
    header = "Basic " + base64.b64encode(b"x-access-token:t0psecret").decode()
    server.authorization = header
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    for secret in (None, "wr0ng"):
        tokens = {"127.0.0.1": SecretStr(secret)} if secret else {}
        with pytest.raises(AccessRefused) as refused:
            make_fetcher(tokens=tokens).fetch(request)
        assert "wr0ng" not in str(refused.value)
    fetcher = make_fetcher(tokens={"127.0.0.1": SecretStr("t0psecret")})
    result = fetcher.fetch(request)
    assert server.authorizations[-1] == header
    assert "t0psecret" not in repr(fetcher)
    written = [path.read_bytes() for path in fetcher.mirrors.rglob("*") if path.is_file()]
    assert not [data for data in written if b"t0psecret" in data or header.encode() in data]
    assert "t0psecret" not in result.model_dump_json()


def test_git_connects_only_to_the_address_that_was_checked(
    repository: Repository, server: GitServer, fetcher: GitFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that nobody but our check resolves: git can only reach it by what it was told."""
    commit = repository.commit({"a.md": "a"})
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: answer)
    url = f"http://pinned.invalid:{server.port}/docs/.git"
    assert fetcher.fetch(FetchRequest(repository_url=url, commit=commit)).files == 1


def test_a_lost_host_is_no_matter_once_the_commit_is_here(
    repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    commit = repository.commit({"a.md": "a"})
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    result = fetcher.fetch(request)
    server.status = 503
    assert fetcher.fetch(request) == result


def test_cancelling_stops_the_fetch(repository: Repository, server: GitServer, fetcher: GitFetcher) -> None:
    commit = repository.commit({"a.md": "a"})
    server.stall = True
    stop = threading.Event()

    def heartbeat(_text: str) -> None:
        if server.stalled.is_set():
            stop.set()

    with pytest.raises(GitCancelled):
        fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=commit), heartbeat, stop)


def test_what_is_no_manifest_is_refused(fetcher: GitFetcher) -> None:
    with pytest.raises(IntegrityError):
        read_manifest(fetcher.objects, fetcher.objects.put(b"{}"))


def test_a_large_commit_is_split_by_bytes(repository: Repository, make_fetcher: MakeFetcher) -> None:
    fetcher = make_fetcher(limits=GitLimits(max_batch_bytes=1_000))
    commit = repository.commit({f"{number}.md": f"{number}" * 400 for number in range(5)} | {"empty": ""})
    result = fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))
    assert [batch.files for batch in result.batches] == [2, 2, 2]
    assert contents(fetcher, result)["empty"][1] == b""
    assert all(file.change is Change.ADDED for file, _ in contents(fetcher, result).values())
