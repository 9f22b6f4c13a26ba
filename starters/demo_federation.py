"""``coafi demo-federation``: two organisations tell each other what happens, and every claim about it is checked.

Both are complete instances: each has a home, a Temporal server, a database, keys and ports of its own, and nothing
passes between them but signed HTTP requests.
"""

import asyncio
import contextlib
import io
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coafi.artifacts.model import ArtifactKind
from coafi.auth.apikeys import ApiKeyFile
from coafi.canonical import JsonObject
from coafi.errors import IntegrityError, Unavailable
from coafi.federation.delivery import INBOX, peer_client
from coafi.federation.inbox import PeerObject, PeerObjects
from coafi.federation.keys import FederationKey
from coafi.federation.messages import Message, MessageType
from coafi.federation.outbox import DeliveryOutcome
from coafi.federation.peers import Peer, PeerStore
from coafi.federation.signatures import sign_request
from coafi.ledger.entry import Recorded
from coafi.ledger.keys import VerifierKey
from coafi.ledger.verifier import verify_inclusion, verify_log
from coafi.logs import configure_logging
from coafi.names import EntryType, Phase
from coafi.receipts.verify import verify_receipt
from coafi.settings import Settings, load_settings
from starters.addresses import run_url
from starters.demo import commit_sample, deliver_push, follow_run
from starters.embedded import ServiceAddress
from starters.output import err, facts, out, print_link, safe, styled, table
from starters.service import embedded_service
from workers.client import connect
from workers.resources import Resources, open_resources
from workers.wiring import build_outbox
from workflows.lifecycle import Receipt

SECONDS = 90
"""What has not come over after this long will not come."""

ENTRY = "wing-12"
"""The entry of B's registry that A gets to know."""

T = TypeVar("T")


@dataclass(frozen=True)
class Organisation:
    """One of the two.

    Attributes:
        settings: of its home.
        address: where its service is.
        resources: its database, ledger and objects, as another process on its machine would open them.
    """

    settings: Settings
    address: ServiceAddress
    resources: Resources

    @property
    def id(self) -> str:
        """What it calls itself."""
        return self.settings.federation_peer

    @property
    def vkey(self) -> str:
        """The public key of its ledger."""
        return str(self.resources.ledger.key)

    @property
    def key(self) -> FederationKey:
        """What it signs its requests with."""
        return FederationKey(self.settings.federation_key_path, self.id)

    def introduce(self) -> Peer:
        """What its partner is told of it, on another way than through the service."""
        return Peer(
            id=self.id,
            url=self.address.gateway,
            keys=(self.key.current().public,),
            accepts=("*",),
            subscription=tuple(MessageType),
            restricted=(),
            ledger_key=self.vkey,
        )

    def trust(self, peer: Peer) -> None:
        """Let the other one be a peer, from now on as it is."""
        PeerStore(self.resources.database, self.resources.ledger, self.settings.ledger_namespace).put(peer, by="demo")

    def entries(self, entry_type: EntryType) -> list[Recorded]:
        """Its ledger's entries of a type."""
        ledger = self.resources.ledger
        return [one for one in ledger.entries(0, ledger.size()) if one.entry.type == entry_type]

    def told(self, peer: str) -> dict[tuple[str, str], PeerObject]:
        """What it knows of a peer's entries and documents, by kind and id."""
        return {(one.kind, one.id): one for one in PeerObjects(self.resources.database).of(peer)}


def _version(a: Organisation, b: Organisation, version: object) -> PeerObject | None:
    """What A knows of B's entry, once that is this version: when the demo is run again, A knows one from before."""
    known = a.told(b.id).get(("registry", f"AERO/{ENTRY}"))
    return known if known is not None and known.version == version else None


