"""Telling the scheduler and the watchers that something happened, so that nobody waits for a poll."""

from typing import Protocol

from runengine_server.domain.ids import RunKey
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.run_store import RunFacts


class WorkSignal(Protocol):
    """Hints after a commit; losing one costs latency, never correctness."""

    def run_created(self, facts: RunFacts, plan: RebuildPlan, *, has_ready_steps: bool) -> None:
        """A run exists; its facts and plan are at hand."""

    def run_cancelled(self, run: RunKey) -> None:
        """A run was cancelled: attempts in flight should stop."""
