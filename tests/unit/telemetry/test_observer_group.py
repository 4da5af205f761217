"""Several observers hear the same."""

import inspect
import logging
from typing import Any

import pytest

from runengine_server.adapters.telemetry import LogObserver, ObserverGroup
from runengine_server.ports.observer import Observer

FACTS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]


class Recorder:
    """Remembers every call; raises afterwards when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def hear(*arguments: Any) -> None:
            self.calls.append((name, *arguments))
            if self._error is not None:
                raise self._error

        return hear


@pytest.mark.parametrize("fact", FACTS)
def test_every_member_hears_every_fact(fact: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each fact of the port reaches all members with its arguments, also after one of them raised, which is logged."""
    broken, healthy = Recorder(ZeroDivisionError()), Recorder()
    arguments = [object() for _ in list(inspect.signature(getattr(Observer, fact)).parameters)[1:]]
    with caplog.at_level(logging.ERROR):
        getattr(ObserverGroup([broken, healthy]), fact)(*arguments)
    assert broken.calls == healthy.calls == [(fact, *arguments)]
    assert "Observer failed: observer=Recorder" in caplog.text


@pytest.mark.parametrize("kind", [ObserverGroup, LogObserver])
def test_every_fact_of_the_port_is_known(kind: type) -> None:
    """Nothing the port can say is missing from what listens to it."""
    assert set(FACTS) <= set(vars(kind))
