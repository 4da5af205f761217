"""Several schedulers on one database keep the limit of a skill together, use all of it, and share it."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from time import monotonic

import anyio
import pytest

from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.skill_permits import PostgresSkillPermits
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import (
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
    Succeeded,
)
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

from ...support.hand_driven import DrivenRun, HandDriven, hand_driven, wide

pytestmark = pytest.mark.anyio

# Few slots and a small backlog, so that no engine takes all the work.
SETTINGS = SchedulerSettings(attempts_max=4, backlog_max=4, poll_s=0.05, permits_s=0.05)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(slots=True)
class Runner:
    """What runs of a skill, whoever asked for it."""

    limit: int
    work_s: float
    running: int = 0
    running_max: int = 0
    calls: Counter[int] = field(default_factory=Counter)
    began: anyio.Event = field(default_factory=anyio.Event)

    async def called(self, times: int) -> None:
        """Return once there were so many calls."""
        with anyio.fail_after(30):
            while sum(self.calls.values()) < times:
                self.began = anyio.Event()
                await self.began.wait()


@dataclass(frozen=True, slots=True)
class Skills:
    """SkillRunner of one engine; the runner behind it is that of all, and takes whatever comes."""

    runner: Runner
    engine: int

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        runner = self.runner
        runner.running += 1
        runner.running_max = max(runner.running_max, runner.running)
        runner.calls[self.engine] += 1
        runner.began.set()
        try:
            await anyio.sleep(runner.work_s)
        finally:
            runner.running -= 1
        return Succeeded(output_json=b"{}", skill_version="1", cache_version="1")

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        return None

    async def abandon(self, call: SkillCall) -> None:
        """Nothing to do."""

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        info = SkillInfo(skill_id=skill_id, version="1", cache_version="1", max_concurrency=self.runner.limit)
        return SkillAvailability(has_target=True, is_catalogue_known=True, info=info)


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """A database, and connections enough for three engines."""
    async with hand_driven(database_url, connections_max=12) as driven:
        yield driven


@asynccontextmanager
async def engines(
    driven: HandDriven, runner: Runner, count: int, settings: SchedulerSettings = SETTINGS, *, first: int = 0
) -> AsyncIterator[Sequence[Scheduler]]:
    """As many schedulers run until the block ends; each hears when another one gives permits back."""
    fleet: list[Scheduler] = []

    def freed() -> None:
        for each in fleet:
            each.permits_freed()

    for number in range(first, first + count):
        scheduler = assemble_scheduler(
            queue=PostgresStepQueue(driven.database),
            registry=PostgresEngineRegistry(driven.database),
            store=PostgresRunStore(driven.database),
            workflows=WorkflowCatalogue(PostgresWorkflowStore(driven.database)),
            cache=MemoryOutputCache(SystemClock()),
            skills=Skills(runner, number),
            permits=PostgresSkillPermits(driven.database, freed),
            observer=ObserverGroup([]),
            progress=InMemoryProgressBoard(),
            clock=SystemClock(),
            random=Random(number),
            settings=settings,
        )
        fleet.append(scheduler)
    async with anyio.create_task_group() as tasks:
        for scheduler in fleet:
            tasks.start_soon(scheduler.run)
        yield fleet
        tasks.cancel_scope.cancel()


async def completed(driven: HandDriven, run: DrivenRun) -> None:
    """Return once the run is completed."""
    give_up_at = monotonic() + 60
    while await driven.status(run) != 3:
        assert monotonic() < give_up_at, "the run does not end"
        await anyio.sleep(0.02)


@pytest.mark.parametrize(("limit", "steps"), [(5, 150), (1, 60), (2, 90)])
async def test_engines_keep_a_limit_together(driven: HandDriven, limit: int, steps: int) -> None:
    """Never more attempts than the limit over three engines, as many as that, all done, and each did its part."""
    runner = Runner(limit, work_s=0.01)
    run = await driven.started(wide(steps))
    async with engines(driven, runner, 3):
        await completed(driven, run)
    assert runner.running_max == limit
    assert sum(runner.calls.values()) == steps
    assert min(runner.calls[engine] for engine in range(3)) >= steps / 3 / 3, runner.calls


async def test_a_late_engine_gets_its_share(driven: HandDriven) -> None:
    """An engine that holds every permit, and has work for all, gives half of them to one that comes later."""
    runner = Runner(4, work_s=0.01)
    run = await driven.started(wide(300))
    async with engines(driven, runner, 1):
        await runner.called(40)
        async with engines(driven, runner, 1, first=1):
            await completed(driven, run)
    assert runner.running_max == 4
    assert runner.calls[1] >= 260 / 4


async def test_permits_return_when_engines_stop(driven: HandDriven) -> None:
    """Engines that stop leave no permit behind: one that starts afterwards has the whole limit at once."""
    runner = Runner(3, work_s=0.01)
    first = await driven.started(wide(20))
    async with engines(driven, runner, 2):
        await completed(driven, first)
    second = await driven.started(wide(21))
    alone = Runner(3, work_s=0.01)
    async with engines(driven, alone, 1, replace(SETTINGS, permits_s=60.0)):
        await completed(driven, second)
    assert alone.running_max == 3
