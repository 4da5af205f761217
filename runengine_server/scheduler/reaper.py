"""Takes back what dead engines held and ends runs that are late; any engine does it for all."""

from collections.abc import Callable

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.step_queue import EngineRegistry
from runengine_server.scheduler.endings import Endings
from runengine_server.scheduler.reporting import Reporting


class Reaper:
    """Looks every second, or twice a lease where that is less."""

    def __init__(self, registry: EngineRegistry, endings: Endings, reporting: Reporting, lease_s: float) -> None:
        """Reap in `registry`; `endings` hears of the runs that end by it."""
        self._registry = registry
        self._endings = endings
        self._reporting = reporting
        self._every_s = min(1.0, lease_s / 2)

    async def run(self, wake: Callable[[], None]) -> None:
        """Reap until cancelled; `wake` is called when steps came back."""
        while True:
            await anyio.sleep(self._every_s)
            try:
                taken = await self._registry.reap()
                self._reporting.runs_changed(taken.runs)
                if taken.runs:
                    wake()
                await self._endings.happened(taken.ended, {})
                late = await self._registry.enforce_deadlines()
                self._reporting.runs_changed([each.run for each in late])
                await self._endings.happened(late, {})
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
            except Exception as error:
                self._reporting.turn_failed(error)
