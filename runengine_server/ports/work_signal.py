"""Telling the scheduler and the watchers that something happened, so that nobody waits for a poll."""

from collections.abc import Sequence
from typing import Protocol

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.run_store import RunFacts


class WorkSignal(Protocol):
    """Hints after a commit; losing one costs latency, never correctness."""

    def run_created(self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]) -> None:
        """A run exists; its facts and plan are at hand, and these of its steps are in the queue."""

    def run_cancelled(self, run: RunKey) -> None:
        """A run was cancelled: attempts in flight should stop."""
