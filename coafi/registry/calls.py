"""Calls of another instance's API (``starters.api``) for its registry: what is an answer, a refusal, or an outage.

Only what the API itself refuses, in its own words, is a refusal. Whatever else comes back is for an operator to mend,
or passes by itself, and is a matter of waiting: a wrong token, a wrong URL, a redirect, garbage.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import httpx
import pydantic
from pydantic import SecretStr

from coafi.canonical import JsonObject, canonical_json
from coafi.errors import (
    CoafiError,
    IdempotencyConflict,
    PolicyDenied,
    PreconditionFailed,
    Refused,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.findings import Finding, Severity
from coafi.ledger.wire import ERROR
from coafi.names import REGISTRY_CALLER
from coafi.notify.message import seconds_of

TIMEOUT: Final = httpx.Timeout(20.0, connect=2.0)
"""Seconds that the other side may take for any part of an answer."""

LONGEST: Final = 45.0
"""Seconds that a whole answer may take."""

WAIT: Final = 10
"""Seconds that the other side is asked to wait for the run of a change (``Prefer``); less than ``TIMEOUT``."""

MAX_PLACES = 50
"""Places of a refusal that are passed on."""

Query = Mapping[str, str | int | list[str]]
Answer = TypeVar("Answer", bound=pydantic.BaseModel)

Refusals = Mapping[tuple[int, str], type[Refused]]

OF_READS: Refusals = {
    (404, "ResourceNotFoundError"): ResourceNotFoundError,
    (422, "ValidationError"): ValidationError,
}
"""What is refused for good of what only reads, by status and type of the problem."""

OF_RUNS: Refusals = {
    **OF_READS,
    (403, "PolicyDenied"): PolicyDenied,
    (409, "IdempotencyConflict"): IdempotencyConflict,
    (412, "PreconditionFailed"): PreconditionFailed,
}
"""What the run of a change refuses for good. That its token lacks a permission is not for an event to suffer from."""

OF_GATEWAYS: Refusals = {
    (413, "ValidationError"): ValidationError,
    (422, "IdempotencyConflict"): IdempotencyConflict,
}
"""What is refused for good of a change before it has a run: it is too large; its key came with another body."""

NOTHING: Refusals = {}

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: 200, 201, 202, or 304.
        etag: of the answer, empty if it has none.
    """

    status: int
    etag: str
    data: bytes


