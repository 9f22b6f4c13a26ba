"""The one entry point: what a commit changed, from a repository's URL into the object store.

After :meth:`GitFetcher.fetch` nothing needs git any more: a manifest and at most 64 archives in the object store hold
every changed file. Doing it again gives the same digests; the mirror in between is only a cache.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import SecretStr

from coafi.canonical import Sha256
from coafi.errors import ValidationError
from coafi.git.archive import plan_batches, write_archive
from coafi.git.changes import (
    BaseKind,
    ChangedFile,
    Commit,
    changed_files,
    choose_base,
    compare_trees,
    contents_needed,
    count_changes,
    read_commit,
    read_tree,
)
from coafi.git.failures import CommitNotFound, MirrorDamaged
from coafi.git.limits import GitLimits
from coafi.git.manifest import BatchRef, ManifestFile, Model, Oid, manifest_file, write_manifest
from coafi.git.mirror import Mirror, MirrorStore, check_sha, is_zero
from coafi.git.refs import check_branch
from coafi.git.runner import GitRunner, Remote, SshAccess, Watch
from coafi.git.urls import UrlPolicy, parse_repository_url, resolve_addresses
from coafi.objects import ObjectStore
from coafi.trees.recorder import MAX_LEARNED_BYTES, TreePlan, TreeRecorder

_LEARNED_AT_A_TIME = 100
"""Contents that are held in memory at once while a tree is recorded."""


class FetchRequest(Model):
    """Which commit of which repository.

    Everything is as the sender said and is checked by :meth:`GitFetcher.fetch`, not here.

    Attributes:
        commit: full SHA.
        before: tip of the branch before the push, where known; all zeros when the branch is new.
        branch: where it was pushed; only for messages.
    """

    repository_url: str
    commit: str
    before: str | None = None
    branch: str = ""


class Tip(Model):
    """Where a branch points.

    Attributes:
        repository: canonical URL.
        commit: SHA, and ``tree`` the digest of its whole tree in the object store; both ``None`` when the branch, as
            far as the remote tells, does not exist.
    """

    repository: str
    branch: str
    commit: Oid | None
    tree: Sha256 | None


class FetchResult(Model):
    """What a fetch found, small enough for history: nothing per file, and at most 64 batches.

    Attributes:
        repository: canonical URL.
        manifest: digest of the manifest in the object store.
        tree: digest of the commit's whole tree there (:mod:`coafi.trees.listing`); fetches before there were trees
            have none.
        base: what the commit was compared with; ``base_kind`` says how it was chosen.
        before_lost: the request named a ``before`` that could not be had any more, so the first parent was taken.
        changes: files per kind of change (``added``, ``renamed`` …), without zeros.
        files: all changed files.
        omitted: those of them that are listed without content.
        size: bytes of all contents.
    """

    repository: str
    manifest: Sha256
    tree: Sha256 | None = None
    commit: Oid
    base: Oid
    base_kind: BaseKind
    before_lost: bool
    changes: dict[str, int]
    files: int
    omitted: int
    size: int
    batches: tuple[BatchRef, ...]


@dataclass(frozen=True)
class GitFetcher:
    """Fetches commits, safely from many threads and processes at once.

    Attributes:
        mirrors: directory of the mirrors.
        tokens: a secret per git host; see :class:`GitRunner`.
    """

    mirrors: Path
    objects: ObjectStore
    trees: TreeRecorder
    url_policy: UrlPolicy = field(default_factory=UrlPolicy)
    limits: GitLimits = field(default_factory=GitLimits)
    tokens: Mapping[str, SecretStr] = field(default_factory=dict)
    ssh: SshAccess | None = None
    ca_bundle: Path | None = None

    def fetch(
        self,
        request: FetchRequest,
        heartbeat: Callable[[str], None] = lambda _text: None,
        cancelled: threading.Event | Callable[[], bool] = lambda: False,
    ) -> FetchResult:
        """Store what ``request.commit`` changed. Blocks, for minutes when the repository is large.

        Args:
            heartbeat: called at least every second while we wait for git, with what we wait for.
            cancelled: looked at just as often.

        Raises:
            ValidationError: URL or SHA are malformed, the commit passes a limit or holds malformed objects.
            PolicyDenied: this installation does not allow the repository.
            AccessRefused: the remote does not let us read it.
            ResourceNotFoundError: there is no such repository, or no such commit in it.
            Unavailable: remote, disk or lock are out of reach, or time was used up.
            GitCancelled: the caller asked to stop.
        """
        commit, before = _checked(request)
        url = parse_repository_url(request.repository_url, self.url_policy)
        watch = Watch(heartbeat, cancelled)
        watch.beat(f"resolving the host of {url}")
        remote = Remote(url, resolve_addresses(url, self.url_policy))
        try:
            result = self._fetch(remote, commit, before, watch)
        except MirrorDamaged:
            self._store.discard(url, len(commit), watch)
            result = self._fetch(remote, commit, before, watch)
        self._store.evict()
        return result

    def tip(
        self,
        repository_url: str,
        branch: str,
        known: Mapping[str, str],
        heartbeat: Callable[[str], None] = lambda _text: None,
        cancelled: threading.Event | Callable[[], bool] = lambda: False,
    ) -> Tip:
        """Where ``branch`` points now, with the commit's whole tree in the object store.

        Args:
            known: trees that were recorded before, by commit: none of these is fetched, if it is still there.
            heartbeat, cancelled: as for :meth:`fetch`.

        Raises:
            CommitNotFound: the branch moved while we looked; look again.
            CoafiError: as for :meth:`fetch`.
        """
        check_branch(branch)
        url = parse_repository_url(repository_url, self.url_policy)
        watch = Watch(heartbeat, cancelled)
        watch.beat(f"resolving the host of {url}")
        remote = Remote(url, resolve_addresses(url, self.url_policy))
        commit = self._store.tip(remote, branch, watch)
        if commit is None:
            return Tip(repository=str(url), branch=branch, commit=None, tree=None)
        tree = known.get(commit)
        if tree is None or not self.trees.has(tree):
            try:
                tree = self._obtain_tree(remote, commit, watch)
            except MirrorDamaged:
                self._store.discard(url, len(commit), watch)
                tree = self._obtain_tree(remote, commit, watch)
            self._store.evict()
        return Tip(repository=str(url), branch=branch, commit=commit, tree=tree)

    def _obtain_tree(self, remote: Remote, sha: str, watch: Watch) -> str:
        with self._store.exclusive(remote.url, len(sha), watch) as mirror:
            if not mirror.has_commit(sha):
                mirror.obtain(remote, [sha], depth=1)
            plan = self.trees.plan(read_tree(mirror, sha))
            sizes = mirror.prefetch(remote, {*plan.documents, *plan.support})
            self._store.share(mirror)
            return self._record(mirror, plan, sizes)

    @cached_property
    def _store(self) -> MirrorStore:
        return MirrorStore(self.mirrors, GitRunner(self.limits, self.tokens, self.ssh, self.ca_bundle))

    def _fetch(self, remote: Remote, sha: str, before: str | None, watch: Watch) -> FetchResult:
        with self._store.exclusive(remote.url, len(sha), watch) as mirror:
            commit, base, base_kind, before_lost = _obtain(mirror, remote, sha, before)
            flat = compare_trees(mirror, base, sha, self.limits)
            plan = self.trees.plan(read_tree(mirror, sha))
            sizes = mirror.prefetch(remote, {*contents_needed(flat, self.limits), *plan.documents, *plan.support})
            self._store.share(mirror)
            files = changed_files(mirror, base, sha, self.limits, flat, sizes)
            entries, batches = self._archive(mirror, files)
            tree = self._record(mirror, plan, sizes)
        manifest = write_manifest(
            self.objects,
            repository=str(remote.url),
            commit=commit,
            base=base,
            base_kind=base_kind,
            before_lost=before_lost,
            files=entries,
            batches=batches,
        )
        return FetchResult(
            repository=str(remote.url),
            manifest=manifest,
            tree=tree,
            commit=sha,
            base=base,
            base_kind=base_kind,
            before_lost=before_lost,
            changes=count_changes(files),
            files=len(files),
            omitted=sum(file.omitted is not None for file in files),
            size=sum(batch.size for batch in batches),
            batches=batches,
        )

    def _archive(
        self, mirror: Mirror, files: Sequence[ChangedFile]
    ) -> tuple[tuple[ManifestFile, ...], tuple[BatchRef, ...]]:
        """Store the contents, batch by batch as git gives them out."""
        plan = plan_batches(files, self.limits)
        entries = tuple(
            manifest_file(files[position], position=position, batch=index)
            for index, positions in enumerate(plan)
            for position in positions
        )
        writer = _BatchWriter(self.objects, plan, entries, mirror.watch)
        contents = [(file.blob, file.size) for file in files if file.omitted is None and file.blob is not None]
        mirror.objects.contents(contents, writer.take)
        return entries, writer.finish()

    def _record(self, mirror: Mirror, plan: TreePlan, sizes: Mapping[str, int | None]) -> str:
        """Record the commit's whole tree; the digest that names it."""

        def read(blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
            for start in range(0, len(blobs), _LEARNED_AT_A_TIME):
                some = [(blob, sizes[blob]) for blob in blobs[start : start + _LEARNED_AT_A_TIME]]
                wanted = [(blob, size) for blob, size in some if size is not None and size <= MAX_LEARNED_BYTES]
                contents: list[bytes] = []
                mirror.objects.contents(wanted, contents.append)
                mirror.watch.beat(f"learning what documents say: {start + len(some)} of {len(blobs)}")
                yield from zip((blob for blob, _ in wanted), contents, strict=True)

        return self.trees.record(plan, read)


class _BatchWriter:
    """Collects contents and stores an archive whenever a batch is complete; holds one batch in memory."""

    def __init__(
        self, objects: ObjectStore, plan: Sequence[range], entries: Sequence[ManifestFile], watch: Watch
    ) -> None:
        self._objects = objects
        self._batches = [entries[positions.start : positions.stop] for positions in plan]
        self._watch = watch
        self._contents: list[bytes] = []
        self._done: list[BatchRef] = []

    def take(self, content: bytes) -> None:
        while self._missing() == 0:
            self._store()
        self._contents.append(content)

    def finish(self) -> tuple[BatchRef, ...]:
        while len(self._done) < len(self._batches):
            self._store()
        return tuple(self._done)

    def _missing(self) -> int:
        batch = self._batches[len(self._done)]
        return sum(file.omitted is None for file in batch) - len(self._contents)

    def _store(self) -> None:
        index = len(self._done)
        self._watch.beat(f"storing batch {index + 1} of {len(self._batches)}")
        batch = self._batches[index]
        self._done.append(
            BatchRef(
                index=index,
                archive=self._objects.put(write_archive(batch, self._contents)),
                files=len(batch),
                size=sum(len(content) for content in self._contents),
            )
        )
        self._contents = []


def _checked(request: FetchRequest) -> tuple[str, str | None]:
    """Commit and ``before`` of a request; ``None`` for a ``before`` of zeros."""
    commit = check_sha(request.commit, "commit")
    if is_zero(commit):
        raise ValidationError(
            f"branch {request.branch[:80]!a} was deleted: there is no commit to fetch",
            remedy="do not fetch for a deletion",
        )
    if not request.before:
        return commit, None
    before = check_sha(request.before, "commit before the push")
    if len(before) != len(commit):
        raise ValidationError(
            f"commit {commit} and the commit before the push {before} are of different kinds",
            remedy="give both as SHA-1 or both as SHA-256",
        )
    return commit, None if is_zero(before) else before


def _obtain(mirror: Mirror, remote: Remote, sha: str, before: str | None) -> tuple[Commit, str, BaseKind, bool]:
    """Have the commit and what it is compared with in the mirror; contents are not asked for yet."""
    has_before = before is not None and _obtain_both(mirror, remote, sha, before)
    if not has_before and not mirror.has_commit(sha):
        mirror.obtain(remote, [sha], depth=2)
    commit = read_commit(mirror, sha)
    base, kind, lost = choose_base(commit, before, has=lambda _before: has_before)
    if kind is BaseKind.FIRST_PARENT and mirror.kinds([base])[base] is None:
        mirror.obtain(remote, [sha], depth=2)  # it was fetched before, but as the base of another commit
    return commit, base, kind, lost


def _obtain_both(mirror: Mirror, remote: Remote, sha: str, before: str) -> bool:
    """Have both commits, without their parents; whether that was possible."""
    missing = [commit for commit in dict.fromkeys((sha, before)) if not mirror.has_commit(commit)]
    try:
        if missing:
            mirror.obtain(remote, missing, depth=1)
    except CommitNotFound:
        return False  # of which of them is seen when the commit is fetched alone
    return mirror.kinds([before])[before] == "commit"
