"""Removing, evicting and counting cache entries in a real database: in bounded steps, once, against running turns."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from runengine_server.adapters.postgres import cache_sweep
from runengine_server.adapters.postgres.cache_admin import PostgresCacheAdmin
from runengine_server.adapters.postgres.cache_cleanup import CacheCleanup, CleanupSettings
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.cache import CacheDecision, CacheHit, CacheKey, CacheMiss, CacheQuery, Fingerprint
from runengine_server.domain.ids import SkillId, StepId, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheOutcome, MissReason
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.ports.cache_admin import CacheSelector
from runengine_server.ports.step_queue import CacheFiling, StepExecuted

pytestmark = pytest.mark.anyio

TENANT = Tenant("acme")
OTHER = Tenant("globex")
FINGERPRINT = Fingerprint(skill_id="no.op", cache_version="1", cache_epoch="")
DAY_S = 24 * 3600.0


@pytest.fixture(params=[1, 3, 5000], ids=lambda n: f"window {n}")
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many entries a transaction looks at."""
    monkeypatch.setattr(cache_sweep, "WINDOW", request.param)
    yield request.param


async def test_windows_make_a_whole(world: Any, window: int) -> None:
    """However few entries a transaction looks at, exactly those that match go, and the rest stays."""
    admin = PostgresCacheAdmin(world.database)
    await _file(world, "a", 4)
    await _file(world, "b", 4)
    await _file(world, "a", 2, tenant=OTHER)
    for selector, expected in (
        (CacheSelector(workflow_name="a", step_id="s1"), 1),
        (CacheSelector(workflow_name="a"), 3),
        (CacheSelector(skill_id="no.op"), 4),
        (CacheSelector(skill_id="no.op"), 0),
    ):
        assert (await admin.count(TENANT, selector)).count == expected
        done = await admin.invalidate(TENANT, "ann", selector, "")
        assert (done.count, len(done.sample_keys)) == (expected, expected)
    assert (await admin.count(OTHER, CacheSelector(workflow_name="a"))).count == 2


