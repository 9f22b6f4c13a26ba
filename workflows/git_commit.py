"""A push: fetch what changed, check every file, generate artifacts from the valid ones, ask for the index's update.

Queries and updates: see :class:`workflows.lifecycle.EventWorkflow`.
"""

from collections import Counter
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from workflows.lifecycle import EventWorkflow, Outcome, Receipt, light, patient

with workflow.unsafe.imports_passed_through():
    from activities.events import Patience
    from activities.files import FileActivities
    from activities.git import FetchTask, GitActivities
    from activities.index import IndexRequestActivities, IndexRequestTask
    from coafi.commits import GitCommit
    from coafi.documents.check import Verdict
    from coafi.events import Event, EventRef
    from coafi.git.fetch import FetchRequest, FetchResult
    from coafi.names import Phase, TaskQueue, WorkflowName
    from coafi.processing import BatchTask, Checked, Generated, GenerateTask

BATCH_TIMEOUT = timedelta(minutes=30)
"""One try of a batch, which is at most a 64th of a commit."""

HEARTBEAT_TIMEOUT = timedelta(seconds=20)
"""A worker that was killed is noticed after this long."""


@workflow.defn(name=WorkflowName.GIT_COMMIT)
class GitCommitWorkflow(EventWorkflow):
    """Takes one ``git.commit`` event from its receipt to ``EVENT_PROCESSED``."""

    def __init__(self) -> None:
        super().__init__()
        self._index_task: IndexRequestTask | None = None

    @workflow.run
    async def run(self, event: Event) -> Receipt:
        """Handle a push. The result is its receipt."""
        receipt = await self.handle(event, partial(self._process_commit, event))
        if receipt.phase is Phase.PROCESSED and self._index_task is not None:
            await self._ask_for_index(self._index_task)
        return receipt

    async def _process_commit(self, event: Event, ref: EventRef, patience: Patience) -> Outcome:
        commit = GitCommit.model_validate(event.data)
        task = IndexRequestTask(
            event=ref, repository_url=commit.repository_url, branch=commit.branch, commit=commit.commit_sha
        )
        self._index_task = task if patience.asks_for_index else None
        if commit.deleted:
            return Outcome(counts={"files": 0}, digests={})
        fetched = await self.step("git.fetch", lambda: self._fetch(ref, commit, patience))
        if self._index_task is not None:
            self._index_task = task.model_copy(update={"tree": fetched.tree})
        tasks = [
            BatchTask(event=ref, repository=fetched.repository, commit=fetched.commit, tree=fetched.tree, batch=batch)
            for batch in fetched.batches
        ]
        checked = await self.steps(
            {f"files.process/{task.batch.index}": partial(self._check, task, len(tasks), patience) for task in tasks}
        )
        generated = await self.steps(
            {
                f"artifacts.generate/{task.batch.index}": partial(self._generate, task, one, len(tasks), patience)
                for task, one in zip(tasks, checked, strict=True)
                if one.verdicts.get(Verdict.VALID)
            }
        )
        return _outcome(fetched, checked, generated)

    async def _fetch(self, ref: EventRef, commit: GitCommit, patience: Patience) -> FetchResult:
        request = FetchRequest(
            repository_url=commit.repository_url, commit=commit.commit_sha, before=commit.before, branch=commit.branch
        )
        return await workflow.execute_activity_method(
            GitActivities.fetch,
            FetchTask(event=ref, request=request),
            task_queue=TaskQueue.GIT,
            start_to_close_timeout=timedelta(seconds=patience.fetch),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(patience.git),
            summary=f"Fetch what changed on {commit.branch} at {commit.commit_sha[:10]}"[:200],
        )

    async def _ask_for_index(self, task: IndexRequestTask) -> None:
        """Whatever becomes of this, the event is processed: a defect here must not fail its run."""
        try:
            asked = await light(IndexRequestActivities.request, task, f"Ask for the index of {task.branch}"[:200])
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.error("the index of this branch was not asked for", exc_info=error)
            return
        if asked.workflow_id is None:
            workflow.logger.warning("no index is kept of this branch: %s", asked.reason)

    async def _check(self, task: BatchTask, batches: int, patience: Patience) -> Checked:
        return await workflow.execute_activity_method(
            FileActivities.process,
            task,
            task_queue=TaskQueue.FILES,
            start_to_close_timeout=BATCH_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(patience.files),
            summary=f"Check {_files(task.batch.files)}{_of(task, batches)}",
        )

    async def _generate(self, task: BatchTask, checked: Checked, batches: int, patience: Patience) -> Generated:
        valid = checked.verdicts[Verdict.VALID]
        return await workflow.execute_activity_method(
            FileActivities.generate,
            GenerateTask(task=task, checked=checked),
            task_queue=TaskQueue.FILES,
            start_to_close_timeout=BATCH_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=patient(patience.files),
            summary=f"Generate pages and data of {_files(valid, 'valid ')}{_of(task, batches)}",
        )


def _outcome(fetched: FetchResult, checked: list[Checked], generated: list[Generated]) -> Outcome:
    verdicts: Counter[str] = Counter()
    for batch in checked:
        verdicts.update({verdict.value: count for verdict, count in batch.verdicts.items()})
    return Outcome(
        counts={
            "files": sum(batch.files for batch in checked),
            **{verdict.value: verdicts[verdict.value] for verdict in Verdict},
            "artifacts": sum(batch.artifacts for batch in generated),
        },
        digests={"manifest": fetched.manifest},
    )


def _files(count: int, what: str = "") -> str:
    return f"{count} {what}file{'' if count == 1 else 's'}"


def _of(task: BatchTask, batches: int) -> str:
    return f" (batch {task.batch.index + 1} of {batches})" if batches > 1 else ""
