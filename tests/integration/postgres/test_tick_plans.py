"""How PostgreSQL runs the hot statements: by index, however much history there is and however stale its statistics."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from runengine_server.adapters.postgres.database import PINNED_PLANS, Connection, Database
from runengine_server.adapters.postgres.lineage_reader import PostgresLineageReader
from runengine_server.adapters.postgres.run_reader import PostgresRunReader
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.step_history import NEWER_RUNS_MAX, PostgresStepHistory
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.domain.cache import CacheKey, CacheQuery, Fingerprint
from runengine_server.domain.ids import Place, StepId, StepNo
from runengine_server.domain.states import RunStatus
from runengine_server.ports.run_reader import RunFilter, RunIdentity
from runengine_server.ports.step_history import MissedStep
from runengine_server.ports.step_queue import CacheQuestion

from ...support.hand_driven import TENANT, CreateOptions, HandDriven, chain, file_named, hand_driven, wide

pytestmark = pytest.mark.anyio

_EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "client_min_messages": "log",
    "jit": "off",
}
_SCANNED = re.compile(r"Seq Scan on (\w+)")
# Whatever grows with history or with the queue; engines has a row per process.
_LARGE = re.compile(
    r"(runs|run_progress|run_state|run_events_0|step_queue|step_results_0|outputs_0|step_attempts_0|artifacts"
    r"|artifact_contents|step_cache|idempotency_keys)$"
)
# A scan of queue, flights or cache without a condition on the index.
_READ_WHOLE = re.compile(r"Scan using \w+ on (step_queue|cache_flights|step_cache)[^\n]*\n(?!\s*Index Cond)")
_HISTORY_RUNS = 10_000
# Finished runs of one step each, far above the numbers of the runs under test.
_HISTORY = (
    """
    INSERT INTO runs (run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type,
        cache_mode, priority, failure_policy, payload, root_run, plan, labels, request_id, principal)
    SELECT 500000 + n, gen_random_uuid(), 'acme', 'old', '1.0.0', sha256('old'), 1, 1, 1, 0, 1, '{}', 500000 + n,
        '\\x11', '{}', 'old' || n, 'ann'
    FROM generate_series(1, $1) AS n
    """,
    """
    INSERT INTO run_progress (run, status, remaining, completed, last_sequence, started_at, ended_at)
    SELECT 500000 + n, 3, 0, 1, 5, now(), now() FROM generate_series(1, $1) AS n
    """,
    "INSERT INTO run_state SELECT 500000 + n, 0, '{0}' FROM generate_series(1, $1) AS n",
    """
    INSERT INTO run_events (run, sequence, type, step, to_status)
    SELECT 500000 + n, s, 2, 0, 4 FROM generate_series(1, $1) AS n, generate_series(1, 5) AS s
    """,
    """
    INSERT INTO step_results (run, step, status, source, attempt, lease_losses, input_hash, output_hash, producer_run,
        producer_step, ended_at)
    SELECT 500000 + n, 0, 4, 1, 1, 0, sha256('in'), sha256('out'), 500000 + n, 0, now() FROM generate_series(1, $1) AS n
    """,
    "INSERT INTO outputs SELECT 500000 + n, 0, false, '{}' FROM generate_series(1, $1) AS n",
    """
    INSERT INTO artifacts (run, step, ordinal, tenant, content_hash, size_bytes, media_type, uri, filename, metadata,
        made_from, skill_id, skill_version)
    SELECT 500000 + n, 0, 0, 'acme', sha256('a'), 1, 'text/plain', 'file:///a', 'a', '{}', '[]', 'no.op', '1'
    FROM generate_series(1, $1) AS n
    """,
    """
    INSERT INTO step_cache (tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, run, step,
        output_hash)
    SELECT 'acme', 'old', 's0', sha256(n::text::bytea), 'no.op', '1', '', 500000 + n, 0, sha256('out')
    FROM generate_series(1, $1) AS n
    """,
    """
    INSERT INTO idempotency_keys
    SELECT 'acme', 'Trigger', 'old' || n, sha256(''), 500000 + n, '' FROM generate_series(1, $1) AS n
    """,
)


class Explained(Database):
    """One connection that notes the plan of every statement, those inside functions too."""

    def __init__(self, connection: Connection) -> None:
        """Listen to the connection's log."""
        self._connection = connection
        self.plans: list[str] = []
        connection.add_log_listener(self._note)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._connection

    def scanned(self) -> set[str]:
        """The large tables that some statement read from end to end."""
        return {table for plan in self.plans for table in _SCANNED.findall(plan) if _LARGE.match(table)}

    def _note(self, connection: object, message: Any) -> None:
        if "Query Text" in message.message:
            self.plans.append(message.message)


