"""Runs on PostgreSQL: creation in group commits, and what planning and the scheduler load."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

import asyncpg
import orjson

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.adapters.postgres.creation_arguments import creation_arguments
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_body, decode_planned
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.rows import change_request, produced_artifacts
from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode, FailurePolicy, OutputSource, RunStatus
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.ports.run_store import (
    CreatedRun,
    EarlierAnswer,
    NewRun,
    RequestKey,
    RunFacts,
    StepDuration,
    StoredOutput,
)

BATCH_MAX = 200
WAITING_MAX = 10_000

# The one thing that the creating function refuses by itself.
_BASE_GONE = "the base run was deleted while this run was planned: it ended longer ago than runs are kept"

# Decoding takes 1.5 µs a row: more than this is done beside the event loop.
_INLINE_ROWS_MAX = 1_000


class PostgresRunStore:
    """RunStore; `creations.run()` must be running for `create` to make progress."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database
        self.creations = GroupCommit(self._create_batch, batch_max=BATCH_MAX, waiting_max=WAITING_MAX)

    async def create(self, new: NewRun) -> CreatedRun | EarlierAnswer:
        """See the port."""
        return await self.creations.submit(new)

    async def earlier_answer(self, tenant: Tenant, request: RequestKey) -> EarlierAnswer | None:
        """See the port."""
        if not request.request_id:
            return None
        row = await self._database.fetchrow(sql("request_find"), tenant, request.rpc, request.request_id)
        return EarlierAnswer(digest=row["request_digest"].hex(), answer=row["response"]) if row else None

    async def cancel(self, tenant: Tenant, run_id: RunId, principal: str, reason: str) -> bool | None:
        """See the port."""
        ended: bool | None = await self._database.fetchval(sql("run_cancel"), tenant, run_id, principal, reason)
        return ended

    async def base(self, tenant: Tenant, run_id: RunId) -> BaseRun | None:
        """See the port."""
        row = await self._database.fetchrow(sql("run_base"), run_id, tenant)
        if row is None:
            return None
        results = await self.base_results([row["run"]])
        return BaseRun(
            run=row["run"],
            root_run=row["root_run"],
            run_id=RunId(str(row["id"])),
            status=RunStatus(row["status"]),
            workflow_name=row["workflow_name"],
            workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
            payload=orjson.loads(row["payload"]),
            change=change_request(row),
            cache_mode=CacheMode(row["cache_mode"]),
            failure_policy=FailurePolicy(row["failure_policy"]),
            priority=row["priority"],
            labels=orjson.loads(row["labels"]),
            plan=[decode_planned(byte) for byte in row["plan"]],
            results=results.get(row["run"], {}),
            trace=_trace(row["trace_context"]),
        )

    async def base_results(self, runs: Sequence[RunKey]) -> Mapping[RunKey, Mapping[StepNo, BaseResult]]:
        """See the port."""
        rows = await self._database.fetch(sql("run_successes"), runs)
        return _successes(rows) if len(rows) <= _INLINE_ROWS_MAX else await asyncio.to_thread(_successes, rows)

    async def recent_runs(self, tenant: Tenant, workflow_name: str, limit: int) -> Mapping[RunKey, WorkflowDigest]:
        """See the port."""
        rows = await self._database.fetch(sql("runs_recent_find"), tenant, workflow_name, limit)
        return {row["run"]: WorkflowDigest(row["workflow_digest"].hex()) for row in rows}

    async def durations(self, steps: Sequence[tuple[RunKey, StepNo]]) -> Mapping[tuple[RunKey, StepNo], StepDuration]:
        """See the port."""
        runs, numbers = [run for run, _ in steps], [step for _, step in steps]
        return {
            (row["run"], row["step"]): StepDuration(seconds=row["duration_s"], is_resumed=row["is_resumed"])
            for row in await self._database.fetch(sql("step_durations_read"), runs, numbers)
        }

    async def facts(self, runs: Sequence[RunKey]) -> Mapping[RunKey, RunFacts]:
        """See the port."""
        return {row["run"]: _facts(row) for row in await self._database.fetch(sql("runs_facts"), runs)}

    async def outputs(self, steps: Sequence[tuple[RunKey, StepNo]]) -> Mapping[tuple[RunKey, StepNo], StoredOutput]:
        """See the port."""
        rows = await self._database.fetch(sql("step_outputs"), [run for run, _ in steps], [step for _, step in steps])
        return {
            (row["run"], row["step"]): StoredOutput(
                body=decode_body(row["body"], row["is_compressed"]),
                artifacts=produced_artifacts(row["artifacts"]),
                source=OutputSource(row["source"]),
            )
            for row in rows
        }

    async def _create_batch(self, batch: Sequence[NewRun]) -> Sequence[CreatedRun | EarlierAnswer]:
        query, arguments = "runs_create", creation_arguments(batch)
        if any(new.trace for new in batch):
            query = "traced_runs_create"
            arguments.append([None if new.trace is None else new.trace.encode() for new in batch])
        try:
            if not any(new.cache_after for new in batch):
                row = await self._database.fetchrow(sql(query), *arguments)
            else:
                async with self._database.connection() as connection, connection.transaction():
                    row = await connection.fetchrow(sql(query), *arguments)
                    assert row is not None
                    await connection.execute(sql("runs_entries_update"), row["run"], [new.cache_after for new in batch])
        except asyncpg.RaiseError as error:
            raise NotFoundError("RUN_NOT_FOUND", _BASE_GONE) from error
        assert row is not None
        runs, digests, answers = row
        if digests is None:
            return [CreatedRun(run=run) for run in runs]
        return [
            CreatedRun(run=run) if run else EarlierAnswer(digest=digest.hex(), answer=answer)
            for run, digest, answer in zip(runs, digests, answers, strict=True)
        ]


def _successes(rows: Sequence[asyncpg.Record]) -> Mapping[RunKey, Mapping[StepNo, BaseResult]]:
    found: dict[RunKey, dict[StepNo, BaseResult]] = defaultdict(dict)
    run_id = cache(lambda uuid: RunId(str(uuid)))  # thousands of steps have few producers
    for run, step, input_hash, cache_version, output_hash, producer_run, producer_step, producer_run_id in rows:
        found[run][step] = BaseResult(
            producer_run=producer_run,
            producer_step=producer_step,
            producer_run_id=run_id(producer_run_id),
            input_hash=input_hash.hex(),
            cache_version=cache_version,
            output_hash=output_hash.hex(),
        )
    return found


def _facts(row: asyncpg.Record) -> RunFacts:
    base_digest, base_trace = row["base_digest"], _trace(row["base_trace_context"])
    return RunFacts(
        run=row["run"],
        run_id=RunId(str(row["id"])),
        tenant=Tenant(row["tenant"]),
        workflow_name=row["workflow_name"],
        workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
        cache_mode=CacheMode(row["cache_mode"]),
        payload=orjson.loads(row["payload"]),
        change=change_request(row),
        base_run=row["base_run"],
        base_digest=None if base_digest is None else WorkflowDigest(base_digest.hex()),
        plan=[decode_planned(byte) for byte in row["plan"]],
        deadline_in_s=row["deadline_in_s"],
        trace=_trace(row["trace_context"]),
        base_span=None if base_trace is None else run_span(base_trace, RunId(str(row["base_id"]))),
        cache_after=row["cache_after"],
    )


def _trace(text: str | None) -> TraceContext | None:
    return None if text is None else TraceContext.decode(text)
