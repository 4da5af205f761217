"""Scopes."""

import ast
import inspect
from importlib import import_module

import pytest

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError
from runengine_server.domain.ids import Tenant
from runengine_server.rpc.access import METHOD_ACCESS
from runengine_server.service.authorization import require
from runengine_server.service.services import Services

NO_CALLER = {"admit_watcher"}
"""What makes a caller takes none."""

USE_CASES = sorted(
    name
    for name, _ in inspect.getmembers(Services, inspect.isfunction)
    if not name.startswith("_") and name not in NO_CALLER
)
RPCS = {
    "trigger_run": "Trigger",
    "cancel_run": "Cancel",
    "get_artifact": "ListArtifacts",
    "open_artifact": "ListArtifacts",
}
"""Of use cases whose RPC has another name, or that go with one."""

OF_ONE_RUN = {
    "get_run": "run_id",
    "list_steps": "request.run_id",
    "list_artifacts": "request.run_id",
    "watch_run": "request.run_id",
    "get_artifact": "caller.only_run",
    "open_artifact": "caller.only_run",
}
"""All that a watch token opens, and where the run is that it must be for; the last two look whether it shows them."""


@pytest.mark.parametrize("use_case", USE_CASES)
def test_every_use_case_requires_the_scope_of_its_rpc(use_case: str) -> None:
    """The first statement of each function that surfaces call asks for the scope which the RPC's table has."""
    function = getattr(import_module(f"runengine_server.service.{use_case}"), use_case)
    first = ast.parse(inspect.getsource(function)).body[0].body[1]  # type: ignore[attr-defined]
    rpc = RPCS.get(use_case, use_case.title().replace("_", ""))
    (scope,) = {access for method, access in METHOD_ACCESS.items() if method.endswith(f"/{rpc}")}
    assert isinstance(scope, Scope)
    run = f", run_id={OF_ONE_RUN[use_case]}" if use_case in OF_ONE_RUN else ""
    assert ast.unparse(first) == f"require(caller, Scope.{scope.name}{run})"


@pytest.mark.parametrize("scope", Scope)
def test_require(scope: Scope) -> None:
    """A caller passes with the scope, and is told which one is missing without it."""
    require(Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset({scope})), scope)
    others = Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset(Scope) - {scope})
    with pytest.raises(ScopeRequiredError) as refused:
        require(others, scope)
    assert refused.value.reason == "SCOPE_REQUIRED"
    assert scope.value in refused.value.message
