"""The documentation index: ask for its update (``index.request``), and publish it (``index.update``)."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field
from temporalio import activity
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from activities import tries
from activities.boundary import async_boundary, boundary
from coafi import metrics
from coafi.canonical import Sha256
from coafi.commits import source_of
from coafi.errors import Refused, Unavailable
from coafi.events import EventRef, Wire
from coafi.git.manifest import Oid
from coafi.git.refs import check_branch
from coafi.git.urls import UrlPolicy, parse_repository_url
from coafi.index.model import IndexTask, IndexUpdate, ProcessedCommit, Tip
from coafi.index.update import IndexUpdater
from coafi.names import (
    MAX_WORKFLOW_ID,
    PRIORITY_APPLICATION,
    ActivityName,
    SearchAttribute,
    SignalName,
    TaskQueue,
    WorkflowName,
    fairness_key,
    index_workflow_id,
)
from coafi.notify.subscribers import Subscribers

REQUEST_TIMEOUT = timedelta(seconds=3)
"""For one call of Temporal: it must end within a light step."""


class IndexPolicy(Wire):
    """How long the run of an index waits for what, in seconds; from the settings at the time of the last request.

    Attributes:
        debounce: for more commits, before an update.
        fetch: for one try of ``git.tip``.
        git, files: for retries of the steps on those queues.
    """

    debounce: float
    fetch: float
    git: float
    files: float


class IndexRequest(Wire):
    """The signal that asks for an update."""

    commit: ProcessedCommit
    policy: IndexPolicy


class IndexState(Wire):
    """All that the run of an index carries through continue-as-new; its input.

    Attributes:
        repository: canonical URL.
        policy: of the last request.
        fresh: commits that no update has taken into account.
        unnamed: commits that updates have taken into account that showed nothing new, so that nothing names them yet;
            the newest, as many as there is room for.
        omitted: how many more of these, and of the fresh ones, there were.
        seen: digests of the last requests' workflow ids: a request may come twice.
        updates: how many updates there were, over all runs.
        max_updates: after so many updates the run continues as new, if Temporal does not suggest it before.
    """

    repository: str
    branch: str
    policy: IndexPolicy
    fresh: tuple[ProcessedCommit, ...] = ()
    unnamed: tuple[ProcessedCommit, ...] = ()
    omitted: int = Field(default=0, ge=0)
    seen: tuple[str, ...] = ()
    updates: int = 0
    max_updates: int = Field(default=200, ge=1)


class IndexRequestTask(Wire):
    """A push that was processed, as its payload names it.

    Attributes:
        event: of the push; its run is what the request is known by.
        repository_url: as the sender wrote it.
        commit: SHA; all zeros when the branch was deleted.
        tree: digest of the commit's tree, where it was fetched.
    """

    event: EventRef
    repository_url: str
    branch: str
    commit: Oid
    tree: Sha256 | None = None


class IndexRequested(Wire):
    """Which run was asked; or why there is no index to ask for."""

    workflow_id: str | None = None
    reason: str = ""


class IndexRequestsTask(Wire):
    """Branches whose index has to show what a run has found out.

    Attributes:
        workflow_id: of the run; what the requests are known by.
    """

    workflow_id: str
    tips: tuple[Tip, ...]


class IndexesRequested(Wire):
    """Which runs were asked, a run for each branch; or why there is none."""

    requested: tuple[IndexRequested, ...]


class Updated(Wire):
    """What came of an update, and whom it is to be announced to."""

    update: IndexUpdate
    subscribers: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexRequestActivities:
    """Asks for updates.

    Attributes:
        client: of Temporal: a workflow cannot start a run by signal.
        url_policy: gives a repository its one canonical URL.
        policy: what runs are told.
    """

    client: Client
    url_policy: UrlPolicy
    policy: IndexPolicy

    @activity.defn(name=ActivityName.INDEX_REQUEST)
    @async_boundary
    async def request(self, task: IndexRequestTask) -> IndexRequested:
        """Signal the run that keeps the index of the branch; start it if there is none."""
        commit = ProcessedCommit(workflow_id=task.event.workflow_id, commit=task.commit, tree=task.tree)
        return await self._ask(task.repository_url, task.branch, commit)

    @activity.defn(name=ActivityName.INDEX_REQUESTS)
    @async_boundary
    async def request_all(self, task: IndexRequestsTask) -> IndexesRequested:
        """Do the same for several branches. Who was asked before is asked again: a request counts once."""
        requested = []
        for tip in task.tips:
            commit = ProcessedCommit(workflow_id=task.workflow_id, commit=tip.commit, tree=tip.tree)
            requested.append(await self._ask(tip.repository, tip.branch, commit))
        return IndexesRequested(requested=tuple(requested))

    async def _ask(self, repository_url: str, branch: str, commit: ProcessedCommit) -> IndexRequested:
        try:
            repository = str(parse_repository_url(repository_url, self.url_policy))
            branch = check_branch(branch)
        except Refused as error:
            return IndexRequested(reason=str(error))
        workflow_id = index_workflow_id(repository, branch)
        if len(workflow_id) > MAX_WORKFLOW_ID:
            return IndexRequested(reason=f"the names of repository and branch have over {MAX_WORKFLOW_ID} characters")
        source = source_of(repository)
        try:
            await self.client.start_workflow(
                WorkflowName.GIT_COMMIT_PROCESSING,
                IndexState(repository=repository, branch=branch, policy=self.policy),
                id=workflow_id,
                task_queue=TaskQueue.EVENTS,
                start_signal=SignalName.COMMIT_PROCESSED,
                start_signal_args=[IndexRequest(commit=commit, policy=self.policy)],
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(SearchAttributeKey.for_keyword(SearchAttribute.SOURCE), source)]
                ),
                priority=Priority(priority_key=PRIORITY_APPLICATION, fairness_key=fairness_key(source)),
                static_summary=f"Index of {source.partition('://')[2] or source} · {branch}"[:200],
                rpc_timeout=REQUEST_TIMEOUT,
            )
        except (RPCError, RuntimeError) as error:  # the latter is what the SDK raises when it cannot connect
            if isinstance(error, RPCError) and error.status is RPCStatusCode.INVALID_ARGUMENT:
                return IndexRequested(reason=f"Temporal refuses the request: {error.message}")
            raise Unavailable(
                f"Temporal did not take the request for an update of {workflow_id}",
                remedy="nothing: it is asked again",
            ) from error
        return IndexRequested(workflow_id=workflow_id)


@dataclass(frozen=True)
class IndexActivities:
    """Publishes indexes.

    Attributes:
        updater: does the work.
        subscribers: who is to be told.
    """

    updater: IndexUpdater
    subscribers: Subscribers

    @activity.defn(name=ActivityName.INDEX_UPDATE, no_thread_cancel_exception=True)
    @boundary
    def update(self, task: IndexTask) -> Updated:
        """Build the index of a tip, and make it the newest, with ``INDEX_UPDATED``."""
        update = self.updater.update(task, _beat)
        metrics.INDEX_UPDATES.labels(update.outcome).inc()
        told = self.subscribers.of(task.repository, task.branch) if update.outcome == "moved" else ()
        return Updated(update=update, subscribers=tuple(one.name for one in told))


def _beat(text: str) -> None:
    tries.heartbeat(text)
    if activity.is_cancelled():
        raise Unavailable("the worker was told to stop", remedy="nothing: the update is tried again")
