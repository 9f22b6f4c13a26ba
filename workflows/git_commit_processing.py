"""The index of a branch: one long-lived run that turns many processed commits into few updates.

It is level-triggered: a request only says that something changed; what the index shows is what the branch points to
when it is updated, and every verdict there is by then. So one update stands for all that wait, however many: it names
as many as a payload has room for, and counts the others.

Signals:
    commit_processed: a push to the branch was processed.

Queries:
    state: what was done last, and what waits.
"""

import contextlib
import hashlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from workflows.lifecycle import light, patient

with workflow.unsafe.imports_passed_through():
    from activities.git import GitActivities, TipResult, TipTask
    from activities.index import IndexActivities, IndexRequest, IndexState, Updated
    from activities.notifications import MAX_ANNOUNCED, AnnounceActivities, AnnounceTask
    from coafi.events import Wire
    from coafi.index.model import IndexTask, IndexUpdate, ProcessedCommit
    from coafi.names import SignalName, TaskQueue, WorkflowName

UPDATE_TIMEOUT = timedelta(minutes=30)
"""One try of an update."""

HEARTBEAT_TIMEOUT = timedelta(seconds=20)
"""A worker that was killed is noticed after this long."""

IDLE = timedelta(hours=1)
"""A run that nobody asked for so long ends; the next request starts another."""

MAX_SEEN = 2_000
"""Requests that are remembered, so that one that comes twice counts once."""

NAMED_BYTES = 160 * 1024
"""Commits that are named, as JSON: with ``MAX_SEEN`` digests they stay below the 256 KiB that a payload should have."""

TAKES_ALL = "index-takes-all"
"""Patch: runs that began before it take ``MAX_COMMITS`` at a time, and update at once for those that are left."""

MAX_COMMITS = 2_000


class IndexStanding(Wire):
    """Where the run of an index stands; its result.

    Attributes:
        waiting: commits that no update has taken into account yet.
        updates: how many updates there were.
        last: what came of the last one.
        problem: why the last one failed; the next request tries again.
        unnamed: commits that were taken into account, and that no ``INDEX_UPDATED`` names or counts yet; they are
            forgotten when the run ends.
    """

    repository: str
    branch: str
    waiting: int
    updates: int
    last: IndexUpdate | None
    problem: str
    unnamed: int = 0


