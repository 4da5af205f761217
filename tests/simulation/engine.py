"""One engine of production code: scheduler and use cases, over a network of its own, that can be killed."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any

import anyio

from runengine_server.adapters.cache.tiered import TieredOutputCache
from runengine_server.adapters.memory.skill_permits import MemorySkillPermits
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheMiss, CacheQuery
from runengine_server.domain.caller import Caller, Scope
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.events import StepsSummary
from runengine_server.domain.ids import EngineNo, RunId, RunKey, StepNo, Tenant
from runengine_server.domain.plan import RebuildPlan
from runengine_server.domain.run import Run
from runengine_server.ports.run_reader import RunIdentity, RunRow
from runengine_server.ports.run_store import RunFacts
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.intake import RunIntake
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service.cancel_run import CancelRuns
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.start_run import StartRuns
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

from ..support.planning_cache import UnsharedPlanningCache
from .network import Network, Remote, RemoteRunStore
from .skills import SkillLink
from .virtual_loop import VirtualClock
from .world import TENANT, Failing, World, anyio_loop

CALLER = Caller(principal="ann", tenant=TENANT, scopes=frozenset(Scope))
SETTINGS = SchedulerSettings(
    attempts_max=6, batch_max=4, poll_s=2.0, lease_s=3.0, drain_s=1.0, contexts_max=2, values_bytes_max=2_000
)

_NO_SUMMARY = StepsSummary(total=0, pending=0, running=0, completed=0, skipped=0, failed=0, cancelled=0)


class Engine:
    """A process: what runs in it ends with it."""

    def __init__(self, world: World, fleet: list["Engine"], network: Network, random: Random, skew_s: float) -> None:
        """Join a fleet, which hears some of what this engine does."""
        self.network = network
        self._world = world
        self._registry = _Registry(world.registry, network)
        self._fleet = fleet
        self._random = random
        self._scope = anyio.CancelScope()
        clock = VirtualClock(anyio_loop(), skew_s)
        lag_s = random.random() * world.lag_s
        skills: Any = SkillLink(world.skills, network, lambda: world.now() - lag_s)
        store: Any = RemoteRunStore(world.store, network)
        self._cache = TieredOutputCache(_Hot(world, network), Remote(world.cold, network))  # type: ignore[arg-type]
        workflows: Any = Remote(world.definitions, network)
        catalogue = WorkflowCatalogue(workflows)
        observer: Any = Failing(world)
        progress = InMemoryProgressBoard()
        self.scheduler: Scheduler = assemble_scheduler(
            queue=Remote(world.queue, network),  # type: ignore[arg-type]
            registry=self._registry,  # type: ignore[arg-type]
            store=store,
            workflows=catalogue,
            cache=self._cache,
            skills=skills,
            permits=Remote(MemorySkillPermits(world.tables), network),  # type: ignore[arg-type]
            observer=observer,
            progress=progress,
            clock=clock,
            random=random,
            settings=SETTINGS,
        )
        self.start = StartRuns(
            catalogue=catalogue,
            workflows=workflows,
            store=store,
            cache=UnsharedPlanningCache(self._cache, self._cache.known),
            skills=skills,
            signal=self,
        )
        read: Any = SimpleNamespace(reader=Remote(_Glance(world), network), workflows=catalogue)
        self.cancel = CancelRuns(read=read, store=store, signal=self, observer=observer)

    async def run(self) -> None:
        """Work until stopped or killed."""
        self._fleet.append(self)
        try:
            with self._scope:
                while not self._registry.is_registered:
                    try:
                        async with anyio.create_task_group() as tasks:
                            tasks.start_soon(self._cache.run)
                            await self.scheduler.run()
                    except* UnavailableError:
                        await anyio.sleep(0.1)  # whoever supervises an engine that cannot register starts it again
                self._world.failures.append("the scheduler gave up")
        finally:
            if self in self._fleet:
                self._fleet.remove(self)

    def stop(self) -> None:
        """End as on SIGTERM: leases are handed back."""
        self._scope.cancel()

    def kill(self) -> None:
        """End as on SIGKILL: nothing gets out any more."""
        self.network.is_dead = True
        self._fleet.remove(self)
        self._scope.cancel()

    # -- WorkSignal: this process at once, the others by hint, of which some are lost

    async def intake(self, facts: RunFacts, plan: RebuildPlan, ready: Sequence[StepNo]) -> RunIntake:
        """See the port."""
        for other in self._hinted():
            other.scheduler.wake()
        return await self.scheduler.intake(facts, plan, ready)

    def run_cancelled(self, run: RunKey) -> None:
        """See the port."""
        self.scheduler.cancel_attempts([run])
        for other in self._hinted():
            other.scheduler.cancel_attempts([run])

    def _hinted(self) -> list["Engine"]:
        return [other for other in self._fleet if other is not self and self._random.random() < 0.7]


class _Registry(Remote):
    """The registry over a network; knows whether the engine was ever registered."""

    is_registered = False

    async def register(self, *arguments: Any) -> EngineNo:
        engine: EngineNo = await self.__getattr__("register")(*arguments)
        self.is_registered = True
        return engine


class _Hot:
    """The hot tier over a network: what fails is a miss."""

    def __init__(self, world: World, network: Network) -> None:
        self._world = world
        self._remote = Remote(world.hot, network)

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        try:
            answers: Sequence[CacheAnswer] = await self._remote.lookup(queries)
            return answers
        except UnavailableError:
            return [CacheMiss(reason=None)] * len(queries)

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        await self._write("store", entries)

    async def promote(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        await self._write("promote", entries)

    async def _write(self, name: str, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        try:
            await getattr(self._remote, name)(entries)
        except UnavailableError:
            self._world.trace.note("hot write lost")


@dataclass(slots=True)
class _Glance:
    """The part of a RunReader that Cancel needs."""

    world: World

    async def find(self, tenant: Tenant, run_id: RunId) -> RunIdentity | None:
        key = self.world.tables.by_id.get(run_id)
        if key is None:
            return None
        digest = self.world.tables.runs[key].new.workflow_digest
        return RunIdentity(key=key, run_id=run_id, tenant=tenant, workflow_digest=digest)

    async def run(self, run: RunIdentity, *, is_full: bool) -> RunRow | None:
        record = self.world.tables.runs[run.key]
        now = self.world.clock.now()
        seen = Run(
            id=run.run_id,
            workflow_name=record.new.workflow_name,
            workflow_version=record.new.workflow_version,
            workflow_digest=record.new.workflow_digest,
            status=record.status,
            trigger_type=record.new.trigger_type,
            steps_summary=_NO_SUMMARY,
            created_at=now,
            updated_at=now,
            last_sequence=len(record.events),
        )
        return RunRow(key=run.key, run=seen, failed_step=record.failed_step)
