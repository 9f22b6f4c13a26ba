"""Follows the ledger durably: every entry is given to every consumer, in order, also across crashes.

A follower has a position in the database: the index of the first entry that it has not dealt with. It moves only
after all consumers have done what there is to do, so nothing is skipped; what was done in vain before a crash comes
again, and consumers recognise it by the ids that they derive from entries.

Of several processes one follows at a time: it holds the lease, and shows by a counter that it lives. Whoever sees
that counter stand still for ``lease_seconds`` of its own clock takes over. No two clocks are compared, so neither one
that is wrong nor one that jumps makes two of them follow. If it happens all the same, because a process was asleep,
the position is moved by compare-and-swap, and consumers do nothing twice.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
from sqlalchemy import Column, Row, Table, select, update

from coafi import metrics
from coafi.database import Database, big_integer, metadata, text
from coafi.database.statements import insert_missing
from coafi.errors import CoafiError, Unavailable, ValidationError
from coafi.ledger.entry import Recorded, timestamp
from coafi.ledger.port import Ledger

follower = Table(
    "follower",
    metadata,
    Column("name", text(63), primary_key=True),
    Column("position", big_integer(), nullable=False),
    Column("holder", text(64), nullable=False),
    Column("beat", big_integer(), nullable=False),
    Column("moved_at", text(32), nullable=False),
)

LISTENER = "listener"
"""The name of the follower that gives the service its own entries."""

LEASE_SECONDS = 10.0
"""A holder that has shown no life for this long is taken to be dead."""

POLL_SECONDS = 0.5
"""How often the size of the ledger is asked for while there is nothing to do."""

BATCH = 256
"""Entries that consumers get at a time, and the most that come again after a crash."""

FIRST_RETRY = 0.5
LONGEST_RETRY = 15.0
"""Seconds before something that failed is tried again: the first time, and at most."""

log = structlog.stdlib.get_logger()


class Consumer(Protocol):
    """Does something about entries."""

    @property
    def name(self) -> str:
        """For logs and metrics."""
        ...

    async def take(self, entries: Sequence[Recorded]) -> None:
        """Do what there is to do about entries, which come in order and without a gap.

        The same entries may come again, after a crash or when another consumer failed: what is done about an entry must
        have an id that derives from it. Entries of other instances come too where a ledger is shared: whoever wants its
        own looks at their namespace. When it returns, all of it must be durable elsewhere: they do not come again.

        Raises:
            Unavailable: not now. They come again, and none after them before that.
        """
        ...


@dataclass(frozen=True, slots=True)
class Follower:
    """Where a follower stands.

    Attributes:
        position: index of the first entry that is not dealt with.
        holder: which process follows; empty if none does.
        beat: changes whenever that process shows that it lives, or somebody else takes over.
        moved_at: when the position was moved last.
    """

    name: str
    position: int
    holder: str
    beat: int
    moved_at: str


class LeaseLost(CoafiError):
    """Another process follows now, or somebody has moved the position."""


class Followers:
    """The followers in the database. Every change is one statement that says what it expects to find."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Follower]:
        """Every follower, by name."""
        with self._database.read() as connection:
            return [_follower(row) for row in connection.execute(select(follower).order_by(follower.c.name))]

    def get(self, name: str) -> Follower | None:
        """One follower, if it has ever been begun."""
        with self._database.read() as connection:
            row = connection.execute(select(follower).where(follower.c.name == name)).one_or_none()
        return None if row is None else _follower(row)

    def begin(self, name: str, position: int) -> Follower:
        """The follower of this name, which begins at ``position`` if it is new."""
        row = {"name": name, "position": position, "holder": "", "beat": 0, "moved_at": _now()}
        with self._database.write() as connection:
            insert_missing(connection, follower, [row])
            return _follower(connection.execute(select(follower).where(follower.c.name == name)).one())

    def place(self, name: str, position: int) -> None:
        """Let a follower go on at ``position``, whoever holds it: that process takes notice with its next step."""
        self.begin(name, position)
        with self._database.write() as connection:
            connection.execute(
                update(follower)
                .where(follower.c.name == name)
                .values(position=position, holder="", beat=follower.c.beat + 1, moved_at=_now())
            )

    def take_over(self, seen: Follower, holder: str) -> bool:
        """Hold the lease, if the follower is still as it was ``seen``; whether that worked."""
        return self._change(seen, holder=holder, beat=seen.beat + 1)

    def release(self, held: Follower) -> bool:
        """Give the lease back."""
        return self._change(held, holder="", beat=held.beat + 1)

    def beat(self, held: Follower) -> Follower:
        """Show that the holder lives.

        Raises:
            LeaseLost: it does not hold the lease any more.
        """
        return self._held(held, held.position)

    def move(self, held: Follower, position: int) -> Follower:
        """Move the position, which shows that the holder lives as well.

        Raises:
            LeaseLost: it does not hold the lease any more.
        """
        return self._held(held, position)

    def _held(self, held: Follower, position: int) -> Follower:
        moved_at = held.moved_at if position == held.position else _now()
        changed = Follower(held.name, position, held.holder, held.beat + 1, moved_at)
        if not self._change(held, position=position, beat=changed.beat, moved_at=moved_at):
            raise LeaseLost(f"follower {held.name} is not held by {held.holder} any more")
        return changed

    def _change(self, seen: Follower, **values: object) -> bool:
        expected = (follower.c.name == seen.name) & (follower.c.holder == seen.holder) & (follower.c.beat == seen.beat)
        with self._database.write() as connection:
            return connection.execute(update(follower).where(expected).values(**values)).rowcount == 1


