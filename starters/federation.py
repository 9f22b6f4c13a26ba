"""``/federation/…``: what peers send, and the receipts that they fetch. The protocol is written in docs/federation.md.

A message is answered ``202`` once the run of its peer has it. Who is not known, or does not sign by the profile, leaves
no trace but a metric.
"""

import asyncio
import io
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from activities.dispatch import reused_delivery
from activities.peers import PeerGate
from coafi import metrics
from coafi.canonical import sha256
from coafi.cloudevents import UnsupportedMediaType
from coafi.deliveries import Delivery, DeliveryReader
from coafi.errors import CoafiError, IdempotencyConflict, Refused, Unavailable
from coafi.federation.messages import MAX_MESSAGE, Message, TooLarge, parse_message
from coafi.federation.peers import PeerStore
from coafi.federation.signatures import Nonces, SignatureRefused, Verified, verify_request, wanted_signature
from coafi.ledger.log import Ledger as OwnLedger
from coafi.ledger.port import Ledger
from coafi.names import peer_source
from coafi.objects import ObjectStore
from coafi.receipts.layout import MEDIA_TYPE
from coafi.receipts.make import write_receipt
from starters.answers import BodyTooLarge, BodyTooSlow, problem, read_body
from starters.rates import Rates, whole_seconds

log = structlog.stdlib.get_logger()

INBOX = "/federation/inbox"
MESSAGES = "/federation/messages/"
PROBLEM = "urn:coafi:problem:federation:"
"""What the ``type`` of a problem begins with; a :class:`Reason`, or another word of docs/federation.md, follows."""

SOON = 2.0
"""Seconds after which a peer may ask again for the receipt of a message that is not concluded."""

RETRY_AFTER = 30.0


