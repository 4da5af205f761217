"""How long attempts took that began on another engine: this one has seen only their end."""

from collections.abc import Sequence
from dataclasses import replace

from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.step_queue import Completion, StepExecuted
from runengine_server.scheduler.attempt import Settled
from runengine_server.scheduler.reporting import Reporting


class TakenOver:
    """Asks the store, which knows when each attempt was first leased."""

    def __init__(self, store: RunStore, reporting: Reporting) -> None:
        """Ask `store`."""
        self._store = store
        self._reporting = reporting

    async def timed(self, batch: list[Settled], accepted: Sequence[bool]) -> list[Settled]:
        """The batch, which is committed, with whole durations of what was leased more often than tried."""
        places = {
            (settled.completion.lease.run, settled.completion.lease.step): at
            for at, (settled, is_accepted) in enumerate(zip(batch, accepted, strict=True))
            if is_accepted and _is_taken_over(settled.completion)
        }
        if not places:
            return batch
        timed = list(batch)
        try:
            for place, duration in (await self._store.durations(list(places))).items():
                timed[places[place]] = replace(batch[places[place]], duration_ms=round(duration.seconds * 1000))
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
        return timed


def _is_taken_over(done: Completion) -> bool:
    return isinstance(done, StepExecuted) and done.lease.epoch > done.lease.attempt
