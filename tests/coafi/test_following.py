"""Following the ledger: every entry reaches every consumer, in order, whoever dies when."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from coafi.bitt.event import is_followed
from coafi.database import Database
from coafi.errors import Unavailable, ValidationError
from coafi.following import Consumer, Followers, LeaseLost, LedgerFollower, check_position
from coafi.ledger.entry import Recorded
from coafi.ledger.port import Ledger as AnyLedger
from coafi.names import KEY_CHANGES, EntryType
from tests.coafi.ledger.making import draft, opened
from tests.coafi.ledger.serving import remote, served
from tests.harness import until
from tests.postgresql import where

LEASE = 0.8
"""Seconds of a lease in these tests, which must not wait for a real one."""


@dataclass
class Taker:
    """A consumer that notes what it is given; it fails as often as it is told."""

    name: str = "taker"
    failures: list[Exception] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)

    async def take(self, entries: Sequence[Recorded]) -> None:
        """Note them, or fail."""
        self.tries.append(entries[0].index)
        if self.failures:
            raise self.failures.pop()
        self.taken += [one.index for one in entries]


def followed(ledger: AnyLedger, database: Database, *consumers: Consumer, **changes: Any) -> LedgerFollower:
    values = {"poll_seconds": 0.02, "lease_seconds": LEASE, "batch": 4, **changes}
    return LedgerFollower(ledger, Followers(database), consumers, **values)


@contextlib.asynccontextmanager
async def running(follower: LedgerFollower) -> AsyncIterator[LedgerFollower]:
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def database(place: Path) -> Any:
    made = Database(where(place))
    made.create_tables()
    yield made
    made.close()


async def test_every_consumer_gets_every_entry_in_order_from_the_first_start_on(
    place: Path, database: Database
) -> None:
    one, other = Taker(), Taker("other")
    with opened(place) as ledger:
        ledger.append([draft(n) for n in range(10)])  # before anybody followed: history, not work
        async with running(followed(ledger, database, one, other)):
            await until(lambda: Followers(database).get("listener") is not None)
            for first in range(10, 40, 3):
                ledger.append([draft(n) for n in range(first, first + 3)])
            await until(lambda: len(other.taken) == 30)
        assert one.taken == other.taken == list(range(10, 40))
        known = Followers(database).get("listener")
        assert known is not None
        assert (known.position, known.holder) == (40, "")
        # What came while nobody followed is taken by whoever follows next, and nothing comes again.
        ledger.append([draft(n) for n in range(40, 45)])
        later = Taker()
        async with running(followed(ledger, database, later)):
            await until(lambda: len(later.taken) == 5)
        assert later.taken == list(range(40, 45))


async def test_a_new_follower_can_begin_anywhere(place: Path, database: Database) -> None:
    taker = Taker()
    with opened(place) as ledger:
        ledger.append([draft(n) for n in range(10)])
        async with running(followed(ledger, database, taker, start=3)):
            await until(lambda: len(taker.taken) == 7)
    assert taker.taken == list(range(3, 10))


async def test_what_a_consumer_cannot_do_now_comes_again_and_nothing_comes_before(
    place: Path, database: Database
) -> None:
    first, failing = Taker(), Taker("failing", [ZeroDivisionError("a defect"), Unavailable("not now")])
    with opened(place) as ledger:
        async with running(followed(ledger, database, first, failing, start=0)) as follower:
            ledger.append([draft(n) for n in range(4)])
            await until(lambda: len(failing.tries) == 1)
            ledger.append([draft(n) for n in range(4, 6)])
            follower.wake.set()
            await until(lambda: len(failing.taken) == 6)
    assert failing.tries[:3] == [0, 0, 0]
    assert failing.taken == list(range(6))
    assert sorted(set(first.taken)) == list(range(6))  # it saw the first ones thrice, and knows them by their ids
    assert first.taken[:4] * 2 == first.taken[:8]


async def test_one_of_two_follows_and_the_other_goes_on_when_it_ends(place: Path, database: Database) -> None:
    one, two = Taker(), Taker()
    with opened(place) as ledger:
        async with running(followed(ledger, database, two, start=0)):
            ledger.append([draft(0)])
            await until(lambda: two.taken == [0])
            async with running(followed(ledger, database, one)):
                await asyncio.sleep(2 * LEASE)  # long enough to take over from one that shows no life
                ledger.append([draft(1)])
                await until(lambda: two.taken == [0, 1])
                assert one.tries == []
        async with running(followed(ledger, database, one)):
            ledger.append([draft(2)])
            await until(lambda: one.taken == [2])  # at once: the lease was given back


async def test_a_holder_that_shows_no_life_is_replaced_and_moves_nothing_any_more(
    place: Path, database: Database
) -> None:
    followers, taker = Followers(database), Taker()
    with opened(place) as ledger:
        ledger.append([draft(n) for n in range(3)])
        seen = followers.begin("listener", 0)
        assert followers.take_over(seen, "asleep")
        held = followers.get("listener")
        assert held is not None
        assert not followers.take_over(seen, "too late")
        async with running(followed(ledger, database, taker)):
            await until(lambda: taker.taken == [0, 1, 2])
        with pytest.raises(LeaseLost):
            followers.move(held, 1)
        with pytest.raises(LeaseLost):
            followers.beat(held)
        assert not followers.release(held)
        (known,) = followers.all()
        assert known.position == 3


async def test_a_position_that_a_person_sets_counts_at_once(place: Path, database: Database) -> None:
    taker = Taker()
    with opened(place) as ledger:
        ledger.append([draft(n) for n in range(6)])
        async with running(followed(ledger, database, taker, start=0)):
            await until(lambda: taker.taken == list(range(6)))
            Followers(database).place("listener", 2)
            await until(lambda: taker.taken == [*range(6), *range(2, 6)])
    check_position(6, 6)
    for wrong in (-1, 7):
        with pytest.raises(ValidationError, match="the ledger has 6 entries"):
            check_position(wrong, 6)


async def test_a_ledger_that_is_away_is_waited_for(place: Path, database: Database) -> None:
    taker, away = Taker(), threading.Event()
    with opened(place) as ledger:
        plain = ledger.entries

        def entries(start: int, stop: int) -> list[Recorded]:
            if not away.is_set():
                away.set()
                raise Unavailable("it is somewhere else")
            return plain(start, stop)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledger, "entries", entries)
            async with running(followed(ledger, database, taker, start=0)):
                ledger.append([draft(n) for n in range(5)])
                await until(lambda: len(taker.taken) == 5)
    assert taker.taken == list(range(5))


async def test_a_ledger_that_another_instance_keeps_is_followed_and_each_sees_whose_an_entry_is(tmp_path: Path) -> None:
    with served(tmp_path / "a") as one, remote(one, tmp_path / "b") as ledger:
        database = Database(tmp_path / "b" / "coafi.db")
        taker = Taker()
        one.ledger.append([draft(0)])
        async with running(followed(ledger, database, taker, start=0)):
            one.ledger.append([replace(draft(1), namespace="default"), draft(2)])
            await asyncio.to_thread(ledger.append, [draft(3)])
            await until(lambda: taker.taken == [0, 1, 2, 3])
        entries = ledger.entries(0, 4)
        assert [is_followed(recorded, ("plant-b/default",)) for recorded in entries] == [True, False, True, True]
        assert [is_followed(recorded, ("default", KEY_CHANGES)) for recorded in entries] == [False, True, False, False]
        handling = replace(draft(4), workflow_id="bitt.event:bitt:x/default:1")
        failed = replace(draft(5), type=EntryType.EVENT_DISPATCH_FAILED)
        for recorded in one.ledger.append([handling, failed]):
            assert not is_followed(recorded, ("plant-b/default",))
        database.close()


FOLLOWING = """
import asyncio, sys
from pathlib import Path
from coafi.database import Database
from coafi.following import Followers, LedgerFollower
from tests.coafi.ledger.making import opened
from tests.postgresql import where

