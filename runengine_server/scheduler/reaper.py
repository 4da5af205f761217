"""Takes back what dead engines held and ends runs that are late; any engine does it for all."""

from collections.abc import Callable

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.ports.step_queue import EngineRegistry
from runengine_server.scheduler.attempts_in_flight import AttemptsInFlight
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContexts


class Reaper:
    """Looks every second, or twice a lease where that is less."""

    def __init__(
        self,
        registry: EngineRegistry,
        contexts: RunContexts,
        reporting: Reporting,
        in_flight: AttemptsInFlight,
        lease_s: float,
    ) -> None:
        """Reap in `registry`; attempts of late runs are cancelled in `in_flight`."""
        self._registry = registry
        self._contexts = contexts
        self._reporting = reporting
        self._in_flight = in_flight
        self._every_s = min(1.0, lease_s / 2)

    async def run(self, wake: Callable[[], None]) -> None:
        """Reap until cancelled; `wake` is called when steps came back."""
        while True:
            await anyio.sleep(self._every_s)
            try:
                reaped = await self._registry.reap()
                late = await self._registry.enforce_deadlines()
                self._in_flight.cancel_runs(late)
                self._reporting.runs_changed([*reaped, *late])
                if reaped:
                    wake()
                self._reporting.deadlines_passed(await self._contexts.get(late))
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
            except Exception as error:
                self._reporting.turn_failed(error)
