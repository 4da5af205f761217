"""Whether a caller may: what each use case asks first."""

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError
from runengine_server.domain.ids import parse_run_id


def require(caller: Caller, scope: Scope, *, run_id: str | None = None) -> None:
    """Return when the caller's credential has the scope.

    Args:
        caller: who asks.
        scope: what the use case needs.
        run_id: the run that the use case reads, where it reads that one and nothing beyond what it shows; without it
            a credential for one run is refused.

    Raises:
        ScopeRequiredError: SCOPE_REQUIRED, naming the scope.
    """
    if scope not in caller.scopes:
        raise ScopeRequiredError(
            "SCOPE_REQUIRED",
            f"this needs the scope {scope.value}, which the credential does not have; ask for one that does",
            metadata={"scope": scope.value},
        )
    if caller.only_run is not None and (run_id is None or parse_run_id(run_id) != caller.only_run):
        raise ScopeRequiredError(
            "SCOPE_REQUIRED",
            "a watch token reads its own run: that run, its steps, its artifacts and its events, and nothing else",
            metadata={"scope": scope.value},
        )
