"""The witness over HTTP, below ``/witness/``: https://c2sp.org/tlog-witness.

::

    POST  add-checkpoint              cosign a checkpoint; whoever it is sent by, its log's signature counts
    GET   <origin hash>/checkpoint    the last one of a log that was cosigned
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from coafi import metrics
from coafi.canonical import sha256
from coafi.errors import CoafiError, Unavailable
from coafi.federation.cosigning import SIZE_TYPE
from coafi.federation.witness import (
    MAX_REQUEST,
    MalformedRequest,
    NotConsistent,
    NotSigned,
    OtherSize,
    UnknownLog,
    Witness,
)
from starters.answers import BodyTooLarge, BodyTooSlow, problem, read_body

log = structlog.stdlib.get_logger()

AT_A_TIME = 4
"""Requests that are worked on at the same time: strangers may send them, and must not keep the threads of others."""

WAITING = 64
"""Requests that may wait for their turn; more are told to come back."""

RETRY_AFTER = 5.0

_TEXT = "text/plain; charset=utf-8"
_STATUS: dict[type[CoafiError], int] = {
    MalformedRequest: 400,
    NotSigned: 403,
    UnknownLog: 404,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    NotConsistent: 422,
    Unavailable: 503,
}


@dataclass
class WitnessApi:
    """The routes below ``/witness/``.

    Attributes:
        witness: does the work.
        body_timeout: seconds that a sender may take for a body.
    """

    witness: Witness
    body_timeout: float = 30.0
    _pool: ThreadPoolExecutor = field(
        init=False, repr=False, default_factory=lambda: ThreadPoolExecutor(AT_A_TIME, "witness")
    )
    _waiting: int = field(init=False, repr=False, default=0)

    def routes(self) -> list[Route]:
        """The routes, for the gateway."""
        return [
            Route("/witness/add-checkpoint", self.add_checkpoint, methods=["POST"]),
            Route("/witness/{origin_hash}/checkpoint", self.checkpoint, methods=["GET"]),
        ]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def add_checkpoint(self, request: Request) -> Response:
        """``POST /witness/add-checkpoint``."""
        response = await self._add_checkpoint(request)
        metrics.WITNESS_REQUESTS.labels(response.status_code).inc()
        return response

    async def _add_checkpoint(self, request: Request) -> Response:
        if self._waiting >= WAITING:
            return problem(429, "too many checkpoints wait for their turn", retry_after=RETRY_AFTER)
        self._waiting += 1
        try:
            body = await read_body(request, MAX_REQUEST, self.body_timeout, remedy="send fewer signatures")
            line = await asyncio.get_running_loop().run_in_executor(self._pool, self.witness.add_checkpoint, body)
        except OtherSize as other:
            return Response(f"{other.size}\n", 409, media_type=None, headers={"Content-Type": SIZE_TYPE})
        except ClientDisconnect:
            return problem(400, "client left before its body was read")
        except CoafiError as error:
            return _refusal(error)
        finally:
            self._waiting -= 1
        return Response(line, media_type=_TEXT)

    def checkpoint(self, request: Request) -> Response:
        """``GET /witness/<origin hash>/checkpoint``; blocking, so it runs on a thread."""
        wanted = request.path_params["origin_hash"]
        try:
            for one in self.witness.record.all():
                if sha256(one.checkpoint.origin.encode()) == wanted:
                    return Response(one.signed.note, media_type=_TEXT, headers={"Cache-Control": "public, max-age=1"})
        except CoafiError as error:
            return _refusal(error)
        return problem(404, "no checkpoint of such a log was cosigned here")


def _refusal(error: CoafiError) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if status < 500:
        return problem(status, str(error))
    # Strangers may ask: what is wrong here is for the log.
    log.error("checkpoint not cosigned", status=status, reason=str(error))
    retry_after = (getattr(error, "retry_after", None) or RETRY_AFTER) if status == 503 else None
    return problem(status, "the witness cannot do that now", retry_after=retry_after)
