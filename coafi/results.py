"""What became of the files of each repository: verdicts and artifacts, for index and pages.

Every row stands for one ledger entry and is written in its transaction; the ledger is the record, this is how to find
what it says about a path.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Column, Connection, Index, Integer, Table, select, tuple_

from coafi.commits import branch_key
from coafi.database import Database, big_integer, metadata, text
from coafi.database.schema import ONLY_POSTGRESQL, ONLY_SQLITE
from coafi.database.statements import insert_missing
from coafi.deliveries import delivery


def by_path(table: str) -> tuple[Index, ...]:
    """How results are found by repository, path and blob.

    A path can be longer than a sorted index of PostgreSQL may hold (2,704 bytes), so there it is hashed.
    """
    return (
        Index(f"{table}_path", "repository", "path", "blob", info=ONLY_SQLITE),
        Index(f"{table}_hashed_path", "path", postgresql_using="hash", info=ONLY_POSTGRESQL),
        Index(f"{table}_blob", "repository", "blob", info=ONLY_POSTGRESQL),
    )


file_result = Table(
    "file_result",
    metadata,
    Column("entry", big_integer(), primary_key=True, autoincrement=False),
    Column("repository", text(), nullable=False),
    Column("path", text(), nullable=False),
    Column("blob", text(64), nullable=False),
    Column("commit", text(64), nullable=False),
    Column("workflow_id", text(), nullable=False),
    Column("kind", text(20), nullable=False),
    Column("verdict", text(20), nullable=False),
    Column("errors", Integer, nullable=False),
    Column("warnings", Integer, nullable=False),
    Column("reports", text(64), nullable=False),
    *by_path("file_result"),
)

artifact_result = Table(
    "artifact_result",
    metadata,
    Column("entry", big_integer(), primary_key=True, autoincrement=False),
    Column("repository", text(), nullable=False),
    Column("path", text(), nullable=False),
    Column("blob", text(64), nullable=False),
    Column("artifact", text(20), nullable=False),
    Column("media_type", text(100), nullable=False),
    Column("digest", text(64), nullable=False),
    *by_path("artifact_result"),
)

_KEYS = 400


@dataclass(frozen=True, slots=True)
class FileResult:
    """One verdict.

    Attributes:
        entry: index of its ledger entry.
        repository: canonical URL.
        path: in the repository, as the ledger has it.
        blob: git's name of the content; empty for a deleted file.
        commit: that it was checked for.
        workflow_id: of the run that checked it.
        reports: digest of the object that holds its findings.
    """

    entry: int
    repository: str
    path: str
    blob: str
    commit: str
    workflow_id: str
    kind: str
    verdict: str
    errors: int
    warnings: int
    reports: str


@dataclass(frozen=True, slots=True)
class ArtifactResult:
    """One artifact of one file; see :class:`FileResult`."""

    entry: int
    repository: str
    path: str
    blob: str
    artifact: str
    media_type: str
    digest: str


def add_file_results(connection: Connection, results: Sequence[FileResult]) -> None:
    """Keep verdicts, within the caller's transaction. Doing it again changes nothing."""
    insert_missing(connection, file_result, [asdict(one) for one in results])


def add_artifact_results(connection: Connection, results: Sequence[ArtifactResult]) -> None:
    """Keep artifacts, within the caller's transaction. Doing it again changes nothing."""
    insert_missing(connection, artifact_result, [asdict(one) for one in results])


def latest_results(
    connection: Connection, repository: str, branch: str, files: Iterable[tuple[str, str]]
) -> dict[str, FileResult]:
    """See :meth:`ResultReader.latest`."""
    found: dict[str, FileResult] = {}
    foreign: set[str] = set()
    this = branch_key(repository, branch)
    for some in _chunks(files):
        query = (
            select(file_result, delivery.c.branch)
            .outerjoin(delivery, delivery.c.workflow_id == file_result.c.workflow_id)
            .where(file_result.c.repository == repository)
            .where(tuple_(file_result.c.path, file_result.c.blob).in_(some))
            .order_by(file_result.c.entry)
        )
        for row in connection.execute(query):
            *values, pushed_to = row
            one = FileResult(*values)
            if pushed_to in (None, this):
                foreign.discard(one.path)
            elif one.path not in found:
                foreign.add(one.path)
            elif one.path not in foreign:
                continue
            found[one.path] = one
    return found


class ResultReader:
    """Finds what is on record about the files of a repository."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, repository: str, branch: str, files: Iterable[tuple[str, str]]) -> dict[str, FileResult]:
        """The newest verdict of each of ``files`` (path and blob), by path; files without one are left out.

        A verdict depends on the other files of its commit: those of pushes to other branches count only where no push
        to this one brought the file.
        """
        with self._database.read() as connection:
            return latest_results(connection, repository, branch, files)

    def artifacts(self, repository: str, files: Iterable[tuple[str, str]]) -> dict[str, dict[str, ArtifactResult]]:
        """The newest artifacts of each of ``files`` (path and blob), by path and kind of artifact."""
        found: dict[str, dict[str, ArtifactResult]] = {}
        with self._database.read() as connection:
            for some in _chunks(files):
                query = (
                    select(artifact_result)
                    .where(artifact_result.c.repository == repository)
                    .where(tuple_(artifact_result.c.path, artifact_result.c.blob).in_(some))
                    .order_by(artifact_result.c.entry)
                )
                for row in connection.execute(query):
                    found.setdefault(row.path, {})[row.artifact] = ArtifactResult(**row._mapping)
        return found

    def of_run(self, workflow_id: str, repository: str, path: str, blob: str) -> FileResult | None:
        """The verdict that a run gave a file."""
        query = (
            select(file_result)
            .where(file_result.c.repository == repository, file_result.c.path == path)
            .where(file_result.c.blob == blob, file_result.c.workflow_id == workflow_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else FileResult(**row._mapping)

    def history(self, repository: str, path: str, limit: int) -> list[FileResult]:
        """The verdicts of a path, the newest first."""
        query = (
            select(file_result)
            .where(file_result.c.repository == repository, file_result.c.path == path)
            .order_by(file_result.c.entry.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [FileResult(**row._mapping) for row in connection.execute(query)]


def _chunks(files: Iterable[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    wanted = list(files)
    for start in range(0, len(wanted), _KEYS):
        yield wanted[start : start + _KEYS]
