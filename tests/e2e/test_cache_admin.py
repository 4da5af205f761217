"""What an administrator does to the cache reaches every engine and both tiers, and leaves runs as they are."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from grpc import StatusCode

from runengine_client import InvalidArgumentError, NotFoundError, RunEngineClient, SyncRunEngineClient
from runengine_client.pb.runengine.v1 import cache_pb2, workflow_pb2
from runengine_client.states import CacheOutcome, MissReason, OutputSource, RunStatus
from runengine_client.types import Step
from runengine_client.workflow import WorkflowBuilder, expression

from ..support.engine_process import TOKENS, EngineProcess, EngineSettings
from ..support.processes import clean_environment
from ..support.refusals import RawApi, refusal
from .workflows import demo, single

pytestmark = pytest.mark.anyio

BRIEF = {"brief": {"title": "cached"}}
RUNENGINE = Path(sys.executable).with_name("runengine")


@pytest.fixture
def second(engine_settings: EngineSettings) -> Iterator[EngineProcess]:
    """Another engine on the same servers."""
    with EngineProcess(engine_settings, "second") as process:
        yield process


@pytest.fixture
def without_redis(engine_settings: EngineSettings) -> Iterator[EngineProcess]:
    """An engine that cannot reach the others' hot cache."""
    with EngineProcess(replace(engine_settings, redis_url="redis://127.0.0.1:1"), "without-redis") as process:
        yield process


