"""The queue on PostgreSQL: completions become columns, one statement does the rest."""

from collections.abc import Sequence
from time import monotonic
from typing import assert_never

import asyncpg
import orjson

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_failure, encode_body, encode_decision, encode_failure
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.ids import EngineNo, RunKey, StepNo
from runengine_server.domain.states import OutputSource, RunStatus, StepStatus
from runengine_server.ports.step_queue import (
    AttemptFailed,
    Completion,
    Dependents,
    EndedRun,
    Lease,
    StepExecuted,
    StepFailed,
    StepReused,
    Turn,
)

LEASE_LOSSES_MAX = 5
# A lease this far beyond its attempt's timeout was lost sight of; looking for such leases reads all that are held.
OVERDUE_GRACE_MS = 10_000
OVERDUE_EVERY_S = 5.0
_BATCH = 1000
_COMPLETION_COLUMNS = 22
_ARTIFACT_COLUMNS = 11


class PostgresStepQueue:
    """StepQueue: one round trip and one transaction a tick, on connections with pinned plans."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`, opened with PINNED_PLANS."""
        self._database = database
        self._tick = sql("step_queue_tick")

    async def tick(self, engine: EngineNo, completions: Sequence[Completion], capacity: int) -> Turn:
        """See the port."""
        columns = _Columns()
        for completion in completions:
            columns.add(completion)
        row = await self._database.fetchrow(self._tick, engine, capacity, *columns.arguments())
        assert row is not None
        return Turn(
            accepted=row["is_accepted"] or (),
            leases=_leases(row),
            begun=row["begun"],
            ended=_ended(row),
            next_available_s=None if row["next_available_ms"] is None else row["next_available_ms"] / 1000,
        )

    async def owned(self, engine: EngineNo) -> Sequence[Lease]:
        """See the port."""
        rows = await self._database.fetch(sql("step_queue_owned"), engine)
        return [Lease(*row) for row in rows]


class PostgresEngineRegistry:
    """EngineRegistry: one row an engine, renewed on the database's clock, over a connection of its own."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`, which no other work can occupy."""
        self._database = database
        self._overdue_at_s = 0.0

    async def register(self, engine_id: str, description: str, lease_s: float) -> EngineNo:
        """See the port."""
        return EngineNo(await self._database.fetchval(sql("engine_register"), engine_id, description, lease_s))

    async def renew(self, engine: EngineNo, lease_s: float) -> bool:
        """See the port."""
        return await self._database.fetchval(sql("engine_renew"), engine, lease_s) is not None

    async def retire(self, engine: EngineNo) -> Sequence[RunKey]:
        """See the port."""
        concerned: list[RunKey] = []
        while released := await self._database.fetchval(sql("leases_release"), engine, LEASE_LOSSES_MAX, _BATCH):
            concerned += released
        await self._database.fetch(sql("engine_delete"), engine)
        return concerned

    async def reap(self) -> Sequence[RunKey]:
        """See the port."""
        concerned: list[RunKey] = []
        while reaped := await self._database.fetchval(sql("engines_reap"), LEASE_LOSSES_MAX, _BATCH):
            concerned += reaped
        if monotonic() >= self._overdue_at_s:
            concerned += await self._database.fetchval(sql("leases_reap"), LEASE_LOSSES_MAX, OVERDUE_GRACE_MS, _BATCH)
            self._overdue_at_s = monotonic() + OVERDUE_EVERY_S
        return concerned

    async def enforce_deadlines(self) -> Sequence[RunKey]:
        """See the port."""
        return list(await self._database.fetchval(sql("deadlines_enforce"), _BATCH))

    async def ensure_partitions(self) -> None:
        """Make the partitions that the next runs will need."""
        await self._database.fetchval(sql("partitions_ensure"))


def _leases(row: asyncpg.Record) -> list[Lease]:
    return [
        Lease(*lease)
        for lease in zip(row["l_run"], row["l_step"], row["l_epoch"], row["l_attempt"], row["l_losses"], strict=True)
    ]


