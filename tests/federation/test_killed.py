"""Either side of an exchange is killed, again and again: every message has its effect once, and is on record."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from coafi.federation.keys import FederationKey
from coafi.federation.messages import MessageType
from coafi.federation.peers import Peer, PeerStore
from coafi.ledger.verifier import verify_log
from coafi.names import EntryType
from coafi.settings import Settings
from starters.embedded import listening_socket
from tests.federation.partner import notice
from tests.harness import until
from tests.starters.support import Home, Up
from workers.resources import Resources, open_resources
from workers.wiring import build_outbox

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

MESSAGES = 60
KILLS = 6


class Instance:
    """One of the two, as a process that may die."""

    def __init__(self, root: Path, name: str) -> None:
        root.mkdir()
        self.name = name
        self.home = Home(root)
        with listening_socket("127.0.0.1", 0) as free:
            self.port = free.getsockname()[1]
        self.environment = {
            "COAFI_FEDERATION_ID": name,
            "COAFI_LEDGER_ORIGIN": f"{name}/bitt",
            "COAFI_GATEWAY_PORT": str(self.port),
        }
        self.settings = Settings(home=self.home.path, federation_id=name, ledger_origin=f"{name}/bitt")
        self.running = AsyncExitStack()
        self.up: Up | None = None

    async def start(self) -> None:
        """Start the service, at the address that its peer knows."""
        self.up = await self.running.enter_async_context(self.home.up(**self.environment))

    async def kill(self) -> None:
        """Kill it, its Temporal server included."""
        assert self.up is not None
        children = self.up.children()
        self.up.process.send_signal(signal.SIGKILL)
        await self.up.end()
        await until(lambda: not any(one.is_running() and one.status() != "zombie" for one in children))

    @contextmanager
    def opened(self) -> Iterator[Resources]:
        """Its database and ledger, beside the service."""
        with open_resources(self.settings) as resources:
            yield resources

    def entries(self, entry_type: EntryType) -> list[dict[str, object]]:
        """What is on record, of a type."""
        with self.opened() as resources:
            found = resources.ledger.entries(0, resources.ledger.size())
            return [{**one.entry.data, "event": one.entry.event_id} for one in found if one.entry.type == entry_type]

    def introduce(self) -> Peer:
        """What the other one gets to know."""
        with self.opened() as resources:
            key = FederationKey(self.settings.federation_key_path, self.name).current().public
            vkey = str(resources.ledger.key)
        return Peer(id=self.name, url=f"http://127.0.0.1:{self.port}", keys=(key,), accepts=("*",), ledger_key=vkey)

    def trust(self, peer: Peer) -> None:
        """Know the other one."""
        with self.opened() as resources:
            PeerStore(resources.database, resources.ledger, self.settings.ledger_namespace).put(peer, by="ada")

    def queue(self, numbers: range, peer: str) -> list[str]:
        """Queue messages; their ids."""
        with self.opened() as resources:
            outbox = build_outbox(resources)
            return [
                f"{outbox.projection.prefix}:"
                f"{outbox.queue(peer, MessageType.SYSTEM_UPDATE, notice(number), by='ada').index}"
                for number in numbers
            ]

    def verify(self) -> None:
        """Verify the whole ledger."""
        with self.opened() as resources:
            ledger = resources.ledger
            checkpoint = ledger.checkpoint(force=True)
            verify_log(ledger.bodies(), checkpoint.note, ledger.keys, stored_tiles=ledger.tiles())


async def test_every_message_has_its_effect_once_whoever_is_killed(tmp_path: Path) -> None:
    a, b = Instance(tmp_path / "a", "a.example"), Instance(tmp_path / "b", "b.example")
    chance = random.Random(6)
    async with AsyncExitStack() as stack:
        for one in (a, b):
            stack.push_async_callback(one.running.aclose)
            await one.start()
        a.trust(b.introduce())
        b.trust(a.introduce())
        expected: list[str] = []
        for kill in range(KILLS):
            first = kill * MESSAGES // KILLS
            expected += a.queue(range(first, first + MESSAGES // KILLS), "b.example")
            await asyncio.sleep(chance.uniform(0.1, 2.5))
            victim = chance.choice((a, b))
            await victim.kill()
            await victim.start()

        def all_on_record() -> bool:
            return {str(one["message"]) for one in a.entries(EntryType.MESSAGE_DELIVERED)} >= set(expected)

        await until(all_on_record, seconds=240)
        delivered = a.entries(EntryType.MESSAGE_DELIVERED)
        applied = Counter(str(one["event"]) for one in b.entries(EntryType.PEER_MESSAGE_APPLIED))
        assert Counter(str(one["message"]) for one in delivered) == Counter(expected)
        assert applied == Counter(expected)
        assert {one["outcome"] for one in delivered} == {"accepted"}
        a.verify()
        b.verify()
