"""``git.fetch``: the one step that touches git."""

from dataclasses import dataclass

from temporalio import activity

from activities.boundary import boundary
from coafi.events import EventRef, Wire
from coafi.git.fetch import FetchRequest, FetchResult, GitFetcher
from coafi.names import ActivityName


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
        return self.fetcher.fetch(task.request, heartbeat=activity.heartbeat, cancelled=activity.is_cancelled)
