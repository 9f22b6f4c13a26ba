"""What commands print: tables for people on standard output, JSON for programs, errors on standard error."""

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from coafi.errors import CoafiError
from coafi.findings import Finding

if TYPE_CHECKING:
    from coafi.settings import Settings

WIDTH_OF_PIPES = 10_000
"""Columns of output that goes to a file or a pipe, so that a row is a line; a terminal says its own."""

_ROOMY = 150

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, recolours a terminal or turns text around: file names and messages are other people's."""

out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES, emoji=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_PIPES, emoji=False)

_STYLES = {
    "PROCESSED": "green",
    "valid": "green",
    "expired": "yellow",
    "revoked": "red",
    "VALIDATED": "cyan",
    "RECEIVED": "cyan",
    "open": "cyan",
    "PARKED": "yellow",
    "skipped": "yellow",
    "unchecked": "yellow",
    "deleted": "dim",
    "DUPLICATE": "dim",
    "REJECTED": "red",
    "FAILED": "red",
    "invalid": "red",
    "error": "red",
    "warning": "yellow",
    "info": "dim",
    "refused": "red",
    "failed": "red",
}


def command_settings() -> "Settings":
    """The settings of a command that prints a result: its warnings go to standard error, never between the JSON.

    Raises:
        ValidationError: a variable has a value that is not allowed.
    """
    from coafi.logs import configure_logging  # Both take longer to import than a check of local files takes.
    from coafi.settings import load_settings

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "warning"}))
    return settings


def print_json(value: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
    """Print ``value`` (pydantic models included) as indented JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    sys.stdout.write("\n".join(_CONTROL.sub(_json_escape, line) for line in text.split("\n")) + "\n")


def print_findings(findings: list[Finding]) -> None:
    """Findings as compilers print them: place, severity, rule, message; then what to do."""
    for finding in findings:
        if finding.path:
            place = ":".join(str(part) for part in (finding.path, finding.line, finding.column) if part is not None)
        else:
            place = f"payload {finding.pointer}" if finding.pointer else "event"
        out.print()
        out.print(f"{safe(place)} {styled(finding.severity)} [dim]{safe(finding.rule)}[/dim]", highlight=False)
        out.print(indented(safe(finding.message)), highlight=False)
        out.print(indented(f"→ {safe(finding.remedy)}"), highlight=False)


def print_error(error: CoafiError) -> None:
    """Print an error of ours: what is wrong, and what to do."""
    err.print(f"error: {clean(error.message)}", style="red", markup=False, highlight=False)
    if error.remedy:
        err.print(f"  → {clean(error.remedy)}", markup=False, highlight=False)


def clean(text: str) -> str:
    """``text`` on one line and without control characters."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def safe(text: str) -> str:
    """``text`` of unknown origin, to be put into markup."""
    return escape(clean(text))


def indented(markup: str) -> Padding:
    """A paragraph whose every line stands two columns in."""
    return Padding(markup, (0, 0, 0, 2), expand=False)


def print_link(url: str) -> None:
    """Print a URL on one line, however long, so that it can be clicked and copied."""
    out.print(safe(url), highlight=False, soft_wrap=True)


def roomy() -> bool:
    """Whether a long identifier may have a column of its own."""
    return out.width >= _ROOMY


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these column heads; a head that starts with ``#`` holds numbers. The last one gives way."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        numeric = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if numeric else "left", overflow="fold", no_wrap=True)
    made.columns[-1].no_wrap = False
    return made


def facts() -> Table:
    """An empty table of names and values."""
    made = table("", "")
    made.show_header = False
    return made


def styled(word: str, text: str = "") -> str:
    """A phase or verdict, or another text (markup already) that it stands for, in its colour."""
    style = _STYLES.get(word)
    return f"[{style}]{text or word}[/{style}]" if style else text or word


def _json_escape(found: "re.Match[str]") -> str:
    return f"\\u{ord(found.group()):04x}"


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    raise TypeError(f"{type(value).__name__} is not JSON")
