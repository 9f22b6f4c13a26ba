"""Fixtures: a repository, a fetcher that may read it, a server, and a stand-in for git."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coafi.database import Database
from coafi.git.fetch import GitFetcher
from coafi.git.limits import GitLimits
from coafi.git.urls import UrlPolicy
from coafi.objects.local import LocalObjectStore
from coafi.trees.recorder import TreeRecorder
from tests.coafi.git.repositories import Repository
from tests.coafi.git.server import GitServer, serve

MakeFetcher = Callable[..., GitFetcher]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "repositories" / "docs")


@pytest.fixture
def make_fetcher(tmp_path: Path) -> MakeFetcher:
    """Makes a fetcher; keyword arguments are limits, and the fetcher's own fields."""

    def make(mirrors: str = "mirrors", *, limits: GitLimits | None = None, **fields: object) -> GitFetcher:
        objects = LocalObjectStore(tmp_path / "objects")
        database = Database(tmp_path / "coafi.db")
        database.create_tables()
        fetcher = GitFetcher(
            mirrors=tmp_path / mirrors,
            objects=objects,
            trees=TreeRecorder(database, objects),
            url_policy=UrlPolicy(
                file_roots=(tmp_path / "repositories",), allow_http=True, allow_private_addresses=True
            ),
            limits=limits or GitLimits(fetch_timeout=60, low_speed_seconds=20),
        )
        return replace(fetcher, **fields)  # type: ignore[arg-type]  # names are checked at run time

    return make


@pytest.fixture
def fetcher(make_fetcher: MakeFetcher) -> GitFetcher:
    return make_fetcher()


@pytest.fixture
def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that stands in for git on the ``PATH``: write it, and it is run."""
    import git  # noqa: F401  # looks for the real one when it is first imported

    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return script


@pytest.fixture
def server(repository: Repository) -> Iterator[GitServer]:
    repository.git("config", "uploadpack.allowFilter", "true")
    with serve(repository.path.parent) as server:
        yield server
