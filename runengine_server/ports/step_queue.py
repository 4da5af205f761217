"""The queue of ready steps and the one operation that moves runs forward: the tick."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheDecision, CacheMiss, CacheQuery, Fingerprint, FlightId
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, Place, RunKey, StepNo
from runengine_server.domain.states import OutputSource, RunStatus
from runengine_server.domain.value import value


@value()
class Lease:
    """A time-limited right to run one attempt; `epoch` grows with each lease of the step and fences late results.

    `is_follower`: the step has waited for another run's identical step; what it now finds in the cache is joined.
    """

    run: RunKey
    step: StepNo
    epoch: int
    attempt: int
    lease_losses: int
    is_follower: bool = False


@dataclass(frozen=True, slots=True)
class Dependents:
    """The steps that wait for a step, with the attempt timeout each will have, in milliseconds; same length."""

    steps: tuple[StepNo, ...]
    timeouts_ms: tuple[int, ...]


@value(kw_only=True)
class CacheFiling:
    """Where a success is filed in the cache; `fingerprint` is that of the build that executed."""

    workflow_name: str
    step_id: str
    fingerprint: Fingerprint


@value(kw_only=True)
class StepExecuted:
    """The skill succeeded: canonical output bytes, committed with everything that follows from them."""

    lease: Lease
    input_hash: str
    cache_version: str
    skill_id: str
    skill_version: str
    output: bytes
    output_hash: str
    artifacts: tuple[ProducedArtifact, ...]
    decision: CacheDecision
    dependents: Dependents
    filing: CacheFiling | None
    flight: FlightId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReused:
    """An existing output is used instead of executing."""

    lease: Lease
    source: OutputSource
    producer_run: RunKey
    producer_step: StepNo
    input_hash: str
    cache_version: str
    output_hash: str
    decision: CacheDecision | None
    dependents: Dependents
    flight: FlightId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The attempt failed and another will follow after `delay_ms`, unless its run is failing by then.

    `input_hash` and `decision` are recorded only in that case: the step then ends as failed.
    """

    lease: Lease
    failure: Failure
    delay_ms: int
    worker_id: str = ""
    input_hash: str | None = None
    decision: CacheDecision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """The step failed for good; `run_failure` is what the run carries; no skill was tried when not `is_attempted`."""

    lease: Lease
    failure: Failure
    run_failure: Failure
    is_attempted: bool
    input_hash: str | None = None
    decision: CacheDecision | None = None
    worker_id: str = ""


Completion = StepExecuted | StepReused | AttemptFailed | StepFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that became terminal; `duration_ms` from its creation, the rest only when it failed."""

    run: RunKey
    status: RunStatus
    duration_ms: int
    failed_step: StepNo | None
    failure: Failure | None


@value()
class CacheQuestion:
    """What a step will ask the cache when it is leased; the query's claimant is the step.

    `flight`: the query's, which costs a hash. `is_step_known`: some success of the step is known to have been filed,
    so that a miss is not NEVER_SEEN. `wants_generation`: the miss must say how many removals there were.
    """

    query: CacheQuery
    flight: FlightId
    is_step_known: bool
    wants_generation: bool = True

    @property
    def step(self) -> StepNo:
        """Whose question it is."""
        assert self.query.claimant is not None, "whoever asks in advance will execute"
        return self.query.claimant[1]


class Following(IntEnum):
    """What became of a lease that was to be given up for a flight."""

    FLIGHT_ENDED = 0
    WAITING = 1
    LEASE_LOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What became of leases that were to be given up for flights, in their order, and the runs that ended by it."""

    outcomes: Sequence[Following]
    ended: Sequence[EndedRun]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one tick did: which completions were accepted (same order), what was leased, which runs began and ended.

    `misses`, one for each lease: the cache has nothing for the step, which from now on leads its flight; None where no
    question was asked, and where the cache must be asked. `next_available_s`: seconds until there may be more to lease
    although nothing ends until then, 0 for at once; None when there is nothing. `look_s`: how long it looked at the
    queue; None where it did not, and so says nothing of what else there may be.
    """

    accepted: Sequence[bool]
    leases: Sequence[Lease]
    misses: Sequence[CacheMiss | None]
    begun: Sequence[RunKey]
    ended: Sequence[EndedRun]
    next_available_s: float | None
    look_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The leases an engine holds according to the database, and which of their runs are failing."""

    leases: Sequence[Lease]
    failing: Collection[RunKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Which completions are committed (same order as asked), and the runs that ended in the same transactions."""

    is_recorded: Sequence[bool]
    ended: Sequence[EndedRun]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """The runs whose leases went back to the queue, or were lost once too often; and which of them ended."""

    runs: Sequence[RunKey]
    ended: Sequence[EndedRun]


class StepQueue(Protocol):
    """Leases and completions; every operation is one transaction, bounded in time."""

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        """Commit completions, ready their dependents and lease up to `capacity` steps.

        Args:
            engine: whose tick it is.
            completions: what its attempts returned.
            capacity: how many steps it can take on.
            questions: in order of run and step; answered for steps that this tick leases.
            known: steps that are in the queue as far as the engine knows: of it only they are leased, where there is
                room for all. None: whatever is there.

        Atomic with: results, outputs, artifacts, cache entries, events, progress.
        Idempotent by: engine and epoch; a completion whose lease is gone is not accepted and changes nothing.

        Raises:
            UnavailableError: the outcome is unknown; call again with the same completions.
        """

    async def follow(self, engine: EngineNo, waits: Sequence[tuple[Lease, FlightId]]) -> Followed:
        """Give up leases whose identical step another run executes: each step waits, ready, for the end of that flight.

        Where the flight has ended meanwhile the lease is kept, and the cache must be asked again.

        Atomic with: an event that names the leader.

        Raises:
            UnavailableError: the outcome is unknown; what was given up is no longer owned.
        """

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        """The attempt waits for a free slot of its skill: however long that takes, its lease is not overdue."""

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> bool:
        """An attempt that was held starts now, with its whole timeout ahead; False where it must not start any more.

        That is when its lease is gone or its run is failing.
        """

    async def owned(self, engine: EngineNo) -> Holdings:
        """What the engine holds according to the database."""

    async def hand_back(self, leases: Sequence[Lease]) -> TakenBack:
        """Give up leases whose attempts did not begin: the steps are ready again, cancelled where their run is failing.

        Idempotent by: the epoch; leases that are gone are left alone.
        """

    async def recorded(self, engine: EngineNo, leases: Sequence[Lease]) -> Recorded:
        """Whether the engine's completions of these leases, whose turn's reply was lost, are committed."""


class EngineRegistry(Protocol):
    """Which engines live; each holds one lease for all its steps."""

    async def register(self, engine_id: str, description: str, lease_s: float) -> EngineNo:
        """Add an engine that never was before; its lease runs from now."""

    async def renew(self, engine: EngineNo, lease_s: float) -> bool:
        """Extend the engine's lease; False when it has ended and was taken back: the engine must start anew."""

    async def retire(self, engine: EngineNo) -> TakenBack:
        """Hand every lease back and remove the engine."""

    async def reap(self) -> TakenBack:
        """Take back the leases of dead engines and of attempts far beyond their timeout."""

    async def enforce_deadlines(self) -> Sequence[EndedRun]:
        """Fail the runs whose deadline has passed; returns them."""

    async def next_deadline_s(self) -> float | None:
        """Seconds until the next deadline that has not passed yet; None without one."""
