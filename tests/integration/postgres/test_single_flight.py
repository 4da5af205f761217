"""Schedulers on one database execute what is identical once: which call is made, who waits, and what is said of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from time import monotonic

import anyio
import pytest

from runengine_server.adapters.cache.tiered import TieredOutputCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.memory.skill_permits import MemorySkillPermits
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.adapters.postgres.cache_admin import PostgresCacheAdmin
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, SkillId
from runengine_server.domain.states import CacheMode, CacheScope, CacheTier
from runengine_server.domain.workflow import CachePolicy, Workflow
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
    Succeeded,
)
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.workflow_catalogue import WorkflowCatalogue

from ...support.hand_driven import TENANT, CreateOptions, DrivenRun, HandDriven, chain, hand_driven, wide

pytestmark = pytest.mark.anyio

SETTINGS = SchedulerSettings(attempts_max=50, poll_s=0.05, lease_s=1.0)
EXECUTED, JOINED = 1, 5


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(slots=True)
class Skills:
    """SkillRunner of all engines: calls wait until they are let go; those of some runs fail."""

    calls: list[SkillCall] = field(default_factory=list)
    is_cached: bool = True
    failing: set[RunId] = field(default_factory=set)
    _go: anyio.Event = field(default_factory=anyio.Event)
    _began: anyio.Event = field(default_factory=anyio.Event)

    def let_go(self) -> None:
        """Every call returns, and those to come do at once."""
        self._go.set()

    async def called(self, times: int) -> None:
        """Return once there were so many calls."""
        with anyio.fail_after(30):
            while len(self.calls) < times:
                self._began = anyio.Event()
                await self._began.wait()

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        self.calls.append(call)
        self._began.set()
        await self._go.wait()
        if call.run_id in self.failing:
            return Failed(Failure(code="SKILL_FAILED", message="no", retryable=False))
        return Succeeded(output_json=b'{"n":1}', skill_version="1", cache_version="1", do_not_cache=not self.is_cached)

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        return None

    async def abandon(self, call: SkillCall) -> None:
        """Nothing to do."""

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        info = SkillInfo(skill_id=skill_id, version="1", cache_version="1")
        return SkillAvailability(has_target=True, is_catalogue_known=True, info=info)


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """A database, and connections enough for three engines."""
    async with hand_driven(database_url, connections_max=12) as driven:
        yield driven


@asynccontextmanager
async def engines(
    driven: HandDriven, skills: Skills, count: int, settings: SchedulerSettings = SETTINGS
) -> AsyncIterator[None]:
    """As many schedulers run until the block ends."""
    hot = MemoryOutputCache(SystemClock(), CacheTier.HOT)
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            cache = TieredOutputCache(hot, PostgresOutputCache(driven.database))
            scheduler = assemble_scheduler(
                queue=PostgresStepQueue(driven.database),
                registry=PostgresEngineRegistry(driven.database),
                store=PostgresRunStore(driven.database),
                workflows=WorkflowCatalogue(PostgresWorkflowStore(driven.database)),
                cache=cache,
                skills=skills,
                permits=MemorySkillPermits(MemoryTables(SystemClock())),
                observer=ObserverGroup([]),
                progress=InMemoryProgressBoard(),
                clock=SystemClock(),
                random=Random(number),
                settings=settings,
            )
            tasks.start_soon(cache.run)
            tasks.start_soon(scheduler.run)
        yield
        skills.let_go()
        tasks.cancel_scope.cancel()


async def until(driven: HandDriven, what: str, *arguments: object) -> None:
    """Return once the statement says true."""
    give_up_at = monotonic() + 30
    while not await driven.database.fetchval(what, *arguments):
        assert monotonic() < give_up_at, f"never: {what}"
        await anyio.sleep(0.02)


async def waiting(driven: HandDriven, count: int) -> None:
    """Return once so many steps follow."""
    await until(driven, "SELECT count(*) = $1 FROM step_queue WHERE waiting_on IS NOT NULL", count)


async def ended(driven: HandDriven, *runs: DrivenRun) -> list[int]:
    """The statuses of the runs, once all have ended."""
    keys = [run.key for run in runs]
    await until(driven, "SELECT bool_and(status >= 3) FROM run_progress WHERE run = ANY ($1)", keys)
    return [await driven.status(run) for run in runs]


async def sources(driven: HandDriven) -> dict[int, int]:
    """How many steps ended with each source."""
    rows = await driven.database.fetch("SELECT source, count(*) AS n FROM step_results GROUP BY source")
    return {row["source"]: row["n"] for row in rows}


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_identical_runs_call_each_skill_once(driven: HandDriven, count: int) -> None:
    """Twenty runs of one content at once: one call a step over all engines, everybody else joins the leader's run."""
    skills = Skills()
    runs = [await driven.started(chain(3)) for _ in range(20)]
    async with engines(driven, skills, count):
        await waiting(driven, 19)
        assert len(skills.calls) == 1
        skills.let_go()
        assert await ended(driven, *runs) == [3] * 20
    assert sorted(call.step_id for call in skills.calls) == ["s0", "s1", "s2"]
    assert (await sources(driven))[EXECUTED] == 3
    rows = await driven.database.fetch(
        "SELECT producer_run, convert_from(decision, 'UTF8')::json AS decision FROM step_results"
        " WHERE step = 0 AND source = 5"
    )
    assert len(rows) == 19
    leader = next(run for run in runs if run.run_id == skills.calls[0].run_id)
    assert {row["producer_run"] for row in rows} == {leader.key}
    assert all(leader.run_id in str(row["decision"]) and "s0" in str(row["decision"]) for row in rows)
    assert not await driven.database.fetch("SELECT FROM cache_flights")


