"""Two engines' schedulers and use cases on one PostgreSQL, with simulated skills, and what a test sees of them."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import orjson

from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import PINNED_PLANS, Database, open_database
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.skill_permits import PostgresSkillPermits
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.domain.ids import EngineNo, Place, RunId, RunKey, StepNo
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus, TriggerType
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, Intake, NewRun, Outdated, RunFacts
from runengine_server.ports.step_queue import CacheQuestion, Completion, StepExecuted, Turn
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.intake import RunIntake
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.start_run import StartRuns
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

from ...simulation.network import Network
from ...simulation.skills import SkillFaults, SkillLink, SkillServers
from ...simulation.world import TENANT, Asked
from ...support.planning_cache import UnsharedPlanningCache
from ...support.rebuild_seen import Filing, Seen, SeenRun, SeenStep
from ...support.workflow_model import WorkflowModel

ASKED: ContextVar[Asked] = ContextVar("asked")
PATIENCE_S = 60.0


class Observer:
    """Rings when a run has ended, and notes what should never happen."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.failures: list[str] = []
        self.ended = anyio.Event()

    def internal_failure(self, place: str, error: Exception) -> None:
        """See the port."""
        self.failures.append(f"{place}: {error!r}")

    def runs_changed(self, runs: Sequence[RunKey]) -> None:
        """See the port."""
        self.ended.set()
        self.ended = anyio.Event()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *facts: None


class SeenRunStore(PostgresRunStore):
    """A PostgresRunStore that keeps what each run was created with and asked for."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        super().__init__(database)
        self.created: dict[RunKey, tuple[NewRun, Asked]] = {}

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """See the port."""
        created = await super().create(new, intake)
        if isinstance(created, CreatedRun):
            self.created[created.run] = new, ASKED.get()
        return created


class SeenStepQueue(PostgresStepQueue):
    """A PostgresStepQueue that keeps which completions became entries of the cache, and since when others see them."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        super().__init__(database)
        self.filed: list[tuple[StepExecuted, float]] = []

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        """See the port."""
        turn = await super().tick(engine, completions, capacity, questions, known)
        for completion, is_accepted in zip(completions, turn.accepted, strict=True):
            if is_accepted and isinstance(completion, StepExecuted) and completion.filing is not None:
                self.filed.append((completion, time.time()))
        return turn


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What a test asks, and what it sees."""

    database: Database
    store: SeenRunStore
    queue: SeenStepQueue
    skills: SkillServers
    observer: Observer
    models: dict[str, WorkflowModel]
    starts: list[StartRuns] = field(default_factory=list)

    async def ended(self) -> dict[RunStatus, list[tuple[RunId, WorkflowModel]]]:
        """The runs by status, once all have ended."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                changed = self.observer.ended
                rows = await self.database.fetch(
                    "SELECT r.id::text AS id, r.workflow_digest, p.status"
                    " FROM runs AS r JOIN run_progress AS p USING (run)"
                )
                if all(row["status"] >= RunStatus.COMPLETED for row in rows):
                    break
                with anyio.move_on_after(1.0):
                    await changed.wait()
        by_status: dict[RunStatus, list[tuple[RunId, WorkflowModel]]] = {}
        for row in rows:
            model = self.models[row["workflow_digest"].hex()]
            by_status.setdefault(RunStatus(row["status"]), []).append((RunId(row["id"]), model))
        return by_status

    def declare(self, skill_id: str, version: str | None) -> None:
        """A skill's server says that it is another version now."""
        self.skills.versions[skill_id].append((time.time(), version))

    async def seen(self) -> Seen:
        """Everything as the oracle wants to see it."""
        rows = await self.database.fetch(
            "SELECT run, step, status, source, producer_run, producer_step, encode(input_hash, 'hex') AS input_hash,"
            " cache_version, encode(output_hash, 'hex') AS output_hash,"
            " extract(epoch FROM started_at)::float8 AS started_at, extract(epoch FROM ended_at)::float8 AS ended_at"
            " FROM step_results"
        )
        runs = await self.database.fetch(
            "SELECT run, base_run, extract(epoch FROM created_at)::float8 AS created_at, p.status"
            " FROM runs JOIN run_progress AS p USING (run)"
        )
        seen = Seen(versions=self.skills.versions)
        results = {(row["run"], row["step"]): self._step(row) for row in rows}
        for run in runs:
            mine = {step: result for (of, step), result in results.items() if of == run["run"]}
            told = self._run(run, mine)
            seen.runs[told.run_id] = told
        made = [place for place, result in results.items() if result.source is OutputSource.EXECUTED]
        for place, output in (await self.store.outputs([(RunKey(r), StepNo(s)) for r, s in made])).items():
            seen.outputs[self._name(*place)] = output.body
            seen.artifacts[self._name(*place)] = [artifact.as_selector_value() for artifact in output.artifacts]
        seen.filings = sorted((self._filing(*filed, results) for filed in self.queue.filed), key=lambda f: f.at)
        return seen

    def _name(self, run: int, step: int) -> tuple[str, str]:
        new, _ = self.store.created[RunKey(run)]
        return new.id, new.plan[step].step_id

    def _step(self, row: Any) -> SeenStep:
        producer = None if row["producer_run"] is None else self._name(row["producer_run"], row["producer_step"])
        return SeenStep(
            status=StepStatus(row["status"]),
            source=None if row["source"] is None else OutputSource(row["source"]),
            producer=producer,
            input_hash=row["input_hash"] or "",
            cache_version=row["cache_version"] or "",
            output_hash=row["output_hash"] or "",
            started_at=row["started_at"],
            ended_at=row["ended_at"],
        )

    def _run(self, row: Any, results: dict[int, SeenStep]) -> SeenRun:
        new, asked = self.store.created[row["run"]]
        model = self.models[new.workflow_digest]
        return SeenRun(
            run_id=new.id,
            model=model,
            payload=orjson.loads(new.payload),
            change={"type": new.change.type, "payload": new.change.payload} if new.change else None,
            mode=new.cache_mode,
            base=None if row["base_run"] is None else self.store.created[row["base_run"]][0].id,
            is_retry=new.trigger_type is TriggerType.RETRY,
            seeds=model.seeds(new.change.type) if new.change else frozenset(),
            forced=frozenset(getattr(asked.request, "force_step_ids", ())),
            is_strict=getattr(asked.request, "strict_impact", False),
            plan={step.step_id: step for step in new.plan},
            status=RunStatus(row["status"]),
            planned_since=asked.since,
            created_at=row["created_at"],
            steps={new.plan[number].step_id: result for number, result in results.items()},
        )

    def _filing(self, done: StepExecuted, visible_at: float, results: dict[tuple[int, int], SeenStep]) -> Filing:
        assert done.filing is not None
        fingerprint = done.filing.fingerprint
        return Filing(
            step_id=done.filing.step_id,
            input_hash=done.input_hash,
            skill_id=fingerprint.skill_id,
            cache_version=fingerprint.cache_version,
            cache_epoch=fingerprint.cache_epoch,
            producer=self._name(done.lease.run, done.lease.step),
            at=results[done.lease.run, done.lease.step].ended_at,
            visible_at=visible_at,
        )


