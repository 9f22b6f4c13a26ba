"""The answers that were given: whoever sends a request again gets the same one, also years later."""

from datetime import UTC, datetime

from pydantic import Field
from sqlalchemy import Column, Connection, Table, insert, select

from coafi.api.answers import Answer
from coafi.database import Database, metadata, text
from coafi.events import Wire
from coafi.ledger.entry import timestamp
from coafi.recording import Range

api_answer = Table(
    "api_answer",
    metadata,
    Column("workflow_id", text(2000), primary_key=True),
    Column("operated", text(), nullable=False),
    Column("answered_at", text(32), nullable=False),
)


class Operated(Wire):
    """What came of the operation that a request asked for.

    Attributes:
        answer: for the caller.
        entries: ledger indices of what was recorded.
        counts: how many of what, for the receipt.
    """

    answer: Answer
    entries: tuple[Range, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)


def keep(connection: Connection, workflow_id: str, operated: Operated) -> None:
    """Remember what came of a request, within the caller's transaction."""
    row = {
        "workflow_id": workflow_id,
        "operated": operated.model_dump_json(by_alias=True),
        "answered_at": timestamp(datetime.now(UTC)),
    }
    connection.execute(insert(api_answer).values(row))


def kept(connection: Connection, workflow_id: str) -> Operated | None:
    """What came of a request, if it was done before."""
    query = select(api_answer.c.operated).where(api_answer.c.workflow_id == workflow_id)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else Operated.model_validate_json(found)


class AnswerReader:
    """Looks up the answers of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, workflow_id: str) -> Answer | None:
        """The answer that a run of a request gave, if its operation was done."""
        with self._database.read() as connection:
            found = kept(connection, workflow_id)
        return None if found is None else found.answer
