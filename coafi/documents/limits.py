"""How much of a hostile file we are willing to look at."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

LARGE = 1024 * 1024
"""Bytes from which on files wait for each other: what parsers make of a text can take eighty times its room."""

_large_files = threading.RLock()


@contextmanager
def in_turn(size: int) -> Iterator[None]:
    """Look into a file of this size: of large ones, one at a time in a process, so that memory stays bounded.

    It may be nested: the check of a document can look into others.
    """
    if size < LARGE:
        yield
        return
    with _large_files:
        yield


class DocumentLimits(BaseModel):
    """Limits that hold before a parser sees a byte, so that time and memory stay bounded for any content.

    Attributes:
        max_bytes: the largest file that is looked into.
        max_depth: the deepest nesting of mappings and lists. Well below the interpreter's recursion limit, which
            Python's and the schema engine's recursive code rely on.
        max_nodes: the most values in one file; one value costs up to about 3 µs and 200 bytes.
        max_front_matter_bytes: the largest front matter: it is copied into reports.
        max_image_pixels: the most pixels of an image: whoever looks at it needs four bytes of memory for each.
        max_findings: the most findings that a report carries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=10 * 1024 * 1024, ge=0)
    max_depth: int = Field(default=100, ge=1, le=400)
    max_nodes: int = Field(default=500_000, ge=1)
    max_front_matter_bytes: int = Field(default=64 * 1024, ge=1)
    max_image_pixels: int = Field(default=100_000_000, ge=1)
    max_findings: int = Field(default=200, ge=2, le=10_000)