@pytest.fixture
async def database(engine_settings: EngineSettings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(engine_settings.database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_an_invalidation_holds_on_every_engine(
    client: RunEngineClient, second: EngineProcess, without_redis: EngineProcess
) -> None:
    """Whoever invalidates, and whether or not Redis can be reached: the next look-up of any engine misses."""
    await client.register_workflow(demo())
    async with second.client() as other, without_redis.client() as blind:
        for title, author in (("one", client), ("two", other), ("three", blind)):
            payload = {"brief": {"title": title}}
            await _steps(client, payload)
            for reader in (client, other):
                assert {step.output_source for step in await _steps(reader, payload)} <= {
                    OutputSource.CACHE_HOT,
                    OutputSource.CACHE_COLD,
                }
            done = await author.invalidate_cache(workflow_name="demo", step_id="music", reason="wrong mix")
            assert done.count >= 1
            again = {step.step_id: step for step in await _steps(other, payload)}
            assert again["music"].output_source is OutputSource.EXECUTED
            assert _said(again["music"]) == (CacheOutcome.MISS, MissReason.INVALIDATED)
            assert again["plan"].output_source is not OutputSource.EXECUTED
            # The new success counts at once, everywhere.
            for reader in (client, other, blind):
                (music,) = [step for step in await _steps(reader, payload) if step.step_id == "music"]
                assert music.output_source is not OutputSource.EXECUTED


async def test_a_dry_run_changes_nothing(client: RunEngineClient) -> None:
    """It tells how many entries would go and some of their keys; they stay."""
    await client.register_workflow(demo())
    await _steps(client, BRIEF)
    found = await client.invalidate_cache(workflow_name="demo", dry_run=True)
    keys = [entry.key async for entry in client.list_cache_entries(workflow_name="demo")]
    assert found.count == len(keys)
    assert set(found.sample_keys) == set(keys[:20])
    assert {step.output_source for step in await _steps(client, BRIEF)} <= {
        OutputSource.CACHE_HOT,
        OutputSource.CACHE_COLD,
    }


async def test_every_selector_selects(client: RunEngineClient) -> None:
    """Key, workflow, step, run, skill, version and age each choose the entries they name, and all must match."""
    await client.register_workflow(single("selected", skill="t.echo"))
    handles = [await client.start("selected", {"given": n}) for n in range(3)]
    runs = [await handle.result() for handle in handles]
    entries = {e.source_run_id: e async for e in client.list_cache_entries(workflow_name="selected")}
    assert entries.keys() == {run.id for run in runs}
    first = entries[runs[0].id]
    oldest = min(entry.created_at for entry in entries.values() if entry.created_at is not None)

    async def count(**selector: Any) -> int:
        return (await client.invalidate_cache(dry_run=True, workflow_name="selected", **selector)).count

    assert await count() == 3
    assert await count(step_id="only") == 3
    assert await count(step_id="other") == 0
    assert await count(source_run_id=runs[1].id) == 1
    assert await count(source_run_id="00000000-0000-0000-0000-000000000000") == 0
    assert await count(skill_id=first.skill_id, cache_version=first.cache_version) == 3
    assert await count(skill_id=first.skill_id, cache_version="other") == 0
    assert await count(created_before=oldest) == 0
    assert await count(created_before=oldest + timedelta(microseconds=1)) == 1
    assert await count(created_before=datetime.now(UTC) + timedelta(hours=1)) == 3
    assert await count(key=first.key) == 1
    assert await count(key=first.key, step_id="other") == 0
    assert (await client.invalidate_cache(key=first.key)).count == 1
    assert (await client.invalidate_cache(key=first.key)).count == 0
    assert await count() == 2
    with pytest.raises(NotFoundError, match="no entry"):
        await client.get_cache_entry(first.key)


async def test_what_is_asked_wrongly_is_refused(client: RunEngineClient, raw: RawApi) -> None:
    """An empty selector, what is no key or run id, and a caller without the scope are told so."""
    with pytest.raises(InvalidArgumentError, match="at least one field"):
        await client.invalidate_cache()
    with pytest.raises(InvalidArgumentError, match="inputHash"):
        await client.invalidate_cache(key="x")
    with pytest.raises(InvalidArgumentError, match="UUID"):
        await client.invalidate_cache(source_run_id="x")
    with pytest.raises(InvalidArgumentError, match="inputHash"):
        await client.get_cache_entry("demo:music")
    request = cache_pb2.InvalidateCacheRequest(selector=cache_pb2.CacheSelector(workflow_name="demo"))
    refusal(raw.cache.InvalidateCache, request, TOKENS.writer).expect(
        StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED", "cache:admin"
    )


async def test_an_entry_is_read_with_its_output(client: RunEngineClient) -> None:
    """An entry tells who made it, its size and, when asked, the output byte for byte as the step has it."""
    await client.register_workflow(single("read", skill="t.echo"))
    for given in ("x", "x" * 10_000):  # the second is stored compressed
        run = await (await client.start("read", {"given": given})).result()
        (step,) = [step async for step in client.list_steps(run.id, full=True)]
        entry = await client.get_cache_entry(step.cache_key, include_output=True)
        assert (entry.source_run_id, entry.source_step_id) == (run.id, "only")
        assert entry.output == step.output
        assert entry.size_bytes == len(json.dumps(step.output, separators=(",", ":")))
        assert (await client.get_cache_entry(step.cache_key)).output is None


async def test_entries_come_in_pages_newest_first(client: RunEngineClient) -> None:
    """Pages of any size make one list without gaps or repetitions, of one workflow or of all."""
    await client.register_workflow(single("paged", skill="t.echo"))
    for n in range(5):
        await (await client.start("paged", {"given": n})).result()
    whole = [entry async for entry in client.list_cache_entries(workflow_name="paged")]
    assert len({entry.key for entry in whole}) == 5
    assert [entry.created_at for entry in whole] == sorted((e.created_at for e in whole if e.created_at), reverse=True)
    for size in (1, 2, 4, 5):
        assert [e async for e in client.list_cache_entries(page_size=size, workflow_name="paged")] == whole
    steps = [entry.key async for entry in client.list_cache_entries(page_size=2, step_id="only")]
    assert [key for key in steps if key.startswith("paged:")] == [entry.key for entry in whole]
    assert {key.split(":")[1] for key in steps} == {"only"}
    everything = [entry.key async for entry in client.list_cache_entries(page_size=3)]
    assert len(everything) == len(set(everything))
    assert [key for key in everything if key.startswith("paged:")] == [entry.key for entry in whole]


async def test_another_tenant_sees_and_removes_nothing(client: RunEngineClient, raw: RawApi) -> None:
    """Keys, lists, counts and removals end at the tenant."""
    await client.register_workflow(single("mine", skill="t.echo"))
    await (await client.start("mine", {"given": 1})).result()
    (entry,) = [entry async for entry in client.list_cache_entries(workflow_name="mine")]
    foreign = (("authorization", f"Bearer {TOKENS.stranger}"),)
    listed = raw.cache.ListCacheEntries(cache_pb2.ListCacheEntriesRequest(), metadata=foreign)
    assert not listed.entries
    selector = cache_pb2.CacheSelector(key=entry.key)
    removed = raw.cache.InvalidateCache(cache_pb2.InvalidateCacheRequest(selector=selector), metadata=foreign)
    assert removed.invalidated_count == 0
    assert not raw.cache.GetCacheStats(cache_pb2.GetCacheStatsRequest(), metadata=foreign).stats
    refusal(raw.cache.GetCacheEntry, cache_pb2.GetCacheEntryRequest(key=entry.key), TOKENS.stranger).expect(
        StatusCode.NOT_FOUND, "CACHE_ENTRY_NOT_FOUND"
    )
    assert (await client.get_cache_entry(entry.key)).key == entry.key


async def test_an_invalidation_is_audited(
    client: RunEngineClient, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The audit log tells who removed what, why and how much; a dry run leaves no trace."""
    await client.register_workflow(single("audited", skill="t.echo"))
    await (await client.start("audited", {"given": 1})).result()
    await client.invalidate_cache(workflow_name="audited", dry_run=True)
    await client.invalidate_cache(workflow_name="audited", reason="because")
    rows = await database.fetch(
        "SELECT principal, target FROM audit_log WHERE action = 'InvalidateCache' AND target LIKE '%audited%'"
    )
    assert [json.loads(row["target"]) for row in rows] == [
        {"selector": {"workflowName": "audited"}, "reason": "because", "invalidated": 1}
    ]
    assert rows[0]["principal"]


async def test_a_failed_step_tells_what_the_cache_said(client: RunEngineClient) -> None:
    """A step whose skill failed for good keeps its cache decision."""
    await client.register_workflow(
        _with_input("failing", "t.flaky", {"failures": 9, "code": "BROKEN", "permanent": True})
    )
    handle = await client.start("failing", {})
    assert (await handle.wait()).status is RunStatus.FAILED
    (step,) = await handle.steps()
    assert _said(step) == (CacheOutcome.MISS, MissReason.NEVER_SEEN)
    assert step.cache is not None and step.cache.key.startswith("failing:only:")


async def test_statistics_count_each_step_once(client: RunEngineClient) -> None:
    """Hits by tier and misses add up to the steps that asked; disabled ones are not counted."""
    workflow = (
        WorkflowBuilder("counted", version="1.0.0")
        .step("cached", skill="t.echo", input={"given": expression("trigger.given")})
        .step("alone", skill="t.echo", input={"given": expression("trigger.given")}, cache="run_only")
        .build()
    )
    await client.register_workflow(workflow)
    for given in (1, 2, 1, 1):
        await (await client.start("counted", {"given": given})).result()
    (stats,) = await client.cache_stats("counted")
    assert (stats.workflow_name, stats.step_id) == ("counted", "cached")
    assert (stats.hot_hits + stats.cold_hits, stats.misses, stats.hit_rate) == (2, 2, 0.5)


async def test_a_lost_artifact_is_made_again(engine_settings: EngineSettings, folder: Path) -> None:
    """With verification a hit whose file is gone is ARTIFACT_GONE, in the plan too; without it nobody looks."""
    roots = {"RUNENGINE_ARTIFACT_ROOTS": folder.as_uri()}
    settings = replace(engine_settings, environment={**engine_settings.environment, **roots})
    with EngineProcess(settings, "verifying") as process:
        async with process.client() as client:
            for verified in (True, False):
                name = f"files_{verified}".lower()
                template = {"text": name, "filename": expression("trigger.filename")}
                await client.register_workflow(_with_input(name, "t.publish", template, verify_artifacts=verified))
                payload = {"filename": f"{name}.txt"}
                first = await client.start(name, payload)
                assert (await first.result()).status is RunStatus.COMPLETED
                (artifact,) = await first.artifacts()
                plan = await client.plan(name, payload)
                assert plan.reuse_count == 1
                await anyio.Path(artifact.uri.removeprefix("file://")).unlink()
                plan = await client.plan(name, payload)
                assert plan.execute_count == int(verified)
                second = await client.start(name, payload)
                assert (await second.result()).status is RunStatus.COMPLETED
                (step,) = await second.steps()
                if verified:
                    assert _said(step) == (CacheOutcome.MISS, MissReason.ARTIFACT_GONE)
                    assert (await client.plan(name, payload)).reuse_count == 1
                else:
                    assert step.output_source in (OutputSource.CACHE_HOT, OutputSource.CACHE_COLD)


async def test_clean_up_evicts(engine_settings: EngineSettings, database: "asyncpg.Connection[asyncpg.Record]") -> None:
    """An entry beyond the configured age goes, and the next look-up says EVICTED, whatever the hot tier holds."""
    bounds = {"RUNENGINE_CACHE_MAX_AGE_DAYS": "1", "RUNENGINE_CACHE_CLEANUP_INTERVAL_S": "1"}
    settings = replace(engine_settings, environment={**engine_settings.environment, **bounds})
    with EngineProcess(settings, "cleaning") as process:
        async with process.client() as client:
            await client.register_workflow(single("aged", skill="t.echo"))
            await (await client.start("aged", {"given": 1})).result()
            await database.execute(
                "UPDATE step_cache SET created_at = created_at - interval '2 days' WHERE workflow_name = 'aged'"
            )
            while await database.fetchval("SELECT count(*) FROM step_cache WHERE workflow_name = 'aged' AND step >= 0"):
                pass  # polls until the next pass, at most a second or two
            again = await client.start("aged", {"given": 1})
            await again.result()
            (step,) = await again.steps()
            assert _said(step) == (CacheOutcome.MISS, MissReason.EVICTED)


async def test_commands(client: RunEngineClient, engine: EngineProcess) -> None:
    """The command line lists, shows, invalidates and counts."""
    await client.register_workflow(single("shown", skill="t.echo"))
    await (await client.start("shown", {"given": 1})).result()
    (entry,) = json.loads(_command(engine, "list", "--workflow", "shown", "--output", "json"))["entries"]
    assert entry["key"] in _command(engine, "list", "--workflow", "shown")
    assert json.loads(_command(engine, "get", entry["key"], "--with-output"))["output"]
    assert "1 entries would be" in _command(engine, "invalidate", "--key", entry["key"], "--dry-run")
    assert "1 entries invalidated" in _command(engine, "invalidate", "--workflow", "shown", "--before", "2999-01-01")
    assert "no cache entries" in _command(engine, "list", "--workflow", "shown")
    assert "shown" in _command(engine, "stats", "--workflow", "shown")


def test_the_synchronous_client(engine: EngineProcess) -> None:
    """What the asynchronous client does with the cache, the synchronous one does."""
    with SyncRunEngineClient(engine.target, token=TOKENS.admin) as client:
        client.register_workflow(single("plain", skill="t.echo"))
        client.start("plain", {"given": 1}).result()
        (entry,) = client.list_cache_entries(workflow_name="plain")
        assert client.get_cache_entry(entry.key, include_output=True).output == {"given": 1}
        assert client.invalidate_cache(workflow_name="plain", dry_run=True).sample_keys == (entry.key,)
        assert client.invalidate_cache(key=entry.key).count == 1
        assert [row.misses for row in client.cache_stats("plain")] == [1]


def _command(engine: EngineProcess, *arguments: str) -> str:
    done = subprocess.run(
        [RUNENGINE, "cache", *arguments],
        env={**clean_environment(), "RUNENGINE_TARGET": engine.target, "RUNENGINE_TOKEN": TOKENS.admin},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _with_input(name: str, skill: str, template: dict[str, object], **options: Any) -> workflow_pb2.Workflow:
    """One step `only` that gives a skill this input."""
    return WorkflowBuilder(name, version="1.0.0").step("only", skill=skill, input=template, **options).build()


async def _steps(client: RunEngineClient, payload: dict[str, object]) -> list[Step]:
    handle = await client.start("demo", payload)
    assert (await handle.result()).status is RunStatus.COMPLETED
    return list(await handle.steps())


def _said(step: Step) -> tuple[CacheOutcome | None, MissReason | None]:
    assert step.cache is not None
    return step.cache.outcome, step.cache.miss_reason
