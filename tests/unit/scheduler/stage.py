"""A scheduler over stores in memory, skills that a test holds in its hand, and an observer that rings at every fact."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from time import monotonic
from uuid import uuid4

import anyio
import anyio.lowlevel

from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.memory.run_store import MemoryRunStore
from runengine_server.adapters.memory.skill_permits import MemorySkillPermits
from runengine_server.adapters.memory.step_queue import MemoryEngineRegistry, MemoryStepQueue
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.base_run import BaseRun
from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.ids import RunId, RunKey, SkillId, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import ChangeRequest
from runengine_server.domain.states import CacheMode, FailurePolicy, PlanAction, RunStatus, StepStatus, TriggerType
from runengine_server.domain.workflow import CachePolicy, RetryPolicy, StepDefinition, Workflow
from runengine_server.planner.compiled import CompiledWorkflow, compile_workflow
from runengine_server.planner.planning import PlanRequest
from runengine_server.ports.run_store import CreatedRun, NewRun, RequestKey, RunFacts
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service.new_run import lay_out
from runengine_server.service.planning import make_plan
from runengine_server.service.progress_board import InMemoryProgressBoard

from .doubles import Bell, HeldSkills, Recorder, ScriptedCache, ScriptedQueue

TENANT = Tenant("acme")

# Nothing but signals moves a scheduler with these: a lost wake-up fails a test instead of slowing it.
BY_SIGNAL = SchedulerSettings(poll_s=60.0, lease_s=60.0)
# The engine's own lease is looked after every 20 ms.
SHORT_LEASE = SchedulerSettings(poll_s=60.0, lease_s=0.06)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(slots=True)
class Workflows:
    """Where compiled workflows come from; an unknown one raises."""

    known: dict[WorkflowDigest, CompiledWorkflow] = field(default_factory=dict)

    async def compiled(self, digest: WorkflowDigest) -> CompiledWorkflow:
        return self.known[digest]


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything a scheduler test touches."""

    bell: Bell
    tables: MemoryTables
    store: MemoryRunStore
    queue: ScriptedQueue
    registry: MemoryEngineRegistry
    cache: ScriptedCache
    skills: HeldSkills
    permits: MemorySkillPermits
    observer: Recorder
    workflows: Workflows
    scheduler: Scheduler
    ids: dict[RunKey, RunId] = field(default_factory=dict)

    async def start(
        self,
        workflow: Workflow,
        payload: JsonObject | None = None,
        *,
        base: RunKey | None = None,
        seeds: Sequence[str] = (),
        mode: CacheMode = CacheMode.DEFAULT,
        deadline_s: float | None = None,
        announce: bool = True,
    ) -> RunKey:
        """Plan and create a run as the service does, and tell the scheduler."""
        compiled = self.workflows.known.setdefault(workflow.digest, compile_workflow(workflow))
        base_run = await self.store.base(TENANT, self.ids[base]) if base is not None else None
        payload = payload if payload is not None else {}
        run_id = RunId(str(uuid4()))
        plan = await make_plan(
            PlanRequest(
                compiled=compiled,
                tenant=TENANT,
                run_id=run_id,
                payload=payload,
                mode=mode,
                cache_version=lambda skill_id: self.skills.availability(skill_id).cache_version,
                change=ChangeRequest(type="change", payload={}) if base_run else None,
                base=base_run,
                seeds=tuple(compiled.step_no[StepId(seed)] for seed in seeds),
            ),
            self.store,
            self.cache,
        )
        new = _new_run(run_id, compiled, plan, payload, mode, base, deadline_s)
        if announce:
            with await self.scheduler.intake(_facts(new, payload, base_run), plan, [n for n, _ in new.ready]) as intake:
                created = await self.store.create(new, intake)
        else:
            created = await self.store.create(new)
        assert isinstance(created, CreatedRun)
        self.ids[created.run] = run_id
        return created.run

    async def ended(self, *runs: RunKey) -> list[RunStatus]:
        """The statuses of the runs, once they are terminal and the observer has heard."""
        await self.bell.until(lambda: all(self.tables.runs[run].status.is_terminal for run in runs))
        return [self.tables.runs[run].status for run in runs]

    def statuses(self, run: RunKey) -> Mapping[str, StepStatus]:
        """How each finished step of a run ended."""
        steps = self.tables.runs[run].new.plan
        return {steps[step].step_id: result.status for (of, step), result in self.tables.results.items() if of == run}

    def error_code(self, run: RunKey, step: int) -> str:
        error = self.tables.results[run, StepNo(step)].error
        assert error is not None
        return error.code


