"""``POST /events``: the door for events of external ledgers.

Whoever is let in has a secret that vouches for the source. Before that is certain nothing is stored and nothing is
started, and nothing of it is ever in the ledger.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from activities.dispatch import Dispatcher, reused_delivery
from coafi import metrics
from coafi.deliveries import DeliveryReader
from coafi.errors import AuthorizationError, CoafiError, IdempotencyConflict, Refused, Unavailable
from coafi.events import Event
from coafi.objects import ObjectStore
from coafi.webhooks.ledger_events import (
    ForeignSource,
    SourceKey,
    TooDeep,
    UnsupportedMediaType,
    check_media_type,
    event_of,
    verified_by,
)
from starters.answers import BodyTooLarge, BodyTooSlow, problem, read_body
from starters.rates import Rates

log = structlog.stdlib.get_logger()

RETRY_AFTER = 30.0
"""Seconds after which a sender may try again, where the error does not know better."""

PATH = "/events"


class TooManyEvents(Unavailable):
    """A sender sends more than it may."""


@dataclass(frozen=True)
class EventsDoor:
    """The door, and what it needs.

    Attributes:
        keys: who may vouch for which sources.
        own_source: for which nobody outside may speak.
        rates: of each who signs.
        max_body_bytes: larger bodies are refused unread.
        max_depth: runs between an event and one from outside, at most.
        body_timeout: seconds that a sender may take for a body.
    """

    dispatcher: Dispatcher
    deliveries: DeliveryReader
    objects: ObjectStore
    keys: tuple[SourceKey, ...]
    own_source: str
    rates: Rates
    max_body_bytes: int
    max_depth: int
    body_timeout: float = 30.0
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def routes(self) -> list[Route]:
        """The door's routes."""
        return [Route(PATH, self.post, methods=["POST"]), Route(PATH, self.options, methods=["OPTIONS"])]

    async def options(self, request: Request) -> Response:
        """``OPTIONS /events``: the handshake of CloudEvents' webhooks. Whoever asks may send, if it can sign."""
        headers = {"Allow": "OPTIONS, POST"}
        if origin := request.headers.get("webhook-request-origin"):
            rate = str(max(1, int(self.rates.rate * 60)))
            headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": rate}
        return Response(status_code=200, headers=headers)

    async def post(self, request: Request) -> Response:
        """``POST /events``: one signed CloudEvent."""
        try:
            return await self._post(request)
        except ClientDisconnect:
            return problem(400, "client left before its body was read")
        except CoafiError as error:
            status = _status(error)
            metrics.REFUSED.labels("events", status).inc()
            log.warning("event refused", status=status, reason=str(error))
            retry_after = None
            if isinstance(error, Unavailable):
                retry_after = error.retry_after or RETRY_AFTER
            return problem(status, str(error), retry_after=retry_after)

    async def _post(self, request: Request) -> Response:
        check_media_type(request.headers.get("content-type", ""))
        body = await read_body(
            request, self.max_body_bytes, self.body_timeout, remedy="raise COAFI_EVENTS_MAX_BODY_BYTES"
        )
        signers = verified_by(body, request.headers, self.keys)
        event = event_of(
            body,
            signers,
            received=self.clock(),
            own_source=self.own_source,
            max_depth=self.max_depth,
        )
        if (wait := self.rates.take(event.principal)) > 0:
            raise TooManyEvents(f"{event.principal} sends too many events", remedy="send fewer", retry_after=wait)
        await asyncio.to_thread(self._refuse_reuse, event)
        await asyncio.to_thread(self.objects.put, body)
        started = await self.dispatcher.start(event)
        log.info(
            "event accepted",
            event_id=event.id,
            utids=event.utids,
            workflow_id=started.workflow_id,
            run_id=started.run_id,
            redelivery=started.existed,
        )
        return JSONResponse(
            {
                "status": "accepted",
                "workflowId": started.workflow_id,
                "runId": started.run_id,
                "redelivery": started.existed,
            },
            202,
        )

    def _refuse_reuse(self, event: Event) -> None:
        """Refuse another body under the id of a known event. What is missed here the run finds when it claims."""
        try:
            known = self.deliveries.get(event.source, event.id)
        except Unavailable as error:
            log.warning("delivery not looked up", event_id=event.id, reason=str(error))
            return
        if known is not None and known.body_digest != event.bodydigest:
            raise reused_delivery(event.id, known.workflow_id)


def _status(error: CoafiError) -> int:
    match error:
        case ForeignSource():
            return 403
        case AuthorizationError():
            return 401
        case BodyTooSlow():
            return 408
        case BodyTooLarge():
            return 413
        case UnsupportedMediaType():
            return 415
        case TooDeep():
            return 422
        case IdempotencyConflict():
            return 409
        case Refused():
            return 400
        case TooManyEvents():
            return 429
        case Unavailable():
            return 503
        case _:
            return 500
