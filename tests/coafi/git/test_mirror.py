"""Mirrors: shared safely, survive kills and damage, and stay within their quota."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coafi.errors import Unavailable, ValidationError
from coafi.git.failures import GitCancelled, MirrorDamaged
from coafi.git.fetch import FetchRequest, GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.mirror import MirrorStore, check_sha, mirror_name
from coafi.git.runner import GitRunner, Watch
from coafi.git.urls import RepositoryUrl, UrlPolicy, parse_repository_url
from tests.coafi.git.conftest import MakeFetcher
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer, none_left_with, serve
from tests.strength import size

FETCH_IN_A_PROCESS = """
import sys
from pathlib import Path
from coafi.database import Database
from coafi.git.fetch import FetchRequest, GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.urls import UrlPolicy
from coafi.objects.local import LocalObjectStore
from coafi.trees.recorder import TreeRecorder
home, url, commit, seconds = sys.argv[1:]
objects = LocalObjectStore(Path(home) / "objects")
database = Database(Path(home) / "coafi.db")
database.create_tables()
fetcher = GitFetcher(
    mirrors=Path(home) / "mirrors",
    objects=objects,
    trees=TreeRecorder(database, objects),
    url_policy=UrlPolicy(file_roots=(Path(home),), allow_http=True, allow_private_addresses=True),
    limits=GitLimits(low_speed_seconds=int(seconds)),
)
print("ready", flush=True)
sys.stdin.readline()
print(fetcher.fetch(FetchRequest(repository_url=url, commit=commit)).manifest, flush=True)
"""


def other_process(home: Path, url: str, commit: str, *, low_speed_seconds: int = 20) -> "subprocess.Popen[str]":
    """A process that is ready to fetch, and does when a line is written to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH_IN_A_PROCESS, str(home), url, commit, str(low_speed_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def only_mirror(fetcher: GitFetcher) -> Path:
    (mirror,) = fetcher.mirrors.glob("*/")
    return mirror


def test_threads_and_processes_fetch_the_same_new_repository_once(
    tmp_path: Path, repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    commit = repository.commit({f"{number}.md": f"# {number}\n" for number in range(40)})
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    others = [other_process(tmp_path, request.repository_url, commit) for _ in range(3)]
    for other in others:
        begin(other)
    with ThreadPoolExecutor(8) as threads:
        found = {result.manifest for result in threads.map(fetcher.fetch, [request] * 8)}
    found |= {other.communicate(timeout=60)[0].strip() for other in others}
    assert len(found) == 1
    assert server.posts == 2  # one for commits and trees, one for all contents
    assert not list(fetcher.mirrors.glob("*/**/*.lock"))


def test_a_worker_killed_while_it_fetches_leaves_nothing_that_hinders(
    tmp_path: Path, repository: Repository, server: GitServer, fetcher: GitFetcher
) -> None:
    commit = repository.commit({"a.md": "a"})
    request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
    server.stall = True
    worker = other_process(tmp_path, request.repository_url, commit, low_speed_seconds=2)  # its git outlives it
    begin(worker)
    assert server.stalled.wait(60)
    worker.kill()
    worker.wait()
    server.stall = False
    mirror = only_mirror(fetcher)
    for leftover in ("shallow.lock", "config.lock", "objects/pack/tmp_pack_x", "objects/pack/pack-x.keep"):
        (mirror / leftover).touch()
    (mirror / "refs" / "coafi").mkdir(parents=True, exist_ok=True)
    (mirror / "refs" / "coafi" / "x.lock").touch()
    (mirror.with_name(f"{mirror.name}.partial")).mkdir()
    (mirror.with_name(f"{mirror.name}.trash") / "below").mkdir(parents=True)
    assert fetcher.fetch(request).files == 1
    assert [path.name for path in fetcher.mirrors.iterdir() if path.is_dir()] == [mirror.name]
    assert not list(mirror.rglob("*.lock"))
    assert not list(mirror.rglob("*tmp*"))
    assert none_left_with(str(mirror))


@pytest.mark.also_in_soak
def test_workers_killed_at_any_moment(tmp_path: Path, make_fetcher: MakeFetcher) -> None:
    repository = Repository.make(tmp_path / "repositories" / "many")
    commit = repository.commit({f"{number}.md": os.urandom(2_000) for number in range(300)})
    request = FetchRequest(repository_url=repository.url, commit=commit)
    expected = make_fetcher("elsewhere").fetch(request).manifest
    fetcher = make_fetcher()
    for delay in (0.02, 0.05, 0.08, 0.12, 0.16)[:: size(2, soak=1)]:
        worker = other_process(tmp_path, repository.url, commit)
        begin(worker)
        time.sleep(delay)
        worker.kill()
        worker.wait()
        assert fetcher.fetch(request).manifest == expected
        shutil.rmtree(only_mirror(fetcher))


@pytest.mark.parametrize("damage", ["pack", "ref", "head", "config", "objects"])
def test_a_damaged_mirror_is_made_anew(repository: Repository, fetcher: GitFetcher, damage: str) -> None:
    first = repository.commit({"a.md": "a" * 5_000})
    request = FetchRequest(repository_url=repository.url, commit=first)
    expected = fetcher.fetch(request).manifest
    mirror = only_mirror(fetcher)
    if damage == "pack":
        for pack in mirror.rglob("*.pack"):
            pack.chmod(0o600)
            pack.write_bytes(pack.read_bytes()[:40])
    elif damage == "ref":
        (mirror / "refs" / "coafi" / "commits" / first).write_text("1" * 40 + "\n")
        for pack in mirror.rglob("*.idx"):
            pack.unlink()
    elif damage == "head":
        (mirror / "HEAD").unlink()
    elif damage == "config":
        (mirror / "config").write_text("[core\n")
    else:
        shutil.rmtree(mirror / "objects")
    assert fetcher.fetch(request).manifest == expected
    second = repository.commit({"b.md": "b"})
    assert fetcher.fetch(FetchRequest(repository_url=repository.url, commit=second, before=first)).files == 1


def test_damage_that_stays_is_reported(
    repository: Repository, fetcher: GitFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit({"a.md": "a"})
    tries = []

    def damaged(*_arguments: object) -> None:
        tries.append(1)
        raise MirrorDamaged("again")

    monkeypatch.setattr("coafi.git.fetch.compare_trees", damaged)
    with pytest.raises(MirrorDamaged):
        fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))
    assert len(tries) == 2


def repositories(tmp_path: Path, count: int) -> list[tuple[Repository, str]]:
    made = []
    for number in range(count):
        repository = Repository.make(tmp_path / "repositories" / f"r{number}")
        made.append((repository, repository.commit({"a.bin": os.urandom(50_000)})))
    return made


def test_the_least_recently_used_mirrors_go_when_the_quota_is_passed(tmp_path: Path, make_fetcher: MakeFetcher) -> None:
    fetcher = make_fetcher(limits=GitLimits(mirrors_quota_bytes=130_000))
    made = repositories(tmp_path, 3)

    def fetch(number: int) -> None:
        repository, commit = made[number]
        fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit))
        time.sleep(0.02)

    def present() -> set[str]:
        return {path.name.rsplit("-", 2)[1] for path in fetcher.mirrors.glob("*/")}

    for number in (0, 1, 0, 2):
        fetch(number)
    assert present() == {"r0", "r2"}
    fetch(1)
    assert present() == {"r1", "r2"}


