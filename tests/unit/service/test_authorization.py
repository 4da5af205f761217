"""Scopes."""

import inspect

import pytest

from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import ScopeRequiredError
from runengine_server.domain.ids import Tenant
from runengine_server.service.authorization import USE_CASE_SCOPES, require
from runengine_server.service.services import Services


def test_every_use_case_has_a_scope() -> None:
    """Each method that surfaces offer is in the table."""
    offered = {name for name, _ in inspect.getmembers(Services, inspect.isfunction) if not name.startswith("_")}
    assert offered
    assert offered <= USE_CASE_SCOPES.keys()


@pytest.mark.parametrize("scope", Scope)
def test_require(scope: Scope) -> None:
    """A caller passes with the scope, and is told which one is missing without it."""
    require(Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset({scope})), scope)
    others = Caller(principal="ann", tenant=Tenant("acme"), scopes=frozenset(Scope) - {scope})
    with pytest.raises(ScopeRequiredError) as refused:
        require(others, scope)
    assert refused.value.reason == "SCOPE_REQUIRED"
    assert scope.value in refused.value.message