class RegistryClient:
    """Asks one instance. Any number of threads may use it.

    Args:
        url: base URL of its gateway.
        token: gives the token with which it is asked.
        caller: what this instance is called, for its log.
        client: for tests; else one of its own, without proxies and redirects.
    """

    def __init__(
        self, url: str, *, token: Callable[[], SecretStr], caller: str, client: httpx.Client | None = None
    ) -> None:
        self.url: Final = url.rstrip("/")
        self._token = token
        self._caller = caller
        self._client = client or httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, endpoint: str, query: Query, *, limit: int, etag: str = "", refusals: Refusals = OF_READS) -> Reply:
        """Ask for something, or, with ``etag``, for something else than that.

        Args:
            limit: bytes of an answer at most.
            refusals: what is refused for good.

        Raises:
            Refused: what ``refusals`` says.
            Unavailable: anything else went wrong.
        """
        headers = {"If-None-Match": etag} if etag else {}
        return self._send("GET", endpoint, query=query, headers=headers, limit=limit, refusals=refusals)

    def post(self, endpoint: str, body: JsonObject, headers: Mapping[str, str], *, limit: int) -> Reply:
        """Ask for a change, and wait for it a little.

        Raises:
            Refused: the change cannot be made.
            Unavailable: anything else went wrong; whether it was made is not known.
        """
        headers = {**headers, "Content-Type": "application/json", "Prefer": f"wait={WAIT}"}
        return self._send(
            "POST", endpoint, content=canonical_json(body), headers=headers, limit=limit, refusals=OF_RUNS
        )

    def parse(self, model: type[Answer], reply: Reply) -> Answer:
        """The body of an answer.

        Raises:
            Unavailable: it is something else.
        """
        try:
            return model.model_validate_json(reply.data)
        except pydantic.ValidationError as error:
            raise Unavailable(
                f"the registry at {self.url} answers with what is no {model.__name__}:"
                f" {error.errors(include_url=False, include_input=False)[0]['msg']}",
                remedy="check REGISTRY_API_URL; both sides may run different versions: upgrade the older one",
            ) from None

    def _send(
        self,
        method: str,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        refusals: Refusals,
        query: Query | None = None,
        content: bytes | None = None,
    ) -> Reply:
        what = f"{method} {endpoint}"
        headers = {
            "Authorization": f"Bearer {self._bearer()}",
            REGISTRY_CALLER: self._caller,
            "Accept-Encoding": "identity",  # nothing small becomes large here
            **headers,
        }
        deadline = time.monotonic() + LONGEST
        try:
            with self._client.stream(
                method, f"{self.url}/api/{endpoint}", params=query, content=content, headers=headers
            ) as response:
                data = bytearray()
                for chunk in response.iter_raw():
                    data += chunk
                    if len(data) > limit or time.monotonic() > deadline:
                        raise Unavailable(
                            f"the registry at {self.url} answers {what} with more than {limit:,} bytes, or too slowly",
                            remedy="check REGISTRY_API_URL, and the network",
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"the registry at {self.url} is out of reach: {type(error).__name__}",
                remedy="check REGISTRY_API_URL, and the gateway there",
            ) from error
        except RuntimeError as error:  # what httpx raises for a client that was closed
            raise Unavailable("the registry is closed", remedy="this process is ending") from error
        status = response.status_code
        if status in (200, 201, 202) or (status == 304 and "If-None-Match" in headers):
            return Reply(status, response.headers.get("etag", ""), bytes(data))
        raise self._failure(response, bytes(data), what, refusals)

    def _failure(self, response: httpx.Response, data: bytes, what: str, refusals: Refusals) -> CoafiError:
        """What an answer means that is none."""
        status, problem = response.status_code, _problem(data)
        if refusals is OF_RUNS and "coafi-event" not in response.headers:
            refusals = OF_GATEWAYS
        refusal = refusals.get((status, problem.type.removeprefix(ERROR)))
        if refusal is not None and problem.type.startswith(ERROR):
            findings = tuple(_finding(place) for place in problem.errors)
            return refusal(f"the registry at {self.url} refuses: {problem.detail}", findings=findings)
        remedy = "check the gateway there"
        if status in (401, 403):
            remedy = "check REGISTRY_API_TOKEN here, and the roles of that key there"
        elif status == 421:
            remedy = "REGISTRY_API_URL must name the instance that keeps the registry itself"
        elif status in (400, 404, 405, 413, 415, 422) or status < 400:
            remedy = "check REGISTRY_API_URL, which must not redirect; both sides may run different versions"
        elif status == 429:
            remedy = "raise COAFI_API_RATE there, or lower COAFI_API_QUEUE_RATE here"
        return Unavailable(
            f"the registry at {self.url} answers {what} with {status}{f': {problem.detail}' if problem.detail else ''}",
            remedy=remedy,
            retry_after=seconds_of(response.headers.get("retry-after"), datetime.now(UTC)),
        )

    def _bearer(self) -> str:
        try:
            token = self._token().get_secret_value()
        except (ValidationError, OSError) as error:
            said = error.message if isinstance(error, ValidationError) else f"it cannot be read: {error.strerror}"
            raise Unavailable(
                f"the token for the registry at {self.url} cannot be had: {said}",
                remedy="mend REGISTRY_API_TOKEN_FILE; it is read again at the next try",
            ) from None
        if _TOKEN.fullmatch(token) is None:
            raise Unavailable(
                "the token for the other instance's registry holds what no HTTP header may hold",
                remedy="put a key or token into REGISTRY_API_TOKEN_FILE, and nothing else",
            )
        return token


class _Place(pydantic.BaseModel):
    pointer: str | None = None
    detail: str
    rule: str | None = None


class _Problem(pydantic.BaseModel):
    """What matters of a problem (RFC 9457)."""

    type: str = ""
    detail: str = ""
    errors: tuple[_Place, ...] = ()


def _problem(data: bytes) -> _Problem:
    try:
        found = _Problem.model_validate_json(data)
    except pydantic.ValidationError:
        return _Problem()
    return _Problem(type=found.type, detail=found.detail[:1_000], errors=found.errors[:MAX_PLACES])


def _finding(place: _Place) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        rule=(place.rule or "registry/refused")[:100],
        message=place.detail[:500],
        remedy="",
        pointer=None if place.pointer is None else place.pointer[:1_000],
    )
