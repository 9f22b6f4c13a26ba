"""What tasks found out: a row for each, written in the ledger transaction of its ``TASK_COMPLETED``."""

import json
from dataclasses import asdict, dataclass

from sqlalchemy import Column, Connection, Index, Table, select

from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_missing
from coafi.names import TaskName

task_result = Table(
    "task_result",
    metadata,
    Column("workflow_id", text(1000), primary_key=True),
    Column("task", text(40), nullable=False),
    Column("schedule", text(100), nullable=False),
    Column("due", text(32), nullable=False),
    Column("outcome", text(20), nullable=False),
    Column("summary", text(2000), nullable=False),
    Column("result", text(64), nullable=False),
    Column("artifacts", text(), nullable=False),
    Column("entry", big_integer(), nullable=False),
    Index("task_result_entry", "task", "entry"),
)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One result.

    Attributes:
        workflow_id: of the run.
        due: the time that the schedule had in mind, RFC 3339.
        result: digest of the typed result, as canonical JSON in the object store.
        artifacts: digests by name, as JSON.
        entry: index of its ``TASK_COMPLETED``.
    """

    workflow_id: str
    task: str
    schedule: str
    due: str
    outcome: str
    summary: str
    result: str
    artifacts: str
    entry: int

    def artifact(self, name: str) -> str | None:
        """The digest of an artifact."""
        found = json.loads(self.artifacts).get(name)
        return found if isinstance(found, str) else None


def add_result(connection: Connection, result: StoredResult) -> None:
    """Keep a result, within the caller's transaction. Doing it again changes nothing."""
    insert_missing(connection, task_result, [asdict(result)])


class TaskResults:
    """Finds what tasks found out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, task: TaskName, limit: int = 1) -> list[StoredResult]:
        """The newest results of a task first, at most ``limit``."""
        query = select(task_result).where(task_result.c.task == task).order_by(task_result.c.entry.desc()).limit(limit)
        with self._database.read() as connection:
            return [StoredResult(**row._mapping) for row in connection.execute(query)]

    def at(self, task: TaskName, entry: int) -> StoredResult | None:
        """The result of a task that is recorded at a place of the ledger."""
        query = select(task_result).where(task_result.c.task == task, task_result.c.entry == entry)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else StoredResult(**row._mapping)

    def get(self, workflow_id: str) -> StoredResult | None:
        """The result of a run."""
        with self._database.read() as connection:
            row = connection.execute(select(task_result).where(task_result.c.workflow_id == workflow_id)).one_or_none()
        return None if row is None else StoredResult(**row._mapping)