async def run_demo() -> None:
    """Run the demonstration.

    Raises:
        CoafiError: something did not happen as it must; the exit code is 1.
    """
    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "error"}))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:

        def done(text: str) -> None:
            progress.console.print(f"[green]✓[/green] {text}", highlight=False, soft_wrap=True)

        task = progress.add_task("Starting two instances")
        async with AsyncExitStack() as stack:
            a, b = [await _start(settings, name, stack) for name in ("a", "b")]
            for one in (a, b):
                done(f"{one.id} runs: gateway {one.address.gateway}, Temporal {one.address.temporal}")
            a.trust(b.introduce())
            b.trust(a.introduce())
            done("Each knows the other's address, its key for requests and the key of its ledger")
            progress.update(task, description="Pushing documents at A")
            receipt = await _push(a, lambda text: progress.update(task, description=f"A: {text}"))
            pages = await asyncio.to_thread(_pages, a, receipt)
            progress.update(task, description="Waiting until B knows the documents")
            known = await _until(lambda: _documents(b, a, pages), "B does not know A's documents")
            done(f"A processed a push; B knows its {known} documents by their digests")
            entry = await _change_entry(b)
            found = await _until(lambda: _version(a, b, entry["version"]), "A does not know B's entry")
            _require(found.digest == entry["digest"], "A knows another entry")
            done(f"B changed AERO/{ENTRY} to version {found.version}; A knows it, with the same digest")
            progress.update(task, description="Waiting for receipts")
            for one, other in ((a, b), (b, a)):
                await _until(partial(_is_settled, one, other), f"{one.id} has no receipts")
                verified = await asyncio.to_thread(_verify_receipts, one, other)
                done(f"{one.id} verified {verified} receipts offline, with the key of {other.id}'s ledger")
            progress.update(task, description="Delivering a message twice")
            await _deliver_again(a, b)
            done("B was sent a message again: taken, and without a second effect")
            progress.update(task, description="Verifying both ledgers")
            sizes = [await asyncio.to_thread(_verify_ledger, one) for one in (a, b)]
            done(f"Proved every delivery, and verified both ledgers: {sizes[0]} and {sizes[1]} entries")
            _report(a, b, receipt)
        progress.remove_task(task)


async def _start(settings: Settings, name: str, stack: AsyncExitStack) -> Organisation:
    """Start an instance in a home of its own, or go on in the one that an earlier demonstration left."""
    own = settings.model_copy(
        update={
            "home": settings.home / "demo-federation" / name,
            "federation_id": f"{name}.example",
            "ledger_origin": f"{name}.example/bitt",
            "gateway_port": 0,
            "temporal_port": 0,
            "temporal_ui_port": 0,
            "index_debounce": 0.5,
            "github_webhook_secret": (),
        }
    )
    service = await stack.enter_async_context(embedded_service(own))
    resources = stack.enter_context(open_resources(own))
    return Organisation(own, service.address, resources)


async def _push(at: Organisation, show: Callable[[str], None]) -> Receipt:
    """Push a revision of the sample documents; the receipt of its run."""
    push = await asyncio.to_thread(commit_sample, at.settings.home / "demo" / "documents")
    workflow_id, run_id = await deliver_push(at.settings, at.address, push)
    client = await connect(at.settings, at.address.temporal)
    receipt = await follow_run(client.get_workflow_handle(workflow_id, run_id=run_id, result_type=Receipt), show)
    _require(receipt.phase is Phase.PROCESSED, f"the push ended {receipt.phase}")
    return receipt


def _pages(at: Organisation, receipt: Receipt) -> set[str]:
    """The digests of the pages that a push gave."""
    indices = {index for one in receipt.entries for index in range(one.first, one.last + 1)}
    made = [one for one in at.entries(EntryType.ARTIFACT_GENERATED) if one.index in indices]
    return {str(one.entry.data["digest"]) for one in made if one.entry.data["artifact"] == ArtifactKind.PAGE}


def _documents(at: Organisation, of: Organisation, pages: set[str]) -> int:
    """How many documents of another one are known, once all that have an id are; 0 before."""
    known = {one.digest for (kind, _), one in at.told(of.id).items() if kind == "document"}
    sent = {
        str(Message.model_validate_json(of.resources.objects.get(str(one.entry.data["sent"]))).data["digest"])
        for one in of.entries(EntryType.MESSAGE_DELIVERED)
        if one.entry.data["messageType"] == MessageType.DOCUMENT
    }
    of_this_push = sent & pages
    return len(of_this_push) if of_this_push and of_this_push <= known else 0


async def _change_entry(at: Organisation) -> JsonObject:
    """Make a new version of an entry through the API; the version."""
    name = f"demo-{uuid.uuid4().hex[:8]}"
    _, key = await asyncio.to_thread(lambda: ApiKeyFile(at.settings.api_keys_path).add(name, ("admin",), expires=None))
    asked = {"registryId": "AERO", "entryId": ENTRY, "data": {"name": "wing", "revision": name}}
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"}
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{at.address.gateway}/api/registry/update", json=asked, headers=headers)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.CREATED):
        raise Unavailable(f"the API answered {answer.status_code}: {answer.text}")
    changed: JsonObject = answer.json()
    return changed


