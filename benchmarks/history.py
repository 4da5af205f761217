"""Fills the tables with finished runs, as the engine leaves them, faster than an engine could.

One run that the engine executed is copied: every row of every table that has its run, with a run, an id and input
hashes of its own. So indexes, sizes and constraints are real, whatever columns a table has.
"""

from collections.abc import Iterator
from typing import Final

import asyncpg

from benchmarks.bench import BenchmarkError
from benchmarks.figures import Say

_RUNS_AT_ONCE: Final = 10_000

# What a copy has of its own; every other column is the original's.
_OWN: Final = {
    "run": "g.run",
    "id": "gen_random_uuid()",
    "root_run": "CASE WHEN t.root_run = $1 THEN g.run ELSE t.root_run END",
    "producer_run": "CASE WHEN t.producer_run = $1 THEN g.run ELSE t.producer_run END",
    "input_hash": "sha256(int8send(g.run) || t.input_hash)",
}

_COLUMNS: Final = """
    SELECT c.relname AS name, array_agg(a.attname ORDER BY a.attnum) AS columns
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        AND a.attidentity = ''
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY c.relname
    HAVING 'run' = ANY (array_agg(a.attname))
    ORDER BY c.relname
"""


async def fill(database_url: str, steps: int, say: Say) -> None:
    """The tables have as many finished steps, short of one run; the newest completed run is what is copied.

    Raises:
        BenchmarkError: they do not.
    """
    connection = await asyncpg.connect(database_url, command_timeout=3600)
    try:
        await connection.execute("SET synchronous_commit = off")
        await _fill(connection, steps, say)
    finally:
        await connection.close()


async def _fill(connection: "asyncpg.Connection[asyncpg.Record]", steps: int, say: Say) -> None:
    original = await connection.fetchval("SELECT max(run) FROM run_progress WHERE status = 3")
    a_run = await connection.fetchval("SELECT count(*) FROM step_results WHERE run = $1", original)
    there = await connection.fetchval("SELECT coalesce(sum(completed + skipped), 0)::bigint FROM run_progress")
    tables = await connection.fetch(_COLUMNS)
    for first, last in _portions(await _reserved(connection, max(0, steps - there) // a_run)):
        async with connection.transaction():
            for table in tables:
                await connection.execute(_copy(table["name"], table["columns"]), original, first, last)
        say(f"filling: run {last:,}")
    for table in tables:
        await connection.execute(f"VACUUM (ANALYZE) {table['name']}")
    await connection.execute("CHECKPOINT")
    found = await connection.fetchval("SELECT count(*) FROM step_results")
    if found <= steps - a_run:
        raise BenchmarkError(f"{found} finished steps instead of {steps}")


async def _reserved(connection: "asyncpg.Connection[asyncpg.Record]", runs: int) -> range:
    """Runs that the engine will not give out, with partitions to hold them."""
    if runs <= 0:
        return range(0)
    first = await connection.fetchval("SELECT nextval('run_key')")
    await connection.execute("SELECT setval('run_key', $1)", first + runs)
    await connection.execute("SELECT partitions_ensure()")
    return range(first, first + runs)


def _portions(runs: range) -> Iterator[tuple[int, int]]:
    for first in range(runs.start, runs.stop, _RUNS_AT_ONCE):
        yield first, min(first + _RUNS_AT_ONCE, runs.stop) - 1


def _copy(table: str, columns: list[str]) -> str:
    values = ", ".join(_OWN.get(column, f"t.{column}") for column in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM generate_series($2::bigint, $3::bigint) AS g"
        f" (run) CROSS JOIN LATERAL (SELECT * FROM {table} WHERE run = $1 OFFSET 0) AS t"
    )
