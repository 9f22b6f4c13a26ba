"""Commands about what peers are told: ``peers send``, ``backlog``, ``pause --outgoing``. They need the database.

A service that runs delivers at once what was queued; otherwise it does so when it runs again.
"""

import uuid
from pathlib import Path

from activities.outbox import Order, OutboxWaker
from coafi.canonical import JsonObject
from coafi.cloudevents import json_object
from coafi.errors import Unavailable, ValidationError
from coafi.federation.messages import MessageType
from coafi.federation.outbox import COUNTED, Backlog
from coafi.federation.projection import MAX_DATA
from coafi.settings import Settings
from starters.connection import connected
from starters.output import command_settings, out, print_json, safe, styled, table
from workers.resources import Resources, open_resources
from workers.wiring import build_outbox


async def send_message(
    peer: str, message_type: str, file: Path, *, subject: str, by: str, again: bool, as_json: bool
) -> None:
    """``coafi peers send``.

    Raises:
        ResourceNotFoundError: there is no such peer.
        ValidationError: the type is none, or the file holds nothing of that type.
    """
    settings = command_settings()
    try:
        kind = MessageType(message_type)
    except ValueError:
        raise ValidationError(
            f"{message_type!r} is no type of message", remedy=f"say one of {', '.join(MessageType)}"
        ) from None
    payload = _payload(file)
    with open_resources(settings) as resources:
        outbox = build_outbox(resources)
        fresh = uuid.uuid4().hex if again else ""
        queued = outbox.queue(peer, kind, payload, by=by, subject=subject, again=fresh)
        message_id = f"{outbox.projection.prefix}:{queued.index}"
        woken = await _woken(settings, resources, peer)
    if as_json:
        print_json(
            {"peer": peer, "message": message_id, "entry": queued.index, "known": not queued.fresh, "run": woken}
        )
        return
    was = "is queued" if queued.fresh else "was queued before (--again sends it once more)"
    out.print(f"Message {message_id} for {safe(peer)} {was}, ledger entry {queued.index}.", highlight=False)
    if woken is None:
        out.print("No service runs here: it is delivered when one does.")


async def order_outbox(peer: str, *, pauses: bool, by: str, reason: str, as_json: bool) -> None:
    """``coafi peers pause --outgoing`` and ``resume --outgoing``.

    Raises:
        ResourceNotFoundError: there is no such peer.
        Unavailable: Temporal is out of reach.
    """
    settings = command_settings()
    with open_resources(settings) as resources:
        outbox = build_outbox(resources)
        outbox.peers.require(peer)
        client = await connected(settings)
        run = await OutboxWaker(client, outbox).order(peer, Order(by=by, reason=reason, pauses=pauses))
    if as_json:
        print_json({"peer": peer, "run": run, "paused": pauses})
        return
    then = "delivers nothing until it is resumed; what comes waits" if pauses else "goes on, at once"
    out.print(f"The outbox of {safe(peer)} {then}. See: coafi peers backlog", highlight=False)


def show_backlog(*, as_json: bool) -> None:
    """``coafi peers backlog``."""
    with open_resources(command_settings()) as resources:
        found = build_outbox(resources).backlog()
    if as_json:
        print_json([_backlog_json(one) for one in found])
        return
    rows = table("Peer", "Status", "#Delivered", "#Messages", "#Entries behind", "Oldest", "Problem")
    for one in found:
        position = one.position
        status = "paused" if position.paused and one.peer.status == "active" else one.peer.status.value
        tries = f" ({position.tries} tries)" if position.tries else ""
        rows.add_row(
            safe(one.peer.id),
            styled(status),
            str(position.delivered),
            str(one.ahead) if one.counted else f"{one.ahead} or more",
            str(one.behind),
            one.oldest or "–",
            safe(position.paused or f"{position.problem}{tries}") or "–",
        )
    out.print(rows if found else "There are no peers.")
    if not all(one.counted for one in found):
        out.print(f"Messages are counted in the next {COUNTED:,} entries.")


def _payload(file: Path) -> JsonObject:
    try:
        with file.open("rb") as stream:
            content = stream.read(4 * MAX_DATA + 1)
    except OSError as error:
        raise ValidationError(f"{file} cannot be read: {error.strerror}", remedy="name a file with JSON") from error
    if len(content) > 4 * MAX_DATA:
        raise ValidationError(f"{file} is very large", remedy="send the digest of what is in it, and where it is")
    return json_object(content, str(file))


async def _woken(settings: Settings, resources: Resources, peer: str) -> str | None:
    """Wake the outbox, if a service runs; its run."""
    try:
        client = await connected(settings)
        return await OutboxWaker(client, build_outbox(resources)).wake(peer)
    except Unavailable:
        return None


def _backlog_json(one: Backlog) -> JsonObject:
    position = one.position
    return {
        "peer": one.peer.id,
        "status": one.peer.status.value,
        "position": position.position,
        "behind": one.behind,
        "messages": one.ahead,
        "counted": one.counted,
        "oldest": one.oldest,
        "delivered": position.delivered,
        "deliveredAt": position.delivered_at,
        "paused": position.paused,
        "problem": position.problem,
        "tries": position.tries,
        "failingAt": position.failing_at,
    }
