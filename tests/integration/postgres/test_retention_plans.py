"""What a pass of retention reads: what it deletes, and hardly anything of what it leaves, however much that is."""

import json

import pytest

from runengine_server.adapters.postgres.database import PINNED_PLANS, open_database
from runengine_server.adapters.postgres.queries import sql

pytestmark = pytest.mark.anyio

YOUNG = 20_000
DAY_S = 24 * 3600.0

# Runs of two steps with an output, a cache entry and three events each, $3 days after they ended. Every second step
# reuses what the run before made.
_RUNS = (
    "INSERT INTO runs (run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type,"
    " cache_mode, priority, failure_policy, payload, root_run, plan, labels, request_id, principal, created_at)"
    " SELECT g, gen_random_uuid(), 't', 'w', '1.0.0', sha256('w'), 2, 1, 1, 0, 1, '{}', g, '\\x1111', '{}', '', 'ann',"
    " now() - $3 * interval '1 day' FROM generate_series($1::bigint, $2) AS g",
    "INSERT INTO run_progress (run, status, remaining, completed, last_sequence, started_at, ended_at)"
    " SELECT g, 3, 0, 2, 3, now(), now() - $3 * interval '1 day' FROM generate_series($1::bigint, $2) AS g",
    "INSERT INTO run_state SELECT g, 0, '{0,0}' FROM generate_series($1::bigint, $2) AS g WHERE $3 > 0",
    "INSERT INTO run_events (run, sequence, type) SELECT g, n, 1 FROM generate_series($1::bigint, $2) AS g,"
    " generate_series(1, 3) AS n WHERE $3 > 0",
    "INSERT INTO step_results (run, step, status, source, attempt, lease_losses, input_hash, cache_version,"
    " output_hash, producer_run, producer_step, ended_at)"
    " SELECT g, n, 4 + n, 1 + n, 1, 0, sha256(int8send(g)), '1', '', g - n, 0, now() - $3 * interval '1 day'"
    " FROM generate_series($1::bigint, $2) AS g, generate_series(0, 1) AS n",
    "INSERT INTO outputs SELECT g, 0, false, '{}' FROM generate_series($1::bigint, $2) AS g WHERE $3 > 0",
    "INSERT INTO step_cache SELECT 't', 'w', 's0', sha256(int8send(g)), 'k', '1', '', g, 0, '',"
    " now() - $3 * interval '1 day' FROM generate_series($1::bigint, $2) AS g",
)


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["without statistics", "with statistics"])
async def test_a_pass_reads_what_it_deletes(database_url: str, is_analyzed: bool) -> None:
    """Beside 20,000 younger runs, deleting ten reads as many pages as ten runs have, by index, whatever is known."""
    async with open_database(database_url, connections_max=1, settings=PINNED_PLANS) as database:

        async def pages(query: str, *arguments: object) -> int:
            text = sql(query)
            for n, argument in reversed(list(enumerate(arguments, 1))):
                text = text.replace(f"${n}", str(argument))
            plan = json.loads(await database.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}"))[0]["Plan"]
            assert not _sequential(plan), query
            return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

        await database.fetch("VACUUM")  # other tests have left dead rows and their entries in the indexes
        for first, last, days in ((1, 10, 40.0), (11, YOUNG, 1.0)):
            for statement in _RUNS:
                await database.fetch(statement, first, last, days)
        if is_analyzed:
            await database.fetch("ANALYZE")
        assert await pages("run_events_sweep", 0, 7 * DAY_S, 20, 5_000) < 600
        assert await pages("run_events_sweep", 0, 7 * DAY_S, 20, 5_000) < 300, "and then it looks at a portion"
        assert await pages("runs_sweep", 0, 30 * DAY_S, 20) < 300
        assert await pages("runs_sweep", 0, 30 * DAY_S, 20) < 150
        assert await database.fetchval("SELECT count(*) FROM deleted_runs") == 10
        await database.fetch("UPDATE deleted_runs SET next_at = now()")
        assert await pages("deleted_runs_settle", 5_000, 1) < 2_000
        assert await database.fetchval("SELECT count(*) FROM run_events WHERE run <= 10") == 0
        # Each is still in the cache, and the last one is reused as well.
        assert await database.fetchval("SELECT count(*) FROM outputs WHERE run <= 10") == 10
        await database.fetch("DELETE FROM step_cache")
        for _ in range(2):
            await database.fetch("UPDATE deleted_runs SET next_at = now()")
            assert await pages("deleted_runs_settle", 5_000, 1) < 2_000
        assert [row[0] for row in await database.fetch("SELECT run FROM deleted_runs")] == [10]
        await database.fetch(
            "INSERT INTO deleted_runs SELECT -g, gen_random_uuid(), 't', '', now(), now() + interval '1 hour'"
            " FROM generate_series(1, $1::bigint) AS g",
            YOUNG,
        )
        assert await pages("deleted_runs_settle", 5_000, 1) < 50, "nothing is due"


def _sequential(plan: dict[str, object]) -> bool:
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    return plan["Node Type"] == "Seq Scan" or any(_sequential(child) for child in children)