@asynccontextmanager
async def explained(url: str, settings: dict[str, str]) -> AsyncIterator[Explained]:
    connection = await asyncpg.connect(url, server_settings={**_EXPLAIN, **settings})
    try:
        yield Explained(connection)
    finally:
        await connection.close()


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """A database with much history, which was never analysed while it grew."""
    async with hand_driven(database_url) as driven:
        for statement in _HISTORY:
            await driven.database.fetch(statement, _HISTORY_RUNS)
        yield driven


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_a_tick_reads_by_index(driven: HandDriven, is_analysed: bool) -> None:
    """No statement of a tick (completions, failures, retries, leases, artifacts, cache) scans a table."""
    if is_analysed:
        await driven.database.fetch("ANALYZE")
    engine = await driven.engine()
    for request in ("a", "b", "c"):
        await driven.started(chain(3), CreateOptions(request_id=request))
    async with explained(driven.url, PINNED_PLANS) as database:
        queue = PostgresStepQueue(database)
        one, two, three = (await queue.tick(engine, [], 10)).leases
        done = driven.executed(one, file_named("x"), is_filed=True)
        await queue.tick(engine, [done, driven.attempt_failed(two), driven.step_failed(three)], 10)
        await queue.owned(engine)
        assert len(database.plans) > 20, "nested statements are explained"
        assert not database.scanned()


