"""Requests to the API, at ``/api/{endpoint}`` and ``/utids/{id}``: see :mod:`coafi.api.routes` for what there is.

The gateway finds out who asks, how often they may, and what they ask for. What changes something is done by a run
(:class:`workflows.api_request.APIRequestWorkflow`), which checks schema and permission and is waited for; what only
reads is checked and answered here. No token goes further than this file.
"""

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute
from starlette.types import Receive, Scope, Send
from temporalio.client import WorkflowExecutionDescription
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from activities.dispatch import Dispatcher
from coafi import metrics
from coafi.api.answers import WAITING, Answer, error_places, problem_type
from coafi.api.bodies import AcceptedAnswer, EventAnswer, WorkflowAnswer
from coafi.api.reading import OPEN, ApiReader, answer_with
from coafi.api.requests import ApiRequest, event_path, source_of
from coafi.api.routes import Operation, Route
from coafi.auth.authenticator import Authenticator
from coafi.auth.principal import Principal
from coafi.canonical import JsonObject, sha256
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IdempotencyConflict,
    PolicyDenied,
    PreconditionFailed,
    Refused,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.events import Event, new_event
from coafi.ledger.entry import timestamp
from coafi.names import REGISTRY_CALLER, DeliveryName, EventType, SearchAttribute, parse_workflow_id
from coafi.objects import ObjectStore
from starters.answers import BodyTooLarge, BodyTooSlow, problem, traceparent_of
from starters.api_requests import (
    HeadersTooLarge,
    Unreadable,
    WrongMediaType,
    WrongMethod,
    authorization,
    check_size,
    idempotency_key,
    if_match,
    json_body,
    known_etags,
    preferred_wait,
    query,
    route_of,
)
from starters.rates import Rates

log = structlog.stdlib.get_logger()

T = TypeVar("T")

RETRY_AFTER = 5.0
"""Seconds after which a request may be tried again that found something out of reach."""


_OF_READS = {"Cache-Control": "private, no-cache"}
_NO_RUN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)
_PHASE = SearchAttributeKey.for_keyword(SearchAttribute.PHASE)
_UTIDS = SearchAttributeKey.for_keyword(SearchAttribute.UTIDS)


class TooManyRequests(Refused):
    """The caller has asked too often."""

    def __init__(self, name: str, rate: float, retry_after: float) -> None:
        super().__init__(f"{name} may ask {rate:g} times a second", remedy="wait, as Retry-After says")
        self.retry_after = retry_after


class Misdirected(Refused):
    """Another instance asks for a registry that is not kept here."""


_STATUS: Mapping[type[CoafiError], int] = {
    TooManyRequests: 429,
    HeadersTooLarge: 431,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    AuthorizationError: 401,
    PolicyDenied: 403,
    ResourceNotFoundError: 404,
    IdempotencyConflict: 422,  # a key that was used for another request, as the draft of Idempotency-Key has it
    PreconditionFailed: 412,
    Misdirected: 421,
    WrongMediaType: 415,
    Unreadable: 400,
    ValidationError: 422,
    Unavailable: 503,
}


