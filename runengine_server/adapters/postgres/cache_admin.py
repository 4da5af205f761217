"""The step cache's entries for administrators: looked at, removed in bounded transactions, and counted."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from heapq import nlargest

import asyncpg
import orjson

from runengine_server.adapters.postgres.cache_sweep import Match, Place, sweep
from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_body
from runengine_server.adapters.postgres.queries import sql
from runengine_server.domain.cache import Fingerprint
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant, WorkflowDigest
from runengine_server.domain.states import MissReason
from runengine_server.ports.cache_admin import (
    SAMPLE_KEYS_MAX,
    CacheCounts,
    CacheSelector,
    EntryPosition,
    FiledEntry,
    MatchingEntries,
)

# Sizes of compressed outputs are found by unpacking them: this many at once, up to 1 MiB each.
_OUTPUTS_MAX = 50

# Runs are added up in groups of 256: so many a statement take about 100 ms.
_GROUPS_MAX = 20

_BEFORE_ALL = EntryPosition(created_at=datetime(9999, 1, 1, tzinfo=UTC), run=RunKey(0), step=StepNo(0))


class PostgresCacheAdmin:
    """CacheAdmin on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def entry(
        self, tenant: Tenant, workflow_name: str, step_id: str, input_hash: str, *, with_output: bool
    ) -> FiledEntry | None:
        """See the port."""
        row = await self._database.fetchrow(
            sql("step_cache_read"), tenant, workflow_name, step_id, bytes.fromhex(input_hash)
        )
        return None if row is None else next(iter(await self._with_outputs([row], with_output=with_output)), None)

    async def entries(
        self, tenant: Tenant, workflow_name: str, step_id: str, *, after: EntryPosition | None, limit: int
    ) -> Sequence[FiledEntry]:
        """See the port."""
        place = after or _BEFORE_ALL
        arguments: list[object] = [tenant, place.created_at, place.run, place.step, limit, step_id]
        query = "step_cache_list"
        if workflow_name:
            query = "step_cache_workflow_list"
            arguments.append(workflow_name)
        rows = await self._database.fetch(sql(query), *arguments)
        return [
            entry
            for at in range(0, len(rows), _OUTPUTS_MAX)
            for entry in await self._with_outputs(rows[at : at + _OUTPUTS_MAX], with_output=False)
        ]

    async def count(self, tenant: Tenant, selector: CacheSelector) -> MatchingEntries:
        """See the port."""
        return await self._sweep(tenant, selector, None)

    async def invalidate(self, tenant: Tenant, principal: str, selector: CacheSelector, reason: str) -> MatchingEntries:
        """See the port."""
        return await self._sweep(tenant, selector, (principal, reason))

    async def counts(self, tenant: Tenant, workflow_name: str) -> Sequence[CacheCounts]:
        """See the port; adds up what has ended since the last time first, so that reading it stays cheap."""
        await settle_counts(self._database)
        return [
            CacheCounts(
                workflow_name=row["workflow_name"],
                workflow_digest=WorkflowDigest(row["workflow_digest"].hex()),
                step=StepNo(row["step"]),
                hot_hits=row["hot_hits"],
                cold_hits=row["cold_hits"],
                misses=row["misses"],
                joined=row["joined"],
            )
            for row in await self._database.fetch(sql("cache_counts_read"), tenant, workflow_name)
        ]

    async def _sweep(self, tenant: Tenant, selector: CacheSelector, author: tuple[str, str] | None) -> MatchingEntries:
        match = await self._match(tenant, selector)
        if match is None:
            return MatchingEntries(count=0, sample_keys=())
        count = 0
        sample: list[tuple[datetime, str]] = []
        place: Place | None = match.start
        while place is not None:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(self._database.connection())
                if author is None:
                    swept = await sweep(connection, place, match, None)
                else:
                    await stack.enter_async_context(connection.transaction())
                    swept = await sweep(connection, place, match, MissReason.INVALIDATED)
                    if swept.matched or place == match.start:
                        target = _audit_target(selector, author[1], swept.matched)
                        await connection.execute(sql("audit_add"), tenant, author[0], "InvalidateCache", target)
            count += swept.matched
            sample = nlargest(SAMPLE_KEYS_MAX, [*sample, *swept.sample])
            place = swept.next
        return MatchingEntries(count=count, sample_keys=tuple(key for _, key in sample))

    async def _match(self, tenant: Tenant, selector: CacheSelector) -> Match | None:
        """What the selector means in the table; None when it can match nothing, for there is no such run."""
        run = None
        if selector.source_run_id is not None:
            run = await self._database.fetchval(sql("run_key_find"), selector.source_run_id, tenant)
            if run is None:
                return None
        return Match(
            tenant=tenant,
            workflow_name=selector.workflow_name,
            step_id=selector.step_id,
            input_hash=None if selector.input_hash is None else bytes.fromhex(selector.input_hash),
            run=run,
            skill_id=selector.skill_id,
            cache_version=selector.cache_version,
            created_before=selector.created_before,
        )

    async def _with_outputs(self, rows: Sequence[asyncpg.Record], *, with_output: bool) -> list[FiledEntry]:
        """The entries of rows whose output is there, with its size, and with the output itself when asked for."""
        producers = [row["run"] for row in rows], [row["step"] for row in rows]
        outputs = await self._database.fetch(sql("outputs_read"), *producers, with_output)
        return await asyncio.to_thread(_entries, rows, outputs, with_output=with_output)


async def settle_counts(database: Database) -> None:
    """Every group of runs that has ended is added up; each once, whoever asks."""
    while await database.fetchval(sql("cache_counts_settle"), _GROUPS_MAX):
        pass


def _entries(
    rows: Sequence[asyncpg.Record], outputs: Sequence[asyncpg.Record], *, with_output: bool
) -> list[FiledEntry]:
    found = []
    for row, output in zip(rows, outputs, strict=True):
        if output["stored_bytes"] is None:
            continue
        body = None if output["body"] is None else decode_body(output["body"], output["is_compressed"])
        found.append(
            FiledEntry(
                key=f"{row['workflow_name']}:{row['step_id']}:{row['input_hash'].hex()}",
                source_run_id=RunId("" if row["run_id"] is None else str(row["run_id"])),
                source_step_id=StepId(row["step_id"]),
                fingerprint=Fingerprint(
                    skill_id=row["skill_id"], cache_version=row["cache_version"], cache_epoch=row["cache_epoch"]
                ),
                position=EntryPosition(created_at=row["created_at"], run=row["run"], step=row["step"]),
                size_bytes=output["stored_bytes"] if body is None else len(body),
                output=body if with_output else None,
            )
        )
    return found


def _audit_target(selector: CacheSelector, reason: str, count: int) -> str:
    """What was asked for and how much this transaction removed, as JSON."""
    fields = {
        "workflowName": selector.workflow_name,
        "stepId": selector.step_id,
        "inputHash": selector.input_hash,
        "sourceRunId": selector.source_run_id,
        "skillId": selector.skill_id,
        "cacheVersion": selector.cache_version,
        "createdBefore": selector.created_before,
    }
    asked = {name: value for name, value in fields.items() if value is not None}
    return orjson.dumps({"selector": asked, "reason": reason, "invalidated": count}).decode()
