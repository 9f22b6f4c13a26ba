"""Peers: who they are, which keys are theirs, what they may send, and what they are sent.

The table has them as they are now. Every change is an entry ``PEER_CHANGED`` of the ledger, written in the same
transaction, with who changed what and why.
"""

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, Field, StringConstraints
from sqlalchemy import Connection, Row, delete, insert, select

from coafi.canonical import JsonObject, digest_of
from coafi.database import Database
from coafi.database.statements import insert_or_replace
from coafi.errors import IdempotencyConflict, ResourceNotFoundError, ValidationError
from coafi.events import Wire
from coafi.federation.keys import PeerKey
from coafi.federation.tables import peer as peer_table
from coafi.federation.tables import peer_key
from coafi.ledger.entry import Draft, timestamp
from coafi.ledger.keys import VerifierKey
from coafi.ledger.port import Ledger, LedgerTransaction
from coafi.names import PEER_CHANGES, EntryType

MAX_KEYS = 8
"""Keys of a peer at most: rotation needs two at a time."""

_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_MAX_TEXT = 500


def check_peer_id(value: str) -> str:
    """``value``, if it can be the id of a peer: 1 to 63 lower-case letters, digits, dots and dashes.

    Raises:
        ValueError: it cannot.
    """
    if _ID.fullmatch(value) is None:
        raise ValueError("is no peer id: 1 to 63 lower-case letters, digits, dots and dashes, such as acme.example")
    return value


def check_peer_url(value: str) -> str:
    """``value`` without a slash at its end, if it can be the base URL of a gateway: https, or http on this machine.

    Raises:
        ValueError: it cannot.
    """
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if not value.isascii() or not value.isprintable() or " " in value or not host or port == 0:
        raise ValueError("is no URL")
    if parts.username is not None or parts.password is not None or "?" in value or "#" in value:
        raise ValueError("has neither user nor password, query nor fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")):
        raise ValueError("starts with https://, or is http on this machine")
    return value.rstrip("/")


def _check_vkey(value: str | None) -> str | None:
    if value is not None:
        try:
            VerifierKey.parse(value)
        except ValidationError as error:
            raise ValueError(error.message) from None
    return value


PeerId = Annotated[str, AfterValidator(check_peer_id)]
PeerUrl = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(check_peer_url)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[\x21-\x7e]+$")]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=100)]
Vkey = Annotated[str | None, AfterValidator(_check_vkey)]


class PeerStatus(StrEnum):
    """Where a peer stands. ``gone``: it answered 410 and is sent nothing more; what it sends is still taken."""

    ACTIVE = "active"
    DISABLED = "disabled"
    GONE = "gone"


class Peer(Wire):
    """A partner organisation.

    Attributes:
        id: what it calls itself; its messages come from ``urn:coafi:peer:<id>``.
        url: base URL of its gateway.
        keys: that may sign its requests.
        accepts: patterns of the types of message that it may send us, such as ``RegistryEntryChanged`` or ``*``.
        subscription: patterns of what it is sent, held against ``<type>:<subject>``; a pattern without a colon is held
            against the type alone.
        restricted: likewise, patterns of what it gets only the digests of. Everything, unless said otherwise.
        ledger_key: vkey of its ledger, if we know it.
        witness_key: vkey with which it cosigns checkpoints, if it does.
    """

    id: PeerId
    url: PeerUrl
    keys: Annotated[tuple[PeerKey, ...], Field(max_length=MAX_KEYS)] = ()
    accepts: Patterns = ()
    subscription: Patterns = ()
    restricted: Patterns = ("*",)
    ledger_key: Vkey = None
    witness_key: Vkey = None
    status: PeerStatus = PeerStatus.ACTIVE

    def key(self, keyid: str) -> PeerKey | None:
        """Its key of this name."""
        return next((one for one in self.keys if one.keyid == keyid), None)

    def may_send(self, message_type: str) -> bool:
        """Whether it may send us messages of this type."""
        return any(fnmatchcase(message_type, one) for one in self.accepts)

    def wants(self, message_type: str, subject: str = "") -> bool:
        """Whether it is to be sent messages of this type about this."""
        return _matches(self.subscription, message_type, subject)

    def is_restricted(self, message_type: str, subject: str = "") -> bool:
        """Whether it gets only digests of what messages of this type say about this."""
        return _matches(self.restricted, message_type, subject)


class StoredPeer(Wire):
    """A peer as it is kept.

    Attributes:
        version: counts its changes, from 1.
        changed: when it was changed last.
        ledger_entry: index of the entry that says so.
    """

    peer: Peer
    version: int
    changed: str
    ledger_entry: int