@workflow.defn(name=WorkflowName.GIT_COMMIT_PROCESSING)
class GitCommitProcessingWorkflow:
    """Keeps the documentation index of one branch up to date."""

    @workflow.init
    def __init__(self, start: IndexState) -> None:
        self._takes_all = workflow.patched(TAKES_ALL)
        self._start = start
        self._policy = start.policy
        self._fresh = list(start.fresh)
        self._unnamed = list(start.unnamed)
        self._omitted = start.omitted
        self._seen = dict.fromkeys(start.seen)
        self._updates = start.updates
        self._taken = 0
        self._last: IndexUpdate | None = None
        self._problem = ""

    @workflow.run
    async def run(self, _start: IndexState) -> IndexStanding:
        """Update the index whenever commits were processed, until nobody asks any more."""
        while await self._is_asked():
            if self._policy.debounce:
                await workflow.sleep(timedelta(seconds=self._policy.debounce), summary="Wait for more commits")
            await self._update()
            if self._is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._carried())
        return self.state()

    @workflow.signal(name=SignalName.COMMIT_PROCESSED, description="A push to the branch was processed")
    def commit_processed(self, request: IndexRequest) -> None:
        """Take a commit into account with the next update."""
        self._policy = request.policy
        digest = hashlib.sha256(request.commit.workflow_id.encode()).hexdigest()[:24]
        if digest in self._seen:
            return
        self._seen[digest] = None
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._fresh.append(request.commit)

    @workflow.query(description="What was done last, and what waits")
    def state(self) -> IndexStanding:
        """Where the run stands."""
        return IndexStanding(
            repository=self._start.repository,
            branch=self._start.branch,
            waiting=len(self._fresh) + self._taken,
            updates=self._updates,
            last=self._last,
            problem=self._problem,
            unnamed=len(self._unnamed) + self._omitted - self._taken,
        )

    async def _is_asked(self) -> bool:
        if not self._fresh:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: bool(self._fresh), timeout=IDLE, timeout_summary="Wait for a commit"
                )
        return bool(self._fresh)

    async def _update(self) -> None:
        """Publish the index of the branch as it is now, and announce it."""
        self._updates += 1
        commits = self._take()
        try:
            updated = await self._publish(commits)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._problem = _message(error)
            workflow.set_current_details(f"**The last update failed**: {self._problem}\n\nThe next commit tries again.")
            return
        finally:
            self._taken = 0
        self._problem, self._last = "", updated.update
        count = len(commits) + self._omitted
        workflow.set_current_details(_text(updated.update, count))
        if updated.update.outcome == "moved":
            self._unnamed, self._omitted = [], 0
            if updated.subscribers:
                await self._announce(updated, commits, count)

    def _take(self) -> tuple[ProcessedCommit, ...]:
        """Take what waits; give what of it, and of what nothing names yet, the update can name."""
        waiting, fresh = [*self._unnamed, *self._fresh], len(self._fresh)
        if self._takes_all:
            self._unnamed, self._fresh = _newest(waiting), []
            self._omitted += len(waiting) - len(self._unnamed)
        else:
            self._unnamed, self._fresh = waiting[:MAX_COMMITS], waiting[MAX_COMMITS:]
        self._taken = fresh - len(self._fresh)
        return tuple(self._unnamed)

    async def _publish(self, commits: tuple[ProcessedCommit, ...]) -> Updated:
        """Look the branch up and publish its index; again, if somebody else did so meanwhile."""
        while True:
            found = await self._tip(commits)
            updated = await self._publish_tip(found, commits)
            if updated.update.outcome != "superseded":
                return updated

    async def _tip(self, commits: tuple[ProcessedCommit, ...]) -> TipResult:
        return await workflow.execute_activity_method(
            GitActivities.tip,
            TipTask(repository=self._start.repository, branch=self._start.branch, commits=commits),
            task_queue=TaskQueue.GIT,
            start_to_close_timeout=timedelta(seconds=self._policy.fetch),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(self._policy.git),
            summary=f"Look up {self._start.branch}"[:200],
        )

    async def _publish_tip(self, found: TipResult, commits: tuple[ProcessedCommit, ...]) -> Updated:
        tip, count = found.tip, len(commits) + self._omitted
        return await workflow.execute_activity_method(
            IndexActivities.update,
            IndexTask(
                repository=tip.repository,
                branch=tip.branch,
                generation=found.generation,
                commit=tip.commit,
                tree=tip.tree,
                commits=commits,
                omitted=self._omitted,
            ),
            task_queue=TaskQueue.FILES,
            start_to_close_timeout=UPDATE_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(self._policy.files),
            summary=f"Index {tip.commit[:10] if tip.commit else 'a branch that is gone'} for {count} commits",
        )

    async def _announce(self, updated: Updated, commits: tuple[ProcessedCommit, ...], count: int) -> None:
        task = AnnounceTask(
            repository=self._start.repository,
            branch=self._start.branch,
            update=updated.update,
            subscribers=updated.subscribers,
            commits=tuple(commit.commit for commit in commits[-MAX_ANNOUNCED:]),
            commit_count=count,
        )
        try:
            await light(AnnounceActivities.announce, task, f"Start {len(updated.subscribers)} notifications")
        except FailureError as error:  # a defect: it must not end the index
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("the update was not announced", exc_info=error)

    def _is_long(self) -> bool:
        here = self._updates - self._start.updates
        return here >= self._start.max_updates or workflow.info().is_continue_as_new_suggested()

    def _carried(self) -> IndexState:
        waiting = [*self._unnamed, *self._fresh]
        kept = _newest(waiting)
        unnamed = max(0, len(kept) - len(self._fresh))
        return self._start.model_copy(
            update={
                "policy": self._policy,
                "fresh": tuple(kept[unnamed:]),
                "unnamed": tuple(kept[:unnamed]),
                "omitted": self._omitted + len(waiting) - len(kept),
                "seen": tuple(self._seen),
                "updates": self._updates,
            }
        )


def _newest(commits: list[ProcessedCommit]) -> list[ProcessedCommit]:
    """The newest commits that there is room for; one in any case."""
    room, start = NAMED_BYTES, len(commits)
    for one in reversed(commits):
        room -= len(one.model_dump_json().encode()) + 1
        if room < 0 and start < len(commits):
            break
        start -= 1
    return commits[start:]


def _message(error: ActivityError) -> str:
    cause = error.cause
    return (cause.message if isinstance(cause, ApplicationError) else str(cause))[:2000]


def _text(update: IndexUpdate, commits: int) -> str:
    tip = update.commit[:10] if update.commit else "no branch"
    what = {"moved": "shows", "unchanged": "already showed", "absent": "there is none:"}[update.outcome]
    return f"**Index {update.generation}** {what} `{tip}`; the last update was for {commits} commits"