def _ended(row: asyncpg.Record) -> list[EndedRun]:
    if row["e_run"] is None:
        return []
    return [
        EndedRun(
            run=run,
            status=RunStatus(status),
            duration_ms=duration_ms,
            failed_step=failed_step,
            failure=decode_failure(error) if error else None,
        )
        for run, status, duration_ms, failed_step, error in zip(
            row["e_run"], row["e_status"], row["e_duration_ms"], row["e_failed_step"], row["e_error"], strict=True
        )
    ]


class _Columns:
    """The tick's arguments, column by column, in the order of the function's parameters."""

    def __init__(self) -> None:
        self._completions: list[tuple[object, ...]] = []
        self._artifacts: list[tuple[object, ...]] = []
        self._dependents: tuple[list[int], list[StepNo], list[int]] = ([], [], [])

    def add(self, completion: Completion) -> None:
        match completion:
            case StepExecuted():
                self._executed(completion)
            case StepReused():
                self._reused(completion)
            case AttemptFailed():
                self._attempt_failed(completion)
            case StepFailed():
                self._failed(completion)
            case _:
                assert_never(completion)

    def arguments(self) -> list[Sequence[object]]:
        completions = list(zip(*self._completions, strict=True)) or [()] * _COMPLETION_COLUMNS
        artifacts = list(zip(*self._artifacts, strict=True)) or [()] * _ARTIFACT_COLUMNS
        run, step, epoch = completions[:3]
        return [run, step, epoch, *completions[3:], *artifacts, *self._dependents]

    def _executed(self, done: StepExecuted) -> None:
        lease, filing = done.lease, done.filing
        body, is_compressed = encode_body(done.output)
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.COMPLETED), True,
            int(OutputSource.EXECUTED), bytes.fromhex(done.input_hash), done.cache_version,
            bytes.fromhex(done.output_hash),
            lease.run, lease.step, encode_decision(done.decision), None, None, 0, None, body, is_compressed,
            *((filing.workflow_name, filing.step_id, filing.fingerprint.skill_id, filing.fingerprint.cache_epoch)
              if filing else (None, None, None, None)),
        ))  # fmt: skip
        index = len(self._completions)
        for ordinal, artifact in enumerate(done.artifacts):
            self._artifacts.append((
                index, ordinal, bytes.fromhex(artifact.content_hash), artifact.size_bytes, artifact.media_type,
                artifact.uri, artifact.filename, orjson.dumps(artifact.metadata),
                orjson.dumps(artifact.made_from), done.skill_id, done.skill_version,
            ))  # fmt: skip
        self._ready(index, done.dependents)

    def _reused(self, done: StepReused) -> None:
        lease = done.lease
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.SKIPPED), False,
            int(done.source), bytes.fromhex(done.input_hash), done.cache_version, bytes.fromhex(done.output_hash),
            done.producer_run, done.producer_step, encode_decision(done.decision) if done.decision else None,
            None, None, 0, None, None, None, None, None, None, None,
        ))  # fmt: skip
        self._ready(len(self._completions), done.dependents)

    def _attempt_failed(self, failed: AttemptFailed) -> None:
        lease = failed.lease
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.READY), True,
            None, None, None, None, None, None, None, encode_failure(failed.failure), None, failed.delay_ms,
            failed.worker_id, None, None, None, None, None, None,
        ))  # fmt: skip

    def _failed(self, failed: StepFailed) -> None:
        lease = failed.lease
        self._completions.append((
            lease.run, lease.step, lease.epoch, int(StepStatus.FAILED), failed.is_attempted,
            None, bytes.fromhex(failed.input_hash) if failed.input_hash else None, None, None, None, None, None,
            encode_failure(failed.failure), encode_failure(failed.run_failure), 0, failed.worker_id,
            None, None, None, None, None, None,
        ))  # fmt: skip

    def _ready(self, index: int, dependents: Dependents) -> None:
        indexes, steps, timeouts = self._dependents
        indexes.extend([index] * len(dependents.steps))
        steps.extend(dependents.steps)
        timeouts.extend(dependents.timeouts_ms)