@dataclass(slots=True)
class _Signal:
    """WorkSignal: one scheduler takes runs up, and every one of the process hears of them at once."""

    own: Scheduler
    schedulers: list[Scheduler]

    async def intake(self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]) -> RunIntake:
        for scheduler in self.schedulers:
            if scheduler is not self.own:
                scheduler.wake()
        return await self.own.intake(facts, plan, ready)

    def run_cancelled(self, run: RunKey) -> None:
        for scheduler in self.schedulers:
            scheduler.cancel_attempts([run])


@asynccontextmanager
async def running_fleet(
    url: str, random: Random, models: Sequence[WorkflowModel], faults: SkillFaults
) -> AsyncIterator[Fleet]:
    """Two engines work on these versions of a workflow while the context is open."""
    steps = [step for model in models for step in model.steps.values()]
    skills = SkillServers(
        random=random,
        models={step.definition.skill_id: step.skill for step in steps},
        faults=faults,
        duration_s_max=0.03,
        versions={step.definition.skill_id: [(0.0, "1")] for step in steps},
        note=lambda *facts: None,
        look_at=lambda call: None,
    )
    async with (
        open_database(url, connections_max=6, settings=PINNED_PLANS) as database,
        anyio.create_task_group() as tasks,
    ):
        fleet = Fleet(
            database=database,
            store=SeenRunStore(database),
            queue=SeenStepQueue(database),
            skills=skills,
            observer=Observer(),
            models={model.workflow.digest: model for model in models},
        )
        tasks.start_soon(fleet.store.creations.run)
        workflows = PostgresWorkflowStore(database)
        for model in models:
            await workflows.add(TENANT, model.workflow, "ann")
        schedulers: list[Scheduler] = []
        for _ in range(2):
            catalogue = WorkflowCatalogue(workflows)
            link = SkillLink(skills, Network(random, loss=0.0, delay_s_max=0.0), time.time)
            schedulers.append(_scheduler(fleet, catalogue, link, random))
            fleet.starts.append(
                StartRuns(
                    catalogue=catalogue,
                    workflows=workflows,
                    store=fleet.store,
                    cache=UnsharedPlanningCache(PostgresOutputCache(database)),
                    skills=link,
                    signal=_Signal(schedulers[-1], schedulers),
                )
            )
            tasks.start_soon(schedulers[-1].run)
        yield fleet
        tasks.cancel_scope.cancel()


def _scheduler(fleet: Fleet, catalogue: WorkflowCatalogue, link: SkillLink, random: Random) -> Scheduler:
    observer: Any = fleet.observer
    return assemble_scheduler(
        queue=fleet.queue,
        registry=PostgresEngineRegistry(fleet.database),
        store=fleet.store,
        workflows=catalogue,
        cache=PostgresOutputCache(fleet.database),
        skills=link,
        permits=PostgresSkillPermits(fleet.database),
        observer=observer,
        progress=InMemoryProgressBoard(),
        clock=SystemClock(),
        random=random,
        settings=SchedulerSettings(
            attempts_max=6, batch_max=4, poll_s=0.1, permits_s=0.05, contexts_max=2, values_bytes_max=2_000
        ),
    )
