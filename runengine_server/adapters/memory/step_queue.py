"""The queue of ready steps and the engines' leases in memory; for tests and simulation."""

from collections.abc import Sequence

from runengine_server.adapters.memory.queued_steps import QueuedStep
from runengine_server.adapters.memory.tables import MemoryTables, Move, RunRecord
from runengine_server.adapters.memory.turn import MemoryTurn, as_lease
from runengine_server.domain.cache import FlightId
from runengine_server.domain.failure import RUN_CANCELLED, RUN_DEADLINE_EXCEEDED, Failure
from runengine_server.domain.ids import EngineNo, Place
from runengine_server.domain.states import RunStatus, StepStatus
from runengine_server.ports.step_queue import (
    CacheQuestion,
    Completion,
    EndedRun,
    Followed,
    Following,
    Holdings,
    Lease,
    Recorded,
    TakenBack,
    Turn,
)

LEASE_LOSSES_MAX = 5
OVERDUE_GRACE_S = 10.0
_DEADLINE_MESSAGE = "the deadline of the run has passed"


class MemoryStepQueue:
    """StepQueue over tables that a MemoryRunStore shares."""

    def __init__(self, tables: MemoryTables) -> None:
        """Lease from `tables`."""
        self._tables = tables

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        """See the port."""
        tables = self._tables
        turn = MemoryTurn(tables, engine)
        accepted = turn.commit(completions)
        turn.lease(capacity, known)
        done = [completion.lease for completion, is_taken in zip(completions, accepted, strict=True) if is_taken]
        tables.committed.update(dict.fromkeys(((engine, lease) for lease in done), frozenset(turn.ended)))
        return Turn(
            accepted=accepted,
            leases=turn.leases,
            misses=turn.answer(questions),
            begun=turn.begun,
            ended=[_ended(tables.runs[key]) for key in turn.ended],
            next_available_s=turn.next_available_s,
            look_s=turn.look_s,
        )

    async def follow(self, engine: EngineNo, waits: Sequence[tuple[Lease, FlightId]]) -> Followed:
        """See the port."""
        runs = self._tables.runs
        failing = sorted({lease.run for lease, _ in waits if runs[lease.run].is_failing})
        in_order = sorted(range(len(waits)), key=lambda at: (waits[at][0].run, waits[at][0].step))
        outcomes = {at: self._follow(engine, *waits[at], is_any_failing=bool(failing)) for at in in_order}
        ended = [run for run in failing if self._tables.settle_run(runs[run])]
        return Followed(outcomes=[outcomes[at] for at in range(len(waits))], ended=[_ended(runs[run]) for run in ended])

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        """See the port."""
        if queued := self._held_by(engine, lease):
            queued.timeout_ms = -abs(queued.timeout_ms)

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> bool:
        """See the port."""
        queued = self._held_by(engine, lease)
        if queued is None or self._tables.runs[lease.run].is_failing:
            return False
        queued.timeout_ms = timeout_ms
        queued.leased_at = self._tables.now()
        return True

    async def owned(self, engine: EngineNo) -> Holdings:
        """See the port."""
        leases = [as_lease(place, queued) for place, queued in self._tables.queue.items() if queued.engine == engine]
        runs = self._tables.runs
        return Holdings(leases=leases, failing={lease.run for lease in leases if runs[lease.run].is_failing})

    async def hand_back(self, leases: Sequence[Lease]) -> TakenBack:
        """See the port."""
        queue = self._tables.queue
        places = {(lease.run, lease.step): lease.epoch for lease in leases}
        held = [p for p, epoch in places.items() if p in queue and queue[p].engine and queue[p].epoch == epoch]
        return _taken_back(self._tables, held, is_lost=False)

    async def recorded(self, engine: EngineNo, leases: Sequence[Lease]) -> Recorded:
        """See the port."""
        tables = self._tables
        turns = [tables.committed.get((engine, lease)) for lease in leases]
        ended = {lease.run for lease, runs in zip(leases, turns, strict=True) if runs and lease.run in runs}
        return Recorded(
            is_recorded=[runs is not None for runs in turns], ended=[_ended(tables.runs[run]) for run in sorted(ended)]
        )

    def _held_by(self, engine: EngineNo, lease: Lease) -> QueuedStep | None:
        queued = self._tables.queue.get((lease.run, lease.step))
        return queued if queued and queued.engine == engine and queued.epoch == lease.epoch else None

    def _follow(self, engine: EngineNo, lease: Lease, flight: FlightId, *, is_any_failing: bool) -> Following:
        tables, place = self._tables, (lease.run, lease.step)
        run, leader = tables.runs[lease.run], tables.flights.leaders.get(flight)
        is_waiting = leader not in (None, place) and not is_any_failing
        if not is_waiting and not run.is_failing:
            return Following.FLIGHT_ENDED
        queued = self._held_by(engine, lease)
        if queued is None:
            return Following.LEASE_LOST
        queued.engine, queued.leased_at, queued.begun_at, queued.is_follower = None, None, None, True
        queued.timeout_ms = abs(queued.timeout_ms)
        queued.waiting_on = flight if is_waiting else None
        move = Move(
            step=lease.step,
            attempt=queued.attempt,
            from_status=StepStatus.RUNNING,
            to_status=StepStatus.READY,
            leader=leader if is_waiting else None,
        )
        tables.apply_moves(run, [move])
        return Following.WAITING


