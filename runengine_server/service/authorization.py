"""Whether a caller may: what each use case asks first."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError


def require(caller: Caller, scope: Scope) -> None:
    """Return when the caller's credential has the scope.

    Raises:
        ScopeRequiredError: SCOPE_REQUIRED, naming the scope.
    """
    if scope not in caller.scopes:
        raise ScopeRequiredError(
            "SCOPE_REQUIRED",
            f"this needs the scope {scope.value}, which the credential does not have; ask for one that does",
            metadata={"scope": scope.value},
        )
