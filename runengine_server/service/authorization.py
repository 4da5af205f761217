"""Who may do what: one table from use case to scope, and the check."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError

USE_CASE_SCOPES: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        "trigger_run": Scope.RUN_WRITE,
        "trigger_update": Scope.RUN_WRITE,
        "cancel_run": Scope.RUN_WRITE,
        "retry_run": Scope.RUN_WRITE,
        "get_run": Scope.RUN_READ,
        "list_runs": Scope.RUN_READ,
        "list_steps": Scope.RUN_READ,
        "list_artifacts": Scope.RUN_READ,
        "watch_run": Scope.RUN_READ,
        "get_lineage": Scope.RUN_READ,
        "explain_step": Scope.RUN_READ,
        "compare_runs": Scope.RUN_READ,
        "register_workflow": Scope.WORKFLOW_WRITE,
        "get_workflow": Scope.RUN_READ,
        "list_workflows": Scope.RUN_READ,
        "get_cache_entry": Scope.CACHE_ADMIN,
        "list_cache_entries": Scope.CACHE_ADMIN,
        "invalidate_cache": Scope.CACHE_ADMIN,
        "get_cache_stats": Scope.CACHE_ADMIN,
    }
)
"""The scope each use case needs; a use case that is missing is nobody's."""


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
