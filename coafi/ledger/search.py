"""Finds entries in a log of any length, without holding it in memory.

Entries of an event are looked up by an index of the database. All else is read: entries are in order of time, so a
time range is found by bisection; within it, most entries are ruled out by a column or by their bytes, unparsed. An
index for more would make every append dearer, for a question that is asked now and then.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from coafi.ledger.entry import Entry, Recorded, timestamp
from coafi.ledger.log import Ledger
from coafi.ledger.reading import recorded
from coafi.names import parse_workflow_id

CLOCK_MARGIN = timedelta(minutes=10)
"""How far a clock may have been set back without an entry being missed by its time."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What entries must be like; what is empty does not matter.

    Attributes:
        event: id of the event.
        type: type of the entry.
        repository: URL, as the workflow id of the run has it.
        utids: the event's UTidS.
        since, until: taken by the ledger at or after the one, and before the other.
    """

    event: str = ""
    type: str = ""
    repository: str = ""
    utids: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is like that."""
        return (
            self.event in ("", entry.event_id)
            and self.type in ("", entry.type)
            and self.utids in ("", entry.utids)
            and self.repository in ("", _source(entry))
            and (self.since is None or entry.time >= timestamp(self.since))
            and (self.until is None or entry.time < timestamp(self.until))
        )

    def needles(self) -> list[bytes]:
        """What the bytes of such an entry contain."""
        texts = (self.utids, quote(self.repository, safe="/:"))
        return [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts if text]


def find(ledger: Ledger, query: Query) -> Iterator[Recorded]:
    """The entries that match, in order.

    Raises:
        IntegrityError: the bytes of one that was read were changed.
        Unavailable: the database is out of reach.
    """
    if query.event:
        yield from (one for one in ledger.by_event(query.event) if query.matches(one.entry))
        return
    size = ledger.size()
    start = 0 if query.since is None else _first(ledger, size, query.since - CLOCK_MARGIN)
    stop = size if query.until is None else _first(ledger, size, query.until + CLOCK_MARGIN)
    needles = query.needles()
    for row in ledger.rows(start, stop):
        if query.type not in ("", row.type) or not all(needle in row.body for needle in needles):
            continue
        found = recorded(row)
        if query.matches(found.entry):
            yield found


def _first(ledger: Ledger, size: int, moment: datetime) -> int:
    """The first entry that was taken at ``moment`` or later, if times never go back."""
    wanted = timestamp(moment)
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if ledger.entry(middle).entry.time < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def _source(entry: Entry) -> str:
    try:
        return parse_workflow_id(entry.workflow_id).source
    except ValueError:
        return ""
