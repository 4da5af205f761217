"""THE table of who may call which method; a method that is not in it is served to nobody."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from runengine_server.domain.caller import Scope


class Public(Enum):
    """Access without a credential."""

    PUBLIC = "public"


Access = Scope | Public

_ENGINE = "/runengine.v1.RunEngine"
_REGISTRY = "/runengine.v1.WorkflowRegistryService"
_CACHE = "/runengine.v1.CacheAdminService"

METHOD_ACCESS: Final[Mapping[str, Access]] = {
    f"{_ENGINE}/Trigger": Scope.RUN_WRITE,
    f"{_ENGINE}/TriggerUpdate": Scope.RUN_WRITE,
    f"{_ENGINE}/Cancel": Scope.RUN_WRITE,
    f"{_ENGINE}/RetryRun": Scope.RUN_WRITE,
    f"{_ENGINE}/GetRun": Scope.RUN_READ,
    f"{_ENGINE}/ListRuns": Scope.RUN_READ,
    f"{_ENGINE}/ListSteps": Scope.RUN_READ,
    f"{_ENGINE}/ListArtifacts": Scope.RUN_READ,
    f"{_ENGINE}/GetLineage": Scope.RUN_READ,
    f"{_ENGINE}/ExplainStep": Scope.RUN_READ,
    f"{_ENGINE}/CompareRuns": Scope.RUN_READ,
    f"{_ENGINE}/GetQueue": Scope.RUN_READ,
    f"{_ENGINE}/WatchRun": Scope.RUN_READ,
    f"{_ENGINE}/CreateWatchToken": Scope.RUN_READ,
    f"{_REGISTRY}/RegisterWorkflow": Scope.WORKFLOW_WRITE,
    f"{_REGISTRY}/GetWorkflow": Scope.RUN_READ,
    f"{_REGISTRY}/ListWorkflows": Scope.RUN_READ,
    f"{_CACHE}/GetCacheEntry": Scope.CACHE_ADMIN,
    f"{_CACHE}/ListCacheEntries": Scope.CACHE_ADMIN,
    f"{_CACHE}/InvalidateCache": Scope.CACHE_ADMIN,
    f"{_CACHE}/GetCacheStats": Scope.CACHE_ADMIN,
    # Load balancers have no token; health says SERVING or not, nothing else.
    "/grpc.health.v1.Health/Check": Public.PUBLIC,
    "/grpc.health.v1.Health/List": Public.PUBLIC,
    "/grpc.health.v1.Health/Watch": Public.PUBLIC,
    # The contract is public; whether it is served at all is a setting.
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Public.PUBLIC,
}


class UnlistedMethodError(Exception):
    """A method is registered that the table does not know: the server must not start."""


def check_listed(methods: Iterable[str]) -> None:
    """Return when the table knows every method.

    Args:
        methods: full names, `/package.Service/Method`.

    Raises:
        UnlistedMethodError: names the methods it does not know.
    """
    unlisted = sorted(method for method in methods if method not in METHOD_ACCESS)
    if unlisted:
        raise UnlistedMethodError(f"no access is declared for {', '.join(unlisted)}; add them to METHOD_ACCESS")
