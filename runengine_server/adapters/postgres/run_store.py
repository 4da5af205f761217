"""Runs on PostgreSQL: creation in group commits, and what planning and the scheduler load."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import asyncpg
import orjson

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.adapters.postgres.creation_arguments import Creation, creation_arguments
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_body, decode_planned
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.rows import change_request, produced_artifacts
from runengine_server.domain.base_run import BaseResult, BaseRun
from runengine_server.domain.cache import CacheMiss
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import RunId, RunKey, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import CacheMode, FailurePolicy, MissReason, OutputSource, RunStatus
from runengine_server.domain.trace_context import TraceContext, run_span
from runengine_server.ports.run_store import (
    CreatedRun,
    EarlierAnswer,
    Intake,
    NewRun,
    Outdated,
    RequestKey,
    RunFacts,
    StepDuration,
    StoredOutput,
)
from runengine_server.ports.step_queue import Lease

BATCH_MAX = 200
WAITING_MAX = 10_000

# The one thing that the creating function refuses by itself.
_BASE_GONE = "the base run was deleted while this run was planned: it ended longer ago than runs are kept"

# Decoding takes 1.5 µs a row: more than this is done beside the event loop.
_INLINE_ROWS_MAX = 1_000


class PostgresRunStore:
    """RunStore; `creations.run()` must be running for `create` to make progress."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`, opened with PINNED_PLANS."""
        self._database = database
        self.creations = GroupCommit(self._create_batch, batch_max=BATCH_MAX, waiting_max=WAITING_MAX)

    async def create(self, new: NewRun, intake: Intake | None = None) -> CreatedRun | EarlierAnswer | Outdated:
        """See the port."""
        return await self.creations.submit((new, intake))

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

    async def _create_batch(self, batch: Sequence[Creation]) -> Sequence[CreatedRun | EarlierAnswer | Outdated]:
        try:
            row = await self._database.fetchrow(sql("runs_start"), *creation_arguments(batch))
        except asyncpg.RaiseError as error:
            raise NotFoundError("RUN_NOT_FOUND", _BASE_GONE) from error
        assert row is not None
        made = list(_answers(batch, row))
        for (_, intake), answer in zip(batch, made, strict=True):
            if intake is not None and isinstance(answer, CreatedRun):
                intake.created(answer)
        return made


def _answers(batch: Sequence[Creation], row: asyncpg.Record) -> Iterator[CreatedRun | EarlierAnswer | Outdated]:
    digests, answers = row["earlier_digest"], row["earlier_response"]
    granted = zip(row["is_leased"] or (), row["miss"] or (), row["generation"] or (), strict=True)
    for place, ((_, intake), run) in enumerate(zip(batch, row["run"], strict=True)):
        leases: list[Lease] = []
        misses: list[CacheMiss | None] = []
        for question in intake.questions if intake is not None else ():
            is_leased, miss, generation = next(granted)
            if is_leased:
                leases.append(Lease(run, question.step, epoch=1, attempt=1, lease_losses=0))
                misses.append(None if miss is None else CacheMiss(reason=MissReason(miss), generation=generation))
        if run > 0:
            yield CreatedRun(run=run, leases=leases, misses=misses)
        elif run == 0:
            yield EarlierAnswer(digest=digests[place].hex(), answer=answers[place])
        else:
            yield Outdated()


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
