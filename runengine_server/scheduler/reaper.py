"""Takes back what dead engines held and ends runs that are late; any engine does it for all."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.step_queue import EngineRegistry
from runengine_server.scheduler.endings import Endings
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.wakeup import Wakeup

T = TypeVar("T")

# A deadline that is nearer than this is not worth another look; clocks tick no finer, and locks are held that long.
_SOONEST_S = 0.005


class Reaper:
    """Looks every second, or twice a lease where that is less; for late runs also when the next deadline comes."""

    def __init__(self, registry: EngineRegistry, endings: Endings, reporting: Reporting, lease_s: float) -> None:
        """Reap in `registry`; `endings` hears of the runs that end by it."""
        self._registry = registry
        self._endings = endings
        self._reporting = reporting
        self._every_s = min(1.0, lease_s / 2)
        self._is_deadline_near = Wakeup()

    def run_created(self, deadline_in_s: float | None) -> None:
        """A run has this deadline, of which the last look could not know."""
        if deadline_in_s is not None and deadline_in_s < self._every_s:
            self._is_deadline_near.ring()

    async def run(self, wake: Callable[[], None]) -> None:
        """Reap until cancelled; `wake` is called when steps came back."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_late_runs)
            while True:
                await anyio.sleep(self._every_s)
                await self._reported(partial(self._take_back, wake))

    async def _end_late_runs(self) -> None:
        wait_s = self._every_s
        while True:
            await self._is_deadline_near.wait(wait_s)
            next_s = await self._reported(self._enforce_deadlines)
            wait_s = self._every_s if next_s is None else min(self._every_s, max(_SOONEST_S, next_s))

    async def _take_back(self, wake: Callable[[], None]) -> None:
        taken = await self._registry.reap()
        self._reporting.runs_changed(taken.runs)
        if taken.runs:
            wake()
        await self._endings.happened(taken.ended, {})

    async def _enforce_deadlines(self) -> float | None:
        late = await self._registry.enforce_deadlines()
        self._reporting.runs_changed([each.run for each in late])
        await self._endings.happened(late, {})
        return await self._registry.next_deadline_s()

    async def _reported(self, look: Callable[[], Awaitable[T]]) -> T | None:
        """What a look finds; None when the database does not answer, or not as it should."""
        try:
            return await look()
        except UnavailableError as error:
            self._reporting.database_unavailable(error)
        except Exception as error:
            self._reporting.turn_failed(error)
        return None
