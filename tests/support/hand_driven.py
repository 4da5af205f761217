"""Runs moved forward by hand: definitions, creations and completions for tests of the SQL functions, without planner,
scheduler or skills.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

import anyio

from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.adapters.postgres.workflow_encoding import encode_workflow
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheDecision, Fingerprint
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.plan import PlannedStep, ReuseBinding
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    FailurePolicy,
    MissReason,
    OutputSource,
    PlanAction,
    PlanReason,
    TriggerType,
)
from runengine_server.domain.workflow import RetryPolicy, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, NewRun, RequestKey
from runengine_server.ports.step_queue import (
    AttemptFailed,
    CacheFiling,
    Dependents,
    Lease,
    StepExecuted,
    StepFailed,
    StepReused,
)

TENANT = Tenant("acme")
_MISS = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.NEVER_SEEN)
_SKILL = SkillId("no.op")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How a run is created, beyond its workflow."""

    policy: FailurePolicy = FailurePolicy.FINISH_RUNNING
    priority: int = 0
    deadline_s: float | None = None
    request_id: str = ""
    request_digest: str = "00" * 32
    timeout_ms: int = 60_000
    cache_mode: CacheMode = CacheMode.DEFAULT
    tenant: Tenant = TENANT
    base: RunKey | None = None
    reused: Mapping[int, ReuseBinding] = field(default_factory=dict)


PLAIN = CreateOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenRun:
    """A run that a test created; `variant` makes inputs of equal variants equal across runs."""

    key: RunKey
    run_id: RunId
    compiled: CompiledWorkflow
    variant: str
    timeout_ms: int


@dataclass(slots=True, kw_only=True)
class HandDriven:
    """A database and hands to move its runs with; `queue` and `registry` work for any number of engines."""

    url: str
    database: Database
    store: PostgresRunStore
    queue: PostgresStepQueue
    registry: PostgresEngineRegistry
    runs: dict[RunKey, DrivenRun] = field(default_factory=dict)
    _compiled: dict[WorkflowDigest, CompiledWorkflow] = field(default_factory=dict)

    async def engine(self, lease_s: float = 3600.0) -> EngineNo:
        """A new engine."""
        return await self.registry.register(str(uuid4()), "by hand", lease_s)

    async def create(
        self, workflow: Workflow, options: CreateOptions = PLAIN, *, variant: str = ""
    ) -> DrivenRun | EarlierAnswer:
        """A run of the workflow, whose definition is stored; or what was answered to its request id before."""
        compiled = self._compiled.get(workflow.digest)
        if compiled is None:
            compiled = self._compiled[workflow.digest] = compile_workflow(workflow)
            await self.database.fetch(
                "INSERT INTO workflow_definitions (digest, definition) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                bytes.fromhex(workflow.digest),
                encode_workflow(workflow),
            )
        new = _new_run(compiled, options)
        created = await self.store.create(new)
        if not isinstance(created, CreatedRun):
            return created
        run = DrivenRun(
            key=created.run, run_id=new.id, compiled=compiled, variant=variant, timeout_ms=options.timeout_ms
        )
        self.runs[run.key] = run
        return run

    async def started(self, workflow: Workflow, options: CreateOptions = PLAIN, *, variant: str = "") -> DrivenRun:
        """A new run of the workflow."""
        run = await self.create(workflow, options, variant=variant)
        assert isinstance(run, DrivenRun)
        return run

    async def lease(self, engine: EngineNo, capacity: int = 100) -> list[Lease]:
        """What an engine leases in a turn without completions."""
        return list((await self.queue.tick(engine, [], capacity)).leases)

    def executed(self, lease: Lease, *artifacts: ProducedArtifact, is_filed: bool = False) -> StepExecuted:
        """The lease's skill succeeded; input and output follow from step and variant."""
        run = self.runs[lease.run]
        step = run.compiled.workflow.steps[lease.step]
        input_hash, body = self.input_and_output(lease)
        fingerprint = Fingerprint(skill_id=step.skill_id, cache_version="1", cache_epoch="")
        return StepExecuted(
            lease=lease,
            input_hash=input_hash,
            cache_version="1",
            skill_id=step.skill_id,
            skill_version="1",
            output=body,
            output_hash=_sha256(body),
            artifacts=artifacts,
            decision=_MISS,
            dependents=self._dependents(lease),
            filing=CacheFiling(workflow_name=run.compiled.workflow.name, step_id=step.step_id, fingerprint=fingerprint)
            if is_filed
            else None,
        )

    def reused(self, lease: Lease, producer: tuple[RunKey, StepNo]) -> StepReused:
        """The lease's step uses what the same step of another run of the same variant put out."""
        input_hash, body = self.input_and_output(lease)
        return StepReused(
            lease=lease,
            source=OutputSource.CACHE_COLD,
            producer_run=producer[0],
            producer_step=producer[1],
            input_hash=input_hash,
            cache_version="1",
            output_hash=_sha256(body),
            decision=CacheDecision(outcome=CacheOutcome.HIT),
            dependents=self._dependents(lease),
        )

    def attempt_failed(self, lease: Lease, *, delay_ms: int = 0) -> AttemptFailed:
        """The lease's attempt failed and another follows."""
        failure = Failure(code="SKILL_TIMEOUT", message=f"try {lease.attempt}", retryable=True)
        return AttemptFailed(lease=lease, failure=failure, delay_ms=delay_ms, worker_id="w")

    def step_failed(self, lease: Lease) -> StepFailed:
        """The lease's step failed for good."""
        failure = Failure(code="SKILL_FAILED", message="no")
        return StepFailed(lease=lease, failure=failure, run_failure=failure, is_attempted=True)

    def binding(self, run: DrivenRun, step: int) -> ReuseBinding:
        """What a run records that reuses this step, executed in the given run."""
        input_hash, body = self.input_and_output(
            Lease(run=run.key, step=StepNo(step), epoch=0, attempt=0, lease_losses=0)
        )
        return ReuseBinding(
            producer_run=run.key,
            producer_step=StepNo(step),
            producer_run_id=run.run_id,
            source=OutputSource.BASE_RUN,
            input_hash=input_hash,
            cache_version="1",
            output_hash=_sha256(body),
        )

    def input_and_output(self, lease: Lease) -> tuple[str, bytes]:
        """Input hash and output bytes of a step: equal for equal step ids and variants."""
        run = self.runs[lease.run]
        step_id = run.compiled.workflow.steps[lease.step].step_id
        input_hash = _sha256(f"{run.compiled.workflow.name}:{step_id}:{run.variant}".encode())
        return input_hash, f'{{"of":"{step_id}","variant":"{run.variant}"}}'.encode()

    async def status(self, run: DrivenRun) -> int:
        """The run's status number."""
        return int(await self.database.fetchval("SELECT status FROM run_progress WHERE run = $1", run.key))

    def _dependents(self, lease: Lease) -> Dependents:
        run = self.runs[lease.run]
        steps = tuple(StepNo(n) for n in run.compiled.dependents[lease.step])
        return Dependents(steps, (run.timeout_ms,) * len(steps))


