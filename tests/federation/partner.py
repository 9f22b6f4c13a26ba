"""A peer's server that answers as a test says, and the outbox of a running service that talks to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from temporalio.client import WorkflowHandle

from activities.outbox import OutboxWaker
from coafi.canonical import JsonObject
from coafi.federation.keys import FederationKey
from coafi.federation.messages import Message, MessageType, parse_message
from coafi.federation.outbox import Outbox
from coafi.federation.peers import Peer, PeerStore
from coafi.federation.signatures import SignatureRefused, verify_request
from coafi.ledger.entry import Recorded
from coafi.names import EntryType, outbox_workflow_id
from tests.harness import Stack, until
from workers.wiring import build_outbox
from workflows.peer_outbox import OutboxStanding, PeerOutboxWorkflow

Answer = tuple[int, dict[str, str]]


@dataclass
class Partner:
    """A peer's server.

    Attributes:
        answers: status and headers of the answers to messages, in turn; the last one stays.
        receipts: the same for questions after receipts.
        seen: every message that came, when, and what was answered.
        asked: the paths of questions.
        sender: who may sign.
        delay: seconds before each answer.
    """

    answers: list[Answer] = field(default_factory=lambda: [(202, {})])
    receipts: list[Answer] = field(default_factory=lambda: [(202, {})])
    port: int = 0
    seen: list[tuple[float, Message, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    sender: Peer | None = None
    delay: float = 0.0

    @property
    def url(self) -> str:
        """Base URL of its gateway."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def taken(self) -> list[str]:
        """Ids of the messages that it has taken, in order; a repetition counts again."""
        return [message.id for _, message, status in self.seen if 200 <= status < 300]


@contextmanager
def partner(port: int = 0) -> Iterator[Partner]:
    """Run a peer's server, on a free port or a given one."""
    state = Partner()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lines = [(name.lower(), value) for name, value in self.headers.items()]
            status, headers = state.answers[min(len(state.seen), len(state.answers) - 1)]
            if state.sender is not None:
                try:
                    verify_request(
                        "POST", state.url + self.path, lines, body, lambda keyid: _owner(state.sender, keyid)
                    )
                except SignatureRefused as refused:
                    status, headers = refused.reason.status, {}
            time.sleep(state.delay)
            state.seen.append((time.monotonic(), parse_message(lines, body), status))
            self.answer(status, headers)

        def do_GET(self) -> None:
            status, headers = state.receipts[min(len(state.asked), len(state.receipts) - 1)]
            state.asked.append(self.path)
            self.answer(status, headers)

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _owner(peer: Peer | None, keyid: str) -> Peer | None:
    return peer if peer is not None and peer.key(keyid) is not None else None


@dataclass
class Told:
    """A running service that has one peer, and what the peer gets."""

    stack: Stack
    peer: Peer
    outbox: Outbox
    waker: OutboxWaker

    @property
    def run(self) -> WorkflowHandle[PeerOutboxWorkflow, OutboxStanding]:
        """The run of the outbox."""
        return self.stack.client.get_workflow_handle_for(PeerOutboxWorkflow.run, outbox_workflow_id(self.peer.id))

    async def state(self) -> OutboxStanding:
        """Where the outbox stands."""
        return await self.run.query(PeerOutboxWorkflow.state)

    async def wake(self) -> None:
        """Do what whoever follows the ledger does about everything in it."""
        await self.waker.take(self.stack.entries())

    def queue(self, number: int) -> Recorded:
        """Something new to tell the peer."""
        return self.outbox.queue(self.peer.id, MessageType.SYSTEM_UPDATE, notice(number), by="ada")

    def delivered(self) -> list[JsonObject]:
        """What is on record about deliveries to the peer, in order."""
        found = self.stack.entries(EntryType.MESSAGE_DELIVERED)
        return [one.entry.data for one in found if one.entry.data["peer"] == self.peer.id]

    def ids(self, *queued: Recorded) -> list[str]:
        """The ids of the messages that were made of entries."""
        return [f"{self.outbox.projection.prefix}:{one.index}" for one in queued]


def told(stack: Stack, url: str, name: str, **changes: Any) -> Told:
    """A peer of this name and address, whom ``stack`` tells what it subscribes to."""
    outbox = build_outbox(stack.resources, stack.gateway)
    store = PeerStore(stack.resources.database, stack.resources.ledger, stack.settings.ledger_namespace)
    peer = store.put(Peer(id=name, url=url, **changes), by="ada").peer
    return Told(stack, peer, outbox, OutboxWaker(stack.client, outbox))


def sender_of(stack: Stack) -> Peer:
    """This service as its peers know it."""
    key = FederationKey(stack.settings.federation_key_path, stack.settings.federation_peer).current()
    return Peer(id=stack.settings.federation_peer, url=stack.gateway, keys=(key.public,), accepts=("*",))


def notice(number: int) -> JsonObject:
    """What a person may want to tell."""
    return {"component": "registry", "version": f"1.{number}.0", "summary": f"Release {number}"}


async def settled(one: Told, count: int) -> None:
    """Wait until so many deliveries are on record."""
    await until(lambda: len(one.delivered()) >= count)