def test_a_mirror_in_use_is_never_evicted(tmp_path: Path, make_fetcher: MakeFetcher) -> None:
    make_fetcher()
    store = MirrorStore(tmp_path / "mirrors", GitRunner(GitLimits(mirrors_quota_bytes=0)))
    policy = UrlPolicy(file_roots=(tmp_path,))
    urls = [parse_repository_url((tmp_path / name).as_uri(), policy) for name in ("a", "b")]
    for url in urls:
        with store.exclusive(url, 40, Watch()):
            pass
    with store.exclusive(urls[0], 40, Watch()) as mirror:
        assert store.evict() == [mirror_name(urls[1], 40)]
        assert mirror.path.is_dir()
        store.share(mirror)
        assert store.evict() == []
        assert mirror.path.is_dir()
    assert store.evict() == [mirror_name(urls[0], 40)]
    assert store.evict() == []


def test_readers_share_and_a_writer_waits_in_vain(tmp_path: Path) -> None:
    store = MirrorStore(tmp_path / "mirrors", GitRunner(GitLimits(lock_timeout=1.5)))
    url = RepositoryUrl("https", "example.org", 443, "/a")
    beats: list[str] = []
    with store.exclusive(url, 40, Watch()) as mirror:
        store.share(mirror)
        with pytest.raises(Unavailable, match="held by another fetch"), store.exclusive(url, 40, Watch(beats.append)):
            pass
        stop = threading.Event()
        stop.set()
        with pytest.raises(GitCancelled), store.exclusive(url, 40, Watch(cancelled=stop)):
            pass
    assert any("waiting" in beat for beat in beats)


