"""The listener: gives the service's own ledger to those who wait for something in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from temporalio.client import Client

from activities.dispatch import Dispatcher
from activities.outbox import OutboxWaker
from coafi.errors import Unavailable
from coafi.following import LISTENER, Consumer, Followers, LedgerFollower, check_position
from coafi.names import KEY_CHANGES
from starters.output import command_settings, facts, out, print_json
from starters.reacting import EntryReactions
from starters.records import open_database, opened_ledger
from workers.resources import Resources, event_source, load_subscriptions
from workers.wiring import build_outbox, build_recorder

log = structlog.stdlib.get_logger()


def build_consumers(client: Client, resources: Resources) -> Sequence[Consumer]:
    """Everybody who waits for entries, in the order in which they get them.

    Raises:
        ValidationError: the file of subscriptions is not right.
    """
    settings = resources.settings
    recorder = build_recorder(resources)
    # The ledger's own entries are those of the instance that keeps it.
    kept_here = (KEY_CHANGES,) if resources.ledger.atomic else ()
    return (
        EntryReactions(
            Dispatcher(client, settings.temporal_start_timeout),
            load_subscriptions(settings),
            resources.objects,
            recorder,
            event_source(resources),
            (settings.ledger_namespace, *kept_here),
            settings.causation_depth,
        ),
        OutboxWaker(client, build_outbox(resources)),
    )


@asynccontextmanager
async def running_listener(
    client: Client, resources: Resources, consumers: Sequence[Consumer] | None = None
) -> AsyncIterator[LedgerFollower]:
    """Follow the ledger while the block runs.

    Args:
        client: of Temporal; may be lazy.
        resources: whose ledger is followed.
        consumers: who gets the entries; by default everybody who waits for some.
    """
    follower = LedgerFollower(
        resources.ledger,
        Followers(resources.database),
        build_consumers(client, resources) if consumers is None else consumers,
    )
    with contextlib.suppress(Unavailable):  # else it begins when the ledger is back
        await asyncio.to_thread(follower.begin)
    following = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def show_followers(*, as_json: bool) -> None:
    """``coafi listener --status``."""
    settings = command_settings()
    with opened_ledger(settings) as ledger, open_database(settings) as database:
        size, known = ledger.size(), Followers(database).all()
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "position": one.position,
                    "behind": max(0, size - one.position),
                    "held": bool(one.holder),
                    "movedAt": one.moved_at,
                }
                for one in known
            ]
        )
        return
    rows = facts()
    for one in known:
        rows.add_row("Follower", one.name)
        rows.add_row("  next entry", f"{one.position} of {size}")
        rows.add_row("  behind", str(max(0, size - one.position)))
        rows.add_row("  followed", "by a process" if one.holder else "by nobody")
        rows.add_row("  moved at", one.moved_at)
    out.print(rows if known else "Nobody has followed this ledger yet.")


def place_listener(resources: Resources, start: int) -> None:
    """Let the listener go on at an entry.

    Raises:
        ValidationError: the ledger has no such entry.
    """
    check_position(start, resources.ledger.size())
    Followers(resources.database).place(LISTENER, start)
    log.info("follower placed", follower=LISTENER, position=start)
