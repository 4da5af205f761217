"""Lets a call in or refuses it: draining, credential, scope; the same for every surface."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import ScopeRequiredError, UnauthenticatedError
from runengine_server.ports.authenticator import Authenticator
from runengine_server.rpc.access import METHOD_ACCESS, Public
from runengine_server.rpc.caller import set_caller
from runengine_server.rpc.draining import Drain


class Admission:
    """Admits calls as `METHOD_ACCESS` says, until the server drains."""

    def __init__(self, authenticator: Authenticator, drain: Drain) -> None:
        """Ask this authenticator who calls; count calls in this drain."""
        self._authenticator = authenticator
        self._drain = drain

    def call(self) -> AbstractContextManager[None]:
        """Count a call for as long as the block runs.

        Raises:
            UnavailableError: DRAINING, when the block is entered.
        """
        return self._drain

    async def admit(self, method: str, token: str | None) -> Caller:
        """The caller may call the method, and `current_caller` in this task knows who it is.

        Args:
            method: its full name, `/package.Service/Method`.
            token: the bearer token, None without one.

        Raises:
            UnauthenticatedError: TOKEN_MISSING or TOKEN_INVALID.
            UnavailableError: AUTHENTICATION_UNAVAILABLE.
            ScopeRequiredError: SCOPE_REQUIRED; always for a method that the table does not know.
        """
        access = METHOD_ACCESS.get(method)
        if isinstance(access, Public):
            raise ValueError(f"{method} is public: nobody has to be admitted")
        caller = await self._authenticator.authenticate(token)
        if access is None or access not in caller.scopes:
            needed = access.value if access is not None else "none exists"
            raise ScopeRequiredError(
                "SCOPE_REQUIRED",
                f"the token lacks the scope {needed}, which this call needs",
                metadata={"scope": needed},
            )
        set_caller(caller)
        return caller


def bearer_of(values: Sequence[str]) -> str | None:
    """The bearer token of a request with these authorization headers, None without one.

    Raises:
        UnauthenticatedError: TOKEN_INVALID for several.
    """
    if len(values) > 1:
        raise UnauthenticatedError("TOKEN_INVALID", "the call carries several authorization headers; send one")
    scheme, _, token = values[0].strip().partition(" ") if values else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None
