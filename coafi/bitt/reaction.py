"""What is done about an event of a ledger, in one unit: findings are opened or closed, and it is recorded."""

from dataclasses import dataclass

from coafi.bitt.event import PRINCIPAL, BittEvent
from coafi.bitt.subscriptions import Asked, SubscriptionFile
from coafi.compliance.findings import Closed, Findings, NewFinding, Opened, Origin, Weight
from coafi.events import Event, EventRef, Wire
from coafi.ledger.port import LedgerTransaction
from coafi.names import EntryType
from coafi.ranges import Range, merge_ranges, ranges_of


class ReactTask(Wire):
    """An event to react to.

    Attributes:
        event: what its entries are keyed by.
        told: the event itself, whose payload is valid.
    """

    event: EventRef
    told: Event


class Reacted(Wire):
    """What was done about an event.

    Attributes:
        subscriptions: the names of those that it matches.
        topics: what subscribers are notified under.
        opened, known, closed: findings that this event has opened, that were open already, that it has closed.
        entries: where all of it was recorded.
        unprocessed: an event from outside that nobody subscribes to: where that was recorded.
    """

    subscriptions: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    opened: int = 0
    known: int = 0
    closed: int = 0
    entries: tuple[Range, ...] = ()
    unprocessed: Range | None = None


@dataclass(frozen=True)
class Reactor:
    """Reacts to events.

    Attributes:
        subscriptions: as they are when an event is reacted to, and not as they were when it came.
    """

    findings: Findings
    subscriptions: SubscriptionFile

    def react(self, task: ReactTask) -> Reacted:
        """Do what the subscriptions ask for. Doing it again gives what was recorded.

        Raises:
            Unavailable: the file of subscriptions cannot be used, or the database.
        """
        told = BittEvent.model_validate(task.told.data)
        asked = self.subscriptions.current().asked(told)
        if not asked.subscriptions:
            # An entry was matched when its run was started; that nobody wants to know any more is no failure.
            return Reacted() if task.told.principal == PRINCIPAL else self._unprocessed(task, told)
        if not (asked.opens_findings or asked.closes_findings):
            return _reacted(asked, Opened(), Closed())
        origin = Origin(event=task.event, source=told.source, depth=task.told.causationdepth, peers=asked.peers)

        def unit(transaction: LedgerTransaction) -> Reacted:
            opened, closed = Opened(), Closed()
            if asked.opens_findings:
                opened = self.findings.open_in(transaction, origin, _findings(told, asked))
            else:
                closed = self.findings.close_in(transaction, origin, told.rule, told.entities)
            return _reacted(asked, opened, closed)

        return self.findings.recorder.ledger.transact(unit)

    def _unprocessed(self, task: ReactTask, told: BittEvent) -> Reacted:
        recorder = self.findings.recorder
        draft = recorder.draft(
            task.event,
            EntryType.EVENT_UNPROCESSED,
            step="unprocessed",
            inputs={"eventType": told.event_type},
            data={
                "eventType": told.event_type,
                "source": told.source,
                "reason": "no subscription matches it",
                "build": recorder.build,
            },
        )
        (place,) = ranges_of(recorder.ledger.append([draft]))
        return Reacted(unprocessed=place)


def _findings(told: BittEvent, asked: Asked) -> list[NewFinding]:
    given = told.details.get("severity")
    severity = Weight(str(given)) if given in set(Weight) else asked.severity
    return [
        NewFinding(entity=entity, rule=told.rule[:200], severity=severity, message=told.reason, detected=told.timestamp)
        for entity in told.entities
    ]


def _reacted(asked: Asked, opened: Opened, closed: Closed) -> Reacted:
    return Reacted(
        subscriptions=asked.names,
        topics=tuple(sorted(asked.topics)),
        opened=len(opened.ids),
        known=opened.known,
        closed=len(closed.ids),
        entries=merge_ranges([*opened.entries, *closed.entries]),
    )
