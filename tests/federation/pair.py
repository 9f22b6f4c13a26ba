"""Two complete instances on one machine, each with its own Temporal, database, keys and ports. They know each other."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coafi.canonical import JsonObject
from coafi.federation.inbox import PeerObject, PeerObjects
from coafi.federation.keys import FederationKey
from coafi.federation.messages import MessageType
from coafi.federation.outbox import Outbox
from coafi.federation.peers import Peer, PeerStore
from coafi.ledger.entry import Recorded
from coafi.names import EntryType
from starters.listener import running_listener
from tests.federation.partner import notice
from tests.harness import Stack, running_stack, until
from tests.starters.support import command
from workers.wiring import build_outbox


@dataclass
class Side:
    """One of two instances.

    Attributes:
        stack: the instance.
        other: id of the other one.
    """

    stack: Stack
    other: str

    @property
    def id(self) -> str:
        """What the other one knows it by."""
        return self.stack.settings.federation_peer

    @property
    def store(self) -> PeerStore:
        """The peers that it knows."""
        return PeerStore(
            self.stack.resources.database, self.stack.resources.ledger, self.stack.settings.ledger_namespace
        )

    @property
    def outbox(self) -> Outbox:
        """What it tells."""
        return build_outbox(self.stack.resources, self.stack.gateway)

    def as_peer(self, **changes: Any) -> Peer:
        """What the other one gets to know of it."""
        key = FederationKey(self.stack.settings.federation_key_path, self.id).current()
        values: dict[str, Any] = {
            "id": self.id,
            "url": self.stack.gateway,
            "keys": (key.public,),
            "accepts": ("*",),
            "subscription": ("RegistryEntryChanged", "DocumentPublished", "ComplianceFailure"),
            "restricted": (),
            "ledger_key": str(self.stack.resources.ledger.key),
            **changes,
        }
        return Peer(**values)

    def send(self, number: int, **changes: Any) -> Recorded:
        """Queue a message for the other one."""
        payload: JsonObject = {**notice(number), **changes}
        return self.outbox.queue(self.other, MessageType.SYSTEM_UPDATE, payload, by="ada")

    def told(self) -> tuple[PeerObject, ...]:
        """What it knows of the other one's entries and documents."""
        return PeerObjects(self.stack.resources.database).of(self.other)

    def applied(self) -> list[str]:
        """Ids of the messages of the other one that had their effect here, in order."""
        return [one.entry.event_id for one in self.stack.entries(EntryType.PEER_MESSAGE_APPLIED)]

    def delivered(self) -> list[JsonObject]:
        """What is on record about deliveries to the other one."""
        return [one.entry.data for one in self.stack.entries(EntryType.MESSAGE_DELIVERED)]

    async def coafi(self, *arguments: str) -> Any:
        """What a command says with ``--json``; it must succeed."""
        settings = self.stack.settings
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COAFI_")},
            "COAFI_HOME": str(settings.home),
            "COAFI_TEMPORAL_ADDRESS": self.stack.server.address,
            "COAFI_FEDERATION_ID": self.id,
            "COAFI_LEDGER_ORIGIN": settings.ledger_origin,
            "COAFI_LOG_FORMAT": "json",
        }
        done = await asyncio.to_thread(command, (*arguments, "--json"), environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ids(self, *queued: Recorded) -> list[str]:
        """Ids of the messages that were made of entries here."""
        return [f"{self.outbox.projection.prefix}:{one.index}" for one in queued]


@dataclass
class Pair:
    """Two instances that know each other."""

    a: Side
    b: Side


@asynccontextmanager
async def running_pair(home: Path, **changes: Any) -> AsyncIterator[Pair]:
    """Two instances, which follow their ledgers and tell each other."""
    async with AsyncExitStack() as stack:
        sides = []
        for name, other in (("a.example", "b.example"), ("b.example", "a.example")):
            running = await stack.enter_async_context(
                running_stack(
                    home / name,
                    federation_id=name,
                    ledger_origin=f"{name}/bitt",
                    index_debounce=0.1,
                    **changes,
                )
            )
            await stack.enter_async_context(running_listener(running.client, running.resources))
            sides.append(Side(running, other))
        a, b = sides
        a.store.put(b.as_peer(), by="ada")
        b.store.put(a.as_peer(), by="bob")
        yield Pair(a, b)


async def confirmed(side: Side, *queued: Recorded) -> list[JsonObject]:
    """Wait until deliveries of these are on record; what is said of them, in their order."""
    wanted = side.ids(*queued)

    def known() -> dict[str, JsonObject]:
        return {str(one["message"]): one for one in side.delivered()}

    await until(lambda: set(wanted) <= set(known()))
    found = known()
    return [found[one] for one in wanted]