class MemoryEngineRegistry:
    """EngineRegistry over the same tables."""

    def __init__(self, tables: MemoryTables) -> None:
        """Register in `tables`."""
        self._tables = tables

    async def register(self, engine_id: str, description: str, lease_s: float) -> EngineNo:
        """See the port."""
        tables = self._tables
        tables.engines_ever += 1
        engine = EngineNo(tables.engines_ever)
        tables.engines[engine] = tables.now() + lease_s
        return engine

    async def renew(self, engine: EngineNo, lease_s: float) -> bool:
        """See the port."""
        if engine not in self._tables.engines:
            return False
        self._tables.engines[engine] = self._tables.now() + lease_s
        return True

    async def retire(self, engine: EngineNo) -> TakenBack:
        """See the port."""
        held = [place for place, queued in self._tables.queue.items() if queued.engine == engine]
        taken = _taken_back(self._tables, held, is_lost=False)
        self._tables.engines.pop(engine, None)
        return taken

    async def reap(self) -> TakenBack:
        """See the port."""
        tables, now = self._tables, self._tables.now()
        tables.flights.reap()
        dead = [engine for engine, lease_until in tables.engines.items() if lease_until < now]
        for engine in dead:
            del tables.engines[engine]
        lost = [place for place, queued in tables.queue.items() if self._is_lost(queued, now)]
        return _taken_back(tables, lost, is_lost=True)

    async def enforce_deadlines(self) -> Sequence[EndedRun]:
        """See the port."""
        now = self._tables.now()
        late = [
            run
            for run in self._tables.runs.values()
            if run.deadline_at is not None and run.deadline_at <= now and not run.status.is_terminal
        ]
        for run in late:
            error = Failure(code=RUN_DEADLINE_EXCEEDED, message=_DEADLINE_MESSAGE)
            self._tables.stop_run(run, RunStatus.FAILED, RUN_CANCELLED, _DEADLINE_MESSAGE, error)
        return [_ended(run) for run in late]

    async def next_deadline_s(self) -> float | None:
        """See the port."""
        now = self._tables.now()
        runs = self._tables.runs.values()
        return min(
            (run.deadline_at - now for run in runs if run.deadline_at is not None and not run.status.is_terminal),
            default=None,
        )

    def _is_lost(self, queued: QueuedStep, now: float) -> bool:
        """True for a lease whose engine is gone, or has lost sight of it: far beyond its timeout and not held back."""
        if queued.engine is None or queued.leased_at is None:
            return False
        overdue_at = queued.leased_at + queued.timeout_ms / 1000 + OVERDUE_GRACE_S
        return queued.engine not in self._tables.engines or (queued.timeout_ms > 0 and overdue_at < now)


def _taken_back(tables: MemoryTables, places: Sequence[Place], *, is_lost: bool) -> TakenBack:
    runs = tables.take_back(places, is_lost=is_lost, losses_max=LEASE_LOSSES_MAX)
    return TakenBack(runs=runs, ended=[_ended(tables.runs[run]) for run in runs if tables.runs[run].status.is_terminal])


def _ended(run: RunRecord) -> EndedRun:
    assert run.ended_at is not None, "a terminal run has an end"
    return EndedRun(
        run=run.key,
        status=run.status,
        duration_ms=round((run.ended_at - run.created_at) * 1000),
        failed_step=run.failed_step,
        failure=run.error,
    )