def test_a_mirror_deleted_between_writing_and_reading_is_noticed(tmp_path: Path) -> None:
    store = MirrorStore(tmp_path / "mirrors")
    with store.exclusive(RepositoryUrl("https", "example.org", 443, "/a"), 40, Watch()) as mirror:
        shutil.rmtree(mirror.path)
        with pytest.raises(MirrorDamaged):
            store.share(mirror)


def test_a_mirror_of_very_many_packs_is_made_anew(repository: Repository, make_fetcher: MakeFetcher) -> None:
    fetcher = make_fetcher(limits=GitLimits(max_packs=2))
    commits = [repository.commit({"a.md": f"{number}"}) for number in range(6)]
    for before, commit in itertools.pairwise(commits):
        fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit, before=before))
    assert len(list(only_mirror(fetcher).rglob("*.pack"))) <= 3


def test_a_disk_that_refuses_is_unavailable(tmp_path: Path, repository: Repository, make_fetcher: MakeFetcher) -> None:
    commit = repository.commit({"a.md": "a"})
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be written"):
        make_fetcher("file").fetch(FetchRequest(repository_url=repository.url, commit=commit))


def test_names_of_mirrors_are_readable_unique_and_short() -> None:
    names = {
        mirror_name(RepositoryUrl("https", "example.org", 443, path), length)
        for path in ("/a/b", "/a-b", "/a/B", "/" + "x" * 1_000)
        for length in (40, 64)
    }
    assert len(names) == 8
    assert all(len(name) < 100 for name in names)
    assert any(name.startswith("example-org-a-b-") for name in names)
    with_suffix = RepositoryUrl("https", "example.org", 443, "/a/b.git")
    assert mirror_name(with_suffix, 40).rsplit("-", 1)[1] in {name.rsplit("-", 1)[1] for name in names}


@pytest.mark.parametrize("sha", ["", "main", "HEAD", "abc123", "A" * 40, "g" * 40, "--all", "a" * 41, "a" * 63, "a\n"])
def test_only_a_full_sha_names_a_commit(sha: str) -> None:
    with pytest.raises(ValidationError) as refused:
        check_sha(sha, "commit")
    assert str(refused.value).isprintable()


def test_a_server_that_stops_in_the_middle_is_unavailable(
    tmp_path: Path, repository: Repository, make_fetcher: MakeFetcher
) -> None:
    commit = repository.commit({"a.md": "a"})
    fetcher = make_fetcher(limits=GitLimits(low_speed_seconds=60, fetch_timeout=2))
    with serve(repository.path.parent) as server:
        server.stall = True
        beats: list[str] = []
        request = FetchRequest(repository_url=server.url("docs/.git"), commit=commit)
        with pytest.raises(Unavailable, match="longer than allowed"):
            fetcher.fetch(request, beats.append)
        assert none_left_with(server.url("docs/.git"))
        assert any(commit in beat for beat in beats)
        server.stall = False
        assert make_fetcher().fetch(request).files == 1
