"""Group commit: units of work that wait at the same time share a transaction.

A commit with full durability costs milliseconds whatever it holds. A thread of the ledger takes the units that wait,
runs them one after the other in one transaction and wakes their callers after the commit::

    caller      submit(unit) ──┐                              ┌── result, after COMMIT
    caller      submit(unit) ──┼─► queue ─► BEGIN             ├── result
    caller      submit(unit) ──┘            unit, unit, unit ─┴── its own error, undone alone
                                            entries, tiles, head
                                            COMMIT

While one group commits the next one gathers, so a lone caller waits for nobody and many callers fill the groups.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

import sqlalchemy.exc
import structlog
from sqlalchemy import Connection

from coafi.errors import IntegrityError, LedgerUnavailable, Unavailable
from coafi.ledger import tiles
from coafi.ledger.entry import Draft, Recorded, timestamp
from coafi.ledger.group import Group, LedgerTransaction, Waiting, unavailable
from coafi.ledger.merkle import HASH_SIZE
from coafi.ledger.state import LogState
from coafi.ledger.store import EntryRow, Head

GROUP_UNITS = 256
"""Units of one commit at most."""

GROUP_ENTRIES = 4_096
"""Entries after which a group takes no further unit, so that no other process waits long for its turn."""

GATHER_SECONDS = 0.005
"""How long, after its first unit, a group waits for as many as the group before it had."""

_LOG = structlog.get_logger(__name__)

T = TypeVar("T")


class _NotAllNew(Exception):
    """A key that was presumed to be new may be recorded already."""


class SignCheckpoint(Protocol):
    """See :meth:`coafi.ledger.signing.CheckpointSigner.checkpoint`."""

    def __call__(self, *, force: bool) -> object:
        """Sign, unless the last checkpoint is recent and ``force`` is not given."""


class Appender:
    """The queue of units, and the thread that commits them in groups.

    Args:
        state: the log.
        checkpoint: signs what is committed.
        publish_seconds: how long after a commit that is done.
        clock: gives the time that entries are stamped with.
    """

    def __init__(
        self, state: LogState, checkpoint: SignCheckpoint, publish_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._checkpoint = checkpoint
        self._publish_seconds = publish_seconds
        self._clock = clock
        self._wake = threading.Condition()
        self._queue: deque[Waiting] = deque()
        self._accepted = 0
        self._enough = 1
        self._flusher: threading.Thread | None = None
        self._closing = False
        self._broken: IntegrityError | None = None

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """See :meth:`coafi.ledger.log.Ledger.append`."""
        for draft in drafts:
            _ = draft.request_digest  # here rather than while the write lock is held
        return self.submit(lambda transaction: transaction.append(drafts), drafts)

    def submit(self, unit: Callable[[LedgerTransaction], T], expected: Sequence[Draft] = ()) -> T:
        """See :meth:`coafi.ledger.log.Ledger.transact`.

        Args:
            expected: what the unit is known to append, to look it up together with that of others.
        """
        if threading.current_thread() is self._flusher:
            raise RuntimeError("a unit must append through its own transaction")
        waiting = Waiting(unit, [bytes.fromhex(draft.key) for draft in expected])
        with self._wake:
            if self._broken is not None:
                raise IntegrityError(self._broken.message, remedy=self._broken.remedy) from self._broken
            if self._closing:
                raise LedgerUnavailable("the ledger is closed", remedy="this process is ending; try again on another")
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._serve, name="ledger", daemon=True)
                self._flusher.start()
            self._accepted += 1
            waiting.number = self._accepted
            self._queue.append(waiting)
            # The thread waits for the first unit, or for enough of them: no need to wake it for each.
            if len(self._queue) in (1, self._enough):
                self._wake.notify_all()
        result: T = waiting.done.result()
        return result

    def close(self) -> None:
        """Commit what is waiting, publish the last checkpoint and end the thread. Later appends are refused."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            flusher = self._flusher
        if flusher is not None:
            flusher.join()

    def _serve(self) -> None:
        try:
            self._flush_all()
        except BaseException as error:
            with self._wake:
                self._closing = True
            self._fail(self._take(until=self._accepted), error)
            raise

    def _flush_all(self) -> None:
        publish_at: float | None = None
        while self._gather(publish_at):
            if self._queue and not self._flush():
                continue  # the database is out of reach: do not make callers wait for a checkpoint as well
            now = time.monotonic()
            if publish_at is not None and now >= publish_at:
                self._publish()
                publish_at = None
            if publish_at is None and self._state.covered < self._state.committed:
                publish_at = now + self._publish_seconds
        if self._state.covered < self._state.committed:
            self._publish(force=True)

    def _gather(self, wake_at: float | None) -> bool:
        """Wait for units, or until ``wake_at``; False when the ledger is closed and no unit is left."""
        with self._wake:
            while not self._queue:
                if self._closing:
                    return False
                remaining = None if wake_at is None else wake_at - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return True
                self._wake.wait(remaining)
            deadline = self._queue[0].arrived + GATHER_SECONDS
            while len(self._queue) < self._enough and not self._closing:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._wake.wait(remaining)
            return True

    def _flush(self) -> bool:
        """Commit one group and answer its callers; whether that went well."""
        with self._wake:
            waiting_now = self._accepted
        taken: list[Waiting] = []
        try:
            try:
                size = self._commit(taken, presume_new=True)
            except _NotAllNew:
                size = self._commit(taken, presume_new=False)
        except BaseException as error:  # nobody may be left waiting, whatever happened
            self._fail(taken or self._take(until=waiting_now), error)
            return False
        self._state.committed = size
        with self._wake:
            self._enough = max(len(taken), 1)
        for waiting in taken:
            waiting.answer()
        return True

    def _commit(self, taken: list[Waiting], *, presume_new: bool) -> int:
        """Commit ``taken``, or the next group if that is empty, which is then put there; the size of the log then.

        Nearly all that is appended is new, and to look its keys up first costs more than to begin again when one turns
        out to be recorded. So units that only append are run on the presumption that all keys are new. The unique
        index has the last word on that, and what went wrong on a mere presumption does not count.

        Raises:
            _NotAllNew: that was presumed and may be wrong. Nothing was written.
        """
        with self._state.database.write() as connection:
            if not taken:  # only now: who came while we waited for the lock goes along
                taken += self._take()
            presume_new = presume_new and all(waiting.keys for waiting in taken)
            try:
                size = self._run(connection, taken, presume_new=presume_new)
            except IntegrityError as error:
                if presume_new:
                    raise _NotAllNew from error
                raise
            if presume_new and any(waiting.error is not None for waiting in taken):
                raise _NotAllNew
            return size

    def _run(self, connection: Connection, taken: Iterable["Waiting"], *, presume_new: bool) -> int:
        """Run units and write what they appended; the size of the log then."""
        head = self._state.head(connection, lock=True)
        before = self._state.known
        if head.size < before:
            raise IntegrityError(
                f"the ledger has {head.size} entries, and had {before} before: the database was replaced by an old copy"
                " while it was in use",
                remedy=self._state.how_to_recover(before),
            )
        group = Group(self._state.store, connection, head.size, timestamp(self._clock()), presume_new=presume_new)
        group.look_up([key for waiting in taken for key in waiting.keys])
        for waiting in taken:
            group.run(waiting)
        if group.rows:
            self._extend(connection, head, group.rows)
        return head.size + len(group.rows)

    def _extend(self, connection: Connection, head: Head, rows: Sequence[EntryRow]) -> None:
        edge = tiles.edge(head.size)
        stored = self._state.store.tiles(connection, [tile.id for tile in edge])
        edge_hashes = {tile.level: stored.get(tile.id, b"") for tile in edge}
        for tile in edge:
            if len(edge_hashes[tile.level]) != tile.width * HASH_SIZE:
                raise tiles.wrong_width(tile.id, edge_hashes[tile.level])
        growth = tiles.grow(head.size, edge_hashes, [row.leaf_hash for row in rows])
        try:
            self._state.store.extend(
                connection, rows, growth, Head(head.origin, head.size + len(rows), tiles.root(growth.edge))
            )
        except sqlalchemy.exc.IntegrityError as error:
            raise IntegrityError(
                f"the ledger's head says {head.size} entries, and there are entries or tiles beyond: {error.orig}",
                remedy="the database was changed by hand or damaged: " + self._state.how_to_recover(head.size),
            ) from error

    def _take(self, *, until: int | None = None) -> list["Waiting"]:
        """The units of the next group; or, with ``until``, all that were accepted up to that number."""
        taken: list[Waiting] = []
        entries = 0
        with self._wake:
            while self._queue:
                if until is not None:
                    if self._queue[0].number > until:
                        break
                elif len(taken) >= GROUP_UNITS or entries >= GROUP_ENTRIES:
                    break
                waiting = self._queue.popleft()
                entries += len(waiting.keys)
                taken.append(waiting)
        return taken

    def _fail(self, taken: Iterable["Waiting"], error: BaseException) -> None:
        if isinstance(error, IntegrityError):
            self._break(error)
        for waiting in taken:
            if isinstance(error, Unavailable):
                waiting.done.set_exception(unavailable(error))
            else:
                waiting.done.set_exception(error)

    def _publish(self, *, force: bool = False) -> None:
        try:
            self._checkpoint(force=force)
        except IntegrityError as error:
            self._break(error)
        except Exception as error:  # appends go on without a checkpoint; it is tried again
            _LOG.warning("ledger_checkpoint_failed", error=str(error))

    def _break(self, error: IntegrityError) -> None:
        """Refuse to extend a log that contradicts what was signed."""
        with self._wake:
            self._broken = error
            left = list(self._queue)
            self._queue.clear()
        _LOG.critical("ledger_broken", error=str(error))
        for waiting in left:
            waiting.done.set_exception(error)
