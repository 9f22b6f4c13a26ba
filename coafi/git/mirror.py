"""Mirrors: one bare repository per canonical URL, a cache that may be deleted at any time.

Layout of the directory, for a repository ``<name>``::

    <name>.lock      flock: exclusive to change the mirror, shared to read it; its text is the mirror's size in
                     bytes, its time of modification when it was last used. Never deleted.
    <name>/          the bare repository; it appears by a rename and is complete from then on
    <name>.partial/  a mirror that is being made
    <name>.trash/    a mirror that is being deleted

Git inherits the lock's descriptor. When a worker is killed in the middle of a fetch, the lock stays taken until the
git that it left behind has ended; whoever gets the lock then knows that git's own ``*.lock`` files are stale.

Mirrors are shallow: a commit is fetched with its parents at most, and with no contents where the server can leave
them out. Every commit that was fetched is kept by a ref of its own, so that it outlives its branch.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import structlog

from coafi.errors import Unavailable, ValidationError
from coafi.git.failures import MirrorDamaged
from coafi.git.objects import ObjectReader
from coafi.git.runner import GitRunner, Remote, Watch
from coafi.git.urls import RepositoryUrl

log = structlog.get_logger(__name__)

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LOCK_POLL_SECONDS: Final = 0.02


def check_sha(sha: str, what: str) -> str:
    """``sha`` itself, when it is the full name of a git object: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.

    Raises:
        ValidationError: it is something else: a branch, an abbreviation, upper case.
    """
    if not _SHA.fullmatch(sha):
        raise ValidationError(
            f"{what} {sha[:80]!a} is not the full SHA of a commit",
            remedy="give all 40 (or 64) hexadecimal digits, in lower case",
        )
    return sha


def is_zero(sha: str) -> bool:
    """Whether ``sha`` is git's "no commit": all zeros."""
    return not sha.strip("0")


@dataclass(frozen=True)
class Mirror:
    """A mirror whose lock we hold. Only one thread at a time may use it.

    Attributes:
        path: the bare repository.
        lock: descriptor of the lock file; -1 for a repository that nobody shares.
    """

    path: Path
    name: str
    runner: GitRunner
    watch: Watch
    lock: int = -1

    def local(self, arguments: Sequence[str]) -> bytes:
        """Run a git command that contacts nobody; see :meth:`GitRunner.run`."""
        what = f"reading {self.name}: git {arguments[0]}"
        return self.runner.run(arguments, git_dir=self.path, watch=self.watch, what=what, inherit=self.inherited)

    def has_commit(self, sha: str) -> bool:
        """Whether the commit is kept here."""
        return (self.path / _pin(sha)).is_file()

    def obtain(self, remote: Remote, commits: Sequence[str], *, depth: int) -> None:
        """Have ``commits``, each with its parents down to ``depth``; keep them for good.

        Raises:
            CommitNotFound: the repository does not give one of them out.
            CoafiError: see :meth:`GitRunner.run`.
        """
        refspecs = [f"{sha}:{_pin(sha)}" for sha in commits]
        self.runner.run(
            [
                "fetch",
                *_FETCH_OPTIONS,
                f"--depth={depth}",
                "--filter=blob:none",
                "--end-of-options",
                "origin",
                *refspecs,
            ],
            git_dir=self.path,
            watch=self.watch,
            what=f"fetching commit {' and '.join(commits)} of {remote.url}",
            remote=remote,
            inherit=self.inherited,
        )

    def prefetch(self, remote: Remote, blobs: Iterable[str]) -> dict[str, int | None]:
        """Have the contents of ``blobs``: one fetch for all that are missing. Returns their sizes, as :meth:`sizes`.

        This is how git itself fills a partial clone, but for all at once instead of one by one.
        """
        sizes = self.sizes(sorted(set(blobs)))
        missing = [oid for oid, size in sizes.items() if size is None]
        if missing:
            self.runner.run(
                ["fetch", *_FETCH_OPTIONS, "--filter=blob:none", "--stdin", "origin"],
                git_dir=self.path,
                watch=self.watch,
                what=f"fetching {len(missing)} contents of {remote.url}",
                remote=remote,
                settings=["fetch.negotiationAlgorithm=noop"],
                stdin="".join(f"{oid}\n" for oid in missing).encode(),
                inherit=self.inherited,
            )
            sizes |= self.sizes(missing)
        return sizes

    def sizes(self, blobs: Sequence[str]) -> dict[str, int | None]:
        """The size in bytes of each of ``blobs``; ``None`` for those that are not here."""
        return {oid: None if info is None else info.size for oid, info in self.objects.info(blobs).items()}

    def kinds(self, objects: Sequence[str]) -> dict[str, str | None]:
        """``commit``, ``tree``, ``blob`` or ``tag`` for each of ``objects``; ``None`` for those that are not here."""
        return {oid: None if info is None else info.kind for oid, info in self.objects.info(objects).items()}

    @cached_property
    def objects(self) -> ObjectReader:
        """Reads single objects; its git lives as long as :meth:`MirrorStore.exclusive` gives out the mirror."""
        return ObjectReader(self.runner, self.path, name=self.name, watch=self.watch, inherit=self.inherited)

    @property
    def inherited(self) -> tuple[int, ...]:
        """What git inherits: the lock, so that it stays taken as long as git runs."""
        return () if self.lock < 0 else (self.lock,)