async def test_a_tick_probes_what_was_empty(database_url: str) -> None:
    """Planned while queue and flights were empty, and known to be, a tick still probes them: it will meet them full."""
    async with hand_driven(database_url) as driven:
        engine = await driven.engine()
        for request in ("a", "b"):
            await driven.started(chain(3), CreateOptions(request_id=request))
        known = [(lease.run, lease.step) for lease in (await driven.queue.tick(engine, [], 1)).leases]
        for table in ("step_queue", "cache_flights"):
            await driven.database.fetch(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")
            await driven.database.fetch(f"DELETE FROM {table}")
            await driven.database.fetch(f"VACUUM (ANALYZE) {table}")
            await driven.database.fetch(f"INSERT INTO {table} SELECT * FROM kept")
            await driven.database.fetch("DROP TABLE kept")
        async with explained(driven.url, PINNED_PLANS) as database:
            queue = PostgresStepQueue(database)
            (lease,) = (await driven.queue.owned(engine)).leases
            await queue.tick(
                engine, [driven.executed(lease, is_filed=True)], 10, [_question((lease.run, StepNo(1)))], known
            )
            assert [plan for plan in database.plans if "unnest" in plan and _READ_WHOLE.search(plan)] == []
            assert any("Index Cond: ((ROW(run, step) >=" in plan for plan in database.plans)


def _question(place: Place) -> CacheQuestion:
    key = CacheKey(tenant=TENANT, workflow_name="test", step_id=StepId("s1"), input_hash="ab" * 32)
    fingerprint = Fingerprint(skill_id="no.op", cache_version="1", cache_epoch="")
    query = CacheQuery(key=key, fingerprint=fingerprint, hot_ttl_s=60, claimant=place)
    return CacheQuestion(query, query.flight, is_step_known=False)


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_runs_are_dealt_by_index(driven: HandDriven, is_analysed: bool) -> None:
    """Whom to lease next is found by probes, from run to run, whatever the statistics say: not by what waits."""
    for request in ("a", "b", "c"):
        await driven.started(wide(500), CreateOptions(request_id=request))
    if is_analysed:
        await driven.database.fetch("ANALYZE")
    async with explained(driven.url, PINNED_PLANS) as database:
        assert len((await PostgresStepQueue(database).tick(await driven.engine(), [], 10)).leases) == 10
        (plan,) = (plan for plan in database.plans if "WITH RECURSIVE oldest" in plan)
        assert plan.count("using step_queue_runs on step_queue") == 4
        assert plan.count("on step_queue") == 4
        assert plan.count("Sort Key") == 1, "only the lot is sorted"
        assert "(run = c.run) AND (available_at <= " in plan


async def test_housekeeping_reads_by_index(driven: HandDriven) -> None:
    """Reaping and deadlines, on connections that plan freely, scan nothing that grows with history."""
    await driven.database.fetch("ANALYZE")
    engine = await driven.engine()
    await driven.started(wide(5), CreateOptions(deadline_s=0.001))
    await driven.queue.tick(engine, [], 3)
    await driven.database.fetch(
        "UPDATE engines SET lease_until = now() - interval '1 second' WHERE engine = $1", engine
    )
    async with explained(driven.url, {}) as database:
        registry = PostgresEngineRegistry(database)
        assert (await registry.reap()).runs
        assert await registry.enforce_deadlines()
        assert len(database.plans) > 10
        assert database.scanned() <= {"step_queue"}, "the queue itself is nearly empty here: either way is cheap"


@pytest.mark.parametrize("settings", [{}, PINNED_PLANS])
async def test_late_runs_are_found_by_their_deadline(driven: HandDriven, settings: dict[str, str]) -> None:
    """Enforcing deadlines reads the front of their index, not the runs that have none."""
    await driven.database.fetch("ANALYZE")
    late = await driven.started(wide(1), CreateOptions(deadline_s=0.001))
    await driven.started(wide(1), CreateOptions(request_id="in time", deadline_s=3600))
    async with explained(driven.url, settings) as database:
        assert [one.run for one in await PostgresEngineRegistry(database).enforce_deadlines()] == [late.key]
        (plan,) = (plan for plan in database.plans if "p.deadline <= at" in plan and "LockRows" in plan)
        assert "Index Scan using run_progress_deadline" in plan
        assert "Index Cond" in plan


async def test_creation_and_cancel_read_by_index(driven: HandDriven) -> None:
    """Creating and cancelling a run, on connections that plan freely, scan nothing that grows with history."""
    await driven.database.fetch("ANALYZE")
    run = await driven.started(wide(5), CreateOptions(request_id="first"))
    async with explained(driven.url, {}) as database:
        store = PostgresRunStore(database)
        assert await store.cancel(TENANT, run.run_id, "ann", "")
        await store.base_results([run.key])
        await store.outputs([(run.key, 0)])  # type: ignore[list-item]
        assert len(database.plans) > 5
        assert database.scanned() <= {"step_queue"}


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_planning_reads_by_index(driven: HandDriven, is_analysed: bool) -> None:
    """What a rebuild loads (the base, its results, its version, earlier durations) is found without a scan."""
    if is_analysed:
        await driven.database.fetch("ANALYZE")
    base = await driven.started(wide(3))
    update = await driven.started(wide(3), CreateOptions(base=base.key))
    async with explained(driven.url, PINNED_PLANS) as database:
        store = PostgresRunStore(database)
        assert await store.base(TENANT, base.run_id) is not None
        assert (await store.facts([update.key]))[update.key].base_digest == base.compiled.workflow.digest
        recent = await store.recent_runs(TENANT, "old", 3)
        assert len(recent) == 3
        await store.durations([(run, StepNo(0)) for run in recent])
        assert len(database.plans) >= 5
        assert not database.scanned()
        assert any("runs_by_workflow" in plan for plan in database.plans)


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_explanations_read_by_index(driven: HandDriven, is_analysed: bool) -> None:
    """Looking for the runs around one, for nearest successes, outcomes, makers and artifacts scans nothing."""
    if is_analysed:
        await driven.database.fetch("ANALYZE")
    run = await driven.started(wide(3))
    identity = RunIdentity(key=run.key, run_id=run.run_id, tenant=TENANT, workflow_digest=run.compiled.workflow.digest)
    async with explained(driven.url, PINNED_PLANS) as database:
        history, lineage = PostgresStepHistory(database), PostgresLineageReader(database)
        neighbours = await history.neighbours(identity, "old")
        assert len(neighbours) == NEWER_RUNS_MAX, "the history is newer than the run"
        missed = MissedStep(
            step_id=StepId("s0"), started_at=datetime.now(UTC) + timedelta(days=1), input_hash="00" * 32
        )
        (near,) = await history.nearest_successes([missed], neighbours, [[StepNo(0)]] * len(neighbours))
        assert near is not None
        await history.outcomes(run.key, [StepNo(0), StepNo(1)])
        places = [(neighbours[0].key, StepNo(0))]
        assert await lineage.makers(places)
        (made,) = await lineage.artifacts_of(TENANT, places, 10)
        assert await lineage.artifact(TENANT, made.artifact.id) is not None
        old = RunFilter(workflow_name="old")
        assert await PostgresRunReader(database).runs(TENANT, old, before=None, limit=5)
        assert len(database.plans) > 6
        walks = [plan for plan in database.plans if "workflow_name = $" in plan]
        assert walks and all("runs_by_workflow" in plan for plan in walks)
        assert not database.scanned()


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_open_runs_are_found_in_the_queue(driven: HandDriven, is_analysed: bool) -> None:
    """Runs that have not ended are listed from the newest down by way of the queue, however many have ended since."""
    if is_analysed:
        await driven.database.fetch("ANALYZE")
    first = await driven.started(wide(2))
    second = await driven.started(wide(2), CreateOptions(request_id="second"))
    unended = RunFilter(statuses=(RunStatus.QUEUED, RunStatus.RUNNING))
    async with explained(driven.url, PINNED_PLANS) as database:
        reader = PostgresRunReader(database)
        found = await reader.runs(TENANT, unended, before=None, limit=5)
        assert [row.run.id for row in found] == [second.run_id, first.run_id]
        assert [row.run.id for row in await reader.runs(TENANT, unended, before=second.key, limit=5)] == [first.run_id]
        walks = [plan for plan in database.plans if "SELECT DISTINCT q.run" in plan]
        assert walks and all("using runs_pkey" in plan and "runs_by_" not in plan for plan in walks)
        assert not database.scanned()
