"""Commands about peers: ``peers``. To see and change who they are needs the database; to steer their runs, Temporal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError
from coafi.federation.keys import FederationKey, PeerKey
from coafi.federation.peers import Peer, PeerStore, StoredPeer, new_peer
from coafi.federation.witnessed import Grade, WitnessRecord
from coafi.names import peer_workflow_id
from coafi.recording import Decision
from coafi.settings import Settings
from starters.auth import parse_duration
from starters.connection import connected
from starters.output import command_settings, facts, out, print_json, safe, styled, table
from workers.resources import open_resources
from workflows.peer import PeerStanding, PeerWorkflow


def add_peer(
    peer_id: str,
    url: str,
    *,
    keys: Sequence[str],
    accepts: Sequence[str],
    subscription: Sequence[str],
    restricted: Sequence[str],
    ledger_key: str | None,
    witness_key: str | None,
    by: str,
    reason: str,
    as_json: bool,
) -> None:
    """``coafi peers add``.

    Raises:
        ValidationError: something of it is not right, or there is a peer of this id.
        IdempotencyConflict: another peer has one of its keys.
    """
    peer = new_peer(
        id=peer_id,
        url=url,
        keys=[PeerKey.parse(one) for one in keys],
        accepts=list(accepts),
        subscription=list(subscription),
        restricted=list(restricted),
        ledger_key=ledger_key,
        witness_key=witness_key,
    )
    with _changing() as (store, settings):
        if peer_id == settings.federation_peer:
            raise ValidationError(f"{peer_id} is this instance itself", remedy="add the others")
        if store.get(peer_id) is not None:
            raise ValidationError(f"there is a peer {peer_id} already", remedy="change it with `coafi peers set`")
        _tell(store.put(peer, by=by, reason=reason), "is a peer now", as_json=as_json)


def set_peer(
    peer_id: str,
    *,
    url: str | None,
    accepts: Sequence[str] | None,
    subscription: Sequence[str] | None,
    restricted: Sequence[str] | None,
    ledger_key: str | None,
    witness_key: str | None,
    by: str,
    reason: str,
    as_json: bool,
) -> None:
    """``coafi peers set``: an empty pattern alone empties a list.

    Raises:
        ResourceNotFoundError: there is no such peer.
        ValidationError: something of it is not right.
    """
    lists = {"accepts": accepts, "subscription": subscription, "restricted": restricted}
    texts = {"url": url, "ledger_key": ledger_key, "witness_key": witness_key}
    changes: dict[str, object] = {name: [one for one in value if one] for name, value in lists.items() if value}
    changes |= {name: value or None for name, value in texts.items() if value is not None}
    if not changes:
        raise ValidationError("nothing is named that shall change", remedy="`coafi peers set --help` shows what can")
    with _changing() as (store, _):
        peer = new_peer(**{**store.require(peer_id).model_dump(), **changes})
        _tell(store.put(peer, by=by, reason=reason), "is changed", as_json=as_json)


def list_peers(*, as_json: bool) -> None:
    """``coafi peers list``."""
    from starters.records import open_database

    with open_database(command_settings()) as database:
        peers = PeerStore(database).stored()
        suspects = WitnessRecord(database).suspects()
    if as_json:
        print_json([{**_shown(one), "suspect": suspects.get(one.peer.id)} for one in peers])
        return
    rows = table("Peer", "Status", "URL", "May send", "Is sent", "Digests only", "Keys", "Ledger")
    for one in peers:
        peer = one.peer
        rows.add_row(
            safe(peer.id),
            styled(peer.status.value),
            safe(peer.url),
            safe(" ".join(peer.accepts)) or "–",
            safe(" ".join(peer.subscription)) or "–",
            safe(" ".join(peer.restricted)) or "–",
            str(len(peer.keys)),
            _standing(suspects.get(peer.id)),
        )
    out.print(rows if peers else "There are no peers. Add one with: coafi peers add ID URL --key KEY --accept TYPE")


def _standing(grade: Grade | None) -> str:
    """What is known against a peer's ledger; `coafi witness list` says more."""
    match grade:
        case Grade.PROVED:
            return "[red]shows two histories[/red]"
        case Grade.UNPROVED:
            return "[yellow]proves nothing[/yellow]"
        case _:
            return "–"


