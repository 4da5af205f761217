"""The engine's own lease, under whose number it leases steps: renewed in time, and begun anew when it was lost."""

from collections.abc import Callable
from uuid import uuid4

import anyio

from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import EngineNo
from runengine_server.ports.step_queue import EngineRegistry
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.skill_gates import SkillGates


class EngineLease:
    """One engine's lease.

    Attributes:
        engine: the number it has now.
    """

    def __init__(
        self, registry: EngineRegistry, gates: SkillGates, reporting: Reporting, *, lease_s: float, description: str
    ) -> None:
        """Register with `registry`; permits of skills (`gates`) are held no longer than the lease."""
        self._registry = registry
        self._gates = gates
        self._reporting = reporting
        self._lease_s = lease_s
        self._description = description
        self.engine = EngineNo(0)

    async def begin(self) -> None:
        """Become an engine that never was before."""
        until_s = self._gates.lease_end_s(self._lease_s)
        self.engine = await self._registry.register(str(uuid4()), self._description, self._lease_s)
        self._gates.lease_begins(self.engine, until_s)

    async def keep(self, on_lost: Callable[[], None], on_begun: Callable[[], None]) -> None:
        """Renew at a third of the lease, whatever else is slow; start anew when it was taken back."""
        while True:
            await anyio.sleep(self._lease_s / 3)
            until_s = self._gates.lease_end_s(self._lease_s)
            try:
                if await self._registry.renew(self.engine, self._lease_s):
                    self._gates.lease_renewed(until_s)
                else:
                    self._reporting.engine_lost()
                    on_lost()
                    await self.begin()
                    on_begun()
            except UnavailableError as error:
                self._reporting.database_unavailable(error)