async def test_a_result_that_must_not_be_cached_is_made_by_each(driven: HandDriven) -> None:
    """Where the skill says so, identical steps of eight runs execute one after the other, none at the same time."""
    skills = Skills(is_cached=False)
    runs = [await driven.started(wide(1)) for _ in range(8)]
    async with engines(driven, skills, 2):
        await waiting(driven, 7)
        skills.let_go()
        assert await ended(driven, *runs) == [3] * 8
    assert sorted(call.run_id for call in skills.calls) == sorted(run.run_id for run in runs)
    assert await sources(driven) == {EXECUTED: 8}


async def test_a_failed_leader_hands_over(driven: HandDriven) -> None:
    """The leader's step fails for good: its run fails, the oldest follower executes, the others join that one."""
    skills = Skills()
    runs = [await driven.started(wide(1)) for _ in range(4)]
    async with engines(driven, skills, 2):
        await waiting(driven, 3)
        skills.failing.add(skills.calls[0].run_id)
        skills.let_go()
        statuses = await ended(driven, *runs)
    assert sorted(statuses) == [3, 3, 3, 4]
    assert len(skills.calls) == 2
    assert {call.attempt for call in skills.calls} == {1}
    assert {key: n for key, n in (await sources(driven)).items() if key} == {EXECUTED: 1, JOINED: 2}


async def test_a_cancelled_leader_hands_over(driven: HandDriven) -> None:
    """Cancel of the leading run lets the oldest follower call the skill, at once."""
    skills = Skills()
    runs = [await driven.started(wide(1)) for _ in range(3)]
    async with engines(driven, skills, 2):
        await waiting(driven, 2)
        leader = next(run for run in runs if run.run_id == skills.calls[0].run_id)
        assert await driven.store.cancel(TENANT, leader.run_id, "ann", "because")
        await waiting(driven, 1)
        skills.let_go()
        assert sorted(await ended(driven, *runs)) == [3, 3, 5]
    assert len(skills.calls) == 2


