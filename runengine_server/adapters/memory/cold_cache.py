"""The cold tier of the step cache in memory: the entries that the ticks of a MemoryStepQueue filed."""

from collections.abc import Sequence
from datetime import UTC, datetime

from runengine_server.adapters.memory.output_cache import mismatch
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheEntry,
    CacheFlight,
    CacheHit,
    CacheMiss,
    CacheQuery,
    Producer,
)
from runengine_server.domain.ids import Place, Tenant
from runengine_server.domain.states import CacheTier, MissReason


class MemoryColdCache:
    """OutputCache over tables that a MemoryStepQueue shares; like PostgreSQL's it is written by completions only."""

    def __init__(self, tables: MemoryTables) -> None:
        """Read entries from `tables`."""
        self._tables = tables

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        return [self._found_or_led(query) for query in queries]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Nothing to do: the entry was filed by the tick that completed its step."""

    async def generations(self, workflows: Sequence[tuple[Tenant, str]]) -> Sequence[int]:
        """How many removals there were from each tenant's workflow, in the order asked."""
        return [self._tables.removals[workflow] for workflow in workflows]

    def invalidate(self, tenant: Tenant, workflow_name: str, step_id: str) -> None:
        """Remove every entry of a step, as an administrator does."""
        tables = self._tables
        gone = [key for key in tables.filed if key[:3] == (tenant, workflow_name, step_id)]
        for key in gone:
            del tables.filed[key]
        tables.removed.update(gone)
        tables.removals[tenant, workflow_name] += bool(gone)

    def _found_or_led(self, query: CacheQuery) -> CacheAnswer:
        """What there is; where there is nothing, who is to execute it: the claimant, or another step."""
        is_leading = query.claimant is None or self._tables.flights.claim(query.flight, query.claimant)
        answer = self._answer(query)
        return answer if is_leading or isinstance(answer, CacheHit) else CacheFlight(flight=query.flight)

    def _answer(self, query: CacheQuery) -> CacheAnswer:
        key, filed = query.key, self._tables.filed
        found = filed.get((key.tenant, key.workflow_name, key.step_id, key.input_hash))
        if found is None and (key.tenant, key.workflow_name, key.step_id, key.input_hash) in self._tables.removed:
            return CacheMiss(reason=MissReason.INVALIDATED)
        if found is None:
            return CacheMiss(
                reason=MissReason.INPUT_CHANGED if self._tables.is_step_known(key) else MissReason.NEVER_SEEN
            )
        fingerprint, producer = found
        entry = self._entry(query, producer)
        if reason := mismatch(fingerprint, query.fingerprint):
            return CacheMiss(reason=reason, outdated_at=entry.created_at)
        if query.filed_after is not None and entry.created_at <= query.filed_after:
            return CacheMiss(reason=MissReason.SKILL_CHANGED, outdated_at=entry.created_at)
        return CacheHit(entry=entry, tier=CacheTier.COLD)

    def _entry(self, query: CacheQuery, producer: Place) -> CacheEntry:
        tables, (run, step) = self._tables, producer
        result = tables.results[producer]
        return CacheEntry(
            key=query.key,
            fingerprint=query.fingerprint,
            producer=Producer(run=run, step=step, run_id=tables.runs[run].new.id, step_id=query.key.step_id),
            output=tables.outputs[producer],
            output_hash=result.output_hash,
            artifacts=tables.artifacts[producer],
            created_at=datetime.fromtimestamp(result.ended_at, UTC),
        )
