"""Peers that talk to a gateway, as another implementation would: HTTP and keys, and nothing else of ours."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from coafi.canonical import JsonObject, digest_of
from coafi.federation.keys import FederationSigner
from coafi.federation.messages import Message, RegistryEntryChanged, SystemUpdateNotification, new_message
from coafi.federation.peers import Peer, PeerStore
from coafi.federation.signatures import sign_request
from coafi.utids import entry_utids
from tests.coafi.federation.making import peer_of, signer
from tests.harness import Stack, until


@dataclass(frozen=True)
class Partner:
    """A peer of a running service.

    Attributes:
        key: what it signs with.
        stack: the service.
    """

    key: FederationSigner
    stack: Stack

    async def send(self, message: Message, **changes: Any) -> httpx.Response:
        """Send a message, signed anew."""
        return await self.post(message.headers(), message.body, **changes)

    async def post(self, headers: dict[str, str], body: bytes, **changes: Any) -> httpx.Response:
        """Send any event, signed."""
        url = f"{self.stack.gateway}/federation/inbox"
        return await self.raw(sign_request(self.key, "POST", url, headers, body, **changes), body)

    async def raw(self, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Send any bytes."""
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.post(f"{self.stack.gateway}/federation/inbox", content=body, headers=headers)

    async def receipt(self, message_id: str) -> httpx.Response:
        """Ask for a receipt."""
        url = f"{self.stack.gateway}/federation/messages/{message_id}"
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.get(url, headers=sign_request(self.key, "GET", url, {}, None))

    async def concluded(self, message_id: str, *, seconds: float = 60) -> httpx.Response:
        """The receipt of a message, once there is one."""
        answers: list[httpx.Response] = []

        async def there() -> bool:
            answers.append(await self.receipt(message_id))
            return answers[-1].status_code == 200

        await until(there, seconds=seconds)
        return answers[-1]


def partner(stack: Stack, name: str = "a.example", seed: int = 1, **changes: Any) -> Partner:
    """A peer that is known to the service."""
    made = Partner(signer(name, seed), stack)
    know(stack, peer_of(made.key, **changes))
    return made


def know(stack: Stack, peer: Peer) -> None:
    """Let the service know a peer."""
    store(stack).put(peer, by="test")


def store(stack: Stack) -> PeerStore:
    """The peers of a service."""
    return PeerStore(stack.resources.database, stack.resources.ledger, stack.settings.ledger_namespace)


def update(message_id: str, *, peer: str = "a.example", **changes: Any) -> Message:
    """A message that a system changes."""
    said = SystemUpdateNotification(component="portal", version="2", summary="Two hours off.", **changes)
    return new_message(peer, message_id, said, subject="portal")


def entry(message_id: str, version: int, data: JsonObject | None = None, *, peer: str = "a.example") -> Message:
    """A message that an entry changed."""
    data = {"span": version} if data is None else data
    said = RegistryEntryChanged(
        registry_id="AERO",
        entry_id="wing-12",
        version=version,
        status="Review",
        entry_class="Core",
        digest=digest_of(data),
        utids=entry_utids("AERO", "wing-12"),
        data=data,
    )
    return new_message(peer, message_id, said, subject="AERO/wing-12")


def problem_of(response: httpx.Response) -> str:
    """The last word of a problem's type."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return str(json.loads(response.text)["type"]).rpartition(":")[2]
