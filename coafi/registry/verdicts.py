"""What became of entries when a schema of their registry was published: a row per verdict that changed.

An update is accepted only if it is valid after the schema that is published then, and a change of status takes the
verdict along with the data, so where there is no row a version is valid. Every row stands for one ledger entry.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Column, Connection, Index, Integer, Table, select

from coafi.database import big_integer, metadata, text
from coafi.database.statements import insert_missing
from coafi.registry.entry import RegistryId

entry_verdict = Table(
    "entry_verdict",
    metadata,
    Column("entry", big_integer(), primary_key=True, autoincrement=False),
    Column("registry_id", text(20), nullable=False),
    Column("entry_id", text(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("verdict", text(20), nullable=False),
    Column("workflow_id", text(1000), nullable=False),
    Index("entry_verdict_version", "registry_id", "entry_id", "version"),
)

INVALID: Final = "invalid"
"""The verdict of what breaks a schema."""

_KEYS = 400


@dataclass(frozen=True, slots=True)
class EntryVerdict:
    """One verdict.

    Attributes:
        entry: index of its ledger entry.
        version: of the entry of the registry.
        verdict: ``valid`` or ``invalid``.
        workflow_id: of the run that gave it.
    """

    entry: int
    registry_id: str
    entry_id: str
    version: int
    verdict: str
    workflow_id: str


def add_entry_verdicts(connection: Connection, verdicts: Sequence[EntryVerdict]) -> None:
    """Keep verdicts, within the caller's transaction. Doing it again changes nothing."""
    insert_missing(connection, entry_verdict, [asdict(one) for one in verdicts])


def latest_entry_verdicts(
    connection: Connection, registry_id: RegistryId, entry_ids: Iterable[str]
) -> dict[tuple[str, int], EntryVerdict]:
    """The newest verdict of every version of the entries that has one, by id and version."""
    table = entry_verdict.c
    wanted = sorted(set(entry_ids))
    found: dict[tuple[str, int], EntryVerdict] = {}
    for start in range(0, len(wanted), _KEYS):
        query = (
            select(entry_verdict)
            .where(table.registry_id == registry_id.value, table.entry_id.in_(wanted[start : start + _KEYS]))
            .order_by(table.entry)
        )
        for row in connection.execute(query):
            found[row.entry_id, row.version] = EntryVerdict(**row._mapping)
    return found
