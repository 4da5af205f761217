"""Runs as the core writes and loads them: creation, cancellation, what planning and the scheduler need to know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.cache import CacheKey, CacheMiss
from runengine_server.domain.ids import EngineNo, Place, RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, ReuseBinding
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import (
    CacheMode,
    FailurePolicy,
    OutputSource,
    PlanAction,
    PlanReason,
    TriggerType,
)
from runengine_server.domain.trace_context import TraceContext
from runengine_server.ports.step_queue import CacheQuestion, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """What makes a request repeatable: same id and digest, same answer; an empty id means no deduplication."""

    rpc: str
    request_id: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What a plan took for granted instead of asking; checked in the transaction that creates the run.

    Attributes:
        version: what was asked for (empty: the highest) where the run's version is what it was found to mean before;
            None where that was asked for this run.
        absent: keys under which the cache has nothing.
    """

    version: str | None
    absent: Sequence[CacheKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """Everything a run starts with; steps by number.

    Attributes:
        waiting_for: per step, how many dependencies are not reused.
        ready: the steps to queue at once, with their attempt timeout in milliseconds.
        reused: the steps that are done.
        is_base_version: whether the base run is of the same version, so that its steps have the same numbers.
        trace: the call that starts it; None where that is not traced.
        cache_after: see `RebuildPlan`.
        assumes: what must hold; None where everything was asked for.
    """

    id: RunId
    tenant: Tenant
    principal: str
    workflow_name: str
    workflow_version: str
    workflow_digest: WorkflowDigest
    trigger_type: TriggerType
    cache_mode: CacheMode
    priority: int
    failure_policy: FailurePolicy
    payload: bytes
    change: ChangeRequest | None
    base_run: RunKey | None
    root_run: RunKey | None
    plan: Sequence[PlannedStep]
    labels: Mapping[str, str]
    deadline_s: float | None
    request: RequestKey
    answer: bytes
    waiting_for: Sequence[int]
    ready: Sequence[tuple[StepNo, int]]
    reused: Sequence[tuple[StepNo, ReuseBinding]]
    is_base_version: bool = False
    trace: TraceContext | None = None
    cache_after: datetime | None = None
    assumes: Assumptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedRun:
    """The run now exists; `leases` are those of its first steps that were granted with it, `misses` as in `Turn`."""

    run: RunKey
    leases: Sequence[Lease] = ()
    misses: Sequence[CacheMiss | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierAnswer:
    """The request id was used before: the digest it came with and what was answered then."""

    digest: str
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """Nothing was created: something that the plan assumed is not so."""


class Intake(Protocol):
    """Takes up a run the moment it exists."""

    @property
    def engine(self) -> EngineNo:
        """Who leases its first steps."""

    @property
    def questions(self) -> Sequence[CacheQuestion]:
        """What each of those asks the cache, by step; of their claimants only the step counts."""

    def created(self, created: CreatedRun) -> None:
        """The run exists, whether or not its caller still waits for it; must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the scheduler needs to know of a run; `plan` is (action, reason) per step.

    Nothing of it ever changes but `deadline_in_s`: seconds from when it was read, by the database's clock.
    `base_digest` is the base's workflow version, None without a base and when nothing is left of it; `base_results`
    are the base's successes where whoever created the run has them at hand. `trace` is the call that started the run,
    `base_span` the base's own span; None where they are not traced. `cache_after`: see `RebuildPlan`.
    """

    run: RunKey
    run_id: RunId
    tenant: Tenant
    workflow_name: str
    workflow_digest: WorkflowDigest
    cache_mode: CacheMode
    payload: JsonObject
    change: ChangeRequest | None
    base_run: RunKey | None
    base_digest: WorkflowDigest | None
    plan: Sequence[tuple[PlanAction, PlanReason]]
    deadline_in_s: float | None
    base_results: Mapping[StepNo, BaseResult] | None = None
    trace: TraceContext | None = None
    base_span: TraceContext | None = None
    cache_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """A step's committed output as its run sees it (own or reused): canonical bytes and artifacts."""

    body: bytes
    artifacts: tuple[ProducedArtifact, ...]
    source: OutputSource


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDuration:
    """How long a step's skill took; of an attempt that was resumed perhaps only how long its result took to be told."""

    seconds: float
    is_resumed: bool


class RunStore(Protocol):
    """Runs in durable storage."""

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """Store a run with its first events, reused results and ready steps, or find the earlier answer.

        Args:
            new: the run.
            intake: leases the steps that it has questions about, ready ones, and is told of the run.

        Atomic with: events, reused results, queue rows, leases, idempotency key, audit row.
        Idempotent by: (tenant, rpc, request id).

        Raises:
            NotFoundError: RUN_NOT_FOUND, when retention has removed the base run meanwhile.
        """

    async def earlier_answer(self, tenant: Tenant, request: RequestKey) -> EarlierAnswer | None:
        """What was answered to this request id before, if anything."""

    async def cancel(self, tenant: Tenant, run_id: RunId, principal: str, reason: str) -> bool | None:
        """End a run as cancelled; False when it was terminal already, None when the tenant has no such run.

        Atomic with: step results, events, removal of its queue rows, audit row.
        """

    async def base(self, tenant: Tenant, run_id: RunId) -> BaseRun | None:
        """A run to build on with its successes, or None when the tenant has no such run."""

    async def base_results(self, runs: Sequence[RunKey]) -> Mapping[RunKey, Mapping[StepNo, BaseResult]]:
        """The successes of runs, by step number."""

    async def recent_runs(self, tenant: Tenant, workflow_name: str, limit: int) -> Mapping[RunKey, WorkflowDigest]:
        """The newest completed runs of a workflow with their versions, newest first; looks back a bounded way."""

    async def durations(self, steps: Sequence[Place]) -> Mapping[Place, StepDuration]:
        """How long it took to produce what steps have, whoever did, for those that have something."""

    async def facts(self, runs: Sequence[RunKey]) -> Mapping[RunKey, RunFacts]:
        """What the scheduler needs, for each run that exists."""

    async def outputs(self, steps: Sequence[Place]) -> Mapping[Place, StoredOutput]:
        """The committed outputs of steps as their runs see them, those that exist."""
