"""Real git repositories for the tests, made with the git binary and an environment of their own."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ZERO = "0" * 40

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2026-11-05T10:00:00+01:00",
    "GIT_COMMITTER_NAME": "Charles Babbage",
    "GIT_COMMITTER_EMAIL": "charles@example.org",
    "GIT_COMMITTER_DATE": "2026-11-05T11:00:00+01:00",
}


@dataclass(frozen=True)
class Repository:
    """A repository with a work tree at ``path``."""

    path: Path

    @classmethod
    def make(cls, path: Path, *options: str) -> "Repository":
        """An empty repository with the branch ``main``."""
        path.mkdir(parents=True)
        repository = cls(path)
        repository.git("init", "--quiet", "--initial-branch=main", *options)
        return repository

    @property
    def url(self) -> str:
        """Its ``file://`` URL."""
        return self.path.as_uri()

    def git(self, *arguments: str, stdin: bytes | None = None) -> str:
        """The output of a git command, without the white space around it."""
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], env=ENVIRONMENT, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.decode().strip()

    def write(self, files: Mapping[str, bytes | str]) -> None:
        """Write files into the work tree."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: Mapping[str, bytes | str] | None = None, message: str = "Change") -> str:
        """Write ``files``, commit all there is, and return the SHA."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def blob(self, content: bytes) -> str:
        """Store ``content`` and return its name."""
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def raw_tree(self, entries: list[tuple[str, bytes, str]]) -> str:
        """A tree of ``(mode, name, SHA)``, names and order as they come: what no honest git would write."""
        raw = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        return self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)

    def commit_tree(self, tree: str, *parents: str, message: str = "Tree") -> str:
        """A commit of ``tree``, with the branch ``main`` moved to it."""
        sha = self.git("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-m", message)
        self.git("update-ref", "refs/heads/main", sha)
        return sha
