"""From the ``Authorization`` header of a request to the principal who sent it."""

from coafi.auth.principal import Principal
from coafi.errors import AuthorizationError


class Authenticator:
    """Verifies bearer tokens. Used by one event loop."""

    async def authenticate(self, authorization_header: str) -> Principal:
        """The principal whose token is in the header ``Authorization: Bearer …``.

        Args:
            authorization_header: the value of the header; empty when the request has none.

        Raises:
            AuthorizationError: there is no token, or it is not valid here. The message says what is wrong and never
                quotes the token.
            Unavailable: whether it is valid cannot be said, because the keys are out of reach.
        """
        raise AuthorizationError("this service accepts no tokens", remedy="give it keys; see docs/auth.md")
