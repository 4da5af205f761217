"""Checks what must hold of the tables whatever has happened: invariants I1 to I15, each a statement that finds nothing.

    violations = await check_invariants(connection, watcher_logs=…, ledger=…, acknowledged=…)
    assert not violations, report(violations)

May run beside working engines: all statements see one snapshot.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from runengine_server.adapters.postgres.encoding import decode_body
from runengine_server.adapters.postgres.workflow_encoding import decode_workflow
from runengine_server.domain.ids import WorkflowDigest
from runengine_server.planner.compiled import compile_workflow

if TYPE_CHECKING:
    from runengine_client.skills import LedgerRecord

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

# With these a recount over a big history never becomes a nested loop over every event.
_PLANS = "SET LOCAL enable_nestloop = on; SET LOCAL jit = off; SET LOCAL statement_timeout = '60s'"

_TEMPORARY_TABLES = """
CREATE TEMP TABLE checked_definitions (workflow_digest bytea PRIMARY KEY, workflow_name text) ON COMMIT DROP;
CREATE TEMP TABLE checked_steps (
    workflow_digest bytea, step integer, step_id text, max_attempts integer, PRIMARY KEY (workflow_digest, step)
) ON COMMIT DROP;
CREATE TEMP TABLE checked_dependencies (
    workflow_digest bytea, step integer, needs integer, PRIMARY KEY (workflow_digest, step, needs)
) ON COMMIT DROP;
CREATE TEMP TABLE checked_watchers (watcher integer PRIMARY KEY, run_id uuid, after_sequence bigint) ON COMMIT DROP;
CREATE TEMP TABLE checked_watched (
    watcher integer, n integer, run_id uuid, sequence bigint, type smallint, step_id text, to_status smallint
) ON COMMIT DROP;
CREATE TEMP TABLE checked_ledger (key text, digest text, PRIMARY KEY (key, digest)) ON COMMIT DROP;
CREATE TEMP TABLE checked_acknowledged (run_id uuid, request_id text, is_cancelled boolean) ON COMMIT DROP;
-- Runs whose first events retention may have deleted, and has: nothing can be said of their events.
CREATE TEMP TABLE checked_compacted ON COMMIT DROP AS
SELECT o.run
FROM (
    SELECT run FROM run_progress WHERE ended_at < clock_timestamp() - interval '1 day'
    UNION ALL
    SELECT run FROM deleted_runs
) AS o
WHERE NOT EXISTS (SELECT FROM run_events AS e WHERE e.run = o.run AND e.sequence = 1);
"""

_FINGERPRINTS = """
SELECT r.id::text, md5(concat_ws(
    '|', r::text,
    (SELECT string_agg(s::text, '|' ORDER BY s.step) FROM step_results AS s WHERE s.run = r.run),
    (SELECT string_agg(o::text, '|' ORDER BY o.step) FROM outputs AS o WHERE o.run = r.run),
    (SELECT string_agg(a::text, '|' ORDER BY a.step, a.ordinal) FROM artifacts AS a WHERE a.run = r.run),
    (SELECT string_agg(e::text, '|' ORDER BY e.sequence) FROM run_events AS e WHERE e.run = r.run),
    (SELECT p::text FROM run_progress AS p WHERE p.run = r.run)
))
FROM runs AS r
WHERE r.id = ANY ($1::uuid[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that is wrong: the statement that found it, where (internal numbers), and what it saw."""

    invariant: str
    run: int | None
    step: int | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """One numbered event as a watcher got it; `to_status` is None for an artifact's, `step_id` empty for a run's."""

    sequence: int
    type: int
    step_id: str
    to_status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherLog:
    """Everything one watcher got of a run, from the event after `after_sequence` to the run's end."""

    run_id: str
    after_sequence: int
    events: Sequence[SeenEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A run that a caller was told about: started, and perhaps cancelled."""

    run_id: str
    request_id: str = ""
    is_cancelled: bool = False


async def check_invariants(
    connection: Connection,
    *,
    watcher_logs: Iterable[WatcherLog] = (),
    ledger: "Iterable[LedgerRecord]" = (),
    acknowledged: Iterable[Acknowledged] = (),
    unchanged: Mapping[str, str] | None = None,
) -> list[Violation]:
    """Everything that is wrong, in the order of the invariants; nothing is changed.

    Args:
        connection: to the engine's database, outside a transaction.
        watcher_logs: what watchers of finished runs saw (I5).
        ledger: what the runner says it did (I7); empty means that nobody kept one.
        acknowledged: what callers were told (I10).
        unchanged: what `run_fingerprints` said earlier of runs that must not change any more (I9).
    """
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(_PLANS)
        await connection.execute(_TEMPORARY_TABLES)
        await _load_definitions(connection)
        await _load_observations(connection, list(watcher_logs), ledger, acknowledged)
        await connection.execute("ANALYZE checked_steps; ANALYZE checked_dependencies")
        violations = [
            Violation(invariant=name, run=row["run"], step=row["step"], detail=row["detail"])
            for name, statement in invariants().items()
            for row in await connection.fetch(statement)
        ]
        violations += await _wrong_digests(connection)
        violations += await _changed_runs(connection, unchanged or {})
    return violations


async def run_fingerprints(connection: Connection, run_ids: Sequence[str]) -> dict[str, str]:
    """A digest over everything stored of each run, for `check_invariants(unchanged=…)`."""
    return {row[0]: row[1] for row in await connection.fetch(_FINGERPRINTS, run_ids)}


def report(violations: Sequence[Violation]) -> str:
    """The violations for a person, the first few of each invariant."""
    lines = []
    for name in dict.fromkeys(violation.invariant for violation in violations):
        found = [violation for violation in violations if violation.invariant == name]
        lines.append(f"{name}: {len(found)}")
        lines += [f"    run {v.run} step {v.step}: {v.detail}" for v in found[:5]]
    return "\n".join(lines)


@cache
def invariants() -> dict[str, str]:
    """Every statement of invariants.sql by name, in order."""
    text = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\s*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (statement.strip() for statement in parts[2::2]), strict=True))


async def _load_definitions(connection: Connection) -> None:
    definitions: list[tuple[object, ...]] = []
    steps: list[tuple[object, ...]] = []
    dependencies: list[tuple[object, ...]] = []
    for row in await connection.fetch("SELECT digest, definition FROM workflow_definitions"):
        digest: bytes = row["digest"]
        workflow = decode_workflow(row["definition"], digest=WorkflowDigest(digest.hex()), created_at=None)
        definitions.append((digest, workflow.name))
        steps += [(digest, n, s.step_id, s.retry_policy.max_attempts) for n, s in enumerate(workflow.steps)]
        dependencies += [
            (digest, n, needs) for n, direct in enumerate(compile_workflow(workflow).dependencies) for needs in direct
        ]
    await _copy(connection, "checked_definitions", definitions)
    await _copy(connection, "checked_steps", steps)
    await _copy(connection, "checked_dependencies", dependencies)


async def _load_observations(
    connection: Connection,
    watcher_logs: Sequence[WatcherLog],
    ledger: "Iterable[LedgerRecord]",
    acknowledged: Iterable[Acknowledged],
) -> None:
    watchers = [(w, log.run_id, log.after_sequence) for w, log in enumerate(watcher_logs)]
    watched = [
        (w, n, log.run_id, seen.sequence, seen.type, seen.step_id, seen.to_status)
        for w, log in enumerate(watcher_logs)
        for n, seen in enumerate(log.events)
    ]
    await _copy(connection, "checked_watchers", watchers)
    await _copy(connection, "checked_watched", watched)
    outcomes = {(record.key, record.digest) for record in ledger if record.event.value == "succeeded"}
    await _copy(connection, "checked_ledger", sorted(outcomes))
    await _copy(connection, "checked_acknowledged", [(a.run_id, a.request_id, a.is_cancelled) for a in acknowledged])


async def _copy(connection: Connection, table: str, records: Sequence[tuple[object, ...]]) -> None:
    if records:
        await connection.copy_records_to_table(table, records=records)


async def _wrong_digests(connection: Connection) -> list[Violation]:
    """I8 and I9: the bytes of every output are those that its result names."""
    wrong = []
    rows: Any = connection.cursor(
        "SELECT o.run, o.step, o.is_compressed, o.body, s.output_hash FROM outputs AS o"
        " JOIN step_results AS s ON s.run = o.run AND s.step = o.step",
        prefetch=500,
    )
    async for run, step, is_compressed, body, output_hash in rows:
        if hashlib.sha256(decode_body(body, is_compressed)).digest() != output_hash:
            wrong.append(
                Violation(invariant="i8_output_has_its_digest", run=run, step=step, detail="the bytes are others")
            )
    return wrong


async def _changed_runs(connection: Connection, unchanged: Mapping[str, str]) -> list[Violation]:
    now = await run_fingerprints(connection, list(unchanged))
    return [
        Violation(invariant="i9_base_is_unchanged", run=None, step=None, detail=f"run {run_id} was changed")
        for run_id, before in unchanged.items()
        if now.get(run_id) != before
    ]
