"""``git.fetch`` and ``git.tip``: the steps that touch git."""

from dataclasses import dataclass

from temporalio import activity

from activities import tries
from activities.boundary import boundary
from activities.pulse import pulse
from coafi.errors import Unavailable
from coafi.events import EventRef, Wire
from coafi.git.failures import CommitNotFound
from coafi.git.fetch import FetchRequest, FetchResult, GitFetcher, Tip
from coafi.index.model import ProcessedCommit
from coafi.index.pointers import IndexReader
from coafi.names import ActivityName

COMMIT_ATTEMPTS = 4
"""Attempts that do not find a commit until it is unknown: a host's replicas may be seconds behind its webhooks."""


class FetchTask(Wire):
    """A commit to fetch, and the event that asks for it."""

    event: EventRef
    request: FetchRequest


class TipTask(Wire):
    """A branch to look up.

    Attributes:
        repository: canonical URL.
        commits: pushes that were processed; their trees need not be fetched again.
    """

    repository: str
    branch: str
    commits: tuple[ProcessedCommit, ...] = ()


class TipResult(Wire):
    """Where a branch points.

    Attributes:
        generation: of the newest index of the branch, read before the branch was looked up; 0 when there is none.
        tip: the branch as the remote told.
    """

    generation: int
    tip: Tip


@dataclass(frozen=True)
class GitActivities:
    """Activities on git repositories.

    Attributes:
        fetcher: fetches into mirrors, and writes archives and manifest.
        indexes: tells the newest index of a branch.
    """

    fetcher: GitFetcher
    indexes: IndexReader

    @activity.defn(name=ActivityName.FETCH, no_thread_cancel_exception=True)
    @boundary
    def fetch(self, task: FetchTask) -> FetchResult:
        """Fetch a commit's changed files into the object store."""
        try:
            with pulse():
                return self.fetcher.fetch(task.request, heartbeat=tries.heartbeat, cancelled=activity.is_cancelled)
        except CommitNotFound as unknown:
            if _is_not_there():
                raise
            raise Unavailable(unknown.message, remedy="nothing yet: it may not have arrived") from unknown

    @activity.defn(name=ActivityName.TIP, no_thread_cancel_exception=True)
    @boundary
    def tip(self, task: TipTask) -> TipResult:
        """Look up where a branch points, and have the tree of that commit in the object store."""
        # First: whoever publishes an index between this and the look-up may have seen a newer tip than we will.
        newest = self.indexes.newest(task.repository, task.branch)
        known = {commit.commit: commit.tree for commit in task.commits if commit.tree is not None}
        if newest is not None and not newest.deleted:
            known[newest.commit] = newest.tree
        try:
            with pulse():
                tip = self.fetcher.tip(
                    task.repository, task.branch, known, heartbeat=tries.heartbeat, cancelled=activity.is_cancelled
                )
        except CommitNotFound as moved:
            if _is_not_there():
                raise
            raise Unavailable(moved.message, remedy="nothing yet: the branch has moved on meanwhile") from moved
        return TipResult(generation=newest.generation if newest else 0, tip=tip)


def _is_not_there() -> bool:
    """Whether a commit was looked for often enough. Tries that met an outage do not count, unless it was the last."""
    info = activity.info()
    allowed = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return tries.failed(CommitNotFound.__name__) >= COMMIT_ATTEMPTS or info.attempt == allowed