@asynccontextmanager
async def hand_driven(url: str, *, connections_max: int = 6) -> AsyncIterator[HandDriven]:
    """A database to move runs in by hand, over connections as the scheduler's."""
    async with open_database(url, connections_max=connections_max, settings=PINNED_PLANS) as database:
        store = PostgresRunStore(database)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.creations.run)
            yield HandDriven(
                url=url,
                database=database,
                store=store,
                queue=PostgresStepQueue(database),
                registry=PostgresEngineRegistry(database),
            )
            tasks.cancel_scope.cancel()


def dag(name: str, dependencies: Sequence[Sequence[int]], *, max_attempts: int = 3) -> Workflow:
    """A workflow whose step n waits for `dependencies[n]`, all lower than n."""
    steps = tuple(
        StepDefinition(
            step_id=StepId(f"s{n}"),
            skill_id=_SKILL,
            depends_on=tuple(StepId(f"s{d}") for d in needs),
            retry_policy=RetryPolicy(max_attempts=max_attempts),
        )
        for n, needs in enumerate(dependencies)
    )
    digest = WorkflowDigest(_sha256(f"{name}{dependencies}{max_attempts}".encode()))
    return Workflow(name=name, version="1.0.0", steps=steps, digest=digest)


def chain(count: int) -> Workflow:
    """Steps one after the other."""
    return dag(f"chain{count}", [[n - 1] if n else [] for n in range(count)])


def wide(count: int) -> Workflow:
    """Steps that wait for nothing."""
    return dag(f"wide{count}", [[] for _ in range(count)])


def fan_in(count: int) -> Workflow:
    """As many steps as asked for, and a last one that waits for all of them."""
    return dag(f"fan_in{count}", [*([] for _ in range(count)), list(range(count))])


def random_dag(random: Random, name: str) -> Workflow:
    """Up to 20 steps with random dependencies on earlier ones."""
    count = random.randint(1, 20)
    return dag(name, [sorted(random.sample(range(n), random.randint(0, min(n, 3)))) for n in range(count)])


def file_named(name: str) -> ProducedArtifact:
    """An artifact whose content follows from its name."""
    return ProducedArtifact(
        media_type="text/plain",
        uri=f"file:///{name}",
        content_hash=_sha256(name.encode()),
        size_bytes=len(name),
        filename=name,
    )


def _new_run(compiled: CompiledWorkflow, options: CreateOptions) -> NewRun:
    workflow, reused = compiled.workflow, options.reused
    # Steps that are done wait for nothing: counting down never brings them back to zero.
    waiting = [
        0 if n in reused else sum(need not in reused for need in needs) for n, needs in enumerate(compiled.dependencies)
    ]
    return NewRun(
        id=RunId(str(uuid4())),
        tenant=options.tenant,
        principal="ann",
        workflow_name=workflow.name,
        workflow_version=workflow.version,
        workflow_digest=workflow.digest,
        trigger_type=TriggerType.UPDATE if options.base else TriggerType.INITIAL,
        cache_mode=options.cache_mode,
        priority=options.priority,
        failure_policy=options.policy,
        payload=b"{}",
        change=None,
        base_run=options.base,
        root_run=options.base,
        plan=[
            PlannedStep(
                step_id=step.step_id,
                action=PlanAction.REUSE if n in reused else PlanAction.UNKNOWN,
                reason=PlanReason.UNAFFECTED if n in reused else PlanReason.INITIAL,
            )
            for n, step in enumerate(workflow.steps)
        ],
        labels={},
        deadline_s=options.deadline_s,
        request=RequestKey(rpc="Trigger", request_id=options.request_id, digest=options.request_digest),
        answer=b"answer",
        waiting_for=waiting,
        ready=[(StepNo(n), options.timeout_ms) for n, count in enumerate(waiting) if count == 0 and n not in reused],
        reused=[(StepNo(n), binding) for n, binding in reused.items()],
        is_base_version=options.base is not None,
    )


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
