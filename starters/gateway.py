"""The HTTP gateway: webhooks in, documentation, health and metrics out.

It answers ``202`` only after Temporal has confirmed the start of the run; whatever else happens, the sender is told to
deliver again (``503``) or what is wrong (``4xx``, ``application/problem+json``, RFC 9457).
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr
from pydantic import ValidationError as ModelError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from activities.dispatch import Dispatcher, Started, reused_delivery
from coafi import metrics
from coafi.deliveries import DeliveryReader
from coafi.errors import (
    CoafiError,
    Unavailable,
    ValidationError,
)
from coafi.events import Event
from coafi.ledger.port import Ledger
from coafi.objects import ObjectStore
from coafi.webhooks import github
from starters.answers import problem, read_body, refused_delivery, traceparent_of
from starters.api import ApiGateway
from starters.api_pages import ApiPages
from starters.bitt import BittApi
from starters.docs_pages import DocumentationPages
from starters.events_door import EventsDoor
from starters.federation import FederationApi
from starters.report_pages import ReportPages
from starters.run_counts import RunCounts
from starters.witness import WitnessApi

log = structlog.stdlib.get_logger()


@dataclass(frozen=True)
class Gateway:
    """The gateway's routes and what they need.

    Attributes:
        github_secrets: any of them may have signed a delivery.
        max_body_bytes: larger bodies are refused unread.
        body_timeout: seconds that a sender may take for a body.
        docs: serves the documentation, if it shall be served.
        bitt: serves the ledger, if it is kept here.
        api: answers requests to the API.
        api_pages: say what the API can do.
        events: takes events of external ledgers.
        federation: takes what peers send.
        witness: cosigns the checkpoints of others.
        reports: serves what was reported.
        runs: counts what waits for a person.
    """

    dispatcher: Dispatcher
    deliveries: DeliveryReader
    objects: ObjectStore
    ledger: Ledger
    github_secrets: tuple[SecretStr, ...]
    max_body_bytes: int
    body_timeout: float = 30.0
    docs: DocumentationPages | None = None
    bitt: BittApi | None = None
    api: ApiGateway | None = None
    api_pages: ApiPages | None = None
    events: EventsDoor | None = None
    federation: FederationApi | None = None
    witness: WitnessApi | None = None
    reports: ReportPages | None = None
    runs: RunCounts | None = None

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                *(self.api_pages.routes() if self.api_pages else ()),
                *(self.api.routes() if self.api else ()),  # so early because they are asked most
                Route("/webhooks/github", self.github, methods=["POST"]),
                *(self.events.routes() if self.events else ()),
                Route("/favicon.ico", _no_icon),  # browsers ask for it, and complain
                Route("/health", self.health),
                Route("/ready", self.ready),
                Route("/metrics", self.metrics),
                *(self.docs.routes() if self.docs else ()),
                *(self.reports.routes() if self.reports else ()),
                *(self.bitt.routes() if self.bitt else ()),
                *(self.federation.routes() if self.federation else ()),
                *(self.witness.routes() if self.witness else ()),
            ],
            exception_handlers={HTTPException: _http_problem, Exception: _unexpected},
        )

    async def github(self, request: Request) -> Response:
        """``POST /webhooks/github``: push and ping; other kinds are authentic but not wanted."""
        try:
            return await self._github(request)
        except ClientDisconnect:
            return problem(400, "client left before its body was read")
        except CoafiError as error:
            return refused_delivery(error, "github")

    async def health(self, _request: Request) -> Response:
        """``GET /health``: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """``GET /ready``: deliveries can be accepted: Temporal answers, the database and the objects can be written."""
        checks = await asyncio.gather(self._temporal_ready(), asyncio.to_thread(self._storage_ready))
        failing = [check for check in checks if check]
        return JSONResponse({"status": "unavailable" if failing else "ok", "errors": failing}, 503 if failing else 200)

    async def metrics(self, _request: Request) -> Response:
        """``GET /metrics``: Prometheus text format."""
        if self.runs is not None:
            await self.runs.refresh()
        try:
            await asyncio.to_thread(self._measure_ledger)
        except CoafiError as error:
            log.warning("ledger size unknown", reason=str(error))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    def _measure_ledger(self) -> None:
        size = self.ledger.size()
        metrics.LEDGER_ENTRIES.set(size)
        metrics.LEDGER_UNSIGNED.set(max(size - self.ledger.checkpoint().checkpoint.size, 0))

    async def _github(self, request: Request) -> Response:
        body = await read_body(request, self.max_body_bytes, self.body_timeout, remedy="raise COAFI_MAX_BODY_BYTES")
        github.verify_signature(body, request.headers.get("x-hub-signature-256"), self.github_secrets)
        kind = request.headers.get("x-github-event", "")
        if kind == "ping":
            return JSONResponse({"status": "pong"})
        delivery = github.delivery_id(request.headers)
        payload = github.parse_body(body, request.headers.get("content-type", ""))
        if kind != "push" or not github.is_branch_push(payload):
            metrics.IGNORED.labels("github", kind if kind == "push" else "other").inc()
            log.info("delivery ignored", kind=kind, event_id=delivery)
            return JSONResponse({"status": "ignored", "reason": "only pushes to branches start a run"})
        try:
            event = github.push_event(
                payload, delivery=delivery, body=body, received=datetime.now(UTC), traceparent=traceparent_of(request)
            )
        except ModelError as error:
            raise ValidationError(f"this delivery has no envelope: {error.errors()[0]['msg']}") from error
        await asyncio.to_thread(self._refuse_reuse, event)
        await asyncio.to_thread(self.objects.put, body)
        started = await self.dispatcher.start(event)
        log.info(
            "delivery accepted",
            event_id=event.id,
            utids=event.utids,
            workflow_id=started.workflow_id,
            run_id=started.run_id,
            redelivery=started.existed,
        )
        return _accepted(started)

    def _refuse_reuse(self, event: Event) -> None:
        """Refuse another body under the id of a known delivery. What is missed here the run finds when it claims."""
        try:
            known = self.deliveries.get(event.source, event.id)
        except Unavailable as error:
            log.warning("delivery not looked up", event_id=event.id, reason=str(error))
            return
        if known is not None and known.body_digest != event.bodydigest:
            raise reused_delivery(event.id, known.workflow_id)

    async def _temporal_ready(self) -> str | None:
        try:
            async with asyncio.timeout(2):
                if await self.dispatcher.client.service_client.check_health():
                    return None
        except Exception as error:  # whatever the reason, it is not ready
            return f"Temporal: {type(error).__name__}"
        return "Temporal: not serving"

    def _storage_ready(self) -> str | None:
        try:
            self.deliveries.recent(1)  # not the ledger: where it is another instance's, runs wait for it
            self.objects.put(b"ready")
        except CoafiError as error:
            return str(error)
        return None


def _accepted(started: Started) -> Response:
    return JSONResponse(
        {
            "status": "accepted",
            "workflowId": started.workflow_id,
            "runId": started.run_id,
            "redelivery": started.existed,
        },
        202,
    )


async def _no_icon(_request: Request) -> Response:
    return Response(status_code=204, headers={"Cache-Control": "max-age=86400"})


async def _http_problem(request: Request, error: Exception) -> Response:
    """What the router refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem(error.status_code, detail, headers=error.headers)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """A defect of ours: the server's log has the traceback, the client has not."""
    return problem(500, "this is a defect of the service; its log says more. Deliver it again later")
