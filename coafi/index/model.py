"""The values of an index: requests, documents, updates."""

from typing import NotRequired, TypedDict

from pydantic import Field

from coafi.canonical import Sha256
from coafi.documents.check import Verdict
from coafi.events import Wire
from coafi.git.manifest import Oid

FORMAT = "coafi.index/1"

UNCHECKED = "unchecked"
"""Stands where a verdict would, for a document that no run has looked at."""

VERDICTS = (Verdict.INVALID.value, UNCHECKED, Verdict.SKIPPED.value, Verdict.VALID.value)
"""What a document of an index can be, the worst first."""


class ProcessedCommit(Wire):
    """A push that was processed, and that an index shall take into account.

    Attributes:
        workflow_id: of the run that processed it.
        commit: SHA; all zeros when the branch was deleted.
        tree: digest of the commit's tree, where the run fetched it.
    """

    workflow_id: str
    commit: Oid
    tree: Sha256 | None = None


class PastVerdict(TypedDict):
    """One verdict of a path: the ledger entry that has it, the commit it was given for, and its counts."""

    entry: int
    commit: str
    verdict: str
    errors: int
    warnings: int


class IndexedDocument(TypedDict):
    """One document of an index. What is not known is missing.

    Attributes:
        path, blob: where it is, and git's name of its content.
        kind: what the file is.
        verdict: one of ``VERDICTS``.
        page: link to its page, relative to the index.
        entry: ledger index of the verdict; ``commit`` is what it was given for, ``reports`` the object with the
            findings, ``findings`` how many there are by severity.
        title, documentId, infoCode, status, version, date: as its front matter says.
        area: see :func:`coafi.index.areas.area_of`.
        history: its last verdicts, the newest first.
    """

    path: str
    blob: str
    kind: str
    verdict: str
    page: str
    entry: NotRequired[int]
    commit: NotRequired[str]
    reports: NotRequired[str]
    findings: NotRequired[dict[str, int]]
    title: NotRequired[str]
    documentId: NotRequired[str]
    infoCode: NotRequired[str]
    status: NotRequired[str]
    version: NotRequired[str]
    date: NotRequired[str]
    area: NotRequired[str]
    history: NotRequired[list[PastVerdict]]


class IndexCounts(TypedDict):
    """How many documents there are, and by what; a document without a status, say, is in no ``statuses``."""

    documents: int
    verdicts: dict[str, int]
    areas: dict[str, int]
    infoCodes: dict[str, int]
    statuses: dict[str, int]


class DocumentationIndex(TypedDict):
    """An index, as its JSON has it: sorted keys, no white space; documents in the order of their paths."""

    format: str
    repository: str
    branch: str
    commit: str
    tree: str
    counts: IndexCounts
    documents: list[IndexedDocument]


class Tip(Wire):
    """A branch, the commit that it points to, and that one's tree."""

    repository: str
    branch: str
    commit: Oid
    tree: str


class IndexTask(Wire):
    """An index to build and to publish.

    Attributes:
        repository: canonical URL.
        generation: of the newest index when the tip was looked up; 0 when there was none. The new one becomes its
            successor, or nothing.
        commit, tree: the tip; ``None`` when the branch is gone.
        commits: what the update stands for.
        omitted: how many more it stands for, whose names nobody has room for.
    """

    repository: str
    branch: str
    generation: int
    commit: Oid | None
    tree: Sha256 | None
    commits: tuple[ProcessedCommit, ...]
    omitted: int = Field(default=0, ge=0)


class IndexUpdate(Wire):
    """What came of a task.

    Attributes:
        outcome: ``moved``: the index of this task is the newest now; ``unchanged``: it shows nothing new, so the
            newest stays; ``superseded``: there is another newest since the task was made, so look at the tip again;
            ``absent``: there is neither a branch nor an index of it.
        generation: of the newest index.
        commit: its tip; ``None`` when the branch is gone.
        index, page: digests of JSON and HTML.
        entry: ledger index of its ``INDEX_UPDATED``, and ``time`` when the ledger took that.
        verdicts: how many documents are what.
    """

    outcome: str = Field(pattern="^(moved|unchanged|superseded|absent)$")
    generation: int
    commit: Oid | None = None
    index: Sha256 | None = None
    page: Sha256 | None = None
    entry: int | None = None
    time: str = ""
    verdicts: dict[str, int] = Field(default_factory=dict)
