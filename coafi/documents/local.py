"""A directory as a tree: what a check on a laptop knows of the files around a document."""

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from coafi.documents.facts import DocumentFacts, document_facts, id_of_document
from coafi.documents.kinds import FileKind, kind_of_name
from coafi.documents.limits import DocumentLimits
from coafi.documents.tree import EntryKind, is_support_file
from coafi.paths import display_path

_NOT_OURS = frozenset({".git", ".hg", ".svn"})
MAX_BYTES = DocumentLimits().max_bytes
"""The largest file that is read."""


class LocalTree:
    """The files below a directory. In a work tree of git: those that are committed, or would be by ``git add --all``.

    Files are read when somebody asks for them, and what was found is remembered: a tree is for one check.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._raw: dict[str, str] = {}
        self._kinds: dict[str, EntryKind] = {}
        self._names: dict[str, set[str]] = {"": set()}
        self._facts: dict[str, DocumentFacts | None] = {}
        listed = _listed_by_git(root)
        for name in sorted(_walked(root) if listed is None else listed):
            self._add(name)

    @classmethod
    def around(cls, directory: Path) -> "LocalTree":
        """The tree that a directory is in: its work tree of git, else the directory itself."""
        top = _git(directory, "rev-parse", "--show-toplevel")
        # The work tree of another place (a submodule's parent, a strange setting) says nothing about this directory.
        root = Path(os.fsdecode(top).removesuffix("\n")) if top else directory
        return cls(root if directory.is_relative_to(root) else directory)

    @property
    def paths(self) -> Sequence[str]:
        """The paths of all files, links among them, sorted."""
        return tuple(self._kinds)

    def path_of(self, file: Path) -> str:
        """The path within the tree of a file below the root, whether it is part of the tree or not."""
        return display_path(self.raw_path_of(file))

    def raw_path_of(self, file: Path) -> bytes:
        """The same path as git knows it: its exact bytes."""
        return os.fsencode(file.relative_to(self.root).as_posix())

    def file(self, path: str) -> Path:
        """Where a file of the tree is. Its name can differ from the path, when that is escaped."""
        return self.root / self._raw[path]

    def content(self, path: str) -> bytes | None:
        """The bytes of a file of the tree; ``None`` when it is no file, is too large to be checked, or unreadable."""
        if self._kinds.get(path) is not EntryKind.FILE:
            return None
        return read_file(self.file(path))

    def kind(self, path: str) -> EntryKind | None:
        """See ``Tree``."""
        return self._kinds.get(path) or (EntryKind.DIRECTORY if path in self._names else None)

    def names(self, directory: str) -> Sequence[str]:
        """See ``Tree``."""
        return sorted(self._names.get(directory, ()))

    def facts(self, path: str) -> DocumentFacts | None:
        """See ``Tree``."""
        if path not in self._facts:
            content = self.content(path) if kind_of_name(path) is FileKind.MARKDOWN else None
            self._facts[path] = None if content is None else document_facts(content)
        return self._facts[path]

    def paths_of(self, document_id: str) -> Sequence[str]:
        """See ``Tree``."""
        return self._paths_by_id.get(document_id, ())

    def read(self, path: str) -> bytes | None:
        """See ``Tree``."""
        return self.content(path) if is_support_file(path) else None

    @cached_property
    def _paths_by_id(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._kinds:
            if kind_of_name(path) is FileKind.MARKDOWN:
                content = self.content(path)
                # Most files of other people's repositories have no id, and need not be parsed to know it.
                named = id_of_document(content) if content and b"document_id" in content else None
                if named is not None:
                    found.setdefault(named, []).append(path)
        return found

    def _add(self, name: str) -> None:
        try:
            mode = (self.root / name).lstat().st_mode
        except (OSError, ValueError):  # Deleted, and not yet committed.
            return
        path = display_path(os.fsencode(name))
        self._raw[path] = name
        self._kinds[path] = EntryKind.FILE if stat.S_ISREG(mode) else EntryKind.LINK
        while path:
            above, _, last = path.rpartition("/")
            if last in self._names.setdefault(above, set()):
                break
            self._names[above].add(last)
            path = above


def read_file(file: Path) -> bytes | None:
    """The bytes of a regular file; ``None`` when it is too large to be checked, or cannot be read."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        return None
    return content if len(content) <= MAX_BYTES else None


def _listed_by_git(root: Path) -> list[str] | None:
    """Names of the files that git tracks or would add; ``None`` when the directory is no work tree."""
    output = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return None if output is None else [name.rstrip("/") for name in {*os.fsdecode(output).split("\0")} - {""}]


def _git(directory: Path, *arguments: str) -> bytes | None:
    """What git says; ``None`` when it says that this is not its business, or is not there."""
    # Repository settings may name programs to run; this one would be run by listing files.
    command = ["git", "-C", str(directory), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _walked(root: Path) -> Iterator[str]:
    for directory, below, names in os.walk(root):
        inside = Path(directory).relative_to(root)
        links = [name for name in below if (Path(directory) / name).is_symlink()]
        below[:] = [name for name in below if name not in _NOT_OURS and name not in links]
        yield from ((inside / name).as_posix() for name in (*names, *links))
