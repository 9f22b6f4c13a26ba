"""Commands about local files: the checks of the service, before anybody pushes."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from coafi.documents.check import FileReport, Verdict, check_file
from coafi.documents.context import CheckContext
from coafi.documents.kinds import FileKind
from coafi.documents.local import MAX_BYTES, LocalTree, read_file
from coafi.documents.rules import RULES
from coafi.documents.tree import EntryKind
from coafi.errors import ResourceNotFoundError
from coafi.findings import Finding, Severity
from coafi.paths import judge_path
from coafi.registry.builtin import BuiltinSchemas
from starters.output import err, out, print_findings, print_json, styled

if TYPE_CHECKING:
    from rich.progress import Progress

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_PROGRESS_FROM = 200
"""Files from which on a person wants to see that something happens."""


class Format(StrEnum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


@dataclass(frozen=True)
class _Wanted:
    """Files of one tree that are to be checked.

    Attributes:
        tree: the tree.
        files: where each is, by its path within the tree.
    """

    tree: LocalTree
    files: dict[str, Path]


def check_files(paths: Sequence[Path], style: Format, *, strict: bool) -> None:
    """``coafi files check``.

    Raises:
        ResourceNotFoundError: a path is not there.
        typer.Exit: with code 1 when there are errors, or warnings that count.
    """
    chosen = list(_chosen(paths))
    total = sum(len(wanted.files) for wanted in chosen)
    found: list[tuple[_Wanted, list[FileReport]]] = []
    with _progress(total) as progress:
        task = progress.add_task("Checking", total=total) if progress else None
        for wanted in chosen:
            reports: list[FileReport] = []
            for report in _reports(wanted):
                reports.append(report)
                if progress and task is not None:
                    progress.advance(task)
            found.append((wanted, reports))
    _PRINTERS[style](found)
    counts = Counter(finding.severity for _, reports in found for report in reports for finding in report.findings)
    if counts[Severity.ERROR] or (strict and counts[Severity.WARNING]):
        raise typer.Exit(1)


# ---------------------------------------------------------------------- choosing and checking


def _chosen(paths: Sequence[Path]) -> Iterator[_Wanted]:
    """The files that the paths name, by the tree that they are in, each once."""
    by_root: dict[Path, _Wanted] = {}
    for path in paths or [Path()]:
        place = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow the last link, too
        if not os.path.lexists(place):
            raise ResourceNotFoundError(f"there is no file or directory {path}", remedy="check the path")
        is_directory = place.is_dir() and not place.is_symlink()
        directory = (place if is_directory else place.parent).resolve()
        place = directory if is_directory else directory / place.name
        root = next((known for known in by_root if directory.is_relative_to(known)), None)
        if root is None:
            tree = LocalTree.around(directory)
            root = tree.root
            by_root.setdefault(root, _Wanted(tree, {}))
        wanted = by_root[root]
        if is_directory:
            inside = wanted.tree.path_of(place)
            for file in wanted.tree.paths:
                if inside == "." or file.startswith(f"{inside}/"):
                    wanted.files.setdefault(file, wanted.tree.file(file))
        else:
            wanted.files[wanted.tree.path_of(place)] = place
    return iter(by_root.values())


def _reports(wanted: _Wanted) -> Iterator[FileReport]:
    context = CheckContext.of(wanted.tree)
    schemas = BuiltinSchemas()
    for path, file in sorted(wanted.files.items()):
        content = None
        if file.is_symlink():
            omitted = "it is a symbolic link"
        elif wanted.tree.kind(path) is EntryKind.LINK or not file.is_file():
            omitted = "it is a submodule or a special file"
        elif unsafe := judge_path(wanted.tree.raw_path_of(file)):
            omitted = unsafe.value
        else:
            # Not from the tree: what git ignores is no part of it, and is checked when somebody names it.
            content = read_file(file)
            size = file.stat().st_size
            omitted = f"it has {size} bytes; up to {MAX_BYTES} are checked" if size > MAX_BYTES else "it cannot be read"
        yield check_file(path, content, schemas, omitted=omitted, context=context)


def _progress(total: int) -> "Progress | nullcontext[None]":
    if total < _PROGRESS_FROM or not err.is_terminal:
        return nullcontext()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=err, transient=True)


# ---------------------------------------------------------------------- printing

_Found = Sequence[tuple[_Wanted, Sequence[FileReport]]]


def _print_text(found: _Found) -> None:
    here = Path.cwd()
    for wanted, reports in found:
        for report in reports:
            print_findings([_as_seen_from(here, wanted.tree.root, one) for one in _worth_telling(report)])
    everything = [report for _, reports in found for report in reports]
    verdicts = Counter(report.verdict for report in everything)
    severities = Counter(one.severity for report in everything for one in report.findings)
    told = [styled(verdict, f"{verdicts[verdict]} {verdict}") for verdict in Verdict if verdicts[verdict]]
    counted = [
        styled(severity, _many(severities[severity], severity))
        for severity in (Severity.ERROR, Severity.WARNING)
        if severities[severity]
    ]
    out.print()
    parts = [_many(len(everything), "file"), ", ".join(told), ", ".join(counted) or "nothing to mend"]
    out.print("; ".join(part for part in parts if part), highlight=False)


def _print_json(found: _Found) -> None:
    everything = [report for _, reports in found for report in reports]
    verdicts = Counter(report.verdict for report in everything)
    severities = Counter(one.severity for report in everything for one in report.findings)
    print_json(
        {
            "files": [report.model_dump(mode="json", by_alias=True, exclude_none=True) for report in everything],
            "verdicts": {verdict: verdicts[verdict] for verdict in Verdict},
            "findings": {severity: severities[severity] for severity in Severity},
        }
    )


def _print_github(found: _Found) -> None:
    """Workflow commands: GitHub shows them at the lines of a change."""
    for _, reports in found:
        for report in reports:
            for one in _worth_telling(report):
                place = {"file": one.path, "line": one.line, "col": one.column, "title": one.rule}
                options = ",".join(f"{name}={_option(str(value))}" for name, value in place.items() if value)
                sys.stdout.write(f"::{_COMMANDS[one.severity]} {options}::{_data(f'{one.message}; {one.remedy}')}\n")


def _print_sarif(found: _Found) -> None:
    """SARIF 2.1.0 (OASIS), as editors and code scanning read it."""
    sys.stdout.write(json.dumps(sarif([(wanted.tree.root, reports) for wanted, reports in found]), indent=2) + "\n")


def sarif(found: Iterable[tuple[Path, Sequence[FileReport]]]) -> dict[str, Any]:
    """A SARIF log with a run for every root directory."""
    from importlib.metadata import version

    ids = list(RULES)
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.meaning},
            "help": {"text": rule.remedy},
            "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        }
        for rule in RULES.values()
    ]
    driver = {"name": "coafi", "version": version("coafi-event-handlers"), "rules": rules}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"ROOT": {"uri": f"{root.as_uri()}/"}},
                "results": [
                    _sarif_result(one, ids.index(one.rule)) for report in reports for one in _worth_telling(report)
                ],
            }
            for root, reports in found
        ],
    }


def _sarif_result(finding: Finding, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(finding.path), "uriBaseId": "ROOT"}}
    if finding.line is not None:
        place["region"] = {"startLine": finding.line, "startColumn": finding.column or 1}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}; {finding.remedy}"},
        "locations": [{"physicalLocation": place}],
    }


_PRINTERS = {
    Format.TEXT: _print_text,
    Format.JSON: _print_json,
    Format.SARIF: _print_sarif,
    Format.GITHUB: _print_github,
}


def _worth_telling(report: FileReport) -> list[Finding]:
    """The findings of a file, but for those that only say that it is a picture or empty."""
    dull = report.kind in (FileKind.BINARY, FileKind.UNKNOWN)
    return [one for one in report.findings if not (dull and one.severity is Severity.INFO)]


def _as_seen_from(here: Path, root: Path, finding: Finding) -> Finding:
    place = root / finding.path
    return finding.model_copy(update={"path": str(place.relative_to(here) if place.is_relative_to(here) else place)})


def _many(count: int, name: str) -> str:
    return f"{count} {name}" + ("" if count == 1 else "s")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _option(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
