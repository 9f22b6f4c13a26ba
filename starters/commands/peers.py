"""Commands about partner organisations.

What a command does stands in ``starters/``, and is imported when it is called, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from starters.commands.common import By, Json, run

peers = typer.Typer(no_args_is_help=True, help="Partner organisations: who they are, and what they send.")

PeerName = Annotated[str, typer.Argument(help="Id of the peer, such as acme.example.", metavar="PEER")]
Accepts = Annotated[list[str] | None, typer.Option("--accept", help="Type that it may send, or a pattern; repeatable.")]
Subscription = Annotated[
    list[str] | None, typer.Option("--send", help="Pattern of what it is sent, TYPE or TYPE:SUBJECT; repeatable.")
]
Restricted = Annotated[
    list[str] | None, typer.Option("--digests-only", help="Pattern of what it gets only digests of; repeatable.")
]
LedgerKey = Annotated[str | None, typer.Option(help="Verifier key of its ledger.")]
WitnessKey = Annotated[str | None, typer.Option(help="Verifier key with which it cosigns checkpoints.")]
Reason = Annotated[str, typer.Option(help="Why; goes on the record.")]

Outgoing = Annotated[bool, typer.Option("--outgoing", help="What it is sent, not what it sends.")]


@peers.command("add")
def peers_add(
    peer: PeerName,
    url: Annotated[str, typer.Argument(help="Base URL of its gateway.")],
    by: By,
    key: Annotated[list[str] | None, typer.Option(help="A key that may sign for it, ed25519:…; repeatable.")] = None,
    accept: Accepts = None,
    send: Subscription = None,
    digests_only: Restricted = None,
    ledger_key: LedgerKey = None,
    witness_key: WitnessKey = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let a partner organisation be a peer. It gets only digests, unless --digests-only says of what."""
    from starters.peers import add_peer

    add_peer(
        peer,
        url,
        keys=key or [],
        accepts=accept or [],
        subscription=send or [],
        restricted=["*"] if digests_only is None else [one for one in digests_only if one],
        ledger_key=ledger_key,
        witness_key=witness_key,
        by=by,
        reason=reason,
        as_json=as_json,
    )


@peers.command("set")
def peers_set(
    peer: PeerName,
    by: By,
    url: Annotated[str | None, typer.Option(help="Base URL of its gateway.")] = None,
    accept: Accepts = None,
    send: Subscription = None,
    digests_only: Restricted = None,
    ledger_key: LedgerKey = None,
    witness_key: WitnessKey = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change what is named of a peer; a list is replaced as a whole, and '' empties it."""
    from starters.peers import set_peer

    set_peer(
        peer,
        url=url,
        accepts=accept,
        subscription=send,
        restricted=digests_only,
        ledger_key=ledger_key,
        witness_key=witness_key,
        by=by,
        reason=reason,
        as_json=as_json,
    )


@peers.command("list")
def peers_list(as_json: Json = False) -> None:
    """Every peer: where it is, what it may send, and what it is sent."""
    from starters.peers import list_peers

    list_peers(as_json=as_json)


@peers.command("show")
def peers_show(peer: PeerName, as_json: Json = False) -> None:
    """One peer, with its keys."""
    from starters.peers import show_peer

    show_peer(peer, as_json=as_json)


@peers.command("disable")
def peers_disable(peer: PeerName, by: By, reason: Reason, as_json: Json = False) -> None:
    """Take nothing more from a peer, and send it nothing."""
    from starters.peers import disable_peer

    disable_peer(peer, by=by, reason=reason, as_json=as_json)


@peers.command("enable")
def peers_enable(peer: PeerName, by: By, reason: Reason = "", as_json: Json = False) -> None:
    """Let a peer be active again that was disabled, or had answered that it wants nothing more."""
    from starters.peers import enable_peer

    enable_peer(peer, by=by, reason=reason, as_json=as_json)


@peers.command("trust")
def peers_trust(
    peer: PeerName,
    key: Annotated[str, typer.Argument(help="The key, ed25519:… or ecdsa-p256-sha256:…; with --revoke also its id.")],
    by: By,
    retire: Annotated[str, typer.Option(help="Let its other keys count only so much longer, such as 7d.")] = "",
    revoke: Annotated[bool, typer.Option("--revoke", help="Trust the key no more, at once.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Trust a further key of a peer, or one no more."""
    from starters.peers import trust_key

    trust_key(peer, key, retire=retire, revoke=revoke, by=by, reason=reason, as_json=as_json)


@peers.command("key")
def peers_key(
    follow: Annotated[bool, typer.Option("--next", help="Make the key that is to follow.")] = False,
    rotate: Annotated[bool, typer.Option("--rotate", help="Sign with that one from now on.")] = False,
    as_json: Json = False,
) -> None:
    """What peers need to know of this instance: its id and its key."""
    from starters.peers import show_identity

    show_identity(follow=follow, rotate=rotate, as_json=as_json)


@peers.command("standing")
def peers_standing(peer: PeerName, as_json: Json = False) -> None:
    """What was taken from a peer, and what waits."""
    from starters.peers import show_standing

    run(show_standing(peer, as_json=as_json))


@peers.command("send")
def peers_send(
    peer: PeerName,
    kind: Annotated[str, typer.Argument(help="Type of the message, such as SystemUpdateNotification.", metavar="TYPE")],
    file: Annotated[Path, typer.Argument(help="What it says, as JSON.")],
    by: By,
    subject: Annotated[str, typer.Option(help="What it is about; default: its type.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Send once more what was sent before.")] = False,
    as_json: Json = False,
) -> None:
    """Send a message to a peer by hand. On the record, and in order with all that it is sent."""
    from starters.outbox import send_message

    run(send_message(peer, kind, file, subject=subject, by=by, again=again, as_json=as_json))


@peers.command("backlog")
def peers_backlog(as_json: Json = False) -> None:
    """What each peer has not been told yet, since when, and what is in the way."""
    from starters.outbox import show_backlog

    show_backlog(as_json=as_json)


@peers.command("pause")
def peers_pause(peer: PeerName, by: By, reason: Reason, outgoing: Outgoing = False, as_json: Json = False) -> None:
    """Handle nothing that a peer sends until it is resumed, or send it nothing; what comes waits."""
    _steer("pause", peer, by=by, reason=reason, outgoing=outgoing, as_json=as_json)


@peers.command("resume")
def peers_resume(
    peer: PeerName, by: By, reason: Reason = "resumed", outgoing: Outgoing = False, as_json: Json = False
) -> None:
    """Handle what waits, in order; or send it, and at once what waits for another try."""
    _steer("resume", peer, by=by, reason=reason, outgoing=outgoing, as_json=as_json)


def _steer(what: str, peer: str, *, by: str, reason: str, outgoing: bool, as_json: bool) -> None:
    if outgoing:
        from starters.outbox import order_outbox

        run(order_outbox(peer, pauses=what == "pause", by=by, reason=reason, as_json=as_json))
    else:
        from starters.peers import steer

        run(steer(what, peer, by=by, reason=reason, as_json=as_json))