async def test_followers_take_no_slots(driven: HandDriven) -> None:
    """An engine of two slots that leads with one has the other for whatever else there is, however many follow."""
    skills = Skills()
    runs = [await driven.started(wide(1)) for _ in range(6)]
    async with engines(driven, skills, 1, replace(SETTINGS, attempts_max=2)):
        await waiting(driven, 5)
        other = await driven.started(chain(2))
        await skills.called(2)
        assert skills.calls[1].run_id == other.run_id
        skills.let_go()
        assert await ended(driven, *runs, other) == [3] * 7


async def test_statistics_count_who_joined(driven: HandDriven) -> None:
    """Of three identical steps the statistics of the cache have one miss and two that joined."""
    skills = Skills()
    runs = [await driven.started(wide(1)) for _ in range(3)]
    async with engines(driven, skills, 1):
        await waiting(driven, 2)
        skills.let_go()
        await ended(driven, *runs)
    (counts,) = await PostgresCacheAdmin(driven.database).counts(TENANT, "")
    assert (counts.misses, counts.joined, counts.hot_hits, counts.cold_hits) == (1, 2, 0, 0)


@pytest.mark.parametrize("mode", [CacheMode.BYPASS, CacheMode.REFRESH, CacheMode.READ_ONLY])
async def test_other_modes_neither_lead_nor_follow(driven: HandDriven, mode: CacheMode) -> None:
    """Of a run in another mode every step executes at once, beside a leader and without becoming one."""
    skills = Skills()
    leader = await driven.started(wide(1))
    options = CreateOptions(cache_mode=mode)
    async with engines(driven, skills, 1):
        await until(driven, "SELECT count(*) = 1 FROM cache_flights")
        others = [await driven.started(wide(1), options) for _ in range(3)]
        await skills.called(4)
        rows = await driven.database.fetch("SELECT run FROM cache_flights")
        assert [row["run"] for row in rows] == [leader.key]
        skills.let_go()
        assert await ended(driven, leader, *others) == [3] * 4


@pytest.mark.parametrize("policy", [CachePolicy(scope=CacheScope.RUN_ONLY), CachePolicy(enabled=False)])
async def test_steps_that_are_not_shared_fly_alone(driven: HandDriven, policy: CachePolicy) -> None:
    """A step of its run only, or without a cache, executes in every run, and there is never a flight of it."""
    skills = Skills()
    workflow = _with_policy(wide(1), policy)
    runs = [await driven.started(workflow) for _ in range(3)]
    async with engines(driven, skills, 1):
        await skills.called(3)
        assert not await driven.database.fetch("SELECT FROM cache_flights")
        skills.let_go()
        assert await ended(driven, *runs) == [3] * 3


async def test_a_leader_whose_engine_dies_goes_on_leading(driven: HandDriven) -> None:
    """Another engine takes the leader's step up, by the same key; its followers go on waiting and pay nothing."""
    skills = Skills()
    leader = await driven.started(wide(1))
    dead = await driven.registry.register("00000000-0000-4000-8000-000000000000", "dead", 3600.0)
    async with engines(driven, skills, 1):
        await until(driven, "SELECT count(*) = 1 FROM cache_flights")
        follower = await driven.started(wide(1))
        await waiting(driven, 1)
        # As if another engine had leased it, and died.
        await driven.database.fetch(
            "UPDATE step_queue SET engine = $1, lease_epoch = lease_epoch + 1 WHERE run = $2", dead, leader.key
        )
        await driven.registry.renew(dead, -1.0)
        await skills.called(2)
        assert {call.run_id for call in skills.calls} == {leader.run_id}
        assert len({call.idempotency_key for call in skills.calls}) == 1
        skills.let_go()
        assert await ended(driven, leader, follower) == [3, 3]
    assert await sources(driven) == {EXECUTED: 1, JOINED: 1}


def _with_policy(workflow: Workflow, policy: CachePolicy) -> Workflow:
    name = f"{workflow.name}.{policy.scope.name.lower()}.{policy.enabled}".lower()
    digest = name.encode().hex().ljust(64, "0")[:64]
    steps = tuple(replace(step, cache_policy=policy) for step in workflow.steps)
    return replace(workflow, name=name, steps=steps, digest=digest)
