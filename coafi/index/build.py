"""Builds the index of a tree: every document in it, with the newest verdict of just this content at just this path.

What is known of a verdict is remembered (:mod:`coafi.index.summaries`), so an update costs the documents there are,
at a few microseconds each, and the verdicts that are new.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

from coafi.database import Database
from coafi.documents.facts import DocumentFacts
from coafi.documents.kinds import DOCUMENTS, kind_of_name
from coafi.index.areas import area_of
from coafi.index.model import FORMAT, UNCHECKED, VERDICTS, DocumentationIndex, IndexCounts, IndexedDocument
from coafi.index.summaries import Summaries
from coafi.objects import ObjectStore
from coafi.results import FileResult, ResultReader
from coafi.trees.facts import FactsStore
from coafi.trees.listing import TreeFile, files_of
from coafi.trees.reader import TreeReader

INDEX_JSON = "index.json"
"""The name under which an index serves itself; a document of this name at the root is at ``index.json?document``."""

_AT_A_TIME = 2_000


@dataclass(frozen=True)
class IndexBuilder:
    """Builds indexes; needs neither git nor the ledger.

    Attributes:
        database: holds verdicts.
        objects: holds trees and reports.
    """

    database: Database
    objects: ObjectStore

    def build(
        self, repository: str, branch: str, commit: str, tree: str, beat: Callable[[str], None] = lambda _text: None
    ) -> DocumentationIndex:
        """The index of ``tree``. The same tree and the same verdicts give the same index.

        Args:
            beat: called every few thousand documents, with what is being done.

        Raises:
            IntegrityError: a listing of the tree is missing or damaged.
            Unavailable: database or object store are out of reach.
        """
        results, summaries = ResultReader(self.database), Summaries(self.database, self.objects)
        facts = FactsStore(self.database)
        reader = TreeReader(tree, self.objects, facts)
        files = sorted(_documents(files_of(tree, reader.listing)), key=lambda file: file.path)
        documents: list[IndexedDocument] = []
        for start in range(0, len(files), _AT_A_TIME):
            beat(f"indexing documents: {start} of {len(files)}")
            some = files[start : start + _AT_A_TIME]
            found = results.latest(repository, branch, [(file.path, file.blob) for file in some])
            known = summaries.of(list(found.values()))
            unchecked = facts.facts([file.blob for file in some if file.path not in found])
            for file in some:
                result = found.get(file.path)
                summary = known[result.entry] if result else _facts(unchecked.get(file.blob))
                documents.append(_document(file, result, summary))
        return {
            "format": FORMAT,
            "repository": repository,
            "branch": branch,
            "commit": commit,
            "tree": tree,
            "counts": counts_of(documents),
            "documents": documents,
        }


def encode(index: DocumentationIndex) -> bytes:
    """The bytes of an index: JSON with sorted keys and no white space, in UTF-8."""
    return json.dumps(index, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(data: bytes) -> DocumentationIndex:
    """An index of ours, from its bytes."""
    return cast("DocumentationIndex", json.loads(data))


def counts_of(documents: Iterable[IndexedDocument]) -> IndexCounts:
    """The counts of an index, or of a selection from one."""
    all_of_them = list(documents)
    verdicts = Counter(document["verdict"] for document in all_of_them)
    return {
        "documents": len(all_of_them),
        "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
        "areas": _count(document.get("area") for document in all_of_them),
        "infoCodes": _count(document.get("infoCode") for document in all_of_them),
        "statuses": _count(document.get("status") for document in all_of_them),
    }


def page_link(path: str) -> str:
    """The link to a document's page, relative to its index."""
    link = f"./{quote(path, safe='/')}"
    return f"{link}?document" if path == INDEX_JSON else link


def _documents(files: Iterable[TreeFile]) -> Iterable[TreeFile]:
    return (file for file in files if file.is_regular and kind_of_name(file.path) in DOCUMENTS)


def _facts(facts: DocumentFacts | None) -> dict[str, str]:
    """What is known of a document without a verdict."""
    return {} if facts is None or facts.document_id is None else {"documentId": facts.document_id}


def _document(file: TreeFile, result: FileResult | None, summary: object) -> IndexedDocument:
    document: IndexedDocument = {
        "path": file.path,
        "blob": file.blob,
        "kind": kind_of_name(file.path).value,
        "verdict": UNCHECKED,
        "page": page_link(file.path),
    }
    document.update(cast("IndexedDocument", summary))
    if result is not None:
        document["kind"], document["verdict"] = result.kind, result.verdict
        document["entry"], document["commit"], document["reports"] = result.entry, result.commit, result.reports
    area = area_of(document.get("documentId"), file.path)
    if area is not None:
        document["area"] = area
    return document


def _count(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the most frequent first; at most 200 of them."""
    counted = Counter(value for value in values if value is not None)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:200])