class Says:
    name = "says"
    async def take(self, entries):
        for one in entries:
            print("took", one.index, flush=True)
            await asyncio.sleep(0.002)

async def main(place):
    database = Database(where(place))
    with opened(place, lock_timeout=30) as ledger:
        await LedgerFollower(ledger, Followers(database), [Says()], start=0, lease_seconds=0.4, batch=5,
                             poll_seconds=0.02).run()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_whatever_is_killed_skips_nothing_and_repeats_one_batch_at_most(tmp_path: Path) -> None:
    count, said = 150, []
    with opened(tmp_path) as ledger:
        ledger.append([draft(n) for n in range(count)])
    for lines in (7, 23, 1, 38, count):
        process = subprocess.Popen(
            [sys.executable, "-c", FOLLOWING, str(tmp_path)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        mine: list[int] = []
        for line in process.stdout:
            if not line.startswith("took "):
                continue
            mine.append(int(line[5:]))
            if len(mine) == lines or mine[-1] == count - 1:
                process.kill()  # SIGKILL: between any two of its instructions
                break
        mine += [int(line[5:]) for line in process.stdout if line.startswith("took ")]
        process.wait()
        process.stdout.close()
        said.append(mine)
        if mine[-1] == count - 1:
            break
    assert said[-1][-1] == count - 1
    for mine in said:
        assert mine == list(range(mine[0], mine[0] + len(mine)))
    for before, after in itertools.pairwise(said):
        assert before[-1] + 1 - 5 <= after[0] <= before[-1] + 1
    assert set().union(*map(set, said)) == set(range(count))