def show_peer(peer_id: str, *, as_json: bool) -> None:
    """``coafi peers show``.

    Raises:
        ResourceNotFoundError: there is no such peer.
    """
    from starters.records import open_database

    with open_database(command_settings()) as database:
        store = PeerStore(database)
        store.require(peer_id)
        (stored,) = [one for one in store.stored() if one.peer.id == peer_id]
    if as_json:
        print_json(_shown(stored))
        return
    peer, lines = stored.peer, facts()
    lines.add_row("Peer", safe(peer.id))
    lines.add_row("Status", styled(peer.status.value))
    lines.add_row("URL", safe(peer.url))
    for name, patterns in (
        ("May send", peer.accepts),
        ("Is sent", peer.subscription),
        ("Digests only", peer.restricted),
    ):
        lines.add_row(name, safe(" ".join(patterns)) or "–")
    for key in peer.keys:
        limits = [f"from {key.not_before:%Y-%m-%dT%H:%M:%SZ}"] if key.not_before else []
        limits += [f"until {key.not_after:%Y-%m-%dT%H:%M:%SZ}"] if key.not_after else []
        lines.add_row("Key", safe(" ".join([key.keyid, str(key), *limits])))
    lines.add_row("Ledger's key", safe(peer.ledger_key or "–"))
    lines.add_row("Witness key", safe(peer.witness_key or "–"))
    lines.add_row("Changed", f"{stored.changed}, ledger entry {stored.ledger_entry}")
    out.print(lines)


def disable_peer(peer_id: str, *, by: str, reason: str, as_json: bool) -> None:
    """``coafi peers disable``.

    Raises:
        ResourceNotFoundError: there is no such peer.
    """
    with _changing() as (store, _):
        _tell(store.disable(peer_id, by=by, reason=reason), "is disabled", as_json=as_json)


def enable_peer(peer_id: str, *, by: str, reason: str, as_json: bool) -> None:
    """``coafi peers enable``.

    Raises:
        ResourceNotFoundError: there is no such peer.
    """
    with _changing() as (store, _):
        _tell(store.enable(peer_id, by=by, reason=reason), "is active", as_json=as_json)


def trust_key(peer_id: str, key: str, *, retire: str, revoke: bool, by: str, reason: str, as_json: bool) -> None:
    """``coafi peers trust``.

    Args:
        key: to be trusted; with ``revoke`` it may be the id of one.
        retire: how long the peer's other keys still count; empty: as long as before.
        revoke: trust the key no more, at once.

    Raises:
        ResourceNotFoundError: there is no such peer, or key of it.
        ValidationError: this is no key, or no time.
    """
    with _changing() as (store, _):
        if revoke:
            keyid = PeerKey.parse(key).keyid if ":" in key else key
            _tell(store.distrust(peer_id, keyid, by=by, reason=reason), "is trusted with one key less", as_json=as_json)
            return
        made = PeerKey.parse(key)
        if retire:
            until = datetime.now(UTC).replace(microsecond=0) + parse_duration(retire)
            peer = store.require(peer_id)
            others = tuple(_ending(one, until) for one in peer.keys if one.keyid != made.keyid)
            changed = store.put(peer.model_copy(update={"keys": (*others, made)}), by=by, reason=reason)
        else:
            changed = store.trust(peer_id, made, by=by, reason=reason)
        _tell(changed, "is trusted with this key", as_json=as_json)


def show_identity(*, follow: bool, rotate: bool, as_json: bool) -> None:
    """``coafi peers key``: what peers need to know of this instance.

    Args:
        follow: make the key that is to follow, or show it.
        rotate: let it take the place of the present one.

    Raises:
        ResourceNotFoundError: there is none to follow.
    """
    settings = command_settings()
    key = FederationKey(settings.federation_key_path, settings.federation_peer)
    if rotate:
        key.promote()
    elif follow:
        key.prepare()
    current, waiting = key.current().public, key.successor()
    said = {"id": key.peer, "key": str(current), "keyid": current.keyid}
    if waiting is not None:
        said |= {"nextKey": str(waiting.public), "nextKeyid": waiting.public.keyid}
    if as_json:
        print_json(said)
        return
    lines = facts()
    lines.add_row("Peer id", safe(key.peer))
    lines.add_row("Key", str(current))
    if waiting is not None:
        lines.add_row("Next key", str(waiting.public))
    out.print(lines)