class PeerStore:
    """The peers of this instance.

    Args:
        database: where they are.
        ledger: where changes are recorded; who only reads needs none.
        namespace: of the entries (``Settings.ledger_namespace``).
    """

    def __init__(self, database: Database, ledger: Ledger | None = None, namespace: str = "") -> None:
        self._database = database
        self._ledger = ledger
        self._namespace = namespace

    def all(self) -> tuple[Peer, ...]:
        """Every peer, by id."""
        return tuple(one.peer for one in self.stored())

    def stored(self) -> tuple[StoredPeer, ...]:
        """Every peer as it is kept, by id."""
        with self._database.read() as connection:
            keys: dict[str, list[PeerKey]] = {}
            for row in connection.execute(select(peer_key).order_by(peer_key.c.keyid)):
                keys.setdefault(row.peer, []).append(_key(row))
            rows = connection.execute(select(peer_table).order_by(peer_table.c.id)).all()
        return tuple(_stored(row, keys.get(row.id, [])) for row in rows)

    def get(self, peer_id: str) -> Peer | None:
        """The peer with this id, if there is one.

        Raises:
            Unavailable: the database is out of reach.
        """
        with self._database.read() as connection:
            found = find_peer(connection, peer_id)
        return None if found is None else found.peer

    def require(self, peer_id: str) -> Peer:
        """The peer with this id.

        Raises:
            ResourceNotFoundError: there is none.
            Unavailable: the database is out of reach.
        """
        found = self.get(peer_id)
        if found is None:
            raise ResourceNotFoundError(f"there is no peer {peer_id}", remedy="`coafi peers list` shows who there is")
        return found

    def by_key(self, keyid: str) -> Peer | None:
        """The peer whose key has this name, if there is one.

        Raises:
            Unavailable: the database is out of reach.
        """
        with self._database.read() as connection:
            owner = connection.execute(select(peer_key.c.peer).where(peer_key.c.keyid == keyid)).scalar_one_or_none()
            found = None if owner is None else find_peer(connection, owner)
        return None if found is None else found.peer

    def put(self, peer: Peer, *, by: str, reason: str = "") -> StoredPeer:
        """Keep ``peer`` as it is now, and record the change; without one, nothing is written.

        Args:
            by: who changed it.
            reason: why.

        Raises:
            ValidationError: another peer has one of its keys, or ``by`` or ``reason`` is too long.
            LedgerUnavailable: try again.
        """
        if self._ledger is None:
            raise ValueError("this store was opened for reading")
        for text in (by, reason):
            if len(text) > _MAX_TEXT or not text.replace("\n", " ").isprintable():
                raise ValidationError("who and why have up to 500 printable characters", remedy="say it shorter")
        if not by:
            raise ValidationError("nobody is named who makes the change", remedy="say by whom")
        peer = peer.model_copy(update={"keys": tuple(sorted(peer.keys, key=lambda one: one.keyid))})

        def unit(transaction: LedgerTransaction) -> StoredPeer:
            connection = transaction.connection
            before = find_peer(connection, peer.id)
            if before is not None and before.peer == peer:
                return before
            _refuse_shared_keys(connection, peer)
            version = 1 if before is None else before.version + 1
            (recorded,) = transaction.append([self._draft(peer, version, before, by, reason)])
            changed = timestamp(datetime.now(UTC))
            _write(connection, peer, version, changed, recorded.index)
            return StoredPeer(peer=peer, version=version, changed=changed, ledger_entry=recorded.index)

        return self._ledger.transact(unit)

    def disable(self, peer_id: str, *, by: str, reason: str) -> StoredPeer:
        """Take nothing more from a peer, and send it nothing.

        Raises:
            ResourceNotFoundError: there is no such peer.
            ValidationError, LedgerUnavailable: as :meth:`put`.
        """
        return self._change(peer_id, by, reason, status=PeerStatus.DISABLED)

    def enable(self, peer_id: str, *, by: str, reason: str = "") -> StoredPeer:
        """Let a peer that was disabled, or gone, be active again. Raises as :meth:`disable`."""
        return self._change(peer_id, by, reason, status=PeerStatus.ACTIVE)

    def mark_gone(self, peer_id: str, *, by: str, reason: str) -> StoredPeer:
        """Send nothing more to a peer that wants nothing. A disabled one stays disabled. Raises as :meth:`disable`."""
        found = self.require(peer_id)
        status = found.status if found.status is PeerStatus.DISABLED else PeerStatus.GONE
        return self._change(peer_id, by, reason, status=status)

    def trust(self, peer_id: str, key: PeerKey, *, by: str, reason: str = "") -> StoredPeer:
        """Trust a further key of a peer, or change when one counts that it has.

        Raises:
            ResourceNotFoundError, LedgerUnavailable: as :meth:`disable`.
            ValidationError: as :meth:`put`, or the peer has ``MAX_KEYS`` others.
        """
        others = tuple(one for one in self.require(peer_id).keys if one.keyid != key.keyid)
        if len(others) >= MAX_KEYS:
            raise ValidationError(
                f"{peer_id} has {len(others)} keys, and no more fit", remedy="distrust those that it uses no more"
            )
        return self._change(peer_id, by, reason, keys=(*others, key))

    def distrust(self, peer_id: str, keyid: str, *, by: str, reason: str) -> StoredPeer:
        """Trust a key of a peer no more, from now on.

        Raises:
            ResourceNotFoundError: there is no such peer, or it has no such key.
            ValidationError, LedgerUnavailable: as :meth:`put`.
        """
        peer = self.require(peer_id)
        if peer.key(keyid) is None:
            raise ResourceNotFoundError(f"{peer_id} has no key {keyid}", remedy="`coafi peers show` shows its keys")
        return self._change(peer_id, by, reason, keys=tuple(one for one in peer.keys if one.keyid != keyid))

    def _change(self, peer_id: str, by: str, reason: str, **changes: object) -> StoredPeer:
        return self.put(self.require(peer_id).model_copy(update=changes), by=by, reason=reason)

    def _draft(self, peer: Peer, version: int, before: StoredPeer | None, by: str, reason: str) -> Draft:
        digest = digest_of(peer.model_dump(mode="json"))
        said: JsonObject = {
            "peer": peer.model_dump(mode="json", exclude_none=True),
            "version": version,
            "by": by,
            "reason": reason,
        }
        if before is not None:
            said["previousEntry"] = before.ledger_entry
        return Draft(
            namespace=self._namespace,
            workflow_id=PEER_CHANGES,
            step=f"{peer.id}/{version}/{digest}",
            type=EntryType.PEER_CHANGED,
            event_id=PEER_CHANGES,
            utids="",
            inputs={"peer": digest},
            data=said,
        )


