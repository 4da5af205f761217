"""The cold tier on what real completions leave behind, and the plan of its one statement."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import PINNED_PLANS, Connection, open_database
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheAnswer, CacheHit, CacheKey, CacheMiss, CacheQuery, Fingerprint
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import StepId, Tenant
from runengine_server.domain.states import CacheTier, MissReason
from runengine_server.domain.workflow import StepDefinition, Workflow
from runengine_server.ports.step_queue import CacheFiling, StepExecuted

pytestmark = pytest.mark.anyio

FINGERPRINT = Fingerprint(skill_id="no.op", cache_version="1", cache_epoch="e1")
ROWS = 20_000


async def test_a_completed_step_is_found_with_its_producer(world: Any) -> None:
    """The transaction that completes a step files it: output, artifacts, and the public id of the run that made it."""
    made, executed = await _complete(world, _file("a"), _file("b"))
    (answer,) = await PostgresOutputCache(world.database).lookup([_query(executed)])
    assert isinstance(answer, CacheHit)
    entry = answer.entry
    assert answer.tier is CacheTier.COLD
    assert (entry.output, entry.output_hash, entry.artifacts) == (
        executed.output,
        executed.output_hash,
        executed.artifacts,
    )
    assert (entry.producer.run, entry.producer.step, entry.producer.run_id) == (made.key, 0, made.run_id)
    assert entry.producer.step_id == "s0"


async def test_an_output_outlives_its_run(world: Any) -> None:
    """When the producer's run was cleaned up and its output kept, the entry is still used; the run has no id then."""
    made, executed = await _complete(world)
    async with world.database.connection() as connection:
        await connection.execute("DELETE FROM runs WHERE run = $1", made.key)
    (answer,) = await PostgresOutputCache(world.database).lookup([_query(executed)])
    assert isinstance(answer, CacheHit)
    assert (answer.entry.producer.run, answer.entry.producer.run_id) == (made.key, "")


async def test_an_entry_without_its_output_is_evicted(world: Any) -> None:
    """When the output was cleaned up the entry is a miss that says so."""
    made, executed = await _complete(world)
    async with world.database.connection() as connection:
        await connection.execute("DELETE FROM outputs WHERE run = $1", made.key)
    assert await _ask(world, _query(executed)) == [CacheMiss(reason=MissReason.EVICTED)]


async def test_an_absent_database_is_an_error(world: Any, database_url: str) -> None:
    """Without PostgreSQL the lookup raises, for the engine cannot go on without it."""
    async with open_database(database_url, connections_max=1) as database:
        pass
    with pytest.raises(UnavailableError):
        await PostgresOutputCache(database).lookup([_query((await _complete(world))[1])])


@pytest.fixture(params=[None, PINNED_PLANS], ids=["default plans", "pinned plans"])
async def filled(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Connection]:
    """A connection to a cache of 20,000 entries of one step, with statistics."""
    async with (
        open_database(database_url, connections_max=1, settings=request.param) as database,
        database.connection() as connection,
    ):
        await connection.execute(f"""
            INSERT INTO runs (run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total,
                              trigger_type, cache_mode, priority, failure_policy, payload, root_run, plan, labels,
                              request_id, principal)
            SELECT n, gen_random_uuid(), 'acme', 'w', '1.0.0', '', 1, 1, 1, 0, 1, '', n, '\\x11', '{{}}', '', ''
            FROM generate_series(1, {ROWS}) AS n;
            INSERT INTO outputs (run, step, is_compressed, body)
            SELECT n, 0, false, 'x'
            FROM generate_series(1, {ROWS}) AS n;
            INSERT INTO step_cache (tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch,
                                    run, step, output_hash)
            SELECT 'acme', 'w', 's0', sha256(n::text::bytea), 'no.op', '1', 'e1', n, 0, sha256('x')
            FROM generate_series(1, {ROWS}) AS n;
            INSERT INTO artifacts (run, step, ordinal, tenant, content_hash, size_bytes, media_type, uri, filename,
                                   metadata, made_from, skill_id, skill_version)
            SELECT n, 0, 0, 'acme', sha256('x'), 1, 'text/plain', 'file:///x', 'x', '{{}}', '[]', 'no.op', '1'
            FROM generate_series(1, {ROWS}) AS n;
            ANALYZE runs, outputs, step_cache, artifacts;
        """)
        yield connection


async def test_every_key_is_an_index_probe(filled: Connection) -> None:
    """Whatever the settings, statistics and share of misses: no scan, sort or hash of a table, one probe per key."""
    wanted = [b"%d" % n for n in range(ROWS - 250, ROWS + 250)]
    hashes = await filled.fetchval("SELECT array_agg(sha256(t)) FROM unnest($1::bytea[]) AS t", wanted)
    statement = await filled.prepare(sql("step_cache_find"))
    count = len(wanted)
    columns = (
        ["acme"] * count, ["w"] * count, ["s0"] * count, hashes, ["no.op"] * count, ["1"] * count, ["e1"] * count,
        [1] * count, ["acme"], ["w"], ["s0"],
    )  # fmt: skip
    rows = await statement.fetch(*columns)
    assert sum(row["body"] is not None for row in rows) == 251
    assert sum(row["is_step_known"] is True for row in rows) == 249
    explained = await statement.explain(*columns, analyze=True)
    nodes = _nodes((json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"])
    # Empty partitions are in the plan and never looked into.
    scans = [node for node in nodes if "Relation Name" in node and node["Actual Loops"]]
    assert {node["Relation Name"] for node in scans} >= {"step_cache", "runs", "outputs_0", "artifacts"}
    assert {node["Relation Name"] for node in scans if not node["Node Type"].startswith("Index")} == set()
    assert not any("Hash" in node["Node Type"] for node in nodes)
    assert all(node["Actual Rows"] <= 1 for node in scans)
    (known,) = [node for node in scans if node["Alias"] == "s"]
    assert (known["Node Type"], known["Index Name"]) == ("Index Only Scan", "step_cache_pkey")
    assert known["Actual Loops"] == 1, "all misses of a step are classified at once"


async def _complete(world: Any, *artifacts: ProducedArtifact) -> tuple[Any, StepExecuted]:
    """A run of one step, executed and filed."""
    steps = (StepDefinition(step_id=StepId("s0"), skill_id="no.op"),)  # type: ignore[arg-type]
    made = await world.create(Workflow(name="w", version="1.0.0", steps=steps, digest="ab" * 32))  # type: ignore[arg-type]
    (lease,) = await world.lease()
    filing = CacheFiling(workflow_name="w", step_id="s0", fingerprint=FINGERPRINT)
    executed = replace(world.executed(lease, *artifacts), filing=filing)
    await world.complete(executed)
    return made, executed


async def _ask(world: Any, *queries: CacheQuery) -> list[CacheAnswer]:
    return list(await PostgresOutputCache(world.database).lookup(queries))


def _query(executed: StepExecuted) -> CacheQuery:
    key = CacheKey(tenant=Tenant("acme"), workflow_name="w", step_id=StepId("s0"), input_hash=executed.input_hash)
    return CacheQuery(key=key, fingerprint=FINGERPRINT, hot_ttl_s=60)


def _file(name: str) -> ProducedArtifact:
    return ProducedArtifact(
        media_type="audio/mpeg",
        uri=f"file:///{name}.mp3",
        content_hash="ab" * 32,
        size_bytes=1234,
        filename=f"{name}.mp3",
        metadata={"bpm": 120},
        made_from=("x",),
    )


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