_FETCH_OPTIONS: Final = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--recurse-submodules=no",
    "--no-show-forced-updates",
)


def _pin(sha: str) -> str:
    return f"refs/coafi/commits/{sha}"


@dataclass(frozen=True)
class MirrorStore:
    """All mirrors of this machine, shared by threads and processes.

    Attributes:
        directory: where they are; made when it is missing.
    """

    directory: Path
    runner: GitRunner = field(default_factory=GitRunner)

    def tip(self, remote: Remote, branch: str, watch: Watch) -> str | None:
        """The commit that ``branch`` of the remote points to; ``None`` when there is no such branch. Needs no mirror.

        Args:
            branch: a name that :func:`coafi.git.refs.check_branch` accepts: it then holds no pattern.

        Raises:
            CoafiError: see :meth:`GitRunner.run`.
        """
        with _disk(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        ref = f"refs/heads/{branch}"
        answer = self.runner.run(
            ["ls-remote", "--quiet", "--end-of-options", "origin", ref],
            git_dir=self.directory,
            watch=watch,
            what=f"looking up branch {branch!a} of {remote.url}",
            remote=remote,
        )
        # Git also answers with refs that end like this one.
        for line in answer.split(b"\n"):
            sha, _, name = line.partition(b"\t")
            if name == ref.encode():
                return check_sha(sha.decode("ascii", "replace"), f"tip of branch {branch!a} of {remote.url}:")
        return None

    @contextlib.contextmanager
    def exclusive(self, url: RepositoryUrl, sha_length: int, watch: Watch) -> Iterator[Mirror]:
        """The mirror of ``url``, made when it is missing, for us alone until :meth:`share`.

        Args:
            sha_length: 40 or 64: a repository is either of SHA-1 or of SHA-256.

        Raises:
            Unavailable: another fetch of the same repository holds it for too long, or the disk refuses.
        """
        name = mirror_name(url, sha_length)
        path = self.directory / name
        with contextlib.ExitStack() as held:
            with _disk(self.directory):
                mirror = Mirror(path, str(url), self.runner, watch, held.enter_context(self._locked(name, watch)))
                self._prepare(mirror, sha_length)
            try:
                with mirror.objects:
                    yield mirror
            finally:
                with _disk(self.directory):
                    os.pwrite(mirror.lock, b"%020d" % _size(path), 0)

    def share(self, mirror: Mirror) -> None:
        """Let others read ``mirror`` too; from here on it must not be changed.

        Raises:
            MirrorDamaged: somebody deleted it in the moment between.
        """
        self._flock(mirror.lock, fcntl.LOCK_SH, mirror.name, mirror.watch)
        if not mirror.path.is_dir():
            raise MirrorDamaged(f"the mirror of {mirror.name} was deleted meanwhile", remedy="it is made anew")

    def discard(self, url: RepositoryUrl, sha_length: int, watch: Watch) -> None:
        """Delete the mirror of ``url``; the next fetch makes it anew."""
        name = mirror_name(url, sha_length)
        with _disk(self.directory), self._locked(name, watch) as lock:
            log.warning("git mirror discarded", repository=str(url), mirror=name)
            self._delete(name, lock)

    def evict(self, *, older_than: float | None = None, dry_run: bool = False) -> list[str]:
        """Delete the least recently used mirrors until all together are within the quota. Returns their names.

        A mirror that is in use is left alone, even when the quota cannot be kept then.

        Args:
            older_than: seconds; mirrors that nobody used for longer go as well.
            dry_run: only say which.
        """
        used: list[tuple[float, str, int]] = []
        for lock_file in self.directory.glob("*.lock"):
            text = lock_file.read_text("ascii", "replace")
            if text.isdecimal() and int(text):
                used.append((lock_file.stat().st_mtime, lock_file.stem, int(text)))
        excess = sum(size for _, _, size in used) - self.runner.limits.mirrors_quota_bytes
        evicted = []
        for last, name, size in sorted(used):
            if excess <= 0 and (older_than is None or last > time.time() - older_than):
                break
            if dry_run:
                evicted.append(name)
                excess -= size
                continue
            with self._open(name) as lock:
                if not _try(lock, fcntl.LOCK_EX):
                    continue
                self._delete(name, lock)
            log.info("git mirror evicted", mirror=name, bytes=size)
            evicted.append(name)
            excess -= size
        return evicted

    def _prepare(self, mirror: Mirror, sha_length: int) -> None:
        os.utime(mirror.lock)
        _remove(mirror.path.with_name(f"{mirror.path.name}.partial"))
        _remove(mirror.path.with_name(f"{mirror.path.name}.trash"))
        if mirror.path.is_dir():
            self._tidy(mirror.path)
        if not mirror.path.is_dir():
            self._make(mirror, sha_length)

    def _make(self, mirror: Mirror, sha_length: int) -> None:
        partial = mirror.path.with_name(f"{mirror.path.name}.partial")
        partial.mkdir()
        self.runner.run(
            [
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--initial-branch=none",
                f"--object-format={'sha1' if sha_length == 40 else 'sha256'}",
            ],
            git_dir=partial,
            watch=mirror.watch,
            what=f"making the mirror of {mirror.name}",
            inherit=mirror.inherited,
        )
        partial.rename(mirror.path)

    def _tidy(self, path: Path) -> None:
        """Remove what a killed git left; delete a mirror that has seen too many fetches."""
        packs = path / "objects" / "pack"
        stale = [*path.glob("*.lock"), *(path / "refs").rglob("*.lock"), *packs.glob("tmp_*"), *packs.glob(".tmp-*")]
        stale += [
            *packs.glob("*.keep"),
            *(path / "objects").glob("tmp_*"),
            *(path / "objects" / "info").rglob("*.lock"),
        ]
        for leftover in stale:
            _remove(leftover)
        if not (path / "HEAD").is_file() or len(list(packs.glob("*.pack"))) > self.runner.limits.max_packs:
            _remove_mirror(path)

    def _delete(self, name: str, lock: int) -> None:
        _remove_mirror(self.directory / name)
        os.ftruncate(lock, 0)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[int]:
        descriptor = os.open(self.directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _locked(self, name: str, watch: Watch) -> Iterator[int]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._open(name) as descriptor:
            self._flock(descriptor, fcntl.LOCK_EX, name, watch)
            yield descriptor

    def _flock(self, descriptor: int, kind: int, name: str, watch: Watch) -> None:
        deadline = time.monotonic() + self.runner.limits.lock_timeout
        while not _try(descriptor, kind):
            watch.beat(f"waiting for another fetch of {name}")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the mirror {name} is held by another fetch", remedy="wait for it, or end the git that holds it"
                )
            time.sleep(_LOCK_POLL_SECONDS)


def mirror_name(url: RepositoryUrl, sha_length: int) -> str:
    """The directory of a mirror: something to read, then what is unique."""
    readable = re.sub(r"[^a-z0-9]+", "-", f"{url.host}{url.path}".lower()).strip("-")[-60:].strip("-")
    digest = hashlib.sha256(f"{sha_length} {url.canonical}".encode()).hexdigest()[:32]
    return f"{readable}-{digest}"


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_mirror(path: Path) -> None:
    """Delete a mirror so that nobody ever sees a part of it."""
    trash = path.with_name(f"{path.name}.trash")
    _remove(trash)
    with contextlib.suppress(FileNotFoundError):
        path.rename(trash)
    _remove(trash)


def _size(path: Path) -> int:
    """Bytes of all files below ``path``."""
    return sum(
        os.lstat(os.path.join(directory, file)).st_size  # noqa: PTH118  # os.walk gives strings, and this is hot
        for directory, _, files in os.walk(path)
        for file in files
    )


@contextlib.contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Our own disk refusing is something to wait for, not a defect."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the mirrors in {directory} cannot be written: {error}", remedy="check its disk space and permissions"
        ) from error
