"""The steps of a push called one after the other in this process: what they cost without Temporal."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from sqlalchemy import event as on
from sqlalchemy.engine import Engine

from coafi.commits import GitCommit
from coafi.documents.check import Verdict
from coafi.git.fetch import FetchRequest
from coafi.ledger.store.sqlite import SqliteLedgerStore
from coafi.names import Phase
from coafi.processing import BatchTask, Checked, Generated, GenerateTask
from coafi.recording import Conclusion
from coafi.webhooks import github
from tests.bench.pushes import Push
from workers.resources import Resources
from workers.wiring import Activities, build_activities


@dataclass(frozen=True)
class BareLoop:
    """Handles pushes with a home of its own, on the same kind of disk and as durably."""

    resources: Resources
    steps: Activities

    @classmethod
    def over(cls, resources: Resources) -> "BareLoop":
        """The loop that works with ``resources``."""
        return cls(resources, build_activities(resources))

    def handle(self, push: Push) -> Conclusion:
        """Do for one push what gateway and workflow do for it."""
        self.resources.objects.put(push.body)
        event = github.push_event(
            push.payload, delivery=str(uuid4()), body=push.body, received=datetime.now(UTC), traceparent=None
        )
        commit = GitCommit.model_validate(event.data)
        received = self.steps.events.recorder.receive(event, "bare")
        ref = event.ref(received.utids)
        fetched = self.steps.git.fetcher.fetch(
            FetchRequest(
                repository_url=commit.repository_url,
                commit=commit.commit_sha,
                before=commit.before,
                branch=commit.branch,
            )
        )
        counts: Counter[str] = Counter()
        for batch in fetched.batches:
            task = BatchTask(
                event=ref, repository=fetched.repository, commit=fetched.commit, tree=fetched.tree, batch=batch
            )
            processor = self.steps.files.processor
            checked = processor.check(task, Checked(), lambda _done: None)
            generated = processor.generate(GenerateTask(task=task, checked=checked), Generated(), lambda _done: None)
            counts.update(files=checked.files, valid=checked.verdicts[Verdict.VALID])
            counts.update(artifacts=generated.artifacts, cached=generated.cached)
        conclusion = Conclusion(phase=Phase.PROCESSED, counts=dict(counts), digests={"manifest": fetched.manifest})
        return self.steps.events.recorder.conclude(ref, conclusion).conclusion


@contextmanager
def counted_transactions() -> Iterator[Counter[str]]:
    """Counts, while the block runs, what this process commits to SQLite: ``ledger`` transactions, and ``all``.

    The ledger's are those that move its head; the others keep caches and what was learned.
    """
    counts: Counter[str] = Counter()

    def count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        counts["all"] += statement == "COMMIT"

    extend = SqliteLedgerStore.extend

    def counted(*arguments: Any) -> None:  # its statements go past SQLAlchemy
        counts["ledger"] += 1
        extend(*arguments)

    on.listen(Engine, "before_cursor_execute", count)
    try:
        with patch.object(SqliteLedgerStore, "extend", counted):
            yield counts
    finally:
        on.remove(Engine, "before_cursor_execute", count)