class TooMany(Refused):
    """The peer sends more than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__("you send more than you may", remedy="wait, and send what is left then")
        self.seconds = seconds


@dataclass(frozen=True)
class FederationApi:
    """The routes for peers.

    Attributes:
        base: base URL at which peers reach this gateway: what they must have signed for.
        peers, nonces: who they are, and which of their signatures were taken.
        gate: hands messages on.
        rates: how often each peer may ask.
        namespace: of our entries in the ledger.
    """

    base: str
    peers: PeerStore
    nonces: Nonces
    gate: PeerGate
    deliveries: DeliveryReader
    objects: ObjectStore
    ledger: Ledger
    namespace: str
    rates: Rates
    body_timeout: float = 30.0

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route(INBOX, self.inbox, methods=["POST"]),
            Route(MESSAGES + "{message_id}", self.receipt, methods=["GET"]),
        ]

    async def inbox(self, request: Request) -> Response:
        """``POST /federation/inbox``: a message."""
        try:
            return await self._inbox(request)
        except ClientDisconnect:
            return problem(400, "client left before its body was read")
        except CoafiError as error:
            return _refusal(error, has_body=True)

    async def receipt(self, request: Request) -> Response:
        """``GET /federation/messages/{id}``: the receipt of a message that whoever asks has sent."""
        try:
            return await self._receipt(request)
        except ClientDisconnect:
            return problem(400, "client left before its body was read")
        except CoafiError as error:
            return _refusal(error, has_body=False)

    async def _inbox(self, request: Request) -> Response:
        body = await read_body(request, MAX_MESSAGE, self.body_timeout, remedy="send its digest, and where it is")
        verified = await asyncio.to_thread(self._verified, request, body)
        message = parse_message(_lines(request), body)
        digest = sha256(body)
        await asyncio.to_thread(self._refuse_reuse, verified.peer.id, message, digest)
        workflow_id = await self._taken_once(verified, message, body)
        log.info("message accepted", peer=verified.peer.id, event_id=message.id, workflow_id=workflow_id)
        return JSONResponse(
            {"status": "accepted", "workflowId": workflow_id}, 202, headers={"Location": MESSAGES + message.id}
        )

    async def _taken_once(self, verified: Verified, message: Message, body: bytes) -> str:
        """Use the nonce up, and hand the message on; when that fails, the same request may come again."""
        await asyncio.to_thread(self.nonces.take, verified)
        try:
            await asyncio.to_thread(self.objects.put, body)
            return await self.gate.deliver(
                verified.peer.id,
                message,
                keyid=verified.key.keyid,
                body_digest=sha256(body),
                received=datetime.now(UTC),
            )
        except BaseException:
            try:
                await asyncio.shield(asyncio.to_thread(self.nonces.give_back, verified))
            except CoafiError as error:
                log.warning("nonce not given back", peer=verified.peer.id, reason=str(error))
            raise

    async def _receipt(self, request: Request) -> Response:
        body = await read_body(request, 0, self.body_timeout, remedy="send none")
        verified = await asyncio.to_thread(self._verified, request, body)
        await asyncio.to_thread(self.nonces.take, verified)
        message_id = request.path_params["message_id"]
        peer = verified.peer.id
        delivery = await asyncio.to_thread(self.deliveries.get, peer_source(peer), message_id)
        if delivery is None:
            if await self.gate.knows(peer, message_id):
                return _not_yet(message_id, "WAITING")
            return problem(404, "no such message of yours is known here: send it again", type_=PROBLEM + "unknown")
        if delivery.outcome is None:
            return _not_yet(message_id, "RECEIVED")
        if not isinstance(self.ledger, OwnLedger):
            return problem(
                501, "the ledger of this instance is kept elsewhere, and so is its key", type_=PROBLEM + "no-receipts"
            )
        receipt = await asyncio.to_thread(self._written, self.ledger, delivery)
        return Response(receipt, media_type=MEDIA_TYPE, headers={"Coafi-Phase": delivery.outcome})

    def _verified(self, request: Request, body: bytes) -> Verified:
        """Whose request it is, if that one may ask now."""
        raw = request.scope.get("raw_path") or request.url.path.encode()
        query = request.scope["query_string"]
        url = self.base + raw.decode("ascii", "replace") + (f"?{query.decode('ascii', 'replace')}" if query else "")
        verified = verify_request(request.method, url, _lines(request), body, self.peers.by_key)
        seconds = self.rates.take(verified.peer.id)  # only now: nobody else can use a peer's requests up
        if seconds:
            raise TooMany(seconds)
        return verified

    def _refuse_reuse(self, peer: str, message: Message, digest: str) -> None:
        """Refuse another body under the id of a message that was claimed. What is missed here the run finds."""
        known = self.deliveries.get(peer_source(peer), message.id)
        if known is not None and known.body_digest != digest:
            raise reused_delivery(message.id, known.workflow_id)

    def _written(self, ledger: OwnLedger, delivery: Delivery) -> bytes:
        entries = [
            one
            for one in ledger.by_event(delivery.delivery_id)
            if (one.entry.namespace, one.entry.workflow_id) == (self.namespace, delivery.workflow_id)
        ]
        file = io.BytesIO()
        write_receipt(ledger, entries, file)
        return file.getvalue()


def _lines(request: Request) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]


def _not_yet(message_id: str, phase: str) -> Response:
    return JSONResponse(
        {"status": "not concluded", "messageId": message_id, "phase": phase},
        202,
        headers={"Retry-After": str(whole_seconds(SOON))},
    )


def _refusal(error: CoafiError, *, has_body: bool) -> Response:
    """The answer to what starts nothing."""
    status, word, headers = 400, "malformed", {}
    retry_after = None
    match error:
        case SignatureRefused():
            status, word = error.reason.status, error.reason.value
            if status == 401:
                headers = {"WWW-Authenticate": "Signature", "Accept-Signature": wanted_signature(has_body=has_body)}
        case TooMany():
            status, word, retry_after = 429, "too-many-requests", error.seconds
        case BodyTooSlow():
            status, word = 408, "too-slow"
        case BodyTooLarge() | TooLarge():
            status, word = 413, "too-large"
        case UnsupportedMediaType():
            status, word = 415, "media-type"
        case IdempotencyConflict():
            status, word = 409, "other-body"
        case Refused():
            pass
        case Unavailable():
            status, word, retry_after = 503, "unavailable", error.retry_after or RETRY_AFTER
        case _:
            status, word = 500, "defect"
    metrics.PEER_REFUSED.labels(word, status).inc()
    log.warning("request of a peer refused", status=status, reason=str(error))
    return problem(
        status,
        str(error) if status != 500 else "this is a defect of the service; its log says more",
        type_=PROBLEM + word,
        headers=headers,
        retry_after=None if retry_after is None else whole_seconds(retry_after),
    )
