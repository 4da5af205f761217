"""What the core tells whoever records traces of runs; spans are made of facts, so nothing is open between two calls."""

from collections.abc import Sequence
from typing import Final, Protocol

from runengine_server.domain.cache import CacheAnswer
from runengine_server.domain.trace_context import TraceContext
from runengine_server.domain.workflow import StepDefinition
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_queue import Completion, EndedRun, Lease


class Tracer(Protocol):
    """Hears of traced runs alone (those whose facts have a `trace`). Never blocks, never raises."""

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded; what only serves to be told here need not be found out otherwise."""

    def current(self) -> TraceContext | None:
        """The span of the call that this task serves; None when it is not traced."""

    def run_met(self, facts: RunFacts) -> None:
        """This process deals with the run from now on."""

    def cache_answered(
        self, facts: RunFacts, step: StepDefinition, lease: Lease, answer: CacheAnswer, seconds: float
    ) -> None:
        """A leased step's look-up, which took so long, was answered just now."""

    def step_settled(self, facts: RunFacts, step: StepDefinition, completion: Completion, seconds: float) -> None:
        """An attempt, or a reuse, was committed just now; its skill took so long, 0 where none was called."""

    def run_ended(self, facts: RunFacts, ended: EndedRun, steps: Sequence[StepDefinition]) -> None:
        """A run, which has these steps, became terminal just now by what this process committed."""


class _Untraced:
    """Records nothing."""

    is_on: Final = False

    def current(self) -> TraceContext | None:
        """None."""
        return None

    def run_met(self, facts: RunFacts) -> None:
        """Nothing to record."""

    def cache_answered(
        self, facts: RunFacts, step: StepDefinition, lease: Lease, answer: CacheAnswer, seconds: float
    ) -> None:
        """Nothing to record."""

    def step_settled(self, facts: RunFacts, step: StepDefinition, completion: Completion, seconds: float) -> None:
        """Nothing to record."""

    def run_ended(self, facts: RunFacts, ended: EndedRun, steps: Sequence[StepDefinition]) -> None:
        """Nothing to record."""


UNTRACED: Final[Tracer] = _Untraced()
"""Where tracing is not configured."""
