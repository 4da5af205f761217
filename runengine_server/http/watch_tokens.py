"""Lets in who reads one run: by a credential in the header, or by a watch token in the URL."""

from starlette.requests import Request

from runengine_server.domain.caller import Caller
from runengine_server.domain.errors import UnauthenticatedError
from runengine_server.http.requests import bearer_token
from runengine_server.rpc.admission import Admission
from runengine_server.rpc.caller import set_caller
from runengine_server.service.services import Services

ACCESS_TOKEN = "access_token"
"""The query parameter, by the name that RFC 6750 gives it."""


class RunReaders:
    """Admits the readers of a run's resources; only what asks here takes watch tokens."""

    def __init__(self, admission: Admission, services: Services) -> None:
        """Ask `admission` about credentials and `services` about watch tokens."""
        self._admission = admission
        self._services = services

    async def admit(self, request: Request, method: str) -> Caller:
        """The caller may read something, and `current_caller` knows who it is; the use case says whether it is this.

        Args:
            request: a GET or HEAD.
            method: what it stands for, `/package.Service/Method`; one that needs run:read.

        Raises:
            UnauthenticatedError: TOKEN_MISSING or TOKEN_INVALID; also for two credentials, as there is no telling which
                one counts.
            ScopeRequiredError: SCOPE_REQUIRED.
        """
        in_url = request.query_params.getlist(ACCESS_TOKEN)
        if not in_url:
            return await self._admission.admit(method, bearer_token(request))
        if len(in_url) > 1 or "authorization" in request.headers:
            raise UnauthenticatedError("TOKEN_INVALID", "the call carries several credentials; send one")
        caller = await self._services.admit_watcher(in_url[0])
        set_caller(caller)
        return caller


def parameters_of(request: Request) -> list[tuple[str, str]]:
    """The query's parameters but the credential."""
    return [(key, value) for key, value in request.query_params.multi_items() if key != ACCESS_TOKEN]
