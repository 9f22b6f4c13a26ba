"""``reconcile``: the branches as their hosts have them, against the pushes that were delivered.

A host delivers a push once; what it could not deliver it forgets. So the heads are looked up (``git ls-remote``), and
what no delivery has told is started as a ``git.commit`` event whose principal is ``reconciled``. Its delivery id
derives from repository, branch, and the commits before and after: whoever finds it out as well finds the same run, and
a late delivery of the same push is answered with it (:meth:`coafi.recording.EventRecorder.receive`).

A branch that is not listed is gone, unless the listing holds names that no event can hold: then nothing is called gone.

A branch is as we know it when its head was delivered and nothing that was delivered later moved it away from there.
Deliveries may be late and out of order, so what looks missing is looked at again after a pause before it is started.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar

import structlog
from pydantic import Field

from coafi import metrics
from coafi.canonical import JsonObject, canonical_json, sha256
from coafi.commits import reconciled_id, source_of
from coafi.errors import CoafiError, ResourceNotFoundError
from coafi.events import Event, new_event
from coafi.git.heads import Heads, RemoteHeads
from coafi.git.mirror import check_sha, is_zero
from coafi.names import RECONCILED, EventType, TaskName
from coafi.objects import ObjectStore
from coafi.tasks.pushes import KnownPushes, Push
from coafi.tasks.task import Job, TaskModel, TaskResult, parameters_of
from coafi.webhooks.github import PRINCIPAL

log = structlog.stdlib.get_logger()

SHOWN = 500
"""Branches that a result names."""


class Standing(StrEnum):
    """How a branch stands to what was delivered."""

    KNOWN = "known"
    MISSED = "missed"
    NEW = "new"
    GONE = "gone"
    STARTED = "started"
    FOUND = "found"
    FAILED = "failed"


class Branch(TaskModel):
    """What was found out about a branch that is not as we know it.

    Attributes:
        repository: URL.
        before: where it was as far as we know; all zeros when it was not there.
        after: where it is; all zeros when it is gone.
        earlier: how many pushes from the one to the other are known.
        workflow_id: of the run that was started, or was there.
    """

    repository: str
    branch: str
    before: str
    after: str
    earlier: int = 0
    standing: Standing
    workflow_id: str = ""
    reason: str = ""


class ReconcileParameters(TaskModel):
    """What is asked for.

    Attributes:
        repositories: URLs; by default all of which a push was delivered.
        grace: seconds after which what is missing is looked at again before it is started.
        new_branches: whether branches that no delivery named are started as well, of repositories that deliver
            webhooks.
        most: runs that are started at a time; the rest is left to the next time.
    """

    repositories: tuple[str, ...] = ()
    grace: float = Field(default=60.0, ge=0, le=600)
    new_branches: bool = True
    most: int = Field(default=200, ge=1, le=10_000)


class ReconcileResult(TaskResult):
    """What was found.

    Attributes:
        branches: those that were not as we knew them, at most ``SHOWN``.
        unreachable: repositories that could not be looked at, with the reason.
    """

    branches: tuple[Branch, ...] = ()
    unreachable: dict[str, str] = Field(default_factory=dict)


Start = Callable[[Event], bool]
"""Starts the run of an event, or finds it; the latter is said by ``True``. Raises ``Unavailable`` if it cannot."""


@dataclass(frozen=True)
class Reconciler:
    """Finds out what was missed, and starts it.

    Attributes:
        pushes: what was delivered.
        heads: asks the hosts.
        start: starts a run.
    """

    name: ClassVar[TaskName] = TaskName.RECONCILE
    parameters: ClassVar[type[TaskModel]] = ReconcileParameters

    pushes: KnownPushes
    heads: RemoteHeads
    objects: ObjectStore
    start: Start
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(self, job: Job) -> ReconcileResult:
        """Look at every known repository, and start what was missed."""
        asked = parameters_of(ReconcileParameters, job)
        missed, unreachable = self.look(asked, job.beat)
        if missed and asked.grace:
            self._wait(asked.grace, job.beat)
            again = tuple(dict.fromkeys(one.repository for one in missed))
            still, more = self.look(asked.model_copy(update={"repositories": again}), job.beat)
            places = {(one.repository, one.branch, one.after) for one in missed}
            missed = [one for one in still if (one.repository, one.branch, one.after) in places]
            unreachable |= more
        done = [self.start_one(one, job.beat) for one in missed[: asked.most]]
        done += self.start_lost(asked.repositories, job.beat)
        return result_of(done, missed[asked.most :], unreachable)

    def look(
        self, asked: ReconcileParameters, beat: Callable[[str], None] = lambda _text: None
    ) -> tuple[list[Branch], dict[str, str]]:
        """What is missing, and the repositories that could not be looked at; starts nothing."""
        sources = [source_of(url) for url in asked.repositories] or None
        missed: list[Branch] = []
        unreachable: dict[str, str] = {}
        self.pushes.catch_up(beat)
        for source in self.pushes.sources() if sources is None else sources:
            known = self.pushes.of(source)
            if not known:
                unreachable[source] = "no push of it was ever delivered: submit its commit"
                continue
            url = known[-1].url
            try:
                heads = self.heads.of(url, beat)
            except CoafiError as error:
                log.warning("repository not looked at", repository=source, reason=str(error))
                unreachable[url] = str(error)[:500]
                continue
            self.pushes.catch_up(beat)  # what was delivered while we asked
            missed += list(self._missed(url, self.pushes.of(source), heads, asked))
        return missed, unreachable

    def since(self, commit: str, branch: str = "", repository: str = "") -> list[Branch]:
        """What lies between a commit and the heads of the branches that it was pushed to.

        Raises:
            ResourceNotFoundError: no push of that commit was delivered, and nobody says where it is.
        """
        check_sha(commit, "commit")
        self.pushes.catch_up()
        places = {(one.url, one.branch) for one in self.pushes.with_commit(commit)}
        if repository and branch:
            places = {(repository, branch)}
        places = {one for one in places if source_of(repository or one[0]) == source_of(one[0])}
        places = {one for one in places if branch in ("", one[1])}
        if not places:
            raise ResourceNotFoundError(
                f"no push of the commit {commit} was delivered", remedy="say --repository and --branch as well"
            )
        found = []
        for url, name in sorted(places):
            heads = self.heads.of(url)
            after = heads.commits.get(name, _zeros(commit))
            if after != commit and (heads.complete or not is_zero(after)):
                pushes = [push for push in self.pushes.of(source_of(url)) if push.branch == name]
                # The last push between them that is known; or another one, if the branch cannot be there by that.
                same = _count(pushes, commit, after)
                earlier = same - 1 if same and is_known(pushes, after) else same
                standing = Standing.GONE if is_zero(after) else Standing.MISSED
                found.append(
                    Branch(repository=url, branch=name, before=commit, after=after, earlier=earlier, standing=standing)
                )
        return found

    def start_one(self, branch: Branch, beat: Callable[[str], None] = lambda _text: None) -> Branch:
        """Start the run of what was missed, or find it."""
        beat(f"starting {branch.branch} of {branch.repository}")
        event, body = reconciled_event(branch, datetime.now(UTC))
        try:
            self.objects.put(body)
            existed = self.start(event)
        except CoafiError as error:
            log.warning("not reconciled", repository=branch.repository, branch=branch.branch, reason=str(error))
            return branch.model_copy(update={"standing": Standing.FAILED, "reason": str(error)[:500]})
        if not existed:
            metrics.RECONCILED.inc()
        log.info("reconciled", workflow_id=event.workflow_id, existed=existed)
        standing = Standing.FOUND if existed else Standing.STARTED
        return branch.model_copy(update={"standing": standing, "workflow_id": event.workflow_id})

    def start_lost(
        self, repositories: Sequence[str] = (), beat: Callable[[str], None] = lambda _text: None
    ) -> list[Branch]:
        """Start the runs of pushes that were found missing once more, if they are gone without having concluded.

        Nobody else can: to their host they are delivered, or forgotten. A run that is there is left alone.

        Args:
            repositories: URLs; by default all.

        Returns:
            Those that were started, or could not be.
        """
        sources = {source_of(url) for url in repositories}
        at_work = [one for one in self.pushes.at_work() if not sources or one[0].source in sources]
        tried = [self.start_one(_branch(push, delivery_id), beat) for push, delivery_id in at_work]
        return [one for one in tried if one.standing is not Standing.FOUND]

    def _missed(self, url: str, pushes: Sequence[Push], heads: Heads, asked: ReconcileParameters) -> Iterator[Branch]:
        by_branch: dict[str, list[Push]] = {}
        for push in pushes:
            by_branch.setdefault(push.branch, []).append(push)
        has_webhook = any(push.principal == PRINCIPAL for push in pushes)
        for name in sorted({*by_branch, *heads.commits}):
            known, after = by_branch.get(name, []), heads.commits.get(name)
            if after is None and not heads.complete:
                continue  # it may be there under a name that the listing cannot hold: it is not called gone
            if not known:
                if asked.new_branches and has_webhook and after is not None:
                    yield Branch(repository=url, branch=name, before=_zeros(after), after=after, standing=Standing.NEW)
                continue
            tip = tip_of(known)
            after = after or _zeros(tip)
            if not is_known(known, after):
                standing = Standing.GONE if is_zero(after) else Standing.MISSED
                earlier = _count(known, tip, after)
                yield Branch(repository=url, branch=name, before=tip, after=after, earlier=earlier, standing=standing)

    def _wait(self, seconds: float, beat: Callable[[str], None]) -> None:
        left = seconds
        while left > 0:
            beat(f"looking again in {left:.0f} s: a delivery may be on its way")
            self.sleep(min(left, 1.0))
            left -= 1.0


def _count(pushes: Sequence[Push], before: str, after: str) -> int:
    """How many of the pushes lead from the one commit to the other."""
    return sum((push.before, push.after) == (before, after) for push in pushes)


def is_known(pushes: Sequence[Push], head: str) -> bool:
    """Whether a branch with these pushes can be at ``head``: that was delivered, and nothing later left it.

    Args:
        pushes: of one branch, in the order of the ledger.
    """
    arrived = max((push.entry for push in pushes if push.after == head), default=None)
    left = max((push.entry for push in pushes if push.before == head and push.after != head), default=-1)
    if arrived is None:
        return is_zero(head) and not pushes
    # A push that began here and came in earlier may be one that was overtaken: A→B→A is known in either order.
    return arrived > left or tip_of(pushes) == head


def tip_of(pushes: Sequence[Push]) -> str:
    """Where a branch is as far as its pushes tell: the newest tip from which none of them goes on."""
    for push in reversed(pushes):
        if not any(other.before == push.after and other.entry != push.entry for other in pushes):
            return push.after
    return pushes[-1].after


def reconciled_event(branch: Branch, received: datetime) -> tuple[Event, bytes]:
    """The event of a push that nobody delivered, and the body that stands for it."""
    data: JsonObject = {
        "repositoryUrl": branch.repository,
        "commitSha": branch.after,
        "before": branch.before,
        "branch": branch.branch,
        "author": RECONCILED,
    }
    if is_zero(branch.after):
        data["deleted"] = True
    body = canonical_json(data)
    event = new_event(
        event_type=EventType.GIT_COMMIT,
        source=source_of(branch.repository),
        delivery_id=reconciled_id(
            branch.repository, branch.branch, branch.before, branch.after, earlier=branch.earlier
        ),
        time=received,
        body_digest=sha256(body),
        principal=RECONCILED,
        data=data,
    )
    return event, body


def result_of(done: Sequence[Branch], rest: Sequence[Branch], unreachable: dict[str, str]) -> ReconcileResult:
    """What came of it all."""
    counts = {standing.value: sum(one.standing is standing for one in done) for standing in _ENDS}
    counts |= {"left": len(rest), "unreachable": len(unreachable)}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return ReconcileResult(
        summary=said or "nothing was missed",
        counts={name: count for name, count in counts.items() if count},
        branches=(*done, *rest)[:SHOWN],
        unreachable=dict(list(unreachable.items())[:SHOWN]),
    )


_ENDS = (Standing.STARTED, Standing.FOUND, Standing.FAILED)


def _branch(push: Push, delivery_id: str) -> Branch:
    """What was found missing when the push was started under that id."""
    name = reconciled_id(push.url, push.branch, push.before, push.after)
    return Branch(
        repository=push.url,
        branch=push.branch,
        before=push.before,
        after=push.after,
        earlier=int(delivery_id.removeprefix(name).removeprefix("-") or 0),
        standing=Standing.MISSED,
    )


def _zeros(like: str) -> str:
    return "0" * len(like)
