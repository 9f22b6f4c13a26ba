"""The committed state of a log in the database, and whether it continues what was signed."""

from pathlib import Path

from sqlalchemy import Connection

from coafi.database import Database
from coafi.errors import IntegrityError
from coafi.ledger import tiles
from coafi.ledger.checkpoint import SignedCheckpoint
from coafi.ledger.merkle import EMPTY_ROOT, HASH_SIZE
from coafi.ledger.store import Head, store_for


class LogState:
    """A log in a database, and how far this process knows it.

    Attributes:
        origin: the log's name.
        database, store: where it is kept, and the statements for that.
        evidence: the file that holds the last checkpoint, for messages.
        committed: entries that this process has seen or written.
        covered: entries that a checkpoint covers.
    """

    def __init__(self, database: Database, origin: str, evidence: Path) -> None:
        self.origin = origin
        self.database = database
        self.store = store_for(database)
        self.evidence = evidence
        self.committed = 0
        self.covered = 0

    @property
    def known(self) -> int:
        """Entries that the log had at least, whatever the database says now."""
        return max(self.committed, self.covered)

    def begin(self) -> None:
        """Begin the log, unless somebody else has begun it."""
        with self.database.read() as connection:
            if self.store.head(connection) is not None:
                return
        with self.database.write() as connection:
            if self.store.head(connection) is None:
                self.store.create_head(connection, Head(self.origin, 0, EMPTY_ROOT))

    def head(self, connection: Connection, *, lock: bool = False) -> Head:
        """The head; with ``lock``, nobody else can change it until the transaction ends.

        Raises:
            IntegrityError: the log is gone.
        """
        head = self.store.head(connection, lock=lock)
        if head is None:
            raise IntegrityError(
                f"database {self.database.where} holds no ledger any more",
                remedy="it was emptied or replaced: " + self.how_to_recover(self.covered),
            )
        return head

    def check_head(self, connection: Connection, head: Head) -> None:
        """Check that entries, tiles and head end at the same place. Costs O(log n).

        Raises:
            IntegrityError: they do not.
        """
        last = self.store.last_index(connection)
        if (-1 if last is None else last) != head.size - 1:
            raise IntegrityError(
                f"the ledger's head says {head.size} entries, and the last one has index {last}",
                remedy="the database was changed by hand or damaged: " + self.how_to_recover(head.size),
            )
        root = self._root_at(connection, head.size)
        if root != head.root:
            raise IntegrityError(
                f"the ledger's head says root {head.root.hex()}, and its tiles give {root.hex()}",
                remedy="the database was changed by hand or damaged: " + self.how_to_recover(head.size),
            )

    def check_continues(self, connection: Connection, head: Head, last: SignedCheckpoint | None) -> None:
        """Check that the log continues a checkpoint, if there is one. Costs O(log n).

        Raises:
            IntegrityError: it does not.
        """
        if last is None:
            return
        if head.size < last.size:
            raise IntegrityError(
                f"the ledger has {head.size} entries, and a checkpoint of {last.size} was signed:"
                " the database is an old copy, or has lost entries",
                remedy=self.how_to_recover(last.size),
            )
        root = self._root_at(connection, last.size)
        if root != last.checkpoint.root:
            raise IntegrityError(
                f"the first {last.size} entries have root {root.hex()}, and the signed checkpoint of them says"
                f" {last.checkpoint.root.hex()}: the history was rewritten (a fork)",
                remedy=self.how_to_recover(last.size),
            )

    def how_to_recover(self, size: int) -> str:
        """What to do when a log of ``size`` entries is lost or contradicts itself; the end of a remedy."""
        return (
            f"stop all writers, keep database and {self.evidence} as evidence, and restore a copy of the"
            f" database that has at least {size} entries; if there is none, the loss cannot be hidden: begin a new log"
            " under a new key and tell whoever relies on this one"
        )

    def _root_at(self, connection: Connection, size: int) -> bytes:
        wanted = tiles.edge(size)
        found = self.store.tiles(connection, [tile.id for tile in wanted])
        rows = {}
        for tile in wanted:
            hashes = found.get(tile.id, b"")
            if len(hashes) < tile.width * HASH_SIZE:
                raise tiles.wrong_width(tile.id, hashes)
            rows[tile.level] = hashes[: tile.width * HASH_SIZE]
        return tiles.root(rows)