@asynccontextmanager
async def stage(settings: SchedulerSettings = BY_SIGNAL, *, is_running: bool = True) -> AsyncIterator[Stage]:
    """A stage whose scheduler runs until the block ends."""
    bell, clock = Bell(), SystemClock()
    tables = MemoryTables(clock)
    queue = ScriptedQueue(MemoryStepQueue(tables), bell)
    registry, store = MemoryEngineRegistry(tables), MemoryRunStore(tables)
    cache, skills, observer, workflows = (
        ScriptedCache(MemoryOutputCache(clock)),
        HeldSkills(bell),
        Recorder(bell),
        Workflows(),
    )
    permits = MemorySkillPermits(tables)
    scheduler = assemble_scheduler(
        queue=queue,
        registry=registry,
        store=store,
        workflows=workflows,
        cache=cache,
        skills=skills,
        permits=permits,
        observer=observer,
        progress=InMemoryProgressBoard(),
        clock=clock,
        random=Random(7),
        settings=settings,
    )
    async with anyio.create_task_group() as tasks:
        if is_running:
            tasks.start_soon(scheduler.run)
        yield Stage(
            bell=bell,
            tables=tables,
            store=store,
            queue=queue,
            registry=registry,
            cache=cache,
            skills=skills,
            permits=permits,
            observer=observer,
            workflows=workflows,
            scheduler=scheduler,
        )
        tasks.cancel_scope.cancel()


async def settle_down() -> None:
    """Let every task run until it waits for something that only time or a test brings."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


def step(
    step_id: str,
    *needs: str,
    reads: Sequence[str] | None = None,
    trigger: str = "",
    attempts: int = 1,
    is_cached: bool = True,
    backoff_ms: int = 1,
) -> StepDefinition:
    """A step that reads the outputs of what it needs (or of `reads`), and a part of the payload."""
    selector: JsonObject = {read: f"${{{{ steps.{read}.output }}}}" for read in (needs if reads is None else reads)}
    if trigger:
        selector["trigger"] = f"${{{{ trigger.{trigger} }}}}"
    return StepDefinition(
        step_id=StepId(step_id),
        skill_id=SkillId(f"skill.{step_id}"),
        depends_on=tuple(StepId(need) for need in needs),
        input_selector=selector,
        cache_policy=CachePolicy(enabled=is_cached),
        retry_policy=RetryPolicy(max_attempts=attempts, backoff_ms=backoff_ms, max_backoff_ms=max(1, backoff_ms)),
    )


def workflow(
    *steps: StepDefinition, name: str = "wf", policy: FailurePolicy = FailurePolicy.FINISH_RUNNING
) -> Workflow:
    """A workflow of these steps; its digest is its name."""
    digest = WorkflowDigest(name.encode().hex().ljust(64, "0")[:64])
    return Workflow(name=name, version="1.0.0", steps=steps, digest=digest, failure_policy=policy)


def chain(name: str = "chain") -> Workflow:
    """a -> b -> c."""
    return workflow(step("a", trigger="x"), step("b", "a"), step("c", "b"), name=name)


def _facts(new: NewRun, payload: JsonObject, base: BaseRun | None) -> RunFacts:
    """What the service tells the scheduler of a run that is about to be created."""
    return RunFacts(
        run=RunKey(0),
        run_id=new.id,
        tenant=new.tenant,
        workflow_name=new.workflow_name,
        workflow_digest=new.workflow_digest,
        cache_mode=new.cache_mode,
        payload=payload,
        change=new.change,
        base_run=new.base_run,
        base_digest=base.workflow_digest if base else None,
        plan=[(step.action, step.reason) for step in new.plan],
        deadline_in_s=new.deadline_s,
    )


def _new_run(
    run_id: RunId,
    compiled: CompiledWorkflow,
    plan: RebuildPlan,
    payload: JsonObject,
    mode: CacheMode,
    base: RunKey | None,
    deadline_s: float | None,
) -> NewRun:
    layout = lay_out(compiled, plan, lambda _: 60_000)
    definition = compiled.workflow
    return NewRun(
        id=run_id,
        tenant=TENANT,
        principal="ann",
        workflow_name=definition.name,
        workflow_version=definition.version,
        workflow_digest=definition.digest,
        trigger_type=TriggerType.UPDATE if base else TriggerType.INITIAL,
        cache_mode=mode,
        priority=0,
        failure_policy=definition.failure_policy,
        payload=canonical_bytes(payload),
        change=ChangeRequest(type="change", payload={}) if base else None,
        base_run=base,
        root_run=base,
        plan=plan.steps,
        labels={},
        deadline_s=deadline_s,
        request=RequestKey(rpc="Trigger", request_id="", digest="00" * 32),
        answer=b"",
        waiting_for=layout.waiting_for,
        ready=layout.ready,
        reused=[
            (StepNo(number), planned.binding)
            for number, planned in enumerate(plan.steps)
            if planned.action is PlanAction.REUSE and planned.binding is not None
        ],
        cache_after=plan.cache_after,
    )
