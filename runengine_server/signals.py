"""Part of the composition: who hears, in this process and in others, that there is work, news or an end to it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from runengine_server.adapters.postgres.event_hints import PostgresHints
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.ports.run_store import Intake, RunFacts
from runengine_server.scheduler.scheduler import Scheduler


@dataclass(slots=True)
class Signals:
    """WorkSignal: this process at once, the others by hint."""

    hints: PostgresHints
    scheduler: Scheduler | None = None

    async def intake(
        self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]
    ) -> AbstractContextManager[Intake]:
        """See the port."""
        assert self.scheduler is not None, "set before anything is served"
        return await self.scheduler.intake(facts, plan, ready)

    def run_cancelled(self, run: RunKey) -> None:
        """A run was cancelled."""
        self.hints.announce_cancelled([run])
        self.hints.announce_events([run])

    def wake(self) -> None:
        """Steps may be ready."""
        if self.scheduler is not None:
            self.scheduler.wake()

    def permits_freed(self) -> None:
        """Another process gave permits back."""
        if self.scheduler is not None:
            self.scheduler.permits_freed()

    def cancel_attempts(self, runs: Any) -> None:
        """These runs were stopped somewhere."""
        if self.scheduler is not None:
            self.scheduler.cancel_attempts(list(runs))


class WatcherObserver(ObserverGroup):
    """Hears what watchers and other engines need; silent about the rest."""

    def __init__(self, hints: PostgresHints) -> None:
        """Announce through `hints`."""
        super().__init__([])
        self._hints = hints

    def runs_changed(self, runs: Any) -> None:
        """These runs have new events."""
        self._hints.announce_events(runs)

    def work_left(self) -> None:
        """Other engines should look at the queue."""
        self._hints.announce_ready(is_local=False)

    def runs_stopped(self, runs: Any) -> None:
        """Attempts of these runs should stop, on whichever engine."""
        self._hints.announce_cancelled(runs)
