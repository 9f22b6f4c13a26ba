"""``git.fetch``: the one step that touches git."""

from dataclasses import dataclass

from temporalio import activity

from activities.boundary import boundary
from coafi.errors import Unavailable
from coafi.events import EventRef, Wire
from coafi.git.fetch import FetchRequest, FetchResult, GitFetcher
from coafi.git.runner import CommitNotFound
from coafi.names import ActivityName

COMMIT_ATTEMPTS = 4
"""Attempts, over five seconds, until a commit counts as unknown: a host's replicas may be behind its webhooks."""


class FetchTask(Wire):
    """A commit to fetch, and the event that asks for it."""

    event: EventRef
    request: FetchRequest


@dataclass(frozen=True)
class GitActivities:
    """Activities on git repositories.

    Attributes:
        fetcher: fetches into mirrors, and writes archives and manifest.
    """

    fetcher: GitFetcher

    @activity.defn(name=ActivityName.FETCH, no_thread_cancel_exception=True)
    @boundary
    def fetch(self, task: FetchTask) -> FetchResult:
        """Fetch a commit's changed files into the object store."""
        try:
            return self.fetcher.fetch(task.request, heartbeat=activity.heartbeat, cancelled=activity.is_cancelled)
        except CommitNotFound as unknown:
            if _is_last_attempt(COMMIT_ATTEMPTS):
                raise
            raise Unavailable(unknown.message, remedy="nothing yet: it may not have arrived") from unknown


def _is_last_attempt(most: int) -> bool:
    info = activity.info()
    allowed = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return info.attempt >= (min(most, allowed) if allowed else most)