def find_peer(connection: Connection, peer_id: str) -> StoredPeer | None:
    """The peer with this id, within the caller's transaction."""
    row = connection.execute(select(peer_table).where(peer_table.c.id == peer_id)).one_or_none()
    if row is None:
        return None
    keys = connection.execute(select(peer_key).where(peer_key.c.peer == peer_id).order_by(peer_key.c.keyid))
    return _stored(row, [_key(one) for one in keys])


def new_peer(**values: object) -> Peer:
    """A peer from what a person gave.

    Raises:
        ValidationError: something of it is not right; the message names what.
    """
    try:
        return Peer.model_validate(values)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError("; ".join(problems), remedy="see docs/federation.md") from None


def _matches(patterns: tuple[str, ...], message_type: str, subject: str) -> bool:
    return any(fnmatchcase(f"{message_type}:{subject}" if ":" in one else message_type, one) for one in patterns)


def _refuse_shared_keys(connection: Connection, peer: Peer) -> None:
    ids = [one.keyid for one in peer.keys]
    if len(set(ids)) != len(ids):
        raise ValidationError(f"a key of {peer.id} is there twice", remedy="give each key once")
    query = select(peer_key.c.keyid, peer_key.c.peer).where(peer_key.c.keyid.in_(ids), peer_key.c.peer != peer.id)
    shared = connection.execute(query).first()
    if shared is not None:
        raise IdempotencyConflict(
            f"the key {shared.keyid} is that of the peer {shared.peer}",
            remedy="every peer has keys of its own: nobody could tell who sent what",
        )


def _write(connection: Connection, peer: Peer, version: int, changed: str, entry: int) -> None:
    row = {
        "id": peer.id,
        "status": peer.status.value,
        "url": peer.url,
        "accepts": json.dumps(peer.accepts),
        "subscription": json.dumps(peer.subscription),
        "restricted": json.dumps(peer.restricted),
        "ledger_key": peer.ledger_key or "",
        "witness_key": peer.witness_key or "",
        "version": version,
        "changed": changed,
        "ledger_entry": entry,
    }
    insert_or_replace(connection, peer_table, [row])
    connection.execute(delete(peer_key).where(peer_key.c.peer == peer.id))
    if peer.keys:
        connection.execute(insert(peer_key), [_key_row(peer.id, one) for one in peer.keys])


def _key_row(peer_id: str, key: PeerKey) -> dict[str, str | None]:
    written = key.model_dump(mode="json")
    return {"keyid": key.keyid, "peer": peer_id, **written}


def _key(row: Row[tuple[object, ...]]) -> PeerKey:
    return PeerKey.model_validate({name: getattr(row, name) for name in PeerKey.model_fields})


def _stored(row: Row[tuple[object, ...]], keys: list[PeerKey]) -> StoredPeer:
    values = row._mapping
    peer = Peer(
        id=values["id"],
        url=values["url"],
        keys=tuple(keys),
        accepts=json.loads(values["accepts"]),
        subscription=json.loads(values["subscription"]),
        restricted=json.loads(values["restricted"]),
        ledger_key=values["ledger_key"] or None,
        witness_key=values["witness_key"] or None,
        status=values["status"],
    )
    return StoredPeer(
        peer=peer, version=values["version"], changed=values["changed"], ledger_entry=values["ledger_entry"]
    )
