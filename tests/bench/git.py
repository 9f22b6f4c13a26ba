"""What a hardened fetch into the object store costs, over git's own commands.

Both sides read a repository on the same disk that answers as GitHub's do: filters and any commit may be asked for.
"""

import subprocess
from itertools import count
from pathlib import Path

from git import Repo

from coafi.database import Database
from coafi.git.fetch import FetchRequest, GitFetcher
from coafi.git.urls import UrlPolicy
from coafi.objects.local import LocalObjectStore
from coafi.trees.recorder import TreeRecorder
from tests.bench.measure import Bench
from tests.harness import Repository, documents


async def measure(bench: Bench) -> None:
    """A repository that is seen for the first time, and the next push to it."""
    home, files = bench.directory, bench.amount(1000, 10)
    repository = Repository.create(home / "repository")
    with Repo(repository.path) as repo, repo.config_writer() as config:
        config.set_value("uploadpack", "allowFilter", "true")
        config.set_value("uploadpack", "allowAnySHA1InWant", "true")
    url, numbers, policy = repository.path.as_uri(), count(), UrlPolicy(file_roots=(home,))
    heads = [repository.commit(documents(files))]
    clone = ("clone", "--quiet", "--depth=1", url)

    def fetcher() -> GitFetcher:
        place = home / f"fetcher-{next(numbers)}"
        objects, database = LocalObjectStore(place / "objects"), Database(place / "coafi.db")
        database.create_tables()
        return GitFetcher(place / "mirrors", objects, TreeRecorder(database, objects), policy)

    def push() -> None:
        heads.append(repository.commit(documents(files, text=f"Version {next(numbers)}.")))

    await bench.compare(
        f"first fetch, {files:,} files changed",
        lambda: fetcher().fetch(FetchRequest(repository_url=url, commit=heads[-1])),
        "git clone --depth=1",
        lambda: _git(*clone, home / f"clone-{next(numbers)}"),
        (files, "files"),
        rounds=3,
    )
    known, cloned = fetcher(), home / "clone"
    _git(*clone, cloned)
    await bench.compare(
        f"next fetch, {files:,} files changed",
        lambda: known.fetch(FetchRequest(repository_url=url, commit=heads[-1], before=heads[-2])),
        "git fetch --depth=1",
        lambda: _git("-C", cloned, "fetch", "--quiet", "--depth=1", "origin", heads[-1]),
        (files, "files"),
        rounds=3,
        prepare=push,
    )


def _git(*arguments: str | Path) -> None:
    subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True)