@dataclass(frozen=True)
class ApiGateway:
    """The routes below ``/api/`` and ``/utids/``, and what they need.

    Attributes:
        dispatcher: starts and asks the runs.
        reader: answers what only reads.
        objects: keeps the bodies of requests.
        authenticator: finds out who asks.
        rates: how often they may.
        max_body_bytes: larger bodies are refused unread.
        wait: seconds that a caller waits for an answer who says nothing about it.
        body_timeout: seconds that a caller may take for a body.
        threads: where reads are done, if those of the event loop will not do.
    """

    dispatcher: Dispatcher
    reader: ApiReader
    objects: ObjectStore
    authenticator: Authenticator
    rates: Rates
    max_body_bytes: int
    wait: float = 10.0
    body_timeout: float = 30.0
    threads: Executor | None = None

    def routes(self) -> list[HttpRoute]:
        """The routes, for the gateway: they take every method, and look into the table of what can be asked for."""
        return [HttpRoute(f"{prefix}{{path:path}}", _AnyMethod(self)) for prefix in ("/api/", "/utids/")]

    async def answer(self, request: Request) -> Response:
        """Answer a request; every error is a problem (RFC 9457)."""
        endpoint = "unknown"
        try:
            route, name = route_of(request)
            endpoint = route.endpoint
            check_size(request)
            principal = await self.authenticator.authenticate(authorization(request))
            self._count(principal)
            self._refuse_detour(request, route)
            if route.durable:
                response = await self._run(request, route, principal)
            else:
                response = await self._read(request, route, principal, name)
        except ClientDisconnect:
            response = problem(400, "client left before its body was read")
        except WrongMethod as error:
            response = problem(405, str(error), headers={"Allow": error.allow})
        except CoafiError as error:
            response = _problem(error)
        metrics.API_REQUESTS.labels(endpoint, request.method, response.status_code).inc()
        return response

    def _count(self, principal: Principal) -> None:
        early = self.rates.take(principal.name)
        if early:
            raise TooManyRequests(principal.name, self.rates.rate, early)

    def _refuse_detour(self, request: Request, route: Route) -> None:
        """Refuse to pass on what another instance has passed on: two that name each other would do so for ever."""
        caller = request.headers.get(REGISTRY_CALLER)
        if caller is not None and route.is_registry and self.reader.registry.is_remote:
            log.warning("registry is asked for that is not kept here", caller=caller[:200])
            raise Misdirected(
                "this instance uses the registry of another one itself",
                remedy="name the instance that keeps the registry: in its settings, REGISTRY_API_URL is empty",
            )

    # ------------------------------------------------------------------- reads

    async def _read(self, request: Request, route: Route, principal: Principal, name: str) -> Response:
        if not principal.may(route.permission) and not (
            route.operation is Operation.READ_EVENT and await asyncio.to_thread(self._owns, principal, name)
        ):
            raise _lacks(principal, route)
        asked: JsonObject
        if route.takes_id:
            asked = {"id": name}
        elif route.method == "GET":
            asked = query(request, self.reader.query_types(route))
        else:
            asked = await self._body(request)
        if (glance := self.reader.glance(route, asked)) is not None:
            return _unchanged(request, glance.etag) or Response(
                glance.entry, headers={**_OF_READS, "ETag": glance.etag}, media_type="application/json"
            )
        answer = await self._look(route, asked)
        return _unchanged(request, answer.etag) or _response(answer, _OF_READS)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """What :func:`asyncio.to_thread` does, in the threads for reads."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: context.run(call))

    async def _look(self, route: Route, asked: JsonObject) -> Answer:
        try:
            match route.operation:
                case Operation.READ_WORKFLOW:
                    return await self._workflow(route, asked)
                case Operation.READ_EVENT:
                    return await self._event(route, asked)
                case _:
                    return await self._in_thread(lambda: self.reader.read(route, asked))
        except ValidationError as error:
            if not route.takes_id:  # an id in a path that cannot be one is no question at all
                raise
            raise Unreadable(error.message, remedy=error.remedy, findings=error.findings) from None

    def _owns(self, principal: Principal, name: str) -> bool:
        """Whether an event is a request of this very caller."""
        delivery = self.reader.delivery(name)
        source = delivery.source if delivery is not None else _named(name).source
        return source == source_of(principal.name)

    async def _event(self, route: Route, asked: JsonObject) -> Answer:
        """What became of an event. While nothing is concluded, its run says where it stands."""
        await asyncio.to_thread(self.reader.check, route, asked)
        name = str(asked["id"])
        known = await asyncio.to_thread(self.reader.event, name)
        if known is not None and known.concluded is not None:
            return answer_with(known)
        if known is None and _named(name).event_type not in [*EventType]:
            return await asyncio.to_thread(self.reader.read, route, asked)  # which says that there is none
        try:
            run = await self._describe(known.workflow_id if known is not None else name)
        except (ResourceNotFoundError, Unavailable) as error:
            if known is None and isinstance(error, Unavailable):
                raise
            return await asyncio.to_thread(self.reader.read, route, asked)  # it may be on record by now
        said = {"run_status": _status_of(run), "phase": run.typed_search_attributes.get(_PHASE) or OPEN}
        if known is None:  # accepted, and no worker has come to it yet
            named = _named(run.id)
            known = EventAnswer(
                event_id=named.delivery_id,
                type=named.event_type,
                source=named.source,
                workflow_id=run.id,
                run_id=run.run_id,
                utids=run.typed_search_attributes.get(_UTIDS),
                phase=OPEN,
                subject=await run.static_summary() or "",
                received=None,
                concluded=None,
                entries=(),
            )
        return answer_with(known.model_copy(update=said))

    async def _workflow(self, route: Route, asked: JsonObject) -> Answer:
        """Where a run stands: Temporal knows."""
        await asyncio.to_thread(self.reader.check, route, asked)
        run_id = asked.get("runId")
        run = await self._describe(str(asked["workflowId"]), run_id if isinstance(run_id, str) else None)
        found = WorkflowAnswer(
            workflow_id=run.id,
            run_id=run.run_id,
            type=run.workflow_type,
            status=_status_of(run),
            phase=run.typed_search_attributes.get(_PHASE),
            started=timestamp(run.start_time),
            closed=timestamp(run.close_time) if run.close_time else None,
        )
        return answer_with(found)

    async def _describe(self, workflow_id: str, run_id: str | None = None) -> WorkflowExecutionDescription:
        """What Temporal says of a run.

        Raises:
            ResourceNotFoundError: it has none by that id.
            Unavailable: it does not answer.
        """
        handle = self.dispatcher.client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            async with asyncio.timeout(self.dispatcher.timeout):
                return await handle.describe()
        except (RPCError, TimeoutError, RuntimeError) as error:
            if isinstance(error, RPCError) and error.status in _NO_RUN:
                raise ResourceNotFoundError(
                    f"Temporal has no run {workflow_id[:200]!r}", remedy="ask for the event: what was recorded stays"
                ) from None
            raise Unavailable("Temporal does not answer", remedy="ask again", retry_after=RETRY_AFTER) from error

    # ------------------------------------------------------------------- runs

    async def _run(self, request: Request, route: Route, principal: Principal) -> Response:
        if REGISTRY_CALLER in request.headers and not principal.may(route.permission):
            # That is for whoever runs that instance to mend. A run would refuse it for good: it asks with one key.
            raise _lacks(principal, route)
        key = idempotency_key(request)
        wait, applied = preferred_wait(request, self.wait)
        asked = ApiRequest(
            endpoint=route.endpoint,
            method="POST",
            request_id=key or str(uuid.uuid4()),
            principal=principal,
            if_match=if_match(request),
            body=await self._body(request),
        )
        document = asked.document()
        event = new_event(
            event_type=EventType.API_REQUEST,
            source=asked.source,
            delivery_id=asked.request_id,
            time=datetime.now(UTC),
            body_digest=sha256(document),
            principal=principal.name,
            data=asked.payload(),
            traceparent=traceparent_of(request),
        )
        answer = await self._known(event) if key else None
        if answer is None:
            await asyncio.to_thread(self.objects.put, document)
            try:
                answer = await self.dispatcher.ask(event, wait=wait)
            except IdempotencyConflict:
                raise _reused(event) from None
        if answer is None or answer.status == WAITING:  # late, or ended before: what is stored tells
            answer = await self._known(event) or answer
        if answer is None or answer.status == WAITING:
            place = event_path(event.workflow_id)
            phase = {"phase": answer.body["phase"]} if answer is not None and isinstance(answer.body, dict) else {}
            waiting = AcceptedAnswer(workflow_id=event.workflow_id, location=place, **phase)
            body = waiting.model_dump(mode="json", by_alias=True, exclude_none=True)
            return JSONResponse(body, 202, headers={"Location": place, **applied})
        log.info("request answered", event_id=event.id, workflow_id=event.workflow_id, status=answer.status)
        return _response(answer, {**applied, "Coafi-Event": event_path(event.workflow_id)})

    async def _body(self, request: Request) -> JsonObject:
        return await json_body(request, self.max_body_bytes, self.body_timeout)

    async def _known(self, event: Event) -> Answer | None:
        """The answer that a request has got before; none while nobody can tell: its run finds out, and waits for that.

        Raises:
            IdempotencyConflict: its key was used for another request.
        """
        try:
            return await asyncio.to_thread(self._answered, event)
        except Unavailable as error:
            log.warning("request not looked up", event_id=event.id, reason=str(error))
            return None

    def _answered(self, event: Event) -> Answer | None:
        """The answer that a request has got before.

        Raises:
            IdempotencyConflict: its key was used for another request.
        """
        known = self.reader.delivery_of(event.source, event.id)
        if known is None:
            return None
        if known.body_digest != event.bodydigest:
            raise _reused(event)
        return self.reader.stored(known)


class _AnyMethod:
    """Lets requests of every method through: what is not for an endpoint is answered with what is."""

    def __init__(self, api: ApiGateway) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._api.answer(Request(scope, receive))
        await response(scope, receive, send)


# ---------------------------------------------------------------------- what was sent


def _lacks(principal: Principal, route: Route) -> PolicyDenied:
    return PolicyDenied(
        f"{principal.name} lacks the permission {route.permission}",
        remedy="ask whoever runs the service for a role that has it",
    )


def _reused(event: Event) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"the Idempotency-Key {event.id} was used for another request; see {event_path(event.workflow_id)}",
        remedy="take a new key for a new request; send the same one again only with the same key",
    )


def _named(name: str) -> DeliveryName:
    """The delivery that a workflow id names; nothing but empty text for every other name."""
    try:
        return parse_workflow_id(name)
    except ValueError:
        return DeliveryName("", "", "")


def _status_of(run: WorkflowExecutionDescription) -> str:
    return run.status.name if run.status else "UNKNOWN"


def _unchanged(request: Request, etag: str | None) -> Response | None:
    """The answer for a caller who has this version already."""
    return (
        Response(status_code=304, headers={"ETag": etag}) if etag is not None and etag in known_etags(request) else None
    )


# ---------------------------------------------------------------------- what is answered


def _response(answer: Answer, headers: Mapping[str, str]) -> Response:
    more = {"ETag": answer.etag} if answer.etag else {}
    if answer.location:
        more["Location"] = answer.location
    if answer.status < 400:
        return JSONResponse(answer.body, answer.status, headers={**headers, **more})
    body = answer.body if isinstance(answer.body, dict) else {}
    errors = body.get("errors")
    return problem(
        answer.status,
        str(body.get("detail")),
        type_=str(body.get("type")),
        errors=errors if isinstance(errors, list) else (),
        headers=headers,
    )


def _problem(error: CoafiError) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status >= 500:
        log.warning("request failed", status=status, reason=str(error))
    headers = {"WWW-Authenticate": 'Bearer realm="coafi"'} if status == 401 else None
    retry_after = getattr(error, "retry_after", None) or (RETRY_AFTER if status == 503 else None)
    findings = error.findings if isinstance(error, Refused) else ()
    return problem(
        status,
        str(error),
        type_=problem_type(error.kind),
        retry_after=retry_after,
        headers=headers,
        errors=error_places(findings),
    )
