"""Telling the scheduler and the watchers that something happened, so that nobody waits for a poll."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.run_store import Intake, RunFacts


class WorkSignal(Protocol):
    """Hints; losing one costs latency, never correctness."""

    async def intake(
        self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]
    ) -> AbstractContextManager[Intake]:
        """Prepare to take up a run that is about to be created, open until that is done.

        Args:
            facts: of the run, but for its key, which is not known yet.
            plan: its plan.
            ready: the steps that will be in the queue.
        """

    def run_cancelled(self, run: RunKey) -> None:
        """A run was cancelled: attempts in flight should stop."""
