"""The cold tier of the step cache: what completed steps filed, found in one round trip."""

import asyncio
from collections.abc import Collection, Sequence

import asyncpg

from runengine_server.adapters.postgres.database import Database
from runengine_server.adapters.postgres.encoding import decode_body
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.rows import produced_artifacts
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheEntry,
    CacheFlight,
    CacheHit,
    CacheMiss,
    CacheQuery,
    Producer,
)
from runengine_server.domain.ids import RunId, Tenant
from runengine_server.domain.states import CacheTier, MissReason

# Bounds one answer's memory: outputs are up to 1 MiB each, usually about 1 KB.
KEYS_MAX = 500

# Unpacking costs 1-5 ms a MiB: more than this is done beside the event loop.
_INLINE_BYTES_MAX = 256 * 1024

_NEVER_SEEN = CacheMiss(reason=MissReason.NEVER_SEEN)
_INPUT_CHANGED = CacheMiss(reason=MissReason.INPUT_CHANGED)
_EVICTED = CacheMiss(reason=MissReason.EVICTED)

# The step of a tombstone, what an entry leaves that was removed: minus the reason's number.
_REMOVED = {-reason: CacheMiss(reason=reason) for reason in (MissReason.INVALIDATED, MissReason.EVICTED)}


class PostgresOutputCache:
    """OutputCache on PostgreSQL; each miss says why."""

    def __init__(self, database: Database) -> None:
        """Use connections of `database`."""
        self._database = database

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port; one statement for each 500 keys."""
        answers: list[CacheAnswer] = []
        for at in range(0, len(queries), KEYS_MAX):
            batch = queries[at : at + KEYS_MAX]
            led_by_others = await self._claim(batch)
            rows = await self._database.fetch(sql("step_cache_find"), *_columns(batch))
            if sum(len(row["body"]) for row in rows if row["body"] is not None) > _INLINE_BYTES_MAX:
                found = await asyncio.to_thread(_answers, batch, rows)
            else:
                found = _answers(batch, rows)
            answers += [
                CacheFlight(flight=query.flight) if query in led_by_others and isinstance(answer, CacheMiss) else answer
                for query, answer in zip(batch, found, strict=True)
            ]
        return answers

    async def _claim(self, queries: Sequence[CacheQuery]) -> Collection[CacheQuery]:
        """Let claimants lead their flights; returns the queries whose flight another step leads.

        Before the look-up: what a leader filed that ended meanwhile is found by it.
        """
        claims = [query for query in queries if query.claimant is not None]
        if not claims:
            return ()
        is_leading = await self._database.fetchval(
            sql("flights_claim"),
            [query.flight for query in claims],
            [query.claimant[0] for query in claims if query.claimant],
            [query.claimant[1] for query in claims if query.claimant],
        )
        return {query for query, leads in zip(claims, is_leading, strict=True) if not leads}

    async def generations(self, workflows: Sequence[tuple[Tenant, str]]) -> Sequence[int]:
        """How many removals there were from each tenant's workflow, in the order asked."""
        columns = [tenant for tenant, _ in workflows], [name for _, name in workflows]
        return [row[0] for row in await self._database.fetch(sql("cache_generations_read"), *columns)]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Nothing to do: the entry was written by the transaction that completed its step (`StepQueue.tick`)."""


def _columns(queries: Sequence[CacheQuery]) -> tuple[Sequence[object], ...]:
    keys = [query.key for query in queries]
    fingerprints = [query.fingerprint for query in queries]
    tenants = [key.tenant for key in keys]
    workflows = [key.workflow_name for key in keys]
    steps = [key.step_id for key in keys]
    numbers: dict[tuple[str, str, str], int] = {}
    distinct_steps = [numbers.setdefault(s, len(numbers) + 1) for s in zip(tenants, workflows, steps, strict=True)]
    return (
        tenants,
        workflows,
        steps,
        [bytes.fromhex(key.input_hash) for key in keys],
        [fingerprint.skill_id for fingerprint in fingerprints],
        [fingerprint.cache_version for fingerprint in fingerprints],
        [fingerprint.cache_epoch for fingerprint in fingerprints],
        distinct_steps,
        *zip(*numbers, strict=True),
    )


def _answers(queries: Sequence[CacheQuery], rows: Sequence[asyncpg.Record]) -> list[CacheAnswer]:
    return [_answer(query, row) for query, row in zip(queries, rows, strict=True)]


def _answer(query: CacheQuery, row: asyncpg.Record) -> CacheAnswer:
    wanted = query.fingerprint
    if row["run"] is None:
        return _INPUT_CHANGED if row["is_step_known"] else _NEVER_SEEN
    if row["step"] < 0:
        return _REMOVED[row["step"]]
    if (row["skill_id"], row["cache_version"]) != (wanted.skill_id, wanted.cache_version):
        return CacheMiss(reason=MissReason.SKILL_CHANGED, outdated_at=row["created_at"])
    if row["cache_epoch"] != wanted.cache_epoch:
        return CacheMiss(reason=MissReason.EPOCH_CHANGED, outdated_at=row["created_at"])
    if row["body"] is None:
        return _EVICTED
    if query.filed_after is not None and row["created_at"] <= query.filed_after:  # the skill went back to its version
        return CacheMiss(reason=MissReason.SKILL_CHANGED, outdated_at=row["created_at"])
    return CacheHit(entry=_entry(query, row), tier=CacheTier.COLD)


def _entry(query: CacheQuery, row: asyncpg.Record) -> CacheEntry:
    run_id = row["run_id"]
    return CacheEntry(
        key=query.key,
        fingerprint=query.fingerprint,
        producer=Producer(
            run=row["run"],
            step=row["step"],
            run_id=RunId(str(run_id) if run_id is not None else ""),
            step_id=query.key.step_id,
        ),
        output=decode_body(row["body"], row["is_compressed"]),
        output_hash=row["output_hash"].hex(),
        artifacts=produced_artifacts(row["artifacts"]),
        created_at=row["created_at"],
    )
