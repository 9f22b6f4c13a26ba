"""The ledger of a peer, as its gateway shows it to everybody: proofs, and hand-overs of its keys."""

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import httpx
import pydantic

from coafi.errors import ResourceNotFoundError, Unavailable
from coafi.ledger.proof import Proof
from coafi.ledger.wire import MAX_KEYS_ANSWER, HashesAnswer, KeysAnswer

TIMEOUT = httpx.Timeout(5.0)

_MAX_HASHES = 16_384

Answer = TypeVar("Answer", bound=pydantic.BaseModel)


def log_client() -> httpx.Client:
    """A client for :class:`PeerLog`; its user closes it. It goes where it is told: no proxy, no redirect."""
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)


class PeerLog:
    """What a ledger says about itself; see :class:`coafi.ledger.fork.LogProofs`.

    Args:
        url: base URL of the gateway that serves it below ``/bitt/``.
        client: makes the requests.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url.rstrip("/")
        self._client = client

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """The hashes that prove the tree of ``old`` entries to be the beginning of that of ``new``."""
        return self._hashes("proof/consistency", {"old": old, "new": new})

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """The hashes that prove entry ``index`` to be in the tree of ``size``."""
        return self._hashes("proof/inclusion", {"index": index, "size": size})

    def hand_overs(self) -> Sequence[Proof]:
        """The changes of its keys.

        Raises:
            Unavailable: the log is out of reach, or answers with something else.
        """
        return self._ask(KeysAnswer, "keys", {}, MAX_KEYS_ANSWER).handOvers

    def _hashes(self, path: str, query: Mapping[str, int]) -> list[bytes]:
        return [bytes.fromhex(one) for one in self._ask(HashesAnswer, path, query, _MAX_HASHES).hashes]

    def _ask(self, model: type[Answer], path: str, query: Mapping[str, int], limit: int) -> Answer:
        status, data = self._get(path, query, limit)
        if status == httpx.codes.NOT_FOUND:
            raise ResourceNotFoundError(f"the ledger at {self.url} has no {path}", remedy=_CHECK)
        if status != httpx.codes.OK:
            raise Unavailable(f"the ledger at {self.url} answers {path} with {status}", remedy=_CHECK)
        try:
            return model.model_validate_json(data)
        except pydantic.ValidationError:
            raise Unavailable(
                f"the ledger at {self.url} answers {path} with what is no {model.__name__}", remedy=_CHECK
            ) from None

    def _get(self, path: str, query: Mapping[str, int], limit: int) -> tuple[int, bytes]:
        deadline = time.monotonic() + 3 * (TIMEOUT.read or 0)
        try:
            with self._client.stream("GET", f"{self.url}/bitt/{path}", params=dict(query)) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit or time.monotonic() > deadline:
                        raise Unavailable(f"the ledger at {self.url} answers {path} at too great length", remedy=_CHECK)
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # the last for a client that was closed
            raise Unavailable(
                f"the ledger at {self.url} is out of reach: {type(error).__name__}", remedy=_CHECK
            ) from error
        return response.status_code, bytes(data)


_CHECK = "check the peer's URL, and its gateway"
