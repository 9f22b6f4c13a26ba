"""Entries of the own ledger that somebody subscribes to: each starts the run that reacts to it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import structlog

from activities.dispatch import Dispatcher
from coafi import metrics
from coafi.bitt.event import BittEvent, event_of_entry, is_followed, started_by_entry
from coafi.bitt.subscriptions import SubscriptionFile
from coafi.errors import Refused
from coafi.events import Event
from coafi.ledger.entry import Recorded
from coafi.names import EntryType
from coafi.objects import ObjectStore
from coafi.recording import EventRecorder

log = structlog.stdlib.get_logger()

AT_A_TIME = 16
"""Runs that are being started at the same time."""

_FIRST_ENTRIES = 16
"""Entries of an event among which the one is that says how deep it is; others are of instances that share its id."""


@dataclass(frozen=True)
class EntryReactions:
    """Starts a ``bitt.event`` for each entry that a subscription matches; see :class:`coafi.following.Consumer`.

    Attributes:
        source: of the events.
        namespaces: of the entries that are this instance's.
        max_depth: runs between an event and one from outside, at most.
    """

    dispatcher: Dispatcher
    subscriptions: SubscriptionFile
    objects: ObjectStore
    recorder: EventRecorder
    source: str
    namespaces: tuple[str, ...]
    max_depth: int
    name: str = "subscriptions"

    async def take(self, entries: Sequence[Recorded]) -> None:
        """Start a run for each entry that somebody wants to know of; those that were started before are found."""
        found = await asyncio.to_thread(self._wanted, entries)
        for first in range(0, len(found), AT_A_TIME):
            some = found[first : first + AT_A_TIME]
            # All of them end, so that none is being started while its batch is taken again.
            outcomes = await asyncio.gather(*(self._start(*one) for one in some), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    def _wanted(self, entries: Sequence[Recorded]) -> list[tuple[Recorded, BittEvent]]:
        subscriptions = self.subscriptions.current()
        wants = cache(subscriptions.wants_entries)
        found = []
        for recorded in entries:
            if wants(recorded.entry.type) and is_followed(recorded, self.namespaces):
                told = event_of_entry(recorded, self.source)
                if subscriptions.asked(told).subscriptions:
                    found.append((recorded, told))
        return found

    async def _start(self, recorded: Recorded, told: BittEvent) -> None:
        depth = await asyncio.to_thread(self._depth, recorded) + 1
        if depth > self.max_depth:
            metrics.CAPPED.inc()
            log.warning("too many runs lie between an entry and its cause", entry=recorded.index, depth=depth)
            return
        event, body = started_by_entry(told, recorded, depth=depth)
        await asyncio.to_thread(self.objects.put, body)
        try:
            started = await self.dispatcher.start(event)
        except Refused as error:
            await asyncio.to_thread(self.record_failure, event, error)
            return
        log.info("entry starts a run", entry=recorded.index, workflow_id=started.workflow_id, existed=started.existed)

    def _depth(self, recorded: Recorded) -> int:
        """How deep the event is that an entry belongs to."""
        entry = recorded.entry
        for one in self.recorder.ledger.by_event(entry.event_id, limit=_FIRST_ENTRIES):
            same = one.entry.workflow_id == entry.workflow_id and one.entry.namespace == entry.namespace
            depth = one.entry.data.get("causationDepth")
            if same and one.entry.type == EntryType.EVENT_RECEIVED and isinstance(depth, int):
                return depth
        return 0

    def record_failure(self, event: Event, error: Refused) -> None:
        """Record that an event has no run and never will: trying again cannot help, and the next entries wait."""
        log.error("entry starts no run", workflow_id=event.workflow_id, reason=str(error))
        draft = self.recorder.draft(
            event.ref(event.utids),
            EntryType.EVENT_DISPATCH_FAILED,
            step="dispatch",
            inputs={},
            data={"error": error.kind, "message": error.message[:2000], "causationId": event.causationid},
        )
        self.recorder.ledger.append([draft])
