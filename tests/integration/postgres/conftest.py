"""Runs in a real database, moved forward by hand: what the scheduler does, one tick at a time."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

import anyio
import pytest

from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.event_hub import EventHub
from runengine_server.adapters.postgres.event_log import PostgresEventLog
from runengine_server.adapters.postgres.lineage_reader import PostgresLineageReader
from runengine_server.adapters.postgres.run_reader import PostgresRunReader
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.step_history import PostgresStepHistory
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import PlannedStep, ReuseBinding
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import (
    CacheMode,
    CacheOutcome,
    MissReason,
    OutputSource,
    PlanAction,
    PlanReason,
    TriggerType,
)
from runengine_server.domain.workflow import RetryPolicy, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.ports.run_store import CreatedRun, NewRun, RequestKey
from runengine_server.ports.step_queue import AttemptFailed, Completion, Dependents, Lease, StepExecuted, StepFailed
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.run_lookup import ReadRuns
from runengine_server.service.watch_run import WatchRuns
from runengine_server.service.watched_runs import WatchedRuns

from ...support.hand_driven import hand_driven
from .past_runs import Past

TENANT = Tenant("acme")
CALLER = Caller(principal="ann", tenant=TENANT, scopes=frozenset({Scope.RUN_READ}))
STRANGER = Caller(principal="eve", tenant=Tenant("other"), scopes=frozenset({Scope.RUN_READ}))
MISS = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.NEVER_SEEN)


class SystemClock:
    """A Clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run that a test created."""

    key: RunKey
    run_id: RunId
    compiled: CompiledWorkflow
    payload: JsonObject

    @property
    def identity(self) -> RunIdentity:
        return RunIdentity(
            key=self.key, run_id=self.run_id, tenant=TENANT, workflow_digest=self.compiled.workflow.digest
        )


def diamond(name: str = "diamond") -> Workflow:
    """plan -> music, art -> mix; every input reads what it depends on, that of art also the run."""
    retry = RetryPolicy(max_attempts=3)
    return _workflow(
        name,
        StepDefinition(
            step_id=StepId("plan"), skill_id=SkillId("plan.make"), input_selector={"brief": "${{ trigger.brief }}"}
        ),
        StepDefinition(
            step_id=StepId("music"),
            skill_id=SkillId("music.make"),
            depends_on=(StepId("plan"),),
            input_selector={"mood": "${{ steps.plan.output.of }}"},
            retry_policy=retry,
        ),
        StepDefinition(
            step_id=StepId("art"),
            skill_id=SkillId("art.make"),
            depends_on=(StepId("plan"),),
            input_selector={"run": "${{ run.id }}"},
        ),
        StepDefinition(
            step_id=StepId("mix"),
            skill_id=SkillId("mix.make"),
            depends_on=(StepId("music"), StepId("art")),
            input_selector={"files": "${{ steps.music.artifacts }}"},
        ),
    )


def wide(count: int) -> Workflow:
    """As many steps without dependencies as asked for."""
    return _workflow(
        f"wide{count}",
        *(StepDefinition(step_id=StepId(f"s{n}"), skill_id=SkillId("no.op")) for n in range(count)),
    )


def music_file() -> ProducedArtifact:
    """An artifact."""
    return ProducedArtifact(
        media_type="audio/mpeg",
        uri="file:///music.mp3",
        content_hash="ab" * 32,
        size_bytes=1234,
        filename="music.mp3",
        metadata={"bpm": 120},
        made_from=("x",),
    )


def _workflow(name: str, *steps: StepDefinition) -> Workflow:
    digest = WorkflowDigest(hashlib.sha256(name.encode()).hexdigest())
    return Workflow(name=name, version="1.0.0", steps=steps, digest=digest)


@dataclass(slots=True, kw_only=True)
class World:
    """The read side under test, and hands to move runs with."""

    database: Database
    store: PostgresRunStore
    queue: PostgresStepQueue
    engine: EngineNo
    read: ReadRuns
    log: PostgresEventLog
    hub: EventHub
    watch: WatchRuns
    made: dict[RunKey, Made] = field(default_factory=dict)
    known: dict[WorkflowDigest, CompiledWorkflow] = field(default_factory=dict)

    async def create(
        self,
        workflow: Workflow,
        payload: JsonObject | None = None,
        *,
        reused: Mapping[int, ReuseBinding] | None = None,
        base: Made | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: Tenant = TENANT,
    ) -> Made:
        """A new run; with `reused` an update of `base` in which these steps are taken over."""
        compiled = self.known.setdefault(workflow.digest, compile_workflow(workflow))
        reused = reused or {}
        payload = {"brief": "happy"} if payload is None else payload
        # Steps that are done wait for nothing: counting down never brings them back to zero.
        waiting = [
            0 if n in reused else sum(need not in reused for need in needs)
            for n, needs in enumerate(compiled.dependencies)
        ]
        run_id = RunId(str(uuid4()))
        created = await self.store.create(
            NewRun(
                id=run_id,
                tenant=tenant,
                principal="ann",
                workflow_name=workflow.name,
                workflow_version=workflow.version,
                workflow_digest=workflow.digest,
                trigger_type=TriggerType.UPDATE if base else TriggerType.INITIAL,
                cache_mode=CacheMode.DEFAULT,
                priority=3,
                failure_policy=workflow.failure_policy,
                payload=canonical_bytes(payload),
                change=ChangeRequest(type="audio.update", payload={"brief": "sad"}) if base else None,
                base_run=base.key if base else None,
                root_run=base.key if base else None,
                plan=[
                    PlannedStep(step_id=s.step_id, action=PlanAction.EXECUTE, reason=PlanReason.INITIAL)
                    for s in workflow.steps
                ],
                labels=labels or {},
                deadline_s=None,
                request=RequestKey(rpc="Trigger", request_id="", digest="00" * 32),
                answer=b"",
                waiting_for=waiting,
                ready=[(StepNo(n), 60_000) for n, count in enumerate(waiting) if count == 0 and n not in reused],
                reused=[(StepNo(n), binding) for n, binding in reused.items()],
            )
        )
        assert isinstance(created, CreatedRun)
        made = Made(key=created.run, run_id=run_id, compiled=compiled, payload=payload)
        self.made[made.key] = made
        return made

    async def lease(self, capacity: int = 100) -> Sequence[Lease]:
        """Lease what is ready."""
        return (await self.queue.tick(self.engine, [], capacity)).leases

    async def complete(self, *completions: Completion, capacity: int = 100) -> Sequence[Lease]:
        """Commit completions, all of which must be accepted, and lease what they make ready."""
        turn = await self.queue.tick(self.engine, completions, capacity)
        assert all(turn.accepted)
        return turn.leases

    def executed(
        self, lease: Lease, *artifacts: ProducedArtifact, output: JsonObject | None = None, input_hash: str = ""
    ) -> StepExecuted:
        """The lease's skill succeeded; its output says which step it is of unless given."""
        made = self.made[lease.run]
        step = made.compiled.workflow.steps[lease.step]
        body = canonical_bytes({"of": step.step_id} if output is None else output)
        dependents = tuple(StepNo(n) for n in made.compiled.dependents[lease.step])
        return StepExecuted(
            lease=lease,
            input_hash=input_hash or hashlib.sha256(step.step_id.encode()).hexdigest(),
            cache_version="1",
            skill_id=step.skill_id,
            skill_version="1",
            output=body,
            output_hash=hashlib.sha256(body).hexdigest(),
            artifacts=artifacts,
            decision=MISS,
            dependents=Dependents(dependents, (60_000,) * len(dependents)),
            filing=None,
        )

    def attempt_failed(self, lease: Lease, delay_ms: int = 0) -> AttemptFailed:
        """The lease's attempt failed and another follows."""
        return AttemptFailed(
            lease=lease,
            failure=Failure(code="SKILL_TIMEOUT", message=f"try {lease.attempt}", retryable=True),
            delay_ms=delay_ms,
            worker_id="w1",
        )

    def failed(self, lease: Lease) -> StepFailed:
        """The lease's step failed for good."""
        failure = Failure(code="SKILL_FAILED", message="no", step_id="music", attempt=lease.attempt)
        return StepFailed(
            lease=lease,
            failure=failure,
            run_failure=Failure(
                code="MAX_RETRIES_EXCEEDED", message="gave up", step_id="music", details={"cause": {"code": "X"}}
            ),
            is_attempted=True,
        )

    async def finish(self, made: Made) -> None:
        """Execute whatever is left of a run; its steps must be the only ones ready."""
        leases = await self.lease()
        while leases:
            leases = await self.complete(*[self.executed(lease) for lease in leases])

    def binding(self, made: Made, step: int) -> ReuseBinding:
        """What a run that reuses the step of a run that executed it records."""
        definition = made.compiled.workflow.steps[step]
        body = canonical_bytes({"of": definition.step_id})
        return ReuseBinding(
            producer_run=made.key,
            producer_step=StepNo(step),
            producer_run_id=made.run_id,
            source=OutputSource.BASE_RUN,
            input_hash=hashlib.sha256(definition.step_id.encode()).hexdigest(),
            cache_version="1",
            output_hash=hashlib.sha256(body).hexdigest(),
        )


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """An empty database with one engine registered."""
    async with open_database(database_url, connections_max=6, settings=PINNED_PLANS) as database:
        store = PostgresRunStore(database)
        log = PostgresEventLog(database)
        hub = EventHub()
        known: dict[WorkflowDigest, CompiledWorkflow] = {}
        read = ReadRuns(
            reader=PostgresRunReader(database),
            workflows=_Known(known),
            store=store,
            progress=InMemoryProgressBoard(),
            history=PostgresStepHistory(database),
            lineage=PostgresLineageReader(database),
        )
        engine = await PostgresEngineRegistry(database).register(str(uuid4()), "test", 3600.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.creations.run)
            yield World(
                database=database,
                store=store,
                queue=PostgresStepQueue(database),
                engine=engine,
                read=read,
                log=log,
                hub=hub,
                watch=WatchRuns(read=read, runs=WatchedRuns(read, log), hints=hub, clock=SystemClock()),
                known=known,
            )
            tasks.cancel_scope.cancel()


@pytest.fixture
async def past(database_url: str) -> AsyncIterator[Past]:
    """An empty database with an engine."""
    async with hand_driven(database_url) as driven:
        yield Past(driven=driven, engine=await driven.engine())


class _Known:
    def __init__(self, known: Mapping[WorkflowDigest, CompiledWorkflow]) -> None:
        self._known = known

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        return self._known[digest]
