"""Runs, queue and results in memory: what the stores of this package share, and the moves that change them.

Faithful to the SQL functions of adapters/postgres, so that what holds here holds there; both are held to
tests/contract/test_step_queue.py. One event loop, no awaits: every operation is atomic by itself.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from runengine_server.adapters.memory.queued_steps import Flights, QueuedStep
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheDecision, CacheKey, Fingerprint
from runengine_server.domain.failure import LEASE_LOST_REPEATEDLY, UPSTREAM_FAILED, Failure
from runengine_server.domain.ids import EngineNo, Place, RunId, RunKey, SkillId, StepNo, Tenant
from runengine_server.domain.states import (
    STEP_TRANSITIONS,
    FailurePolicy,
    OutputSource,
    RunEventType,
    RunStatus,
    StepStatus,
)
from runengine_server.ports.clock import Clock
from runengine_server.ports.run_store import EarlierAnswer, NewRun
from runengine_server.ports.step_queue import Lease

COUNTED = (
    StepStatus.RUNNING,
    StepStatus.COMPLETED,
    StepStatus.SKIPPED,
    StepStatus.FAILED,
    StepStatus.CANCELLED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step ended; `producer` names who executed it when it succeeded; `epoch` of the lease that ended it."""

    status: StepStatus
    attempt: int
    lease_losses: int
    ended_at: float
    epoch: int | None = None
    started_at: float | None = None
    source: OutputSource | None = None
    producer: Place | None = None
    input_hash: str = ""
    cache_version: str = ""
    output_hash: str = ""
    decision: CacheDecision | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTry:
    """An attempt that failed, whether another followed or not."""

    place: Place
    attempt: int
    epoch: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A numbered event; a run's has no step, an artifact's an ordinal and no states; `counts` are those after it.

    `leader`: the step whose end the step waits for from now on.
    """

    sequence: int
    type: RunEventType
    counts: tuple[int, int, int, int, int]
    step: StepNo | None = None
    attempt: int | None = None
    ordinal: int | None = None
    from_status: int | None = None
    to_status: int | None = None
    leader: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step's change of state, or with an ordinal one of its artifacts; `leader` as in StoredEvent."""

    step: StepNo
    attempt: int | None
    from_status: StepStatus | None = None
    to_status: StepStatus | None = None
    ordinal: int | None = None
    leader: Place | None = None


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """A run: what never changes in `new`, the rest mutable."""

    key: RunKey
    new: NewRun
    created_at: float
    deadline_at: float | None
    waiting_for: list[int]
    remaining: int
    status: RunStatus = RunStatus.QUEUED
    counts: dict[StepStatus, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    is_failing: bool = False
    failed_step: StepNo | None = None
    error: Failure | None = None
    ended_at: float | None = None
    cancel_reason: str | None = None
    events: list[StoredEvent] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class PermitRow:
    """What an engine wants and holds of a skill; `served` when it was last seen holding any."""

    turn: int
    limit: int
    wanted: int
    asked_at: float
    held: int = 0
    served: int = 0


class MemoryTables:
    """The state; unbounded, for tests and simulation."""

    def __init__(self, clock: Clock) -> None:
        """Empty; leases, delays and deadlines follow `clock`."""
        self._clock = clock
        self.runs: dict[RunKey, RunRecord] = {}
        self.by_id: dict[RunId, RunKey] = {}
        self.queue: dict[Place, QueuedStep] = {}
        self.flights = Flights(self.queue)
        self.lots = Random(0)
        self.results: dict[Place, StepResult] = {}
        self.outputs: dict[Place, bytes] = {}
        self.artifacts: dict[Place, tuple[ProducedArtifact, ...]] = {}
        self.tries: list[FailedTry] = []
        self.filed: dict[tuple[Tenant, str, str, str], tuple[Fingerprint, Place]] = {}
        self.removed: set[tuple[Tenant, str, str, str]] = set()
        self.removals: Counter[tuple[Tenant, str]] = Counter()
        self.requests: dict[tuple[Tenant, str, str], EarlierAnswer] = {}
        self.committed: dict[tuple[EngineNo, Lease], frozenset[RunKey]] = {}  # and the runs that ended with it
        self.engines: dict[EngineNo, float] = {}
        self.engines_ever = 0
        self.permits: dict[SkillId, dict[EngineNo, PermitRow]] = {}
        self.permit_exchanges = 0

    def now(self) -> float:
        """The clock that leases and delays follow, in seconds."""
        return self._clock.now().timestamp()

    def apply_moves(self, run: RunRecord, moves: Sequence[Move]) -> tuple[bool, bool]:
        """Append an event per move and count it; returns whether the run began and whether it completed."""
        has_lease = any(move.to_status is StepStatus.RUNNING for move in moves)
        begins = run.status is RunStatus.QUEUED and has_lease
        if begins:
            self._run_event(run, RunStatus.RUNNING)
        for move in moves:
            self._count(run, move)
            run.events.append(
                StoredEvent(
                    sequence=len(run.events) + 1,
                    type=RunEventType.ARTIFACT if move.to_status is None else RunEventType.STEP_STATUS,
                    counts=_counts(run),
                    step=move.step,
                    attempt=move.attempt,
                    ordinal=move.ordinal,
                    from_status=move.from_status,
                    to_status=move.to_status,
                    leader=move.leader,
                )
            )
        ends = run.remaining == 0 and not run.status.is_terminal
        if ends:
            if run.status is RunStatus.QUEUED:
                begins = True
                self._run_event(run, RunStatus.RUNNING)
            self._end(run, RunStatus.COMPLETED)
        return begins, ends

    def stop_run(self, run: RunRecord, status: RunStatus, code: str, message: str, error: Failure | None) -> None:
        """End a run as failed or cancelled: its open steps become cancelled, the terminal event is last."""
        moves = []
        for number in range(len(run.new.plan)):
            place = run.key, StepNo(number)
            if place not in self.results:
                moves.append(self._drop(place, code, message))
        self.apply_moves(run, moves)
        run.error = error
        self._end(run, status)
        self.flights.hand_over(run.key)

    def settle_run(self, run: RunRecord) -> bool:
        """Move a failing run towards its end; True when it ended."""
        if not run.is_failing or run.status.is_terminal:
            return False
        fails_fast = run.new.failure_policy is FailurePolicy.FAIL_FAST
        message = "another step of the run failed"
        dropped = sorted(p for p, q in self.queue.items() if p[0] == run.key and (q.engine is None or fails_fast))
        self.apply_moves(run, [self._drop(place, UPSTREAM_FAILED, message) for place in dropped])
        if any(place[0] == run.key for place in self.queue):
            self.flights.hand_over(run.key)
            return False
        self.stop_run(run, RunStatus.FAILED, UPSTREAM_FAILED, message, run.error)
        return True

    def blame(self, run: RunRecord, step: StepNo, error: Failure) -> None:
        """The run is failing because of a step; the first one is named."""
        run.is_failing = True
        run.failed_step = step if run.failed_step is None else run.failed_step
        run.error = run.error or error

    def take_back(self, places: Iterable[Place], *, is_lost: bool, losses_max: int) -> list[RunKey]:
        """Put leased steps back; one that was lost too often fails instead. Returns the runs concerned."""
        now, moves = self.now(), dict[RunKey, list[Move]]()
        for place in sorted(places):
            queued = self.queue[place]
            is_counted = is_lost and queued.timeout_ms >= 0  # who waited for a slot of its skill ran nothing
            is_poison = is_counted and queued.lease_losses >= losses_max
            to = StepStatus.FAILED if is_poison else StepStatus.READY
            moves.setdefault(place[0], []).append(
                Move(step=place[1], attempt=queued.attempt, from_status=StepStatus.RUNNING, to_status=to)
            )
            if is_poison:
                self._fail_poison(place, queued)
            else:
                queued.engine, queued.leased_at, queued.available_at = None, None, now
                queued.timeout_ms = abs(queued.timeout_ms)
                queued.lease_losses += is_counted
        for key, of_run in moves.items():
            self.apply_moves(self.runs[key], of_run)
        for key in moves:
            self.settle_run(self.runs[key])
        return list(moves)

    def is_alive(self, engine: EngineNo) -> bool:
        """Whether the engine's own lease has not ended."""
        return self.engines.get(engine, 0.0) > self.now()

    def is_key_known(self, key: CacheKey) -> bool:
        """True when the cache has anything under the key, be it a removal."""
        name = key.tenant, key.workflow_name, key.step_id, key.input_hash
        return name in self.filed or name in self.removed

    def is_step_known(self, key: CacheKey) -> bool:
        """True when a success of the key's step was ever filed."""
        step = key.tenant, key.workflow_name, key.step_id
        return any(other[:3] == step for other in (*self.filed, *self.removed))

    def history(self, run: RunKey) -> list[StoredEvent]:
        """The run's events, in order."""
        return list(self.runs[run].events)

    def _fail_poison(self, place: Place, queued: QueuedStep) -> None:
        error = Failure(code=LEASE_LOST_REPEATEDLY, message="whoever ran the step was lost each time")
        del self.queue[place]
        self.results[place] = StepResult(
            status=StepStatus.FAILED,
            attempt=queued.attempt,
            lease_losses=queued.lease_losses + 1,
            started_at=queued.leased_at,
            ended_at=self.now(),
            epoch=queued.epoch,
            error=error,
        )
        self.blame(self.runs[place[0]], place[1], error)

    def _drop(self, place: Place, code: str, message: str) -> Move:
        """Cancel a step that is not terminal."""
        queued = self.queue.pop(place, None)
        from_status = StepStatus.PENDING
        if queued is not None:
            from_status = StepStatus.READY if queued.engine is None else StepStatus.RUNNING
        attempt = queued.attempt if queued else 0
        self.results[place] = StepResult(
            status=StepStatus.CANCELLED,
            attempt=attempt,
            lease_losses=queued.lease_losses if queued else 0,
            started_at=queued.leased_at if queued else None,
            ended_at=self.now(),
            error=Failure(code=code, message=message),
        )
        return Move(step=place[1], attempt=attempt, from_status=from_status, to_status=StepStatus.CANCELLED)

    def _count(self, run: RunRecord, move: Move) -> None:
        if move.from_status is None or move.to_status is None:
            return
        assert move.to_status in STEP_TRANSITIONS[move.from_status], f"{move} is not a legal move"
        if move.from_status is StepStatus.RUNNING:
            run.counts[StepStatus.RUNNING] -= 1
        if move.to_status in run.counts:
            run.counts[move.to_status] += 1
        if move.to_status in (StepStatus.COMPLETED, StepStatus.SKIPPED):
            run.remaining -= 1

    def _end(self, run: RunRecord, status: RunStatus) -> None:
        self._run_event(run, status)
        run.ended_at = self.now()

    def _run_event(self, run: RunRecord, status: RunStatus) -> None:
        run.events.append(
            StoredEvent(
                sequence=len(run.events) + 1,
                type=RunEventType.RUN_STATUS,
                counts=_counts(run),
                from_status=run.status,
                to_status=status,
            )
        )
        run.status = status


def first_event(run: RunRecord) -> StoredEvent:
    """A run is queued."""
    return StoredEvent(sequence=1, type=RunEventType.RUN_STATUS, counts=_counts(run), to_status=RunStatus.QUEUED)


def _counts(run: RunRecord) -> tuple[int, int, int, int, int]:
    running, completed, skipped, failed, cancelled = (run.counts[status] for status in COUNTED)
    return running, completed, skipped, failed, cancelled
