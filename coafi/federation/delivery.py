"""One request to a peer: a message, or the question for a receipt. Whoever calls it decides whether to try again."""

import asyncio
import contextlib
import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import httpx
import structlog

from coafi import metrics
from coafi.canonical import sha256
from coafi.errors import CoafiError, IntegrityError, Unavailable, ValidationError
from coafi.federation.confirmation import OtherBody, confirm
from coafi.federation.keys import FederationKey
from coafi.federation.outbox import Confirmed, DeliveryOutcome, Outbox, Outgoing, OutgoingRef
from coafi.federation.peers import Peer, PeerStatus
from coafi.federation.signatures import sign_request
from coafi.names import peer_source
from coafi.notify.message import seconds_of

INBOX: Final = "/federation/inbox"
MESSAGES: Final = "/federation/messages/"

FIRST_RETRY = 1.0
BACKOFF_COEFFICIENT = 1.5
LONGEST_RETRY = 600.0
JITTER = 0.25
"""Seconds before the second try, the factor from each to the next, the most between two, and by which part that varies:
peers that were away at once are not to be tried at once."""

LONGEST_WAIT = 86_400.0
"""Seconds that a peer can make us wait with ``Retry-After``."""

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read at most."""

NEVER: Final = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431})
"""Statuses that say that this message, as it is, will never be taken. All others may change: a key can become known, an
address can be corrected. 409 is none: the message was taken earlier, with another body, and the receipt says which."""

_AWAY: Final = "no answer: "
"""How a problem begins after which nothing more is asked for."""

_OURS: Final = {"User-Agent": "coafi-event-handlers", "Accept-Encoding": "identity"}

log = structlog.stdlib.get_logger()


class PeerRefused(CoafiError):
    """The peer answers that the message is wrong. It may be mending itself, so a few more tries are made."""


class NotReached(Unavailable):
    """No connection to the peer came about, so it has got nothing of the request."""


@dataclass(frozen=True)
class Answer:
    """How a peer answered.

    Attributes:
        taken: it has taken the message.
        gone: it wants no messages any more (410).
        stopped: it was not asked, because it is sent nothing any more.
    """

    taken: bool
    gone: bool = False
    stopped: str = ""


@dataclass(frozen=True)
class _Response:
    """An answer that was read."""

    status: int
    headers: httpx.Headers
    content: bytes


def peer_client(timeout: float) -> httpx.AsyncClient:
    """A client for :class:`PeerDeliverer`; its user closes it. It follows no redirect, and uses no proxy."""
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)


@dataclass(frozen=True)
class PeerDeliverer:
    """Talks to peers.

    Attributes:
        outbox: holds the messages, and records what became of them.
        key: signs.
        timeout: seconds that one request may take.
    """

    outbox: Outbox
    key: FederationKey
    client: httpx.AsyncClient
    timeout: float

    async def deliver(self, peer_id: str, ref: OutgoingRef) -> Answer:
        """Try once to deliver a message.

        Raises:
            PeerRefused: the peer says that it will never take it.
            Unavailable: the peer is out of reach, busy, broken or does not know us; or something here is out of reach.
            IntegrityError: the message is not in the object store, and cannot be made any more.
        """
        peer = await asyncio.to_thread(self.outbox.peers.get, peer_id)
        if peer is None or peer.status is not PeerStatus.ACTIVE:
            return Answer(
                taken=False, stopped="the peer was taken out" if peer is None else f"the peer is {peer.status}"
            )
        sent = await asyncio.to_thread(self.outbox.outgoing, peer, ref)
        try:
            response = await self._post(peer, sent)
        except Unavailable as error:
            raise await self._failed(peer, error.message) from None
        status = response.status
        if status == httpx.codes.GONE:
            await asyncio.to_thread(
                self.outbox.peers.mark_gone, peer_id, by=f"urn:coafi:peer:{peer_id}", reason="it answered 410"
            )
            self._count(peer, "gone")
            return Answer(taken=False, gone=True)
        if status == httpx.codes.CONFLICT:
            await self._settle_conflict(peer, ref, sent, _detail(response))
        if 200 <= status < 300 or status == httpx.codes.CONFLICT:
            await asyncio.to_thread(self.outbox.positions.worked, peer_id)
            self._count(peer, "taken")
            return Answer(taken=True)
        said = f"answered {status}{_detail(response)}"
        if status in NEVER:
            raise await self._refused(
                peer, f"the peer {peer_id} {said} to {ref.id}", "ask whoever runs it, or correct the message"
            )
        wait = seconds_of(response.headers.get("retry-after"), datetime.now(UTC), LONGEST_WAIT)
        raise await self._failed(peer, f"the peer {peer_id} {said}", wait)

    async def _settle_conflict(self, peer: Peer, ref: OutgoingRef, sent: Outgoing, said: str) -> None:
        """Find out what a peer has that answers that another body came under the id before (409).

        It returns where the message counts as taken: its receipt proves a body that was sent; or is still to come, and
        decides then; or a person lets pass that it is another one.

        Raises:
            PeerRefused: it is not known that the message was ever sent like that. A person has to decide.
            Unavailable: the peer does not say now, or something here is out of reach.
        """
        await asyncio.to_thread(self.outbox.did_not_go, peer.id, sent)
        try:
            response = await self._ask(peer, ref)
        except Unavailable as error:
            raise await self._failed(peer, error.message) from None
        if response.status == httpx.codes.ACCEPTED:
            return
        digest = ""
        if response.status == httpx.codes.OK:
            try:
                await self._confirmed(peer, ref, response.content)
            except OtherBody as other:
                digest = other.digest
            except (ValidationError, IntegrityError) as error:
                log.warning("receipt is none", peer=peer.id, message=ref.id, reason=str(error))
            else:
                return
        was_sent = not (digest or sent.is_first)
        if was_sent or await asyncio.to_thread(self.outbox.has_passed, peer.id, ref):
            return
        await asyncio.to_thread(self.outbox.note_foreign, peer.id, ref, digest)
        handled = (
            f"has handled another body, {digest}, under {ref.id}" if digest else f"has another body under {ref.id}"
        )
        raise await self._refused(
            peer,
            f"the peer {peer.id} {handled}, and it is not known here that this was ever sent{said}",
            f"ask whoever runs it; coafi peers resume {peer.id} --outgoing lets that pass, and goes on",
        )

    async def settle(
        self, peer_id: str, messages: Sequence[OutgoingRef], *, others: int, late: Collection[str]
    ) -> list[str]:
        """Fetch the receipts of messages that the peer has taken, and record these deliveries.

        Args:
            others: the position before which nothing else is unsettled.
            late: ids of messages that are recorded without a receipt, if there is none.

        Returns:
            The ids of those messages that are on record now.

        Raises:
            Unavailable: something here is out of reach. A peer that is has not concluded anything, that is all.
        """
        peer = await asyncio.to_thread(self.outbox.peers.require, peer_id)
        known = frozenset(await asyncio.to_thread(self.outbox.on_record, peer_id, messages))
        found: list[Confirmed] = []
        problem = ""
        for ref in messages:
            if ref.id in known:
                continue
            confirmed: Confirmed | None = None
            if not problem.startswith(_AWAY):
                confirmed, problem = await self._receipt(peer, ref)
            if confirmed is None and ref.id in late:
                confirmed = Confirmed(ref, DeliveryOutcome.UNCONFIRMED, problem=problem)
            if confirmed is not None:
                found.append(confirmed)
        settled = known | {one.message.id for one in found}
        if settled:
            left = [one.after - 1 for one in messages if one.id not in settled]
            await asyncio.to_thread(self.outbox.record, peer_id, found, position=min([others, *left]))
        return [one.id for one in messages if one.id in settled]

    async def _receipt(self, peer: Peer, ref: OutgoingRef) -> tuple[Confirmed | None, str]:
        """The receipt of one message; or why there is none."""
        try:
            response = await self._ask(peer, ref)
        except Unavailable as error:
            return None, f"{_AWAY}{error.message}"
        if response.status == httpx.codes.ACCEPTED:
            return None, "the peer has not concluded it"
        if response.status == httpx.codes.NOT_FOUND:  # it has lost what it had taken, with a backup that was restored
            try:
                sent = await asyncio.to_thread(self.outbox.outgoing, peer, ref)
            except IntegrityError as error:
                return None, f"the peer did not know it, and it is lost here: {error.message}"
            with contextlib.suppress(Unavailable):
                await self._post(peer, sent)
            return None, f"the peer did not know it{_detail(response)}; it was sent again"
        if response.status != httpx.codes.OK:
            return None, f"asked for the receipt, the peer answered {response.status}{_detail(response)}"
        try:
            confirmed = await self._confirmed(peer, ref, response.content)
        except (ValidationError, IntegrityError) as error:
            log.warning("receipt is none", peer=peer.id, message=ref.id, reason=str(error))
            self._count(peer, "bad-receipt")
            return None, f"its receipt proves nothing: {error.message}"
        await asyncio.to_thread(self.outbox.objects.put, response.content)
        return confirmed, ""

    async def _confirmed(self, peer: Peer, ref: OutgoingRef, content: bytes) -> Confirmed:
        """What a receipt says of a message; raises as :func:`confirm`, and Unavailable."""
        source = peer_source(self.outbox.projection.peer)
        bodies = await asyncio.to_thread(self.outbox.sent_bodies, peer.id, ref)
        try:
            return await asyncio.to_thread(confirm, peer, ref, source, bodies, content)
        except OtherBody as other:
            if await asyncio.to_thread(self.outbox.recognised, peer, ref, other.digest):
                bodies = await asyncio.to_thread(self.outbox.sent_bodies, peer.id, ref)
                return await asyncio.to_thread(confirm, peer, ref, source, bodies, content)
            if await asyncio.to_thread(self.outbox.has_passed, peer.id, ref):
                problem = f"{other.message}; that was let pass"
                return Confirmed(ref, DeliveryOutcome.UNCONFIRMED, receipt=sha256(content), problem=problem)
            raise

    async def _ask(self, peer: Peer, ref: OutgoingRef) -> "_Response":
        """Ask for the receipt of a message."""
        return await self._request(peer, "GET", MESSAGES + quote(ref.id, safe=""), {}, None)

    async def _post(self, peer: Peer, sent: Outgoing) -> "_Response":
        """Send a message. What never got to the peer does not count as sent."""
        message = sent.message
        try:
            return await self._request(peer, "POST", INBOX, message.headers(), message.body)
        except NotReached:
            await asyncio.to_thread(self.outbox.did_not_go, peer.id, sent)
            raise

    async def _request(
        self, peer: Peer, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> "_Response":
        """One signed request, and the whole answer, if it is not too long.

        Raises:
            Unavailable: there is no answer.
        """
        url = peer.url + path
        signer = await asyncio.to_thread(self.key.current)
        signed = sign_request(signer, method, url, {**_OURS, **headers}, body)
        request = self.client.build_request(method, url, content=body, headers=signed)
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.send(request, stream=True)
                try:
                    answer = bytearray()
                    async for part in response.aiter_bytes():
                        answer += part
                        if len(answer) > MAX_ANSWER:
                            raise Unavailable(f"the peer {peer.id} answered with more than {MAX_ANSWER:,} bytes")
                finally:
                    await response.aclose()
        except httpx.ConnectError as error:
            raise NotReached(f"the peer {peer.id} is out of reach: {type(error).__name__}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise Unavailable(f"the peer {peer.id} did not answer within {self.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the peer {peer.id} is out of reach: {type(error).__name__}") from None
        return _Response(response.status_code, response.headers, bytes(answer))

    async def _refused(self, peer: Peer, problem: str, remedy: str) -> PeerRefused:
        """What to raise of a message that the peer will never take."""
        await asyncio.to_thread(self.outbox.positions.failed, peer.id, problem)
        self._count(peer, "refused")
        return PeerRefused(problem, remedy=remedy)

    async def _failed(self, peer: Peer, problem: str, wait: float | None = None) -> Unavailable:
        """What to raise of a failed try: it says when to try again."""
        tries = await asyncio.to_thread(self.outbox.positions.failed, peer.id, problem)
        self._count(peer, "unavailable")
        return Unavailable(
            problem,
            remedy="nothing: it is tried again",
            retry_after=max(pause_after(tries), wait or 0.0),
        )

    @staticmethod
    def _count(peer: Peer, outcome: str) -> None:
        metrics.PEER_ATTEMPTS.labels(peer.id, outcome).inc()


def pause_after(tries: int) -> float:
    """Seconds to wait after so many tries in a row have failed, with jitter."""
    pause = min(FIRST_RETRY * BACKOFF_COEFFICIENT ** min(tries - 1, 60), LONGEST_RETRY)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # nobody gains by guessing it


def _detail(response: _Response) -> str:
    """What a problem (RFC 9457) says, for people."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return ""
    try:
        detail = json.loads(response.content)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {detail[:300]}" if isinstance(detail, str) else ""
