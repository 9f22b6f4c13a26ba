"""Delivers one message to one subscriber, once: whoever calls it decides whether to try again."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from coafi import metrics
from coafi.addresses import resolve
from coafi.errors import CoafiError, PolicyDenied, Unavailable
from coafi.events import Wire
from coafi.notify.gone import GoneSubscribers
from coafi.notify.message import Message, headers, seconds_of
from coafi.notify.subscribers import Subscriber, Subscribers


class SubscriberRefused(CoafiError):
    """The subscriber answers that the message is wrong. It may be mending itself, so a few more tries are made."""


class Delivered(Wire):
    """How the subscriber answered.

    Attributes:
        gone: it wants no messages any more (410).
        status: of its answer.
    """

    gone: bool
    status: int


def webhook_client(timeout: float) -> httpx.AsyncClient:
    """A client for :class:`Deliverer`; its user closes it.

    It goes to the address it is told and nowhere else: no proxy, no redirect. Connections are not kept: the next one
    to the same address may be for another host.
    """
    return httpx.AsyncClient(
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


@dataclass(frozen=True)
class Deliverer:
    """Delivers messages.

    Attributes:
        timeout: seconds that one try may take, from looking up the host to the answer.
        allow_private: whether subscribers may be on private addresses.
    """

    subscribers: Subscribers
    gone: GoneSubscribers
    client: httpx.AsyncClient
    timeout: float
    allow_private: bool = False

    async def deliver(self, message: Message) -> Delivered:
        """Send a message, unless its subscriber is gone. Of what is answered only the status is read.

        Raises:
            ResourceNotFoundError: the subscriber was taken out of the settings.
            PolicyDenied: it is on a private address.
            SubscriberRefused: it answered with a 4xx or a redirect.
            Unavailable: it is out of reach, busy or broken, or the database is.
        """
        subscriber = self.subscribers.named(message.subscriber)
        if subscriber.name in await asyncio.to_thread(self.gone.since, self.subscribers):
            return Delivered(gone=True, status=httpx.codes.GONE)
        try:
            async with asyncio.timeout(self.timeout):
                status, retry_after = await self._post(subscriber, message)
        except (TimeoutError, httpx.TimeoutException):
            raise self._failed(subscriber, "unavailable", f"did not answer within {self.timeout:g} s") from None
        except httpx.HTTPError as error:
            # Its text may quote the URL, which may hold a token.
            raise self._failed(subscriber, "unavailable", f"is out of reach: {type(error).__name__}") from None
        except (PolicyDenied, Unavailable) as error:
            self._count(subscriber, "denied" if isinstance(error, PolicyDenied) else "unavailable")
            raise
        if 200 <= status < 300 or status == httpx.codes.GONE:
            gone = status == httpx.codes.GONE
            if gone:
                await asyncio.to_thread(self.gone.add, subscriber)
            self._count(subscriber, "gone" if gone else "delivered")
            return Delivered(gone=gone, status=status)
        if status >= 500 or status in (408, 425, 429):
            wait = seconds_of(retry_after, datetime.now(UTC))
            raise self._failed(subscriber, "unavailable", f"answered {status}", retry_after=wait)
        self._count(subscriber, "refused")
        raise SubscriberRefused(
            f"subscriber {subscriber.name} answered {status}"
            + (", a redirect, which is not followed" if status < 400 else ""),
            remedy="correct its url in the file COAFI_SUBSCRIBERS, or the subscriber",
        )

    async def _post(self, subscriber: Subscriber, message: Message) -> tuple[int, str | None]:
        addresses = await asyncio.to_thread(
            resolve,
            subscriber.host,
            subscriber.port,
            what=f"subscriber {subscriber.name}",
            allow_private=self.allow_private,
        )
        body = message.body()
        sent = headers(message.message_id, body, subscriber.key, datetime.now(UTC), message.content_type)
        url = httpx.URL(subscriber.url.get_secret_value())
        error: httpx.HTTPError | None = None
        for address in addresses:
            request = self.client.build_request(
                "POST",
                url.copy_with(host=address),  # the one that was checked: the next look-up may say something else
                content=body,
                headers={**sent, "Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": subscriber.host},
            )
            try:
                response = await self.client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as unreached:
                error = unreached
                continue
            await response.aclose()
            return response.status_code, response.headers.get("retry-after")
        raise error or httpx.ConnectError("no address")

    def _failed(
        self, subscriber: Subscriber, outcome: str, problem: str, *, retry_after: float | None = None
    ) -> Unavailable:
        self._count(subscriber, outcome)
        return Unavailable(
            f"subscriber {subscriber.name} {problem}", remedy="nothing: it is tried again", retry_after=retry_after
        )

    @staticmethod
    def _count(subscriber: Subscriber, outcome: str) -> None:
        metrics.NOTIFICATION_ATTEMPTS.labels(subscriber.name, outcome).inc()
