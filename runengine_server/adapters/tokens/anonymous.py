"""Lets everybody in as one caller, for development on loopback; the server refuses it on other addresses."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.ids import Tenant


class AnonymousAuthenticator:
    """Implements `Authenticator` without looking at tokens."""

    def __init__(self, *, principal: str = "anonymous", tenant: str = "default") -> None:
        """Everybody is this principal of this tenant, with every scope."""
        self._caller = Caller(principal=principal, tenant=Tenant(tenant), scopes=frozenset(Scope))

    async def authenticate(self, token: str | None) -> Caller:
        """The one caller."""
        return self._caller
