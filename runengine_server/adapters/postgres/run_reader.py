"""Runs, steps and artifacts as callers read them: derived in one snapshot, never materialised."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import asyncpg
import orjson

from runengine_server.adapters.postgres import rows
from runengine_server.adapters.postgres.database import Connection, Database
from runengine_server.adapters.postgres.encoding import decode_body, decode_json
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.artifact import Artifact
from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.run import Step, StepAttempt
from runengine_server.domain.states import OutputSource
from runengine_server.domain.workflow import Workflow
from runengine_server.ports.run_reader import (
    ArtifactPlace,
    RunFilter,
    RunIdentity,
    RunRow,
    RunSteps,
    StepFilter,
)

# Two probes each: 20,000 took 60 ms on one of two shared cores.
SAVINGS_STEPS_MAX = 20_000

# So that what is read beyond the byte budget of a page is at most this many outputs of 1 MiB.
_OUTPUTS_AT_ONCE = 16


class PostgresRunReader:
    """RunReader on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def find(self, tenant: Tenant, run_id: RunId) -> RunIdentity | None:
        """See the port."""
        row = await self._database.fetchrow(sql("run_find"), run_id, tenant)
        if row is None:
            return None
        return RunIdentity(
            key=RunKey(row["run"]),
            run_id=run_id,
            tenant=tenant,
            workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
        )

    async def run(self, run: RunIdentity, *, is_full: bool) -> RunRow | None:
        """See the port."""
        row = await self._database.fetchrow(sql("runs_read"), [run.key], is_full, SAVINGS_STEPS_MAX)
        return None if row is None else rows.run_row(row)

    async def runs(self, tenant: Tenant, where: RunFilter, *, before: RunKey | None, limit: int) -> Sequence[RunRow]:
        """See the port."""
        arguments: list[object] = [
            tenant,
            before,
            where.workflow_name,
            [int(status) for status in where.statuses],
            orjson.dumps(dict(where.labels)).decode(),
            where.created_after,
            where.created_before,
            where.trigger_type,
            limit,
        ]
        query = "workflow_runs_find" if where.workflow_name else "runs_find"
        if where.base_run_id is not None:
            query = "runs_find_based"
            arguments.append(where.base_run_id)
        elif where.statuses and not any(status.is_terminal for status in where.statuses):
            query = "open_runs_find"
        async with self._database.snapshot() as connection:
            keys = [row["run"] for row in await connection.fetch(sql(query), *arguments)]
            if not keys:
                return []
            found = await connection.fetch(sql("runs_read"), keys, False, SAVINGS_STEPS_MAX)
        return [rows.run_row(row) for row in found]

    async def steps(self, run: RunIdentity, workflow: Workflow, where: StepFilter) -> RunSteps | None:
        """See the port."""
        async with self._database.snapshot() as connection:
            row = await connection.fetchrow(sql("runs_read"), [run.key], False, SAVINGS_STEPS_MAX)
            if row is None:
                return None
            found = await connection.fetch(
                sql("steps_read"),
                run.key,
                where.from_step,
                len(workflow.steps),
                [int(status) for status in where.statuses],
                where.limit + 1,
            )
            has_more = len(found) > where.limit
            found = found[: where.limit]
            if where.is_full:
                steps, is_cut = await self._full_steps(connection, run, workflow, found, where.output_bytes_max)
                has_more = has_more or is_cut
            else:
                steps = [rows.step(one, run, workflow) for one in found]
        return RunSteps(
            row=rows.run_row(row),
            steps=[(StepNo(one["step"]), step) for one, step in zip(found, steps, strict=False)],
            has_more=has_more,
        )

    async def artifacts(
        self, run: RunIdentity, workflow: Workflow, *, step: StepNo | None, after: ArtifactPlace | None, limit: int
    ) -> Sequence[tuple[ArtifactPlace, Artifact]]:
        """See the port."""
        first = after or ArtifactPlace(step=StepNo(0), ordinal=-1)
        found = await self._database.fetch(sql("artifacts_read"), run.key, first.step, first.ordinal, step, limit)
        return [
            (
                ArtifactPlace(step=StepNo(row["step"]), ordinal=row["ordinal"]),
                rows.artifact(
                    row,
                    run,
                    workflow,
                    artifact_id=str(row["id"]),
                    source=OutputSource(row["source"]),
                    source_run=rows.run_id(row["producer_id"]) or RunId(""),
                ),
            )
            for row in found
        ]

    async def _full_steps(
        self,
        connection: Connection,
        run: RunIdentity,
        workflow: Workflow,
        found: Sequence[asyncpg.Record],
        output_bytes_max: int,
    ) -> tuple[list[Step], bool]:
        """The steps with outputs and attempts, and whether the byte budget ended them early."""
        steps: list[Step] = []
        attempts = await _attempts(connection, run, found)
        spent = 0
        for start in range(0, len(found), _OUTPUTS_AT_ONCE):
            group = found[start : start + _OUTPUTS_AT_ONCE]
            bodies = await _bodies(connection, group)
            for row in group:
                body = bodies.get((row["producer_run"], row["producer_step"]))
                spent += 0 if body is None else len(body)
                if steps and spent > output_bytes_max:
                    return steps, True
                steps.append(
                    replace(
                        rows.step(row, run, workflow),
                        output=None if body is None else decode_json(body),
                        attempts=tuple(attempts.get(row["step"], ())),
                    )
                )
        return steps, False


async def _attempts(
    connection: Connection, run: RunIdentity, found: Sequence[asyncpg.Record]
) -> Mapping[int, Sequence[StepAttempt]]:
    attempts: dict[int, list[StepAttempt]] = defaultdict(list)
    numbers = [row["step"] for row in found if row["attempt"] > 0]
    if numbers:
        for row in await connection.fetch(sql("step_attempts_read"), run.key, numbers):
            attempts[row["step"]].append(rows.step_attempt(row))
    return attempts


async def _bodies(connection: Connection, found: Sequence[asyncpg.Record]) -> Mapping[tuple[int, int], bytes]:
    producers = [(row["producer_run"], row["producer_step"]) for row in found if row["producer_run"] is not None]
    if not producers:
        return {}
    bodies = await connection.fetch(
        sql("step_outputs_read"), [run for run, _ in producers], [step for _, step in producers]
    )
    return {(row["run"], row["step"]): decode_body(row["body"], row["is_compressed"]) for row in bodies}
