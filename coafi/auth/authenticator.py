"""From the ``Authorization`` header of a request to the principal who sent it."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

import structlog

from coafi.auth.apikeys import PREFIX, ApiKey, ApiKeyFile
from coafi.auth.jwks import PublishedKeys
from coafi.auth.keys import SHARED, TrustedKey
from coafi.auth.principal import Principal
from coafi.auth.roles import Roles
from coafi.auth.tokens import TokenRules, UnverifiedToken
from coafi.auth.watched import WatchedFile
from coafi.errors import AuthorizationError, Unavailable, ValidationError

REMEMBERED_SECONDS: Final = 60.0
"""How long the outcome for a token is kept, at most; no longer than the token is valid, or a key is known."""

REMEMBERED_TOKENS: Final = 10_000
"""How many outcomes are kept; those that were not asked for longest go."""

T = TypeVar("T")

_LOG = structlog.get_logger(__name__)


class _Known(NamedTuple):
    principal: Principal
    until: float


class Authenticator:
    """Verifies bearer tokens: JSON Web Tokens and API keys. Used by one event loop.

    Args:
        rules: what the claims of tokens must say.
        roles: what roles give.
        api_keys: the file of API keys.
        shared: keys that do not change while the process runs, such as that of ``AUTH_SECRET``.
        key_file: keys in a file.
        published: keys at a URL.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        rules: TokenRules,
        roles: Roles,
        *,
        api_keys: ApiKeyFile,
        shared: Sequence[TrustedKey] = (),
        key_file: WatchedFile[tuple[TrustedKey, ...]] | None = None,
        published: PublishedKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._roles = roles
        self._shared = tuple(shared)
        self._key_file = key_file
        self._published = published
        self._api_keys = api_keys
        self._clock = clock
        self._tokens: OrderedDict[bytes, _Known] = OrderedDict()
        self._tokens_of: tuple[tuple[TrustedKey, ...], ...] = ()
        self._holders: dict[str, tuple[ApiKey, Principal]] = {}
        self._complained = ""

    async def authenticate(self, authorization_header: str) -> Principal:
        """The principal whose token is in the header ``Authorization: Bearer …``.

        Args:
            authorization_header: the value of the header; empty when the request has none.

        Raises:
            AuthorizationError: there is no token, or it is not valid here. The message says what is wrong and never
                quotes the token.
            Unavailable: whether it is valid cannot be said, because keys are out of reach or their file is wrong.
        """
        token = _bearer(authorization_header)
        if token.startswith(PREFIX):
            return self._holder(token)
        keys = self._known_keys()
        if keys != self._tokens_of:  # the same tuples, as a rule, so this compares addresses
            self._tokens.clear()
            self._tokens_of = keys
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        now = self._clock()
        if (known := self._tokens.get(digest)) is not None:
            if now < known.until:
                self._tokens.move_to_end(digest)
                return known.principal
            del self._tokens[digest]
        return await self._verified(token, digest)

    async def close(self) -> None:
        """End what is under way."""
        if self._published is not None:
            await self._published.close()

    async def _verified(self, token: str, digest: bytes) -> Principal:
        parsed = UnverifiedToken.parse(token)
        payload = parsed.payload()
        if not await self._is_signed(parsed):
            raise AuthorizationError(
                "the token is not signed by a key that is trusted here, or was changed", remedy="get another token"
            )
        now = self._clock()
        claims = self._rules.check(payload, now)
        try:
            principal = self._roles.principal(f"jwt:{claims.subject}", claims.roles, claims.scope)
        except ValueError:
            raise AuthorizationError(
                "the token's subject (sub) cannot be a name: it is too long, or cannot be printed",
                remedy="have tokens made out to another subject",
            ) from None
        self._tokens[digest] = _Known(principal, min(claims.expires + self._rules.skew, now + REMEMBERED_SECONDS))
        if len(self._tokens) > REMEMBERED_TOKENS:
            self._tokens.popitem(last=False)
        return principal

    async def _is_signed(self, token: UnverifiedToken) -> bool:
        """Whether a key that is trusted has signed it. The provider is asked only if its keys may be what is missing.

        Raises:
            Unavailable: none that is known has, and those of the provider cannot be had.
        """
        if token.verify(key for keys in self._known_keys() for key in keys):
            return True
        if self._published is None or token.algorithm == SHARED:
            return False
        if token.verify(known := await self._published.keys()):
            return True
        if any(key.kid == token.kid for key in known if key.kid):
            return False  # it names a key that has not signed it
        return token.verify(await self._published.look_again())

    def _known_keys(self) -> tuple[tuple[TrustedKey, ...], ...]:
        return (
            self._shared,
            self._read(self._key_file.current) if self._key_file is not None else (),
            self._published.known() if self._published is not None else (),
        )

    def _holder(self, text: str) -> Principal:
        now = datetime.fromtimestamp(self._clock(), UTC)
        key = self._read(lambda: self._api_keys.verify(text, now))
        holder = self._holders.get(key.id)
        if holder is None or holder[0] is not key:  # its entry was read again
            holder = self._holders[key.id] = (key, self._roles.principal(f"key:{key.name}", key.roles))
        return holder[1]

    def _read(self, read: Callable[[], T]) -> T:
        """What a file holds. What is wrong with it is the operator's business, and stands in the log.

        Raises:
            Unavailable: it is wrong, or cannot be read.
        """
        try:
            return read()
        except (ValidationError, Unavailable) as error:
            if self._complained != error.message:
                self._complained = error.message
                _LOG.error("auth_file_wrong", error=str(error))
            raise Unavailable(
                "tokens cannot be checked now: a file of keys of this service is wrong",
                remedy="try again; whoever runs the service looks into its log",
            ) from None


def _bearer(header: str) -> str:
    """The token in a header.

    Raises:
        AuthorizationError: there is none.
    """
    if not header:
        raise AuthorizationError("this request has no token", remedy="send it as Authorization: Bearer …")
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthorizationError("the Authorization header has no token", remedy="send it as Authorization: Bearer …")
    return token
