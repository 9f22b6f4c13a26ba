"""Peers, keys and signed requests for tests."""

from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coafi.federation.keys import FederationSigner, PeerKey
from coafi.federation.peers import Peer
from coafi.federation.signatures import sign_request
from coafi.ledger.keys import Signer

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
URL = "https://b.example/federation/inbox"


def signer(peer: str = "a.example", seed: int = 1) -> FederationSigner:
    """A key that is the same in every run."""
    return FederationSigner(Signer(peer, bytes([seed]) * 32))


def peer_of(key: FederationSigner, **changes: Any) -> Peer:
    """The peer that signs with ``key``."""
    values: dict[str, Any] = {
        "id": key.peer,
        "url": f"https://{key.peer}",
        "keys": (key.public,),
        "accepts": ("*",),
        **changes,
    }
    return Peer(**values)


def known(*peers: Peer) -> Any:
    """Finds peers by their keys."""
    return {key.keyid: peer for peer in peers for key in peer.keys}.get


def other_key(seed: int = 9) -> PeerKey:
    """A public key of somebody else."""
    return PeerKey.of(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key())


def signed(key: FederationSigner, body: bytes | None = b"{}", *, url: str = URL, **changes: Any) -> dict[str, str]:
    """The headers of a signed request."""
    headers = {} if body is None else {"Content-Type": "application/json", "ce-id": "m-1", "ce-specversion": "1.0"}
    headers |= changes.pop("headers", {})
    method = changes.pop("method", "GET" if body is None else "POST")
    return sign_request(key, method, url, headers, body, **{"now": NOW, "nonce": "n" * 22, **changes})