async def steer(what: str, peer_id: str, *, by: str, reason: str, as_json: bool) -> None:
    """``coafi peers pause`` and ``resume``.

    Raises:
        ResourceNotFoundError: nothing has come from the peer yet, or lately.
        ValidationError: there is nothing to pause or resume.
        Unavailable: Temporal is out of reach.
    """
    settings = command_settings()
    client = await connected(settings)
    run = client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(peer_id))
    update = PeerWorkflow.pause if what == "pause" else PeerWorkflow.resume
    try:
        standing = await run.execute_update(update, Decision(by=by, reason=reason))
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise ValidationError(
            cause.message if isinstance(cause, ApplicationError) else str(cause), remedy="see `coafi peers standing`"
        ) from None
    except RPCError as error:
        raise _no_run(peer_id, error) from None
    _show_standing(standing, as_json=as_json)


async def show_standing(peer_id: str, *, as_json: bool) -> None:
    """``coafi peers standing``.

    Raises:
        ResourceNotFoundError: nothing has come from the peer yet, or lately.
        Unavailable: Temporal is out of reach.
    """
    client = await connected(command_settings())
    run = client.get_workflow_handle_for(PeerWorkflow.run, peer_workflow_id(peer_id))
    try:
        standing = await run.query(PeerWorkflow.state)
    except RPCError as error:
        raise _no_run(peer_id, error) from None
    _show_standing(standing, as_json=as_json)


def _show_standing(standing: PeerStanding, *, as_json: bool) -> None:
    if as_json:
        print_json(standing.model_dump(mode="json"))
        return
    lines = facts()
    lines.add_row("Peer", safe(standing.peer))
    for name in ("taken", "started", "waiting", "duplicates", "refused"):
        lines.add_row(name.capitalize(), str(getattr(standing, name)))
    lines.add_row("Last", safe(standing.last or "–"))
    if standing.paused:
        lines.add_row("Paused", safe(f"by {standing.paused.by}: {standing.paused.reason}"))
    for refusal in standing.refusals:
        lines.add_row("No message", safe(refusal))
    out.print(lines)


@contextmanager
def _changing() -> Iterator[tuple[PeerStore, Settings]]:
    """The peers, to be changed: the ledger is written too."""
    settings = command_settings()
    with open_resources(settings) as resources:
        yield PeerStore(resources.database, resources.ledger, settings.ledger_namespace), settings


def _ending(key: PeerKey, until: datetime) -> PeerKey:
    """``key``, which counts until then, or until before if that was said before."""
    ends = until if key.not_after is None else min(until, key.not_after)
    return key.model_copy(update={"not_after": ends})


def _tell(stored: StoredPeer, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_shown(stored))
    else:
        out.print(f"{safe(stored.peer.id)} {what}: ledger entry {stored.ledger_entry}.", highlight=False)


def _shown(stored: StoredPeer) -> dict[str, object]:
    peer: Peer = stored.peer
    return {
        "id": peer.id,
        "status": peer.status.value,
        "url": peer.url,
        "accepts": list(peer.accepts),
        "subscription": list(peer.subscription),
        "restricted": list(peer.restricted),
        "keys": [
            {
                "keyid": one.keyid,
                "key": str(one),
                "notBefore": one.not_before and one.not_before.isoformat(),
                "notAfter": one.not_after and one.not_after.isoformat(),
            }
            for one in peer.keys
        ],
        "ledgerKey": peer.ledger_key,
        "witnessKey": peer.witness_key,
        "version": stored.version,
        "changed": stored.changed,
        "ledgerEntry": stored.ledger_entry,
    }


def _no_run(peer_id: str, error: RPCError) -> ResourceNotFoundError | Unavailable:
    if error.status is RPCStatusCode.NOT_FOUND:
        return ResourceNotFoundError(
            f"there is no open run of the peer {peer_id}", remedy="one begins with its next message"
        )
    return Unavailable(f"Temporal does not answer for the peer {peer_id}: {error.message}", remedy="try again")
