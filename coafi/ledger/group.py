"""The units of one commit, and the entries that they append."""

import contextvars
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from coafi.errors import CoafiError, IdempotencyConflict, LedgerUnavailable
from coafi.ledger import merkle
from coafi.ledger.entry import Draft, Recorded
from coafi.ledger.store import EntryRow, LedgerStore


class LedgerTransaction:
    """What a unit works with: the ledger and the database, in one transaction.

    It is of use only while the unit runs.
    """

    def __init__(self, group: "Group") -> None:
        self._group = group
        self._saved = False
        self._ended = False

    @property
    def connection(self) -> Connection:
        """The connection that holds the write lock; what is written through it is committed with the entries.

        Never commit or roll back on it, and open no other write transaction: the unit holds the only one. Entries
        that were appended are written when all units of the group have run; do not look for them here. Let the error of
        a statement out of the unit: PostgreSQL takes no further statement after it.
        """
        self._check()
        if not self._saved:
            self._group.connection.exec_driver_sql("SAVEPOINT unit")
            self._saved = True
        return self._group.connection

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries; see :meth:`coafi.ledger.log.Ledger.append`. All or none of them."""
        self._check()
        return self._group.append(drafts)

    def end(self, error: BaseException | None) -> None:
        """Keep what the unit wrote, or undo it; called by the ledger.

        Raises:
            sqlalchemy.exc.OperationalError: the database has given up the whole transaction, not only the unit.
        """
        self._ended = True
        if self._saved:
            if error is not None:
                self._undo(error)
            self._group.connection.exec_driver_sql("RELEASE SAVEPOINT unit")
        elif isinstance(error, OperationalError):
            # The unit wrote nothing, so this is ours; whether the transaction still stands cannot be told.
            raise error

    def _undo(self, error: BaseException) -> None:
        try:
            self._group.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unit")
        except DBAPIError:
            if isinstance(error, OperationalError):  # after which there is no savepoint any more: that one says why
                raise error from None
            raise

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError("this transaction has ended: use it only within its unit")


@dataclass(eq=False)
class Waiting:
    """A unit and its caller.

    Attributes:
        keys: the keys that the unit is known to append, to look them up together with those of others.
        number: how many units were accepted before and with it.
    """

    unit: Callable[[LedgerTransaction], Any]
    keys: list[bytes]
    number: int = 0
    arrived: float = field(default_factory=time.monotonic)
    done: "Future[Any]" = field(default_factory=Future)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        """Give the caller the result of the unit, or its error."""
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class Group:
    """The units of one transaction, and the entries they append.

    Args:
        presume_new: take every key for new, without looking. Nothing of this group counts if an entry turns out to be
            recorded, or a unit raises.
    """

    def __init__(
        self, store: LedgerStore, connection: Connection, size: int, moment: str, *, presume_new: bool = False
    ) -> None:
        self.connection = connection
        self.rows: list[EntryRow] = []
        self._store = store
        self._size = size
        self._moment = moment
        self._presume_new = presume_new
        self._known: dict[bytes, EntryRow | None] = {}

    def look_up(self, keys: Iterable[bytes]) -> None:
        """Learn which of these keys are recorded."""
        missing = dict.fromkeys(key for key in keys if key not in self._known)
        self._known.update(missing)
        if missing and not self._presume_new:
            self._known.update(self._store.with_keys(self.connection, missing))

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """See :meth:`coafi.ledger.log.Ledger.append`; written is it with all others of the group, in the end."""
        keys = [bytes.fromhex(draft.key) for draft in drafts]
        self.look_up(keys)
        fresh: dict[bytes, EntryRow] = {}
        recorded = []
        for draft, key in zip(drafts, keys, strict=True):
            first = self._known[key] or fresh.get(key)
            if first is None:
                body = draft.body(self._moment)
                index = self._size + len(self.rows) + len(fresh)
                request = bytes.fromhex(draft.request_digest)
                leaf = merkle.leaf_hash(body)
                fresh[key] = EntryRow(index, key, request, leaf, draft.event_id, str(draft.type), body)
                recorded.append(Recorded(index, body, fresh=True))
            elif first.request.hex() != draft.request_digest:
                raise IdempotencyConflict(
                    f"the entry {draft} is recorded at index {first.idx}, made from other inputs"
                    f" (request {first.request.hex()[:12]}…, not {draft.request_digest[:12]}…)",
                    remedy=f"look at it with: coafi ledger show {first.idx}; a step that does something else needs"
                    " another id",
                )
            else:
                recorded.append(Recorded(first.idx, first.body))
        self.rows += fresh.values()
        self._known |= fresh
        return recorded

    def run(self, waiting: Waiting) -> None:
        """Run a unit; if it raises, undo what it did and keep its error."""
        before = len(self.rows)
        transaction = LedgerTransaction(self)
        waiting.error = None  # of a run that did not count
        try:
            waiting.result = waiting.context.run(waiting.unit, transaction)
        except BaseException as error:  # it is given to its caller
            waiting.error = unavailable(error) if isinstance(error, OperationalError) else error
            for row in self.rows[before:]:
                self._known[row.key] = None
            del self.rows[before:]
            transaction.end(error)
        else:
            transaction.end(None)


def unavailable(error: BaseException) -> LedgerUnavailable:
    """What callers are told when the database refuses."""
    message = error.message if isinstance(error, CoafiError) else str(error)
    result = LedgerUnavailable(
        f"the ledger cannot be written: {message}",
        remedy=error.remedy if isinstance(error, CoafiError) else "check the database's disk space and locks",
    )
    result.__cause__ = error
    return result
