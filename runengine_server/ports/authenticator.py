"""Turning a credential into a caller."""

from typing import Protocol

from runengine_server.domain.caller import Caller


class Authenticator(Protocol):
    """Knows which bearer tokens are valid."""

    async def authenticate(self, token: str | None) -> Caller:
        """Return who the token belongs to.

        Raises:
            UnauthenticatedError: TOKEN_MISSING for None or empty, TOKEN_INVALID for an unknown or expired one.
            UnavailableError: AUTHENTICATION_UNAVAILABLE, what tokens are verified with cannot be had at the moment.
        """
