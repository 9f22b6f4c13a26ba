"""``git.tip``: a branch that moves while it is looked up is looked up again, a few times."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.git import COMMIT_ATTEMPTS, GitActivities, TipTask
from activities.tries import MEMBER
from coafi.database import Database
from coafi.git.failures import CommitNotFound
from coafi.git.fetch import GitFetcher, Tip
from coafi.index.pointers import IndexReader
from coafi.objects.local import LocalObjectStore
from coafi.trees.recorder import TreeRecorder


class Moving(GitFetcher):
    """A repository whose branch is never where it was a moment ago."""

    def tip(self, *_arguments: Any, **_options: Any) -> Tip:
        """Fail."""
        raise CommitNotFound("the commit is not there", remedy="look again")


@pytest.mark.parametrize(
    ("attempt", "error", "final"),
    [(1, "Unavailable", False), (COMMIT_ATTEMPTS, "ResourceNotFoundError", True)],
)
def test_a_branch_that_moved_on_is_looked_up_again(tmp_path: Path, attempt: int, error: str, final: bool) -> None:
    database, objects = Database(tmp_path / "coafi.db"), LocalObjectStore(tmp_path / "objects")
    database.create_tables()
    fetcher = Moving(mirrors=tmp_path / "mirrors", objects=objects, trees=TreeRecorder(database, objects))
    environment = ActivityEnvironment()
    unknown = {MEMBER: {"CommitNotFound": attempt - 1}}
    environment.info = replace(environment.info, attempt=attempt, heartbeat_details=(unknown,))
    with pytest.raises(ApplicationError) as raised:
        environment.run(
            GitActivities(fetcher, IndexReader(database)).tip, TipTask(repository="https://e.org/r", branch="main")
        )
    assert (raised.value.type, raised.value.non_retryable) == (error, final)
    database.close()
