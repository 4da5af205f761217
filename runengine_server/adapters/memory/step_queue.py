"""The queue of ready steps and the engines' leases in memory; for tests and simulation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from runengine_server.adapters.memory.tables import (
    FailedTry,
    MemoryTables,
    Move,
    Place,
    QueuedStep,
    RunRecord,
    StepResult,
)
from runengine_server.domain.failure import RUN_CANCELLED, RUN_DEADLINE_EXCEEDED, Failure
from runengine_server.domain.ids import EngineNo, RunKey, StepNo
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheQuestion,
    Completion,
    Dependents,
    EndedRun,
    Lease,
    StepExecuted,
    StepFailed,
    StepReused,
    Turn,
)

LEASE_LOSSES_MAX = 5
OVERDUE_GRACE_S = 10.0
_DEADLINE_MESSAGE = "the deadline of the run has passed"


@dataclass(slots=True)
class _Turn:
    """What one tick has done so far; `moves` by run in the order of their events."""

    engine: EngineNo
    now: float
    moves: dict[RunKey, list[Move]] = field(default_factory=dict)
    unlocked: dict[Place, int] = field(default_factory=dict)
    was_failing: set[RunKey] = field(default_factory=set)
    failing: dict[RunKey, None] = field(default_factory=dict)
    leases: list[Lease] = field(default_factory=list)

    def move(self, run: RunKey, move: Move) -> None:
        self.moves.setdefault(run, []).append(move)


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
    ) -> Turn:
        """See the port."""
        tables = self._tables
        turn = _Turn(engine, tables.now())
        for completion in completions:
            if (run := tables.runs.get(completion.lease.run)) is not None and run.is_failing:
                turn.failing[run.key] = None
        turn.was_failing = set(turn.failing)
        accepted = [self._take(turn, completion) for completion in completions]
        if tables.engines.get(engine, 0.0) <= turn.now:
            capacity = 0  # an engine whose own lease has ended commits, but leases nothing
        self._ready_unlocked(turn, capacity)
        if not turn.failing:  # a turn that has runs to settle comes back for more at once
            self._lease_free(turn, capacity - len(turn.leases))
        begun, ended = [], []
        for key, moves in turn.moves.items():
            has_begun, has_ended = tables.apply_moves(tables.runs[key], moves)
            begun += [key] * has_begun
            ended += [key] * has_ended
        ended += [key for key in turn.failing if tables.settle_run(tables.runs[key])]
        return Turn(
            accepted=accepted,
            misses=[None] * len(turn.leases),
            leases=turn.leases,
            begun=begun,
            ended=[_ended(tables.runs[key]) for key in ended],
            next_available_s=None if turn.leases else self._next_available_s(turn),
        )

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        """See the port."""
        if queued := self._held_by(engine, lease):
            queued.timeout_ms = -abs(queued.timeout_ms)

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> None:
        """See the port."""
        if queued := self._held_by(engine, lease):
            queued.timeout_ms = timeout_ms
            queued.leased_at = self._tables.now()

    async def owned(self, engine: EngineNo) -> Sequence[Lease]:
        """See the port."""
        return [_lease(place, queued) for place, queued in self._tables.queue.items() if queued.engine == engine]

    def _held_by(self, engine: EngineNo, lease: Lease) -> QueuedStep | None:
        queued = self._tables.queue.get((lease.run, lease.step))
        return queued if queued and queued.engine == engine and queued.epoch == lease.epoch else None

    def _take(self, turn: _Turn, completion: Completion) -> bool:
        """Apply a completion unless its lease is gone."""
        lease = completion.lease
        place = lease.run, lease.step
        queued = self._tables.queue.get(place)
        if queued is None or queued.engine != turn.engine or queued.epoch != lease.epoch:
            return False
        run = self._tables.runs[lease.run]
        del self._tables.queue[place]
        match completion:
            case StepExecuted():
                self._executed(turn, run, completion, queued)
            case StepReused():
                self._reused(turn, completion, queued)
            case AttemptFailed():
                self._attempt_failed(turn, completion, queued)
            case StepFailed():
                attempt = queued.attempt - (not completion.is_attempted)
                self._end_failed(turn, queued, attempt, completion)
                self._tables.blame(run, lease.step, completion.run_failure)
            case _:
                assert_never(completion)
        return True

    def _executed(self, turn: _Turn, run: RunRecord, done: StepExecuted, queued: QueuedStep) -> None:
        tables, lease = self._tables, done.lease
        place = lease.run, lease.step
        tables.results[place] = StepResult(
            status=StepStatus.COMPLETED,
            attempt=queued.attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at,
            ended_at=turn.now,
            epoch=queued.epoch,
            source=OutputSource.EXECUTED,
            producer=place,
            input_hash=done.input_hash,
            cache_version=done.cache_version,
            output_hash=done.output_hash,
            decision=done.decision,
        )
        tables.outputs[place], tables.artifacts[place] = done.output, done.artifacts
        if done.filing is not None:
            key = (run.new.tenant, done.filing.workflow_name, done.filing.step_id, done.input_hash)
            tables.filed[key] = done.filing.fingerprint, place
            tables.removed.discard(key)
        for ordinal in range(len(done.artifacts)):
            turn.move(lease.run, Move(step=lease.step, attempt=None, ordinal=ordinal))
        turn.move(lease.run, _from_running(lease.step, queued.attempt, StepStatus.COMPLETED))
        self._count_down(turn, run, done.dependents)

    def _reused(self, turn: _Turn, done: StepReused, queued: QueuedStep) -> None:
        lease, attempt = done.lease, queued.attempt - 1
        self._tables.results[lease.run, lease.step] = StepResult(
            status=StepStatus.SKIPPED,
            attempt=attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at,
            ended_at=turn.now,
            epoch=queued.epoch,
            source=done.source,
            producer=(done.producer_run, done.producer_step),
            input_hash=done.input_hash,
            cache_version=done.cache_version,
            output_hash=done.output_hash,
            decision=done.decision,
        )
        turn.move(lease.run, _from_running(lease.step, attempt, StepStatus.SKIPPED))
        self._count_down(turn, self._tables.runs[lease.run], done.dependents)

    def _attempt_failed(self, turn: _Turn, failed: AttemptFailed, queued: QueuedStep) -> None:
        lease = failed.lease
        place = lease.run, lease.step
        if lease.run in turn.was_failing:  # in a failing run nothing is tried again
            self._end_failed(turn, queued, queued.attempt, failed)
            return
        self._note_try(place, queued, queued.attempt, failed.failure)
        self._tables.queue[place] = QueuedStep(
            timeout_ms=abs(queued.timeout_ms),
            ready_at=turn.now,
            available_at=turn.now + failed.delay_ms / 1000,
            epoch=queued.epoch,
            attempt=queued.attempt + 1,
            lease_losses=queued.lease_losses,
        )
        turn.move(lease.run, _from_running(lease.step, queued.attempt, StepStatus.READY))

    def _end_failed(self, turn: _Turn, queued: QueuedStep, attempt: int, failed: AttemptFailed | StepFailed) -> None:
        place = failed.lease.run, failed.lease.step
        self._note_try(place, queued, attempt, failed.failure)
        self._tables.results[place] = StepResult(
            status=StepStatus.FAILED,
            attempt=attempt,
            lease_losses=queued.lease_losses,
            started_at=queued.leased_at,
            ended_at=turn.now,
            epoch=queued.epoch,
            input_hash=failed.input_hash or "",
            decision=failed.decision,
            error=failed.failure,
        )
        turn.failing[place[0]] = None
        turn.move(place[0], _from_running(place[1], attempt, StepStatus.FAILED))

    def _note_try(self, place: Place, queued: QueuedStep, attempt: int, failure: Failure) -> None:
        self._tables.tries.append(FailedTry(place=place, attempt=attempt, epoch=queued.epoch, failure=failure))

    def _count_down(self, turn: _Turn, run: RunRecord, dependents: Dependents) -> None:
        for step, timeout_ms in zip(dependents.steps, dependents.timeouts_ms, strict=True):
            run.waiting_for[step] -= 1
            if run.waiting_for[step] == 0:
                turn.unlocked[run.key, step] = timeout_ms

    def _ready_unlocked(self, turn: _Turn, capacity: int) -> None:
        """Queue what this turn made ready, leased at once as far as there is capacity and nothing more urgent waits."""
        runs = self._tables.runs
        unlocked = sorted(place for place in turn.unlocked if not runs[place[0]].is_failing)
        if unlocked and self._first_priority(turn) > min(runs[run].new.priority for run, _ in unlocked):
            capacity = 0
        for place in unlocked:
            assert place not in self._tables.results, f"step {place} has ended; it must not become ready"
            timeout_ms = turn.unlocked[place]
            queued = QueuedStep(timeout_ms=timeout_ms, ready_at=turn.now, available_at=turn.now)
            self._tables.queue[place] = queued
            is_leased = len(turn.leases) < capacity
            if is_leased:
                self._grant(turn, place, queued)
            to = StepStatus.RUNNING if is_leased else StepStatus.READY
            turn.move(place[0], Move(step=place[1], attempt=1, from_status=StepStatus.PENDING, to_status=to))

    def _first_priority(self, turn: _Turn) -> int:
        """The highest priority among steps that wait to be leased; -1 when none does."""
        return max(
            (
                self._tables.runs[place[0]].new.priority
                for place, queued in self._tables.queue.items()
                if queued.engine is None and queued.available_at <= turn.now
            ),
            default=-1,
        )

    def _lease_free(self, turn: _Turn, capacity: int) -> None:
        if capacity <= 0:
            return
        runs = self._tables.runs
        free = sorted(
            (-runs[place[0]].new.priority, queued.available_at, place)
            for place, queued in self._tables.queue.items()
            if queued.engine is None and queued.available_at <= turn.now
        )
        for _, _, place in free[:capacity]:
            run, queued = runs[place[0]], self._tables.queue[place]
            if run.is_failing or run.status.is_terminal:
                continue
            self._grant(turn, place, queued)
            turn.move(
                place[0],
                Move(
                    step=place[1],
                    attempt=queued.attempt,
                    from_status=StepStatus.READY,
                    to_status=StepStatus.RUNNING,
                ),
            )

    def _grant(self, turn: _Turn, place: Place, queued: QueuedStep) -> None:
        queued.engine, queued.leased_at = turn.engine, turn.now
        queued.epoch += 1
        turn.leases.append(_lease(place, queued))

    def _next_available_s(self, turn: _Turn) -> float | None:
        if turn.failing:
            return 0.001
        free = [queued.available_at - turn.now for queued in self._tables.queue.values() if queued.engine is None]
        return min((delay_s for delay_s in free if delay_s > 0), default=None)


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

    async def retire(self, engine: EngineNo) -> Sequence[RunKey]:
        """See the port."""
        held = [place for place, queued in self._tables.queue.items() if queued.engine == engine]
        concerned = self._tables.take_back(held, is_lost=False, losses_max=LEASE_LOSSES_MAX)
        self._tables.engines.pop(engine, None)
        return concerned

    async def reap(self) -> Sequence[RunKey]:
        """See the port."""
        tables, now = self._tables, self._tables.now()
        dead = [engine for engine, lease_until in tables.engines.items() if lease_until < now]
        for engine in dead:
            del tables.engines[engine]
        lost = [place for place, queued in tables.queue.items() if self._is_lost(queued, now)]
        return tables.take_back(lost, is_lost=True, losses_max=LEASE_LOSSES_MAX)

    async def enforce_deadlines(self) -> Sequence[RunKey]:
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
        return [run.key for run in late]

    def _is_lost(self, queued: QueuedStep, now: float) -> bool:
        """True for a lease whose engine is gone, or has lost sight of it: far beyond its timeout and not held back."""
        if queued.engine is None or queued.leased_at is None:
            return False
        overdue_at = queued.leased_at + queued.timeout_ms / 1000 + OVERDUE_GRACE_S
        return queued.engine not in self._tables.engines or (queued.timeout_ms > 0 and overdue_at < now)


def _lease(place: Place, queued: QueuedStep) -> Lease:
    return Lease(place[0], place[1], queued.epoch, queued.attempt, queued.lease_losses)


def _from_running(step: StepNo, attempt: int, to_status: StepStatus) -> Move:
    return Move(step=step, attempt=attempt, from_status=StepStatus.RUNNING, to_status=to_status)


def _ended(run: RunRecord) -> EndedRun:
    assert run.ended_at is not None, "a terminal run has an end"
    return EndedRun(
        run=run.key,
        status=run.status,
        duration_ms=round((run.ended_at - run.created_at) * 1000),
        failed_step=run.failed_step,
        failure=run.error,
    )