@dataclass
class LedgerFollower:
    """Follows the ledger on the event loop, for as long as :meth:`run` runs.

    Attributes:
        consumers: get every entry; the position moves when all of them are done.
        name: of the follower in the database.
        start: where a follower that is new begins; ``None``: at the end of the ledger, so that whoever begins to follow
            is not given years of entries.
        lease_seconds: see :data:`LEASE_SECONDS`. It is to be the same in every process.
        wake: may be set by whoever knows of new entries, so that they are taken at once.
    """

    ledger: Ledger
    followers: Followers
    consumers: Sequence[Consumer]
    name: str = LISTENER
    start: int | None = None
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS
    batch: int = BATCH
    clock: Callable[[], float] = time.monotonic
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _held: Follower | None = field(default=None, init=False)
    _steps: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def run(self) -> None:
        """Follow until cancelled. What fails is tried again for ever: nothing is skipped."""
        delay = FIRST_RETRY
        while True:
            try:
                async with self._holding():
                    delay = FIRST_RETRY
                    await self._follow()
            except LeaseLost as error:
                log.info("follower lost its lease", follower=self.name, reason=str(error))
            except Exception as error:
                await self._failed(error, delay)
                delay = _longer(delay)

    async def _follow(self) -> None:
        """Take what there is, batch by batch, while the lease is held."""
        beating = asyncio.create_task(self._beat())
        working = asyncio.create_task(self._work())
        try:
            await asyncio.wait((beating, working), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (beating, working):
                task.cancel()
            ended = await asyncio.gather(beating, working, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _work(self) -> None:
        delay = FIRST_RETRY
        while True:
            try:
                if await self._step():
                    delay = FIRST_RETRY
                    continue
            except LeaseLost:
                raise
            except Exception as error:
                await self._failed(error, delay)
                delay = _longer(delay)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.poll_seconds):
                    await self.wake.wait()
            self.wake.clear()

    async def _step(self) -> bool:
        """Take the next batch; whether there was one."""
        assert self._held is not None  # noqa: S101  # it is held for as long as this runs
        position = self._held.position
        size = await asyncio.to_thread(self.ledger.size)
        metrics.FOLLOWER_LAG.labels(self.name).set(max(0, size - position))
        if size <= position:
            return False
        entries = await asyncio.to_thread(self.ledger.entries, position, min(size, position + self.batch))
        if not entries:
            return False
        # One after the other: each is to see the same order, and they share the connection to Temporal.
        for consumer in self.consumers:
            await consumer.take(entries)
        await self._change(lambda held: self.followers.move(held, position + len(entries)))
        metrics.FOLLOWER_ENTRIES.labels(self.name).inc(len(entries))
        metrics.FOLLOWER_LAG.labels(self.name).set(max(0, size - position - len(entries)))
        return True

    async def _beat(self) -> None:
        """Show that this process lives. Stop it when it could not do so for as long as others wait for that."""
        shown = self.clock()
        while True:
            await asyncio.sleep(self.lease_seconds / 4)
            try:
                await self._change(self.followers.beat)
                shown = self.clock()
            except Unavailable as error:
                if self.clock() - shown > self.lease_seconds:
                    raise LeaseLost("the database was out of reach for too long") from error

    async def _change(self, change: Callable[[Follower], Follower]) -> None:
        """Change what is held. Shielded: a change that was made and not noticed would look like another's."""

        async def changing() -> None:
            async with self._steps:
                if self._held is not None:
                    self._held = await asyncio.to_thread(change, self._held)

        await asyncio.shield(changing())

    @contextlib.asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        """Hold the lease while the block runs, and give it back at its end."""
        self._held = await self._leased()
        metrics.FOLLOWER_HOLDS.labels(self.name).set(1)
        log.info("follower begins", follower=self.name, position=self._held.position)
        try:
            yield
        finally:
            metrics.FOLLOWER_HOLDS.labels(self.name).set(0)
            async with self._steps:
                held, self._held = self._held, None
            with contextlib.suppress(CoafiError):  # else it is noticed that nobody shows life
                await asyncio.shield(asyncio.to_thread(self.followers.release, held))

    async def _leased(self) -> Follower:
        """Wait for the lease: until nobody holds it, or whoever does has shown no life for long enough."""
        seen = await asyncio.to_thread(self._begun)
        since = self.clock()
        while True:
            # Its own, if it was not told that a change was made.
            if seen.holder in ("", self.holder) or self.clock() - since > self.lease_seconds:
                if await asyncio.to_thread(self.followers.take_over, seen, self.holder):
                    return Follower(seen.name, seen.position, self.holder, seen.beat + 1, seen.moved_at)
            else:
                await asyncio.sleep(self.poll_seconds)
            now = await asyncio.to_thread(self._begun)
            if (now.beat, now.holder) != (seen.beat, seen.holder):
                seen, since = now, self.clock()

    def _begun(self) -> Follower:
        known = self.followers.get(self.name)
        if known is not None:
            return known
        return self.followers.begin(self.name, self.ledger.size() if self.start is None else self.start)

    async def _failed(self, error: Exception, delay: float) -> None:
        metrics.FOLLOWER_FAILURES.labels(self.name, type(error).__name__).inc()
        if isinstance(error, Unavailable):
            log.warning("follower waits", follower=self.name, reason=str(error))
        else:
            log.error("follower failed and tries again", follower=self.name, exc_info=error)
        await asyncio.sleep(delay)


def check_position(position: int, size: int) -> None:
    """Refuse a position that the ledger does not have.

    Raises:
        ValidationError: it is beyond the end.
    """
    if not 0 <= position <= size:
        raise ValidationError(
            f"there is no position {position}: the ledger has {size} entries",
            remedy=f"give an index from 0 to {size}",
        )


def _longer(delay: float) -> float:
    return min(delay * 2, LONGEST_RETRY)


def _follower(row: Row[tuple[object, ...]]) -> Follower:
    return Follower(**row._mapping)


def _now() -> str:
    return timestamp(datetime.now(UTC))