async def test_an_interrupted_invalidation_is_finished_by_the_next(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was removed before the process died stays removed and audited; a repetition removes the rest."""
    monkeypatch.setattr(cache_sweep, "WINDOW", 2)
    admin, selector = PostgresCacheAdmin(world.database), CacheSelector(workflow_name="a")
    await _file(world, "a", 5)
    sweeps = 0

    async def dies(*arguments: Any) -> Any:
        nonlocal sweeps
        sweeps += 1
        swept = await cache_sweep.sweep(*arguments)
        if sweeps == 2:
            raise ConnectionResetError("before the second transaction could commit")
        return swept

    with monkeypatch.context() as patched:
        patched.setattr("runengine_server.adapters.postgres.cache_admin.sweep", dies)
        with pytest.raises(Exception, match="cannot be reached"):
            await admin.invalidate(TENANT, "ann", selector, "")
    assert (await admin.count(TENANT, selector)).count == 3
    assert (await admin.invalidate(TENANT, "ann", selector, "")).count == 3
    rows = await world.database.fetch("SELECT target FROM audit_log WHERE action = 'InvalidateCache' ORDER BY entry")
    assert [row["target"].rpartition(":")[2] for row in rows] == ["2}", "0}", "2}", "1}"], "per transaction"


async def test_a_removed_entry_says_so_until_a_new_success(world: Any) -> None:
    """Its key misses as INVALIDATED, also with another fingerprint; the next success is found again."""
    (executed,) = await _file(world, "a", 1)
    await PostgresCacheAdmin(world.database).invalidate(TENANT, "ann", CacheSelector(workflow_name="a"), "")
    cold = PostgresOutputCache(world.database)
    other = replace(_query("a", executed), fingerprint=replace(FINGERPRINT, cache_version="2"))
    assert list(await cold.lookup([_query("a", executed), other])) == [CacheMiss(reason=MissReason.INVALIDATED)] * 2
    await _file(world, "a", 1)
    (answer,) = await cold.lookup([_query("a", executed)])
    assert isinstance(answer, CacheHit)


async def test_every_removal_counts_where_it_concerns(world: Any) -> None:
    """Naming a workflow counts for it alone; naming none, for all of the tenant; others never notice."""
    cold, admin = PostgresOutputCache(world.database), PostgresCacheAdmin(world.database)
    asked = [(TENANT, "a"), (TENANT, "b"), (OTHER, "a")]
    seen = [await cold.generations(asked)]
    # Counted even where nothing is found: the hot tier may hold what the cold one has not any more.
    for selector in (CacheSelector(workflow_name="a"), CacheSelector(skill_id="no.op")):
        await admin.invalidate(TENANT, "ann", selector, "")
        seen.append(await cold.generations(asked))
    await admin.count(TENANT, CacheSelector(workflow_name="a"))
    assert await cold.generations(asked) == seen[-1]
    assert seen == [[0, 0, 0], [1, 0, 0], [2, 1, 0]]


async def test_invalidating_while_steps_complete(world: Any) -> None:
    """Against turns that file the same keys there is no deadlock, and what is filed last is found."""
    admin = PostgresCacheAdmin(world.database)
    filed: list[StepExecuted] = []

    async def file_on() -> None:
        for _ in range(30):
            filed[:] = await _file(world, "a", 20)

    async def remove_on() -> None:
        for selector in [CacheSelector(workflow_name="a"), CacheSelector(skill_id="no.op")] * 20:
            await admin.invalidate(TENANT, "ann", selector, "")

    async with anyio.create_task_group() as tasks:
        for work in (file_on, remove_on, remove_on):
            tasks.start_soon(work)
    left = await world.database.fetchval("SELECT count(*) FROM step_cache WHERE step >= 0")
    assert (await admin.count(TENANT, CacheSelector(workflow_name="a"))).count == left
    await file_on()
    answers = await PostgresOutputCache(world.database).lookup([_query("a", executed) for executed in filed])
    assert all(isinstance(answer, CacheHit) for answer in answers)


async def test_the_oldest_beyond_the_size_go(world: Any, window: int) -> None:
    """With room for two outputs the two newest stay; what went says EVICTED and counts as a removal."""
    filed = await _file(world, "a", 4)
    size = len(filed[0].output)
    for age, executed in enumerate(filed):
        await _age(world, executed, age * 3600.0)
    cold = PostgresOutputCache(world.database)
    cleanup = CacheCleanup(world.database, CleanupSettings(bytes_max=2 * size + 1), ObserverGroup([]))
    assert await cleanup.run_if_due() == 2
    answers = await cold.lookup([_query("a", executed) for executed in filed])
    assert [isinstance(answer, CacheHit) for answer in answers] == [True, True, False, False]
    assert answers[2] == CacheMiss(reason=MissReason.EVICTED)
    assert (await cold.generations([(TENANT, "a"), (TENANT, "b")]))[1] == 0
    assert (await cold.generations([(TENANT, "a")]))[0] > 0


async def test_old_entries_go_by_age(world: Any) -> None:
    """What was filed longer ago than the bound is evicted, whatever its tenant; without bounds nothing is."""
    old, new = await _file(world, "a", 2)
    (foreign,) = await _file(world, "b", 1, tenant=OTHER)
    for executed in (old, foreign):
        await _age(world, executed, 2 * DAY_S)
    settings = CleanupSettings(age_s_max=DAY_S, interval_s=0.0)
    assert await CacheCleanup(world.database, CleanupSettings(interval_s=0.0), ObserverGroup([])).run_if_due() == 0
    assert await CacheCleanup(world.database, settings, ObserverGroup([])).run_if_due() == 2
    (kept,) = await PostgresOutputCache(world.database).lookup([_query("a", new)])
    assert isinstance(kept, CacheHit)


async def test_one_engine_passes_for_all(world: Any) -> None:
    """Of engines that come together one passes over the cache; the others find it done until the interval is over."""
    cleanups = [CacheCleanup(world.database, CleanupSettings(), ObserverGroup([])) for _ in range(5)]
    passed: list[int | None] = []

    async def come(cleanup: CacheCleanup) -> None:
        passed.append(await cleanup.run_if_due())

    async with anyio.create_task_group() as tasks:
        for cleanup in cleanups:
            tasks.start_soon(come, cleanup)
    assert sorted(passed, key=str) == [0, None, None, None, None]
    await world.database.fetch("UPDATE housekeeping SET next_at = clock_timestamp()")
    assert await cleanups[0].run_if_due() == 0


async def test_removals_are_forgotten_in_time(world: Any) -> None:
    """A tombstone older than a month goes: nothing of its step is known any more; a newer one stays."""
    old, new = await _file(world, "a", 2)
    await PostgresCacheAdmin(world.database).invalidate(TENANT, "ann", CacheSelector(workflow_name="a"), "")
    await _age(world, old, 31 * DAY_S)
    await CacheCleanup(world.database, CleanupSettings(), ObserverGroup([])).run_if_due()
    assert list(await PostgresOutputCache(world.database).lookup([_query("a", old), _query("a", new)])) == [
        CacheMiss(reason=MissReason.NEVER_SEEN),
        CacheMiss(reason=MissReason.INVALIDATED),
    ]


async def test_statistics_are_the_same_before_and_after_they_are_added_up(world: Any) -> None:
    """Counting groups of ended runs once, by many at a time, changes no number; open groups are counted as they are."""
    admin = PostgresCacheAdmin(world.database)
    await world.database.fetch("SELECT setval('run_key', 1024)")  # a group of runs begins
    await _file(world, "a", 3)
    scope = CacheDecision(outcome=CacheOutcome.MISS, miss_reason=MissReason.SCOPE)
    await _file(world, "a", 3, decision=scope)  # never asked
    before = await admin.counts(TENANT, "")
    assert {(row.step, row.misses) for row in before} == {(0, 1), (1, 1), (2, 1)}
    await world.database.fetch("SELECT setval('run_key', 1300)")  # the next group begins, a while ago
    running = await world.create(_workflow("open", 1))
    await world.database.fetch("UPDATE runs SET created_at = created_at - interval '2 minutes'")
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(admin.counts, TENANT, "")
    counted = [row["run_group"] for row in await world.database.fetch("SELECT run_group FROM cache_counted")]
    assert 4 in counted
    assert running.key // 256 not in counted
    assert await admin.counts(TENANT, "") == before
    assert await admin.counts(OTHER, "") == []
    await world.database.fetch("DELETE FROM step_results WHERE run < 1280")
    assert await admin.counts(TENANT, "a") == before, "they were added up"


async def test_a_group_with_an_open_run_waits(world: Any) -> None:
    """Runs that have not ended keep their group from being added up, however old it is."""
    await world.create(_workflow("open", 1))
    await world.database.fetch("SELECT setval('run_key', nextval('run_key') + 512)")
    await world.create(_workflow("open", 1))
    await world.database.fetch("UPDATE runs SET created_at = created_at - interval '2 minutes'")
    first = await world.database.fetchval("SELECT min(run) / 256 FROM runs")
    await PostgresCacheAdmin(world.database).counts(TENANT, "")
    assert not await world.database.fetchval("SELECT count(*) FROM cache_counted WHERE run_group = $1", first)


async def test_the_newest_are_found_by_index(world: Any) -> None:
    """A page of the newest entries reads an index, not the table."""
    async with world.database.connection() as connection:
        await connection.execute("""
            INSERT INTO step_cache (tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch,
                                    run, step, output_hash, created_at)
            SELECT 'acme', 'w', 's0', sha256(n::text::bytea), 'no.op', '1', '', n, 0, '', now() - n * interval '1 s'
            FROM generate_series(1, 5000) AS n;
            ANALYZE step_cache;
        """)
        statement = await connection.prepare(sql("step_cache_list"))
        far = await connection.fetchval("SELECT now()")
        plan = str(await statement.explain("acme", far, 0, 0, 50, ""))
    assert "step_cache_newest" in plan
    assert '"Node Type": "Seq Scan", "Relation Name": "step_cache"' not in plan


def _workflow(name: str, steps: int) -> Workflow:
    return Workflow(
        name=name,
        version="1.0.0",
        steps=tuple(StepDefinition(step_id=StepId(f"s{n}"), skill_id=SkillId("no.op")) for n in range(steps)),
        digest=WorkflowDigest(hashlib.sha256(f"{name} {steps}".encode()).hexdigest()),
    )


async def _file(
    world: Any, name: str, steps: int, *, tenant: Tenant = TENANT, decision: CacheDecision | None = None
) -> list[StepExecuted]:
    """A run of so many steps, executed in one turn and filed."""
    made = await world.create(_workflow(name, steps), tenant=tenant)
    done = []
    for lease in sorted((each for each in await world.lease() if each.run == made.key), key=lambda each: each.step):
        filing = CacheFiling(workflow_name=name, step_id=f"s{lease.step}", fingerprint=FINGERPRINT)
        executed = replace(world.executed(lease), filing=filing)
        done.append(executed if decision is None else replace(executed, decision=decision, filing=None))
    await world.complete(*done)
    return done


async def _age(world: Any, executed: StepExecuted, seconds: float) -> None:
    """The entry was filed, or removed, that much earlier."""
    await world.database.fetch(
        "UPDATE step_cache SET created_at = created_at - $2 * interval '1 second' WHERE input_hash = $1",
        bytes.fromhex(executed.input_hash),
        seconds,
    )


def _query(name: str, executed: StepExecuted) -> CacheQuery:
    assert executed.filing is not None
    step_id = StepId(executed.filing.step_id)
    key = CacheKey(tenant=TENANT, workflow_name=name, step_id=step_id, input_hash=executed.input_hash)
    return CacheQuery(key=key, fingerprint=FINGERPRINT, hot_ttl_s=60)
