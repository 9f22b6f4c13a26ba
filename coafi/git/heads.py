"""The branches of a repository as its host has them: ``git ls-remote``, hardened as everything that runs git."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coafi.errors import Unavailable, ValidationError
from coafi.git.mirror import check_sha
from coafi.git.refs import check_head
from coafi.git.runner import GitRunner, Remote, Watch
from coafi.git.urls import UrlPolicy, parse_repository_url, resolve_addresses

_HEADS = b"refs/heads/"


class Heads(NamedTuple):
    """The branches of a repository.

    Attributes:
        commits: the commit of each, by name.
        complete: whether these are all. Else there are some whose names no event can hold: what is not listed may be
            there.
    """

    commits: dict[str, str]
    complete: bool


@dataclass(frozen=True)
class RemoteHeads:
    """Asks hosts for the heads of branches.

    Attributes:
        directory: where git runs; made when it is missing. Nothing is kept in it.
        policy: which repositories may be contacted.
    """

    directory: Path
    runner: GitRunner
    policy: UrlPolicy

    def of(self, repository_url: str, beat: Callable[[str], None] = lambda _text: None) -> Heads:
        """The commit of every branch, also of those that git would not take from us (see :func:`check_head`).

        Raises:
            ValidationError, PolicyDenied: the URL is none of ours.
            CoafiError: see :meth:`GitRunner.run`.
        """
        url = parse_repository_url(repository_url, self.policy)
        watch = Watch(beat)
        remote = Remote(url, resolve_addresses(url, self.policy))
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"git cannot run in {self.directory}: {error}", remedy="check its disk space and permissions"
            ) from error
        answer = self.runner.run(
            ["ls-remote", "--quiet", "--heads", "--end-of-options", "origin"],
            git_dir=self.directory,
            watch=watch,
            what=f"looking up the branches of {url}",
            remote=remote,
        )
        return _heads(answer, str(url))


def _heads(answer: bytes, url: str) -> Heads:
    found, complete = {}, True
    for line in answer.split(b"\n"):
        sha, _, name = line.partition(b"\t")
        if not name.startswith(_HEADS):
            continue
        try:
            branch = check_head(name.removeprefix(_HEADS).decode())
            found[branch] = check_sha(sha.decode("ascii", "replace"), f"a head of {url}:")
        except (ValidationError, UnicodeDecodeError):
            complete = False
    return Heads(found, complete)
