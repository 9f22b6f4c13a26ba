"""The keys that an identity provider publishes at a URL (a JWK set), fetched when they are needed and kept.

Keys are fetched again in the background once they are ``FRESH`` seconds old, and at once when a token names a key that
is not among them, which is how keys are rotated; but never twice within ``COOL_DOWN`` seconds, whoever asks: nobody can
make this service knock at the provider's door by inventing names of keys. While the provider is out of reach the known
keys stay good for ``PATIENCE`` seconds; a token that none of them fits cannot be judged then, which is not the same as
being wrong.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final

import httpx
import structlog

from coafi.auth.keys import MAX_SET, TrustedKey, keys_of_set
from coafi.errors import CoafiError, Unavailable

FRESH: Final = 300.0
"""Seconds after which keys are fetched again."""

COOL_DOWN: Final = 10.0
"""Seconds between two fetches, at least."""

PATIENCE: Final = 24 * 3600.0
"""Seconds that keys stay good while they cannot be fetched again."""

TIMEOUT: Final = 5.0
"""Seconds that the whole of a fetch may take."""

_LOG = structlog.get_logger(__name__)
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class PublishedKeys:
    """The keys at a URL. Used by one event loop.

    Args:
        url: https, or http on this machine: whoever can change what comes from there decides who gets in.
        fresh, cool_down, patience, timeout: seconds, see above.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        fresh: float = FRESH,
        cool_down: float = COOL_DOWN,
        patience: float = PATIENCE,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url: Final = url
        self._fresh = fresh
        self._cool_down = cool_down
        self._patience = patience
        self._timeout = timeout
        self._clock = clock
        self._keys: tuple[TrustedKey, ...] = ()
        self._content: bytes | None = None
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._problem = ""
        self._fetching: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    def known(self) -> tuple[TrustedKey, ...]:
        """The keys that are good now, without waiting; none at first. The same object until they change."""
        age = self._clock() - self._fetched
        if age > self._fresh:
            if age > self._patience:
                return ()
            if self._may_try():
                self._start()
        return self._keys

    async def keys(self) -> tuple[TrustedKey, ...]:
        """The keys that are good now, fetched first if there are none.

        Raises:
            Unavailable: there are none, and they cannot be fetched.
        """
        return self.known() or await self.look_again()

    async def look_again(self) -> tuple[TrustedKey, ...]:
        """The keys, for somebody whom the known ones did not help: fetched, unless that was done a moment ago.

        Raises:
            Unavailable: the last fetch failed.
        """
        if self._fetching is not None or self._may_try():
            # Shielded: others may be waiting for it when the client of this request goes away.
            await asyncio.shield(self._start())
        if self._problem:
            raise Unavailable(
                f"the keys of tokens cannot be fetched: {self._problem}",
                remedy="try again; whoever runs the service checks COAFI_AUTH_JWKS_URL and the host there",
                retry_after=max(1.0, self._cool_down - (self._clock() - self._tried)),
            )
        return self.known()

    async def close(self) -> None:
        """End what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _may_try(self) -> bool:
        return self._clock() - self._tried >= self._cool_down

    def _start(self) -> "asyncio.Task[None]":
        if self._fetching is None:
            self._tried = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)  # takes tens of milliseconds
        try:
            async with asyncio.timeout(self._timeout):
                content = await self._download(self._tls)
            keys = self._keys if content == self._content else keys_of_set(content)
        except (TimeoutError, httpx.TimeoutException):
            self._failed(f"no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self._failed(f"{type(error).__name__}")  # its text may quote the URL
        except CoafiError as error:
            self._failed(error.message)
        else:
            if keys is not self._keys:
                _LOG.info("auth_keys_fetched", keys=[key.kid for key in keys])
            self._keys, self._content, self._fetched, self._problem = keys, content, self._clock(), ""

    async def _download(self, tls: ssl.SSLContext) -> bytes:
        content = bytearray()
        async with (
            httpx.AsyncClient(verify=tls, timeout=self._timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", self.url, headers=_HEADERS) as response,
        ):
            if response.status_code != httpx.codes.OK:
                redirect = ", a redirect, which is not followed" if response.is_redirect else ""
                raise Unavailable(f"the answer is {response.status_code}{redirect}")
            async for part in response.aiter_raw():
                content += part
                if len(content) > MAX_SET:
                    raise Unavailable(f"the answer is larger than {MAX_SET} bytes")
        return bytes(content)

    def _failed(self, problem: str) -> None:
        self._problem = problem
        _LOG.warning("auth_keys_unavailable", problem=problem, known=len(self._keys))
