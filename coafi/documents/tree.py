"""The files around a document: what a check may ask about them."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from coafi.documents.facts import DocumentFacts

SETTINGS_FILE = ".coafi.yaml"
"""At the root of a repository: how bad it finds which rule."""

BINDINGS_FILE = "schemas.yaml"
"""At the root of a repository: which schema holds for which files."""

_SCHEMA = re.compile(r"(?:.*/)?[^/]+\.schema\.(?:json|yaml|yml)|(?:.*/)?schemas/.+\.(?:json|yaml|yml)", re.DOTALL)


class EntryKind(StrEnum):
    """What stands at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    """A symbolic link or a submodule: what is behind it is not known."""


class Tree(Protocol):
    """The files around a document, as far as a check may ask.

    Paths are within the repository: slashes, no leading one; ``""`` is the root.
    """

    def kind(self, path: str) -> EntryKind | None:
        """What stands at ``path``; ``None`` when nothing does."""
        ...

    def names(self, directory: str) -> Sequence[str]:
        """The names in a directory, sorted, for suggestions; empty when there is no such directory."""
        ...

    def facts(self, path: str) -> DocumentFacts | None:
        """The facts of a Markdown file; ``None`` when they are not known, or it is none."""
        ...

    def paths_of(self, document_id: str) -> Sequence[str]:
        """Every path in this tree whose document has this id."""
        ...

    def read(self, path: str) -> bytes | None:
        """The content of a support file (see ``is_support_file``); ``None`` when it is not there, or another file."""
        ...


def is_support_file(path: str) -> bool:
    """Whether a check of other files may need the content of this one: settings, bindings and schemas."""
    return path in (SETTINGS_FILE, BINDINGS_FILE) or _SCHEMA.fullmatch(path) is not None
