"""Measures the scheduler's turns and counts what lost leases bring back, in front of the ports of both."""

from collections.abc import Sequence
from time import perf_counter

from runengine_server.adapters.telemetry.metrics import Metrics
from runengine_server.domain.cache import FlightId
from runengine_server.domain.ids import EngineNo, Place
from runengine_server.ports.step_queue import (
    CacheQuestion,
    Completion,
    EndedRun,
    EngineRegistry,
    Followed,
    Following,
    Holdings,
    Lease,
    Recorded,
    StepQueue,
    TakenBack,
    Turn,
)


class MeteredStepQueue:
    """StepQueue that counts turns, their sizes and durations, and joined flights."""

    def __init__(self, inner: StepQueue, metrics: Metrics) -> None:
        """Pass on to `inner`."""
        self._inner = inner
        self._metrics = metrics

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        """See the port; a turn without an answer is not counted."""
        began_s = perf_counter()
        turn = await self._inner.tick(engine, completions, capacity, questions, known)
        metrics = self._metrics
        metrics.turn_duration.observe(perf_counter() - began_s)
        metrics.turn_completions.observe(len(completions))
        metrics.turn_leases.observe(len(turn.leases))
        return turn

    async def follow(self, engine: EngineNo, waits: Sequence[tuple[Lease, FlightId]]) -> Followed:
        """See the port."""
        followed = await self._inner.follow(engine, waits)
        self._metrics.flights_joined.inc(sum(outcome is Following.WAITING for outcome in followed.outcomes))
        return followed

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        """See the port."""
        await self._inner.hold(engine, lease)

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> bool:
        """See the port."""
        return await self._inner.begin(engine, lease, timeout_ms)

    async def owned(self, engine: EngineNo) -> Holdings:
        """See the port."""
        return await self._inner.owned(engine)

    async def hand_back(self, leases: Sequence[Lease]) -> TakenBack:
        """See the port."""
        return await self._inner.hand_back(leases)

    async def recorded(self, engine: EngineNo, leases: Sequence[Lease]) -> Recorded:
        """See the port."""
        return await self._inner.recorded(engine, leases)


class MeteredEngineRegistry:
    """EngineRegistry that counts the runs to which reaping brought steps back."""

    def __init__(self, inner: EngineRegistry, metrics: Metrics) -> None:
        """Pass on to `inner`."""
        self._inner = inner
        self._metrics = metrics

    async def register(self, engine_id: str, description: str, lease_s: float) -> EngineNo:
        """See the port."""
        return await self._inner.register(engine_id, description, lease_s)

    async def renew(self, engine: EngineNo, lease_s: float) -> bool:
        """See the port."""
        return await self._inner.renew(engine, lease_s)

    async def retire(self, engine: EngineNo) -> TakenBack:
        """See the port."""
        return await self._inner.retire(engine)

    async def reap(self) -> TakenBack:
        """See the port."""
        taken = await self._inner.reap()
        self._metrics.runs_recovered.inc(len(taken.runs))
        return taken

    async def enforce_deadlines(self) -> Sequence[EndedRun]:
        """See the port."""
        return await self._inner.enforce_deadlines()

    async def next_deadline_s(self) -> float | None:
        """See the port."""
        return await self._inner.next_deadline_s()
