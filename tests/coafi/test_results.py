"""Which of several verdicts of the same content at the same path is shown, on a real database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from coafi.commits import branch_key
from coafi.database import Database
from coafi.deliveries import delivery
from coafi.results import FileResult, ResultReader, add_file_results
from tests.postgresql import where

REPOSITORY = "https://example.org/a"
FILE = ("docs/a.md", "b" * 40)


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


def checked(database: Database, entry: int, branch: str | None) -> None:
    """A push to a branch had the file checked; without one, a run that is about none."""
    run = f"run-{entry}"
    with database.write() as connection:
        if branch is not None:
            row = dict.fromkeys(
                ("event_type", "run_id", "body_digest", "utids", "subject", "received_at"), "-"
            )  # of no concern here
            key = branch_key(REPOSITORY, branch)
            own = {"source": REPOSITORY, "delivery_id": run, "workflow_id": run, "branch": key}
            connection.execute(insert(delivery).values(**row, **own))
        result = FileResult(entry, REPOSITORY, *FILE, "c" * 40, run, "markdown", "valid", 0, 0, "d" * 64)
        add_file_results(connection, [result])


def latest(database: Database, branch: str) -> int | None:
    found = ResultReader(database).latest(REPOSITORY, branch, [FILE]).get(FILE[0])
    return found.entry if found else None


def test_the_newest_verdict_of_the_branch_is_shown_and_of_another_one_only_where_there_is_none(
    database: Database,
) -> None:
    assert latest(database, "main") is None
    checked(database, 1, "feature")
    checked(database, 2, "other")
    assert latest(database, "main") == 2
    checked(database, 3, "main")
    checked(database, 4, "feature")
    assert (latest(database, "main"), latest(database, "feature"), latest(database, "new")) == (3, 4, 4)
    checked(database, 5, "main")
    assert (latest(database, "main"), latest(database, "feature"), latest(database, "other")) == (5, 4, 2)


def test_a_verdict_that_comes_of_no_push_counts_for_every_branch(database: Database) -> None:
    """It is that of a re-validation, or of a push from before this was told."""
    checked(database, 1, "main")
    checked(database, 2, None)
    checked(database, 3, "feature")
    assert (latest(database, "main"), latest(database, "feature")) == (2, 3)
