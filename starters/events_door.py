"""``POST /events``: the door for events of external ledgers.

Whoever is let in has a secret that vouches for the source. Before that is certain nothing is stored and nothing is
started, and nothing of it is ever in the ledger.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from activities.dispatch import Dispatcher, reused_delivery
from coafi.cloudevents import UnsupportedMediaType
from coafi.deliveries import DeliveryReader
from coafi.errors import CoafiError, Unavailable
from coafi.events import Event
from coafi.objects import ObjectStore
from coafi.webhooks.ledger_events import (
    ForeignSource,
    SourceKey,
    TooDeep,
    check_media_type,
    event_of,
    verified_by,
)
from starters.answers import DELIVERY_STATUS, problem, read_body, refused_delivery
from starters.rates import Rates

log = structlog.stdlib.get_logger()

PATH = "/events"


class TooManyEvents(Unavailable):
    """A sender sends more than it may."""


_STATUS: Mapping[type[CoafiError], int] = {
    ForeignSource: 403,
    UnsupportedMediaType: 415,
    TooDeep: 422,
    TooManyEvents: 429,
    **DELIVERY_STATUS,
}


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
            return refused_delivery(error, "events", _STATUS)

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
