"""The reader of objects: one git for all of them, which never outlives its block, whatever it answers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from coafi.errors import CoafiError, Unavailable
from coafi.git.failures import GitCancelled, MirrorDamaged
from coafi.git.fetch import FetchRequest, GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.mirror import MirrorStore
from coafi.git.objects import ObjectInfo, ObjectReader
from coafi.git.runner import GitProcess, GitRunner, Remote, Watch
from coafi.git.urls import UrlPolicy, parse_repository_url
from coafi.objects.local import LocalObjectStore
from tests.coafi.git.conftest import MakeFetcher
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer, none_left_with, processes_with
from tests.coafi.objects.files import object_root

OID = "a" * 40
OTHER = "b" * 40


def reader(git_dir: Path, watch: Watch | None = None, limits: GitLimits | None = None) -> ObjectReader:
    return ObjectReader(GitRunner(limits or GitLimits(local_timeout=60)), git_dir, name="docs", watch=watch or Watch())


def git_dir_of(repository: Repository) -> Path:
    return repository.path / ".git"


def gits(git_dir: Path) -> list[int]:
    """The processes that run for ``git_dir``: git, and what waits for its end."""
    return processes_with(f"--git-dir={git_dir}")


def write(script: Path, body: str) -> None:
    script.write_text(
        f"#!{sys.executable} -IS\nimport os, sys, time\nask, say = sys.stdin.buffer, sys.stdout.buffer\n{body}"
    )


def test_all_questions_go_to_one_git_that_ends_with_its_block(repository: Repository) -> None:
    commit = repository.commit({"a.md": "a", "b.md": "bb"})
    a, b = (repository.git("rev-parse", f"HEAD:{name}") for name in ("a.md", "b.md"))
    git_dir = git_dir_of(repository)
    taken: list[bytes] = []
    with reader(git_dir) as objects:
        assert objects.info([]) == {}
        objects.contents([], taken.append)
        assert not gits(git_dir)
        found = objects.info([commit, a, OID, b, a])
        started = gits(git_dir)
        assert started
        objects.contents([(b, 2), (a, 1), (b, 2)], taken.append)
        assert objects.info([OTHER]) == {OTHER: None}
        assert gits(git_dir) == started
    assert none_left_with(f"--git-dir={git_dir}")
    assert found[a] == ObjectInfo("blob", 1)
    assert found[b] == ObjectInfo("blob", 2)
    assert found[OID] is None
    assert found[commit] == ObjectInfo("commit", len(repository.git("cat-file", "commit", commit)) + 1)
    assert taken == [b"bb", b"a", b"bb"]


def test_a_block_left_by_an_error_leaves_no_git(repository: Repository) -> None:
    commit = repository.commit({"a.md": "a"})
    with pytest.raises(RuntimeError), reader(git_dir_of(repository)) as objects:
        objects.info([commit])
        raise RuntimeError("elsewhere")
    assert none_left_with(f"--git-dir={git_dir_of(repository)}")


def test_an_idle_git_that_does_not_end_by_itself_is_killed(tmp_path: Path, fake_git: Path) -> None:
    write(fake_git, f"say.write(b'{OID} blob 1\\n'); say.flush()\ntime.sleep(100)")
    with reader(tmp_path) as objects:
        assert objects.info([OID]) == {OID: ObjectInfo("blob", 1)}
    assert none_left_with(str(fake_git))


def test_it_is_as_hardened_as_any_git(tmp_path: Path, fake_git: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COAFI_SECRET", "hunter2")
    seen = tmp_path / "seen"
    write(
        fake_git,
        f"with open({str(seen)!r}, 'w') as file:\n"
        "    print(*sys.argv, *(f'{name}={value}' for name, value in os.environ.items()), sep='\\n', file=file)\n"
        "    own = os.getsid(0) == os.getpgid(0) == os.getppid()\n"
        "    print(own, open(f'/proc/{os.getppid()}/cmdline').read(), file=file)\n"
        f"say.write(b'{OID} missing\\n')",
    )
    limits = GitLimits(lock_timeout=7, fetch_timeout=100, local_timeout=20)
    with reader(tmp_path, limits=limits) as objects:
        objects.info([OID])
    *lines, parent = seen.read_text().splitlines()
    assert {"protocol.allow=never", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1", "HOME=/nonexistent"} <= set(lines)
    assert not [line for line in lines if "hunter2" in line or "remote.origin" in line]
    # It may be there for as long as a whole fetch, and what outlives us is killed some time later.
    assert parent.startswith(f"True timeout\0-s\0KILL\0{7 + 5 * 100 + 10 * 20 + 60}\0")


def test_objects_that_a_fetch_brings_are_found_by_the_git_that_missed_them(
    tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    first = repository.commit({"a.md": "a"})
    second = repository.commit({"b.md": "b"})
    blob = repository.git("rev-parse", "HEAD:b.md")
    policy = UrlPolicy(allow_http=True, allow_private_addresses=True)
    remote = Remote(parse_repository_url(server.url("docs/.git"), policy), ("127.0.0.1",))
    with MirrorStore(tmp_path / "mirrors").exclusive(remote.url, 40, Watch()) as mirror:
        mirror.obtain(remote, [first], depth=1)
        assert mirror.kinds([first, second]) == {first: "commit", second: None}
        started = gits(mirror.path)
        mirror.obtain(remote, [second], depth=1)
        assert mirror.kinds([second, blob]) == {second: "commit", blob: None}
        assert server.posts == 2  # what is missing is not fetched behind our back
        assert mirror.prefetch(remote, [blob]) == {blob: 1}
        assert server.posts == 3
        taken: list[bytes] = []
        mirror.objects.contents([(blob, 1)], taken.append)
        assert taken == [b"b"]
        assert gits(mirror.path) == started


def test_a_push_starts_one_git_for_all_objects(
    repository: Repository, server: GitServer, fetcher: GitFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repository.commit({"a.md": "a"})
    second = repository.commit({f"{number}.md": f"# {number}\n" for number in range(10)})
    fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=first))
    started: list[str] = []
    original = GitRunner._start

    def start(runner: GitRunner, arguments: list[str], *rest: object, **options: object) -> GitProcess:
        started.append(arguments[0])
        return original(runner, arguments, *rest, **options)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(GitRunner, "_start", start)
    fetcher.fetch(FetchRequest(repository_url=server.url("docs/.git"), commit=second, before=first))
    assert started == ["fetch", "cat-file", "diff-tree", "ls-tree", "fetch"]


def test_large_contents_and_very_many_questions(repository: Repository) -> None:
    files = {"large": os.urandom(1 << 20) * 20, "medium": os.urandom(100_000), "small": b"x"}
    repository.commit(files)
    oids = {name: repository.git("rev-parse", f"HEAD:{name}") for name in files}
    names = ["large", *["small"] * 10_000, *["medium", "small"] * 200, "large"]
    sizes: list[int] = []

    def take(content: bytes) -> None:
        assert content == files[names[len(sizes)]]
        sizes.append(len(content))

    with reader(git_dir_of(repository)) as objects:
        objects.contents([(oids[name], len(files[name])) for name in names], take)
        assert len(sizes) == len(names)
        unknown = [f"{number:040x}" for number in range(5_000)]
        assert objects.info(unknown) == dict.fromkeys(unknown)


def test_a_git_that_answers_before_it_has_read_all_questions(tmp_path: Path, fake_git: Path) -> None:
    """Both pipes are full at times; who only wrote, or only read, would wait for ever."""
    write(
        fake_git,
        "for line in ask:\n"
        "    if line != b'flush\\n':\n"
        "        say.write(line.split()[1] + b' blob 1000\\n' + bytes(1000) + b'\\n')\n"
        "        say.flush()\n",
    )
    taken = 0

    def take(content: bytes) -> None:
        nonlocal taken
        taken += len(content)

    with reader(tmp_path) as objects:
        objects.contents([(OID, 1_000)] * 20_000, take)
        assert taken == 20_000_000
        objects.contents([(OTHER, 1_000)], take)


@pytest.mark.parametrize(
    "oid", ["", "HEAD", "a" * 39, "A" * 40, f"{OID}\n", f"{OID}\ncontents {OTHER}", f"{OID}^", "é" * 40]
)
def test_only_names_of_objects_are_ever_written(repository: Repository, oid: str) -> None:
    repository.commit({"a.md": "a"})
    with reader(git_dir_of(repository)) as objects:
        for ask in (lambda: objects.info([OID, oid]), lambda: objects.contents([(oid, 1)], lambda _content: None)):
            with pytest.raises(MirrorDamaged) as refused:
                ask()
            assert str(refused.value).isprintable()
        assert not gits(git_dir_of(repository))


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\n",
        b"\xff" * 1_000,
        b"fatal: something\n",
        f"{OTHER} blob 5\nhello\n".encode(),
        f"{OID} missing\n".encode(),
        f"{OID} ambiguous\n".encode(),
        f"{OID} tree 5\nhello\n".encode(),
        f"{OID} blob 6\nhello!\n".encode(),
        f"{OID} blob -5\nhello\n".encode(),
        f"{OID} blob {'5' * 100}\nhello\n".encode(),
        f"{OID} blob 5\nhello, world\n".encode(),
        f"{OID} blob 5\nhello\n{OID} blob 5\n".encode(),
    ],
)
def test_an_answer_to_something_else_is_damage(tmp_path: Path, fake_git: Path, answer: bytes) -> None:
    write(fake_git, f"say.write({answer!r}); say.flush()\ntime.sleep(100)")
    with reader(tmp_path) as objects:
        with pytest.raises(MirrorDamaged, match="mirror docs") as damaged:
            objects.contents([(OID, 5)], lambda _content: None)
        assert str(damaged.value).isprintable()
        assert none_left_with(str(fake_git))


@pytest.mark.parametrize(
    "answer", [b"", f"{OID} blo".encode(), f"{OID} blob 5\nhel".encode(), f"{OID} blob 5\nhello\n".encode()]
)
@pytest.mark.parametrize(
    ("end", "error", "says"),
    [
        ("", MirrorDamaged, "status 0"),
        ("sys.exit('fatal: loose object is corrupt')", MirrorDamaged, "git says: fatal: loose object is corrupt"),
        ("sys.exit('fatal: No space left on device')", Unavailable, "used up"),
        ("os.kill(os.getpid(), 9)", Unavailable, "was killed"),
    ],
)
def test_a_git_that_ends_too_early(
    tmp_path: Path, fake_git: Path, answer: bytes, end: str, error: type[CoafiError], says: str
) -> None:
    write(fake_git, f"say.write({answer!r}); say.flush()\n{end}")
    with reader(tmp_path) as objects:
        with pytest.raises(error, match=says) as failed:
            objects.contents([(OID, 5), (OTHER, 5)], lambda _content: None)
        assert "reading docs: git cat-file" in str(failed.value)
        assert none_left_with(str(fake_git))


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
@pytest.mark.parametrize("idle", [True, False])
def test_a_git_that_is_killed(repository: Repository, kill: Callable[[int, int], None], idle: bool) -> None:
    content = os.urandom(1_000_000)
    repository.commit({"a.bin": content})
    blob = repository.git("rev-parse", "HEAD:a.bin")
    git_dir = git_dir_of(repository)
    taken: list[bytes] = []

    def kill_git() -> None:
        pids = gits(git_dir)
        git = next(pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"git\0"))
        kill(git if kill is os.kill else os.getpgid(git), signal.SIGKILL)

    def take(content: bytes) -> None:
        if not idle and not taken:
            kill_git()
        taken.append(content)

    with reader(git_dir) as objects:
        if idle:
            assert objects.info([blob]) == {blob: ObjectInfo("blob", len(content))}
            kill_git()
        with pytest.raises(Unavailable, match="was killed"):
            objects.contents([(blob, len(content))] * 10, take)
        assert len(taken) < 10
        assert none_left_with(f"--git-dir={git_dir}")
        assert objects.info([OID]) == {OID: None}  # by another one
    assert none_left_with(f"--git-dir={git_dir}")


def test_what_fails_while_it_takes_ends_git(repository: Repository) -> None:
    repository.commit({"a.bin": bytes(1_000_000)})
    blob = repository.git("rev-parse", "HEAD:a.bin")

    def take(_content: bytes) -> None:
        raise RuntimeError("no room")

    with reader(git_dir_of(repository)) as objects:
        with pytest.raises(RuntimeError, match="no room"):
            objects.contents([(blob, 1_000_000)] * 3, take)
        assert none_left_with(f"--git-dir={git_dir_of(repository)}")


def test_cancelling_ends_git_in_the_middle_of_an_answer(tmp_path: Path, fake_git: Path) -> None:
    half = tmp_path / "half"
    write(fake_git, f"say.write(b'{OID} blob 5\\nhel'); say.flush()\nopen({str(half)!r}, 'w')\ntime.sleep(100)")
    stop = threading.Event()
    beats: list[str] = []

    def heartbeat(text: str) -> None:
        beats.append(text)
        if half.exists():
            stop.set()

    with reader(tmp_path, Watch(heartbeat, stop)) as objects:
        with pytest.raises(GitCancelled):
            objects.contents([(OID, 5)], lambda _content: None)
        assert none_left_with(str(fake_git))
    assert set(beats) == {"reading docs: git cat-file"}


@pytest.mark.parametrize("reads", [True, False])
def test_a_git_that_takes_too_long_for_an_answer(tmp_path: Path, fake_git: Path, reads: bool) -> None:
    write(fake_git, "ask.read()" if reads else "time.sleep(100)")
    with reader(tmp_path, limits=GitLimits(local_timeout=1)) as objects:
        with pytest.raises(Unavailable, match="longer than allowed"):
            objects.info([OID] * 10_000)
        assert none_left_with(str(fake_git))


def test_only_the_time_of_git_counts_and_not_that_of_who_takes_contents(repository: Repository) -> None:
    """Contents may go to a store that is slower than git: however long it takes, git did not hang."""
    repository.commit({"a.bin": bytes(1_000_000)})
    blob = repository.git("rev-parse", "HEAD:a.bin")
    taken: list[bytes] = []

    def take(content: bytes) -> None:
        time.sleep(0.5)
        taken.append(content)

    with reader(git_dir_of(repository), limits=GitLimits(local_timeout=3)) as objects:
        objects.contents([(blob, 1_000_000)] * 10, take)
    assert len(taken) == 10


def test_a_git_that_hangs_after_a_slow_taker_is_still_stopped(tmp_path: Path, fake_git: Path) -> None:
    write(fake_git, f"say.write(b'{OID} blob 5\\nhello\\n'); say.flush()\ntime.sleep(100)")
    with reader(tmp_path, limits=GitLimits(local_timeout=1)) as objects:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="longer than allowed"):
            objects.contents([(OID, 5), (OID, 5)], lambda _content: time.sleep(2))
        assert time.monotonic() - started > 2.5
        assert none_left_with(str(fake_git))


def test_a_slow_store_does_not_stop_a_fetch(
    repository: Repository, make_fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(LocalObjectStore):
        def put_many(self, contents: Sequence[bytes]) -> list[str]:
            time.sleep(0.4)
            return super().put_many(contents)

    limits = GitLimits(local_timeout=3, max_batch_bytes=100_000)
    fetcher = make_fetcher(limits=limits)
    fetcher = make_fetcher(limits=limits, objects=Slow(object_root(fetcher.objects)))
    commit = repository.commit({f"{number}.bin": bytes([number]) * 100_000 for number in range(12)})
    assert fetcher.fetch(FetchRequest(repository_url=repository.url, commit=commit)).files == 12


def test_the_git_of_a_damaged_mirror_has_ended_when_it_is_deleted(
    repository: Repository, fetcher: GitFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit({"a.md": "a" * 5_000, "b.md": "b"})
    request = FetchRequest(repository_url=repository.url, commit=commit)
    expected = fetcher.fetch(request)
    (mirror,) = fetcher.mirrors.glob("*/")
    for pack in mirror.rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-60] + bytes(60))
    left: list[int] = []
    original = MirrorStore._delete

    def delete(store: MirrorStore, name: str, lock: int) -> None:
        left.extend(gits(mirror))
        original(store, name, lock)
        left.append(-1)

    monkeypatch.setattr(MirrorStore, "_delete", delete)
    assert fetcher.fetch(request) == expected
    assert left == [-1]


def test_a_mirror_is_free_in_the_moment_that_it_is_left(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coafi.git.runner._CLOSE_SECONDS", 60)  # however busy this machine is
    store = MirrorStore(tmp_path / "mirrors", GitRunner(GitLimits(mirrors_quota_bytes=0)))
    url = parse_repository_url(repository.url, UrlPolicy(file_roots=(tmp_path,)))
    for _ in range(5):
        with store.exclusive(url, 40, Watch()) as mirror:
            mirror.kinds([OID])
            assert not store.evict()
        assert store.evict() == [mirror.path.name]


KILLED = """
import sys, time
from pathlib import Path
from coafi.git.objects import ObjectReader
from coafi.git.runner import GitRunner, Watch

def wait(_content=b""):
    print("ready", flush=True)
    time.sleep(100)

git_dir, blob, size, idle = sys.argv[1:]
with ObjectReader(GitRunner(), Path(git_dir), name="docs", watch=Watch()) as objects:
    objects.info([blob])
    if idle == "True":
        wait()
    objects.contents([(blob, int(size))] * 10, wait)
"""


@pytest.mark.parametrize("idle", [True, False])
def test_git_ends_when_its_worker_is_killed(repository: Repository, idle: bool) -> None:
    repository.commit({"a.bin": bytes(1_000_000)})
    blob = repository.git("rev-parse", "HEAD:a.bin")
    git_dir = git_dir_of(repository)
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(git_dir), blob, "1000000", str(idle)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        assert gits(git_dir)
        worker.kill()
    assert none_left_with(f"--git-dir={git_dir}")
