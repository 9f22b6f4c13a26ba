"""``git.fetch`` and commits that a host does not know yet."""

from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.git import COMMIT_ATTEMPTS, FetchTask, GitActivities
from activities.tries import MEMBER
from coafi.database import Database
from coafi.errors import ResourceNotFoundError
from coafi.git.fetch import FetchRequest, GitFetcher
from coafi.git.urls import UrlPolicy
from coafi.index.pointers import IndexReader
from coafi.objects.local import LocalObjectStore
from coafi.trees.recorder import TreeRecorder
from tests.activities.support import EVENT, environment, failure_of
from tests.harness import Repository, documents


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("git")


@pytest.fixture(scope="module")
def repository(root: Path) -> Repository:
    made = Repository.create(root / "repository")
    made.commit(documents(2))
    return made


@pytest.fixture(scope="module")
def git(root: Path) -> GitActivities:
    objects, database = LocalObjectStore(root / "objects"), Database(root / "coafi.db")
    database.create_tables()
    trees = TreeRecorder(database, objects)
    policy = UrlPolicy(file_roots=(root,))
    fetcher = GitFetcher(mirrors=root / "mirrors", objects=objects, trees=trees, url_policy=policy)
    return GitActivities(fetcher, IndexReader(database))


def task(repository: Repository, commit: str | None = None) -> FetchTask:
    request = FetchRequest(repository_url=repository.path.as_uri(), commit=commit or repository.head, branch="main")
    return FetchTask(event=EVENT, request=request)


def failure(
    git: GitActivities, repository: Repository, *, attempt: int, allowed: int | None, unknown: int | None = None
) -> ApplicationError:
    """Of an attempt, before which ``unknown`` ones did not find the commit: by default all."""
    heartbeat = ({MEMBER: {"CommitNotFound": attempt - 1 if unknown is None else unknown}},)
    made = environment(attempt=attempt, allowed=allowed, heartbeat=heartbeat)
    return failure_of(made, git.fetch, task(repository, "a" * 40))


def test_a_commit_becomes_batches_and_the_wait_for_git_is_heard(
    git: GitActivities, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coafi.git.runner.HEARTBEAT_SECONDS", 0)
    beats: list[str] = []
    made = environment()
    made.on_heartbeat = lambda *details: beats.extend(details)
    fetched = made.run(git.fetch, task(repository))
    assert fetched.files == 2
    assert git.fetcher.objects.has(fetched.manifest)
    assert beats
    assert all(isinstance(beat, str) for beat in beats)


@pytest.mark.parametrize("allowed", [None, 0, 700])
def test_an_unknown_commit_is_waited_for_until_the_fourth_attempt(
    git: GitActivities, repository: Repository, allowed: int | None
) -> None:
    for attempt in range(1, COMMIT_ATTEMPTS):
        error = failure(git, repository, attempt=attempt, allowed=allowed)
        assert (error.type, error.non_retryable) == ("Unavailable", False)
        assert "a" * 40 in error.message
    error = failure(git, repository, attempt=COMMIT_ATTEMPTS, allowed=allowed)
    assert (error.type, error.non_retryable) == ("ResourceNotFoundError", True)
    assert COMMIT_ATTEMPTS == 4


def test_attempts_that_met_an_outage_do_not_make_a_commit_unknown(git: GitActivities, repository: Repository) -> None:
    assert failure(git, repository, attempt=100, allowed=700, unknown=2).type == "Unavailable"
    assert failure(git, repository, attempt=100, allowed=700, unknown=3).type == "ResourceNotFoundError"


def test_an_unknown_commit_is_refused_earlier_when_no_attempt_is_left(
    git: GitActivities, repository: Repository
) -> None:
    assert failure(git, repository, attempt=1, allowed=2).type == "Unavailable"
    assert failure(git, repository, attempt=2, allowed=2).type == "ResourceNotFoundError"
    assert failure(git, repository, attempt=1, allowed=1).type == "ResourceNotFoundError"


def test_a_repository_that_is_not_there_is_refused_at_once(
    git: GitActivities, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_arguments: object, **_keywords: object) -> None:
        raise ResourceNotFoundError("there is no such repository")

    monkeypatch.setattr(GitFetcher, "fetch", missing)
    error = failure(git, repository, attempt=1, allowed=None)
    assert (error.type, error.non_retryable) == ("ResourceNotFoundError", True)


def test_a_fetch_that_is_cancelled_stops_and_may_be_tried_again(git: GitActivities, repository: Repository) -> None:
    made = environment()
    made.cancel()
    error = failure_of(made, git.fetch, task(repository))
    assert (error.type, error.non_retryable) == ("Unavailable", False)
    assert "stopped" in error.message
