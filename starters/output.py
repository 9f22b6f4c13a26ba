"""What commands print: tables for people on standard output, JSON for programs, errors on standard error."""

import json
import sys
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from coafi.errors import CoafiError

WIDTH_OF_PIPES = 200
"""Columns of output that goes to a file or a pipe; a terminal says its own."""

out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_PIPES)

_STYLES = {
    "PROCESSED": "green",
    "valid": "green",
    "VALIDATED": "cyan",
    "RECEIVED": "cyan",
    "at work": "cyan",
    "PARKED": "yellow",
    "skipped": "yellow",
    "deleted": "dim",
    "DUPLICATE": "dim",
    "REJECTED": "red",
    "FAILED": "red",
    "invalid": "red",
    "error": "red",
    "warning": "yellow",
    "info": "dim",
}


def print_json(value: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
    """Print ``value`` (pydantic models included) as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n")


def print_error(error: CoafiError) -> None:
    """Print an error of ours: what is wrong, and what to do."""
    err.print(f"error: {error.message}", style="red", markup=False, highlight=False)
    if error.remedy:
        err.print(f"  → {error.remedy}", markup=False, highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these column heads; a head that starts with ``#`` holds numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        numeric = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if numeric else "left", overflow="fold")
    return made


def facts() -> Table:
    """An empty table of names and values."""
    made = table("", "")
    made.show_header = False
    return made


def styled(word: str) -> str:
    """A phase or verdict in its colour."""
    style = _STYLES.get(word)
    return f"[{style}]{word}[/{style}]" if style else word


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    raise TypeError(f"{type(value).__name__} is not JSON")
