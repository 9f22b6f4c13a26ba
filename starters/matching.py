"""``coafi events match``: what would be done about an event, without doing it."""

import json
from datetime import UTC, datetime

from coafi.bitt.event import BittEvent, event_of_entry, is_followed
from coafi.bitt.subscriptions import Asked, Subscriptions
from coafi.canonical import JsonObject
from coafi.errors import ValidationError
from coafi.ledger.entry import timestamp
from coafi.notify.subscribers import load_subscribers
from coafi.settings import Settings
from starters.output import command_settings, facts, out, print_json, safe
from starters.records import opened_ledger
from workers.resources import load_subscriptions


def match_event(event_type: str, source: str, details: str, *, as_json: bool) -> bool:
    """``coafi events match TYPE``; whether a subscription matches.

    Raises:
        ValidationError: the file of subscriptions is not right, or the details are no JSON object.
    """
    settings = command_settings()
    told = BittEvent(
        event_type=event_type,
        event_id="test",
        timestamp=timestamp(datetime.now(UTC)),
        source=source,
        details=_details(details),
    )
    return _show(settings, load_subscriptions(settings).load(), told, followed=True, as_json=as_json)


def match_entry(index: int, *, as_json: bool) -> bool:
    """``coafi events match --entry INDEX``; whether a subscription matches, and the entry may start anything.

    Raises:
        ResourceNotFoundError: the ledger has no such entry.
        ValidationError: the file of subscriptions is not right.
    """
    settings = command_settings()
    subscriptions = load_subscriptions(settings).load()
    with opened_ledger(settings) as ledger:
        recorded = ledger.entry(index)
    told = event_of_entry(recorded, "bitt:this-ledger")
    followed = is_followed(recorded, (recorded.entry.namespace,))
    return _show(settings, subscriptions, told, followed=followed, as_json=as_json)


def _show(settings: Settings, subscriptions: Subscriptions, told: BittEvent, *, followed: bool, as_json: bool) -> bool:
    asked = subscriptions.asked(told)
    subscribers = load_subscribers(settings.subscribers, allow_private=settings.notify_allow_private)
    notified = sorted(one.name for one in subscribers.of_topics(asked.topics))
    starts = bool(asked.subscriptions) and followed
    if as_json:
        print_json(
            {
                "eventType": told.event_type,
                "subscriptions": list(asked.names),
                "starts": starts,
                "entities": [{"kind": one.kind, "id": one.id} for one in told.entities],
                "opensFindings": asked.opens_findings,
                "closesFindings": asked.closes_findings,
                "severity": asked.severity if asked.opens_findings else None,
                "topics": sorted(asked.topics),
                "notified": notified,
                "tellsPeers": asked.peers if isinstance(asked.peers, str) else list(asked.peers),
            }
        )
        return starts
    if not asked.subscriptions:
        out.print(f"No subscription matches {safe(told.event_type)}.")
        return False
    _explain(told, asked, notified)
    if not followed:
        out.print("The entry itself starts nothing: it belongs to the handling of such an event.")
    return starts


def _explain(told: BittEvent, asked: Asked, notified: list[str]) -> None:
    rows = facts()
    rows.add_row("Matches", ", ".join(asked.names))
    named = ", ".join(str(one) for one in told.entities) or "none"
    rows.add_row("About", safe(named))
    if asked.opens_findings:
        rows.add_row("Opens", f"a finding on each of them, {asked.severity} unless the event says otherwise")
    if asked.closes_findings:
        rows.add_row("Closes", "findings on them that the same source reported")
    rows.add_row("Notifies", safe(", ".join(notified)) or "nobody")
    if asked.topics:
        rows.add_row("  under", ", ".join(sorted(asked.topics)))
    peers = {"none": "nobody", "subscribed": "those whose subscription matches"}
    rows.add_row("Tells peers", peers[asked.peers] if isinstance(asked.peers, str) else ", ".join(asked.peers))
    out.print(rows)


def _details(text: str) -> JsonObject:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValidationError(
            "the details are no JSON object", remedy='give such as {"affectedEntities": ["AERO/wing"]}'
        )
    return found
