"""Trees of commits in the object store: one object per directory, so that what a commit leaves alone costs nothing.

A listing is JSON with sorted keys and without white space:
``{"entries":{name:[mode,reference]},"facts":1,"format":"coafi.listing/1"}``. The reference is git's name of the blob,
or, for a directory, the digest of its own listing. Names are as people see them: escaped where they are not plain
UTF-8. ``facts`` is the version of what was learned about the documents in it (:mod:`coafi.trees.recorder`).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import ValidationError as ModelError

from coafi.canonical import sha256
from coafi.errors import IntegrityError
from coafi.objects import ObjectStore

DIRECTORY = "040000"
"""The mode of a directory."""

_Text = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a tree.

    Attributes:
        path: as people see it.
        mode: six octal digits.
        blob: git's name of its content.
    """

    path: str
    mode: str
    blob: str

    @property
    def is_regular(self) -> bool:
        """Whether it is a file with content, not a symbolic link or a submodule."""
        return self.mode.startswith("100")


class Listing(BaseModel):
    """What one directory holds: mode and reference by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["coafi.listing/1"] = "coafi.listing/1"
    facts: int
    entries: dict[str, tuple[_Text, _Text]]


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a tree, with the bytes of its listing.

    Attributes:
        files: those that are in it directly.
    """

    path: str
    files: tuple[TreeFile, ...]
    listing: bytes
    digest: str


def directories_of(files: Iterable[TreeFile], facts: int) -> list[Directory]:
    """The directories of a tree, each after those in it, the root last. Costs time, and no space on any disk."""
    content: dict[str, list[TreeFile]] = {"": []}
    entries: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for file in files:
        parent, _, name = file.path.rpartition("/")
        while parent not in content:
            content[parent], entries[parent] = [], {}
            parent = parent.rpartition("/")[0]
        parent = file.path.rpartition("/")[0]
        content[parent].append(file)
        entries[parent][name] = (file.mode, file.blob)
    made = []
    for path in sorted(content, key=_depth, reverse=True):
        listing = _encode(entries[path], facts)
        digest = sha256(listing)
        made.append(Directory(path, tuple(content[path]), listing, digest))
        if path:
            parent, _, name = path.rpartition("/")
            entries[parent][name] = (DIRECTORY, digest)
    return made


def read_listing(objects: ObjectStore, digest: str) -> Listing:
    """The listing with this digest.

    Raises:
        IntegrityError: it is missing, damaged, or no listing.
        Unavailable: the store cannot be read.
    """
    try:
        return Listing.model_validate_json(objects.get(digest))
    except ModelError as error:
        raise IntegrityError(
            f"object {digest} is not the listing of a directory", remedy="fetch the commit again"
        ) from error


def files_of(root: str, read: Callable[[str, str], Listing]) -> Iterator[TreeFile]:
    """Every file of a tree, directory by directory; holds the listings of one path at a time.

    Args:
        root: digest of the listing of its root.
        read: the listing of a directory, by path and digest.

    Raises:
        IntegrityError: a listing is missing or damaged.
        Unavailable: the store cannot be read.
    """
    waiting = [("", root)]
    while waiting:
        directory, digest = waiting.pop()
        for name, (mode, reference) in read(directory, digest).entries.items():
            path = f"{directory}/{name}" if directory else name
            if mode == DIRECTORY:
                waiting.append((path, reference))
            else:
                yield TreeFile(path, mode, reference)


def _encode(entries: Mapping[str, tuple[str, str]], facts: int) -> bytes:
    value = {"format": "coafi.listing/1", "facts": facts, "entries": entries}
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0
