"""The id of a document: whether its file is named after it, and whether it is the only one that has it."""

import re
from collections.abc import Callable
from posixpath import basename

from coafi.canonical import JsonObject
from coafi.documents.facts import usable_id
from coafi.documents.rules import RULES
from coafi.documents.source import Position, visible
from coafi.documents.tree import Tree
from coafi.findings import Finding

_PLACEHOLDERS = frozenset({"TBD", "TODO", "TBC", "N/A", "NA", "NONE", "UNKNOWN", "XXX", "?", "-"})
_SEPARATORS = re.compile(r"[\s_.]+")
_ID = re.compile(r"(?<![A-Z0-9])(?:COAFI|GP)(?:-[A-Z0-9]+)+")
_POINTER = "/document_id"
_SHOWN = 3


def identity_findings(
    path: str, metadata: JsonObject, find: Callable[[str], Position | None], tree: Tree | None
) -> list[Finding]:
    """What is wrong with the ``document_id`` of a document, beyond its form, which is the schema's.

    Args:
        path: of the document.
        metadata: its front matter.
        find: the place of a value in the front matter.
        tree: the files around it, if they are known.
    """
    own = usable_id(metadata.get("document_id"))
    if own is None or own.upper() in _PLACEHOLDERS:
        return []
    found: list[Finding] = []
    named = _id_in_name(path)
    if named and not _agree(named, own.upper()):
        message = f"the file's name says {visible(named)}, its document_id is {visible(own)}"
        found.append(RULES["document/file-name"].finding(message, at=find(_POINTER), pointer=_POINTER))
    others = sorted(other for other in tree.paths_of(own) if other != path) if tree is not None else []
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        message = f"{visible(own)} is also the id of {', '.join(visible(one) for one in others[:_SHOWN])}{more}"
        found.append(RULES["document/duplicate-id"].finding(message, at=find(_POINTER), pointer=_POINTER))
    return found


def _id_in_name(path: str) -> str:
    """What in a file's name looks like an id, in the form of one; empty when nothing does."""
    stem = basename(path).rpartition(".")[0][:200]
    return max(_ID.findall(_SEPARATORS.sub("-", stem).upper()), key=len, default="")


def _agree(named: str, own: str) -> bool:
    """Whether one is the beginning of the other: a name may say less, or go on with words."""
    own = _SEPARATORS.sub("-", own)
    return f"{named}-".startswith(f"{own}-") or f"{own}-".startswith(f"{named}-")
