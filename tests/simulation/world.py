"""A database in memory, engines of production code around it, and what a test needs to see of both."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import anyio

from runengine_server.adapters.memory.cold_cache import MemoryColdCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.memory.run_store import MemoryRunStore
from runengine_server.adapters.memory.step_queue import MemoryEngineRegistry, MemoryStepQueue
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.ids import EngineNo, Place, RunId, RunKey, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheTier, RunStatus
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer, Intake, NewRun, Outdated
from runengine_server.ports.skill_runner import SkillCall
from runengine_server.ports.step_queue import CacheQuestion, Completion, StepExecuted, Turn
from runengine_server.ports.workflow_store import WorkflowVersion

from ..support.random_workflows import WORKFLOW_NAME
from ..support.rebuild_seen import Filing
from ..support.workflow_model import WorkflowModel
from .skills import SkillFaults, SkillServers
from .virtual_loop import VirtualClock

TENANT = Tenant("acme")

CALL_S_MAX = 5.0
"""Within this time whatever is said of a deadline comes through to the skill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request that is being worked on, and when it came in; a run's plan is no older."""

    request: Any
    since: float


ASKED: ContextVar[Asked] = ContextVar("asked")


@dataclass(slots=True)
class Trace:
    """What happened, in order; two equal traces are two equal histories."""

    lines: list[str] = field(default_factory=list)

    def note(self, *facts: object) -> None:
        """Add a line, with the time."""
        self.lines.append(f"{anyio.current_time():.6f} " + " ".join(map(str, facts)))

    @property
    def digest(self) -> str:
        """A name for the whole history."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


class Definitions:
    """The part of a WorkflowStore that runs need."""

    def __init__(self, workflows: Sequence[Workflow]) -> None:
        """Know these."""
        self._workflows = list(workflows)

    async def by_digest(self, digest: WorkflowDigest) -> Workflow | None:
        """See the port."""
        return next((workflow for workflow in self._workflows if workflow.digest == digest), None)

    async def find_version(self, tenant: Tenant, name: str, version: str) -> WorkflowVersion | None:
        """See the port; the last one is the highest."""
        for known in reversed(self._workflows):
            if known.name == name and version in ("", known.version):
                return WorkflowVersion(owner=tenant, name=name, version=known.version, digest=known.digest)
        return None


class SeenRunStore(MemoryRunStore):
    """A MemoryRunStore that notes what each run was asked for."""

    def __init__(self, tables: MemoryTables, world: "World") -> None:
        """Tell `world`."""
        super().__init__(tables, world.definitions)
        self._world = world

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """See the port."""
        created = await super().create(new, intake)
        if isinstance(created, CreatedRun):
            self._world.asked[new.id] = ASKED.get()
            self._world.trace.note("create", created.run, [int(step.action) for step in new.plan])
            for lease in created.leases:
                self._world.trace.note("begin", *_place(lease))
        elif isinstance(created, Outdated):
            self._world.trace.note("outdated", new.id)
        return created

    async def cancel(self, tenant: Tenant, run_id: RunId, principal: str, reason: str) -> bool | None:
        """See the port."""
        is_ended_here = await super().cancel(tenant, run_id, principal, reason)
        self._world.trace.note("cancel", run_id, is_ended_here)
        return is_ended_here


class SeenStepQueue(MemoryStepQueue):
    """A MemoryStepQueue that notes every turn and each entry that it files in the cache."""

    def __init__(self, tables: MemoryTables, world: "World") -> None:
        """Tell `world`."""
        super().__init__(tables)
        self._world = world

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
            lease = completion.lease
            self._world.trace.note("settle", engine, *_place(lease), type(completion).__name__, is_accepted)
            if is_accepted and isinstance(completion, StepExecuted) and completion.filing is not None:
                self._world.filed(completion)
        for lease in turn.leases:
            self._world.trace.note("lease", engine, *_place(lease))
        return turn


class World:
    """Everything outside the engines."""

    def __init__(self, random: Random, models: Sequence[WorkflowModel], faults: SkillFaults, *, skill_s: float) -> None:
        """Know these workflows; skills take up to `skill_s` seconds. Needs a running loop."""
        self.random = random
        self.models: Mapping[str, WorkflowModel] = {model.workflow.digest: model for model in models}
        self.trace = Trace()
        self.clock = VirtualClock(anyio_loop())
        self.tables = MemoryTables(self.clock)
        self.definitions = Definitions([model.workflow for model in models])
        self.store = SeenRunStore(self.tables, self)
        self.queue = SeenStepQueue(self.tables, self)
        self.registry = MemoryEngineRegistry(self.tables)
        self.cold = MemoryColdCache(self.tables)
        self.hot = MemoryOutputCache(self.clock, CacheTier.HOT)
        steps = [step for model in models for step in model.steps.values()]
        self.skills = SkillServers(
            random=random,
            models={step.definition.skill_id: step.skill for step in steps},
            faults=faults,
            duration_s_max=skill_s,
            versions={step.definition.skill_id: [(-1.0, "1")] for step in steps},
            note=self.trace.note,
            look_at=self._look_at,
        )
        self.lag_s = 0.0
        self.filings: list[Filing] = []
        self.removals = 0
        self.asked: dict[RunId, Asked] = {}
        self.failures: list[str] = []

    def now(self) -> float:
        """The database's clock."""
        return self.tables.now()

    def declare(self, skill_id: str, version: str | None) -> None:
        """A skill's server says that it is another version now, or goes out of sight."""
        self.skills.versions[skill_id].append((self.now(), version))
        self.trace.note("declare", skill_id, version)

    def invalidate(self, step_id: str) -> None:
        """An operator removes all that the cache has of a step."""
        self.cold.invalidate(TENANT, WORKFLOW_NAME, step_id)
        now = self.now()
        self.filings = [
            replace(f, removed_at=now) if f.step_id == step_id and f.removed_at == math.inf else f for f in self.filings
        ]
        self.removals += 1
        self.trace.note("invalidate", step_id)

    def filed(self, done: StepExecuted) -> None:
        """A completion left an entry in the cache."""
        assert done.filing is not None
        fingerprint = done.filing.fingerprint
        self.filings.append(
            Filing(
                step_id=done.filing.step_id,
                input_hash=done.input_hash,
                skill_id=fingerprint.skill_id,
                cache_version=fingerprint.cache_version,
                cache_epoch=fingerprint.cache_epoch,
                producer=(self.tables.runs[done.lease.run].new.id, done.filing.step_id),
                at=self.now(),
                visible_at=self.now(),
            )
        )

    def _look_at(self, call: SkillCall) -> None:
        """An attempt has the time that its step gives it, less only where the run's deadline is near."""
        run = self.tables.runs[self.tables.by_id[call.run_id]]
        step = self.models[run.new.workflow_digest].steps[call.step_id].definition
        due_s = step.attempt_timeout_s(None)
        if run.deadline_at is not None:
            due_s = min(due_s, run.deadline_at - self.now())
        if not due_s - CALL_S_MAX <= call.timeout_s <= step.attempt_timeout_s(None):
            self.failures.append(f"{call.idempotency_key} was given {call.timeout_s:.3f} s instead of {due_s:.3f} s")

    def live_runs(self) -> list[RunKey]:
        """The runs that have not ended."""
        return [key for key, run in self.tables.runs.items() if not run.status.is_terminal]

    def ended_runs(self, *statuses: RunStatus) -> list[RunId]:
        """The runs that ended so."""
        return [run.new.id for run in self.tables.runs.values() if run.status in statuses]

    def stored(self, run_id: RunId) -> object:
        """Everything that is stored of a run now."""
        key = self.tables.by_id[run_id]
        return (
            self.tables.runs[key].status,
            list(self.tables.runs[key].events),
            {place: result for place, result in self.tables.results.items() if place[0] == key},
            {place: body for place, body in self.tables.outputs.items() if place[0] == key},
        )

    def state(self, heard_until: float) -> object:
        """Something that changes whenever a plan could turn out otherwise, for who has heard of skills until then."""
        told = sum(at <= heard_until for versions in self.skills.versions.values() for at, _ in versions)
        return len(self.filings), self.removals, told


class Failing:
    """Observer: notes what an engine says went wrong inside it; nothing ever should."""

    def __init__(self, world: World) -> None:
        """Tell `world`."""
        self._world = world

    def internal_failure(self, place: str, error: Exception) -> None:
        """See the port."""
        self._world.failures.append(f"{place}: {error!r}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *facts: None


def anyio_loop() -> Any:
    """The loop that runs."""
    import asyncio

    return asyncio.get_running_loop()


def _place(lease: Any) -> tuple[int, ...]:
    return lease.run, lease.step, lease.epoch, lease.attempt, lease.lease_losses
