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

USE_CASES = sorted(name for name, _ in inspect.getmembers(Services, inspect.isfunction) if not name.startswith("_"))
RPCS = {"trigger_run": "Trigger", "cancel_run": "Cancel"}
"""Of use cases whose RPC has another name."""


@pytest.mark.parametrize("use_case", USE_CASES)
def test_every_use_case_requires_the_scope_of_its_rpc(use_case: str) -> None:
    """The first statement of each function that surfaces call asks for the scope which the RPC's table has."""
    function = getattr(import_module(f"runengine_server.service.{use_case}"), use_case)
    first = ast.parse(inspect.getsource(function)).body[0].body[1]  # type: ignore[attr-defined]
    rpc = RPCS.get(use_case, use_case.title().replace("_", ""))
    (scope,) = {access for method, access in METHOD_ACCESS.items() if method.endswith(f"/{rpc}")}
    assert isinstance(scope, Scope)
    assert ast.unparse(first) == f"require(caller, Scope.{scope.name})"


@pytest.mark.parametrize("scope", Scope)
def test_require(scope: Scope) -> None:
    """A caller passes with the scope, and is told which one is missing without it."""
    require(Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset({scope})), scope)
    others = Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset(Scope) - {scope})
    with pytest.raises(ScopeRequiredError) as refused:
        require(others, scope)
    assert refused.value.reason == "SCOPE_REQUIRED"
    assert scope.value in refused.value.message
