"""Steps whose identical ones others execute right now: they give their leases up and wait for the end of a flight."""

from collections.abc import Sequence
from functools import partial

from runengine_server.domain.ids import EngineNo
from runengine_server.ports.step_queue import Following, Lease, StepQueue
from runengine_server.scheduler.endings import Endings
from runengine_server.scheduler.preparation import Follow
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.turns import answered


class Followers:
    """Gives leases up, persistently; holds nothing between calls."""

    def __init__(self, queue: StepQueue, endings: Endings, reporting: Reporting) -> None:
        """Give up leases of `queue`; `endings` hears of the runs that end by it."""
        self._queue = queue
        self._endings = endings
        self._reporting = reporting

    async def give_up(self, engine: EngineNo, steps: Sequence[Follow]) -> tuple[Sequence[Lease], Sequence[Lease]]:
        """Which leases are gone, and which are kept because their flight has ended, or is just ending: ask again."""
        waits = [(step.lease, step.flight) for step in steps]
        followed = await answered(partial(self._queue.follow, engine, waits), self._reporting)
        gone: list[Lease] = []
        kept: list[Lease] = []
        for step, outcome in zip(steps, followed.outcomes, strict=True):
            (kept if outcome is Following.FLIGHT_ENDED else gone).append(step.lease)
        self._reporting.runs_changed([step.lease.run for step in steps])
        await self._endings.happened(followed.ended, {step.lease.run: step.context for step in steps})
        return gone, kept