def _is_settled(one: Organisation, other: Organisation) -> bool:
    """Whether all that there is for the other one is on record as delivered."""
    waiting = [found for found in build_outbox(one.resources).backlog() if found.peer.id == other.id]
    return all(found.ahead == 0 and found.counted for found in waiting)


def _verify_receipts(one: Organisation, other: Organisation) -> int:
    """Verify the receipt of every delivery with nothing but the file and the key of the other one's ledger."""
    deliveries = one.entries(EntryType.MESSAGE_DELIVERED)
    key = VerifierKey.parse(other.vkey)
    for recorded in deliveries:
        said = recorded.entry.data
        _require(said["outcome"] == DeliveryOutcome.ACCEPTED, f"{said['message']} was {said['outcome']}")
        verified = verify_receipt(io.BytesIO(one.resources.objects.get(str(said["receipt"]))), [key])
        _require(verified.story.event_id == said["message"], f"the receipt of {said['message']} is another's")
        _require(
            verified.story.conclusion is not None and verified.story.conclusion.index == said["peerEntry"],
            f"the receipt of {said['message']} proves another entry",
        )
    _require(bool(deliveries), f"{one.id} has delivered nothing")
    return len(deliveries)


async def _deliver_again(sender: Organisation, receiver: Organisation) -> None:
    """Send a message again that was delivered, signed anew, and see that it has no second effect."""
    said = sender.entries(EntryType.MESSAGE_DELIVERED)[0].entry.data
    message = Message.model_validate_json(sender.resources.objects.get(str(said["sent"])))
    url = f"{receiver.address.gateway}{INBOX}"
    headers = sign_request(sender.key.current(), "POST", url, message.headers(), message.body)
    async with peer_client(10) as http:
        answer = await http.post(url, content=message.body, headers=headers)
        _require(answer.status_code == httpx.codes.ACCEPTED, f"the duplicate was answered {answer.status_code}")
        refused = await http.post(url, content=message.body, headers=headers)
        _require(refused.status_code == httpx.codes.UNAUTHORIZED, f"a replay was answered {refused.status_code}")
    await asyncio.sleep(1)
    applied = [one.entry.event_id for one in receiver.entries(EntryType.PEER_MESSAGE_APPLIED)]
    _require(applied.count(message.id) == 1, "the duplicate had an effect")  # others may have come meanwhile


def _verify_ledger(one: Organisation) -> int:
    """Prove every delivery, and verify the whole ledger; its size."""
    ledger = one.resources.ledger
    for recorded in one.entries(EntryType.MESSAGE_DELIVERED):
        verify_inclusion(ledger.prove(recorded.index), ledger.keys)
    checkpoint = ledger.checkpoint(force=True)
    return verify_log(ledger.bodies(), checkpoint.note, ledger.keys, stored_tiles=ledger.tiles()).checkpoint.size


def _report(a: Organisation, b: Organisation, receipt: Receipt) -> None:
    """Print what was told to whom, and where it is proved."""
    rows = table("From", "To", "Message", "#Our entry", "Outcome", "#Their entry", "About")
    for one, other in ((a, b), (b, a)):
        for recorded in one.entries(EntryType.MESSAGE_DELIVERED):
            said = recorded.entry.data
            message = Message.model_validate_json(one.resources.objects.get(str(said["sent"])))
            rows.add_row(
                one.id,
                other.id,
                str(said["messageType"]),
                str(said["entry"]),
                styled("valid", str(said["outcome"])),
                str(said["peerEntry"]),
                safe((message.subject or "").rpartition("@")[2]),
            )
    out.print()
    out.print(rows)
    lines = facts()
    for one in (a, b):
        lines.add_row(f"Home of {one.id}", str(one.settings.home))
        lines.add_row("  key of its ledger", one.vkey)
    lines.add_row("To look around", "COAFI_HOME=<home> coafi peers backlog; coafi ledger tail; coafi up")
    out.print()
    out.print(lines)
    out.print("The run at A:")
    print_link(run_url(a.settings, receipt.workflow_id, None, ui=a.address.ui))


async def _until(look: Callable[[], T | None], problem: str) -> T:
    """What ``look`` finds, as soon as it finds something."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while True:
                if found := await asyncio.to_thread(look):
                    return found
                await asyncio.sleep(0.2)
    raise Unavailable(f"{problem} after {SECONDS} s", remedy="look at the runs outbox:… and peer:… in the Web UIs")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise IntegrityError(problem, remedy="this is a defect; the logs in the homes say more")
