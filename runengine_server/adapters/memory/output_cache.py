"""The step cache in memory: for tests, simulation and an engine without Redis."""

from collections import Counter
from collections.abc import Sequence

from runengine_server.domain.cache import (
    CacheAnswer,
    CacheEntry,
    CacheHit,
    CacheKey,
    CacheMiss,
    CacheQuery,
    Fingerprint,
)
from runengine_server.domain.ids import Tenant
from runengine_server.domain.states import CacheTier, MissReason
from runengine_server.ports.clock import Clock


class MemoryOutputCache:
    """OutputCache in a dictionary, unbounded; as the HOT tier its entries end with their TTL."""

    def __init__(self, clock: Clock, tier: CacheTier = CacheTier.COLD) -> None:
        """Answer as `tier`; TTLs are measured with `clock`."""
        self._clock = clock
        self._tier = tier
        self._entries: dict[CacheKey, tuple[CacheEntry, float]] = {}
        self._steps: set[tuple[str, str, str]] = set()
        self._removed: set[CacheKey] = set()
        self._generations: Counter[tuple[Tenant, str]] = Counter()

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        return [self._answer(query) for query in queries]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port; the latest success wins."""
        for entry, ttl_s in entries:
            self._entries[entry.key] = entry, self._clock.monotonic() + ttl_s
            self._steps.add(_step(entry.key))
            self._removed.discard(entry.key)

    async def promote(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries unless something is there already."""
        await self.store([pair for pair in entries if self._find(pair[0].key) is None])

    async def generations(self, workflows: Sequence[tuple[Tenant, str]]) -> Sequence[int]:
        """How many removals there were from each tenant's workflow, in the order asked."""
        return [self._generations[workflow] for workflow in workflows]

    def invalidate(self, key: CacheKey) -> None:
        """Remove an entry, as an administrator does."""
        del self._entries[key]
        self._removed.add(key)
        self._generations[key.tenant, key.workflow_name] += 1

    def clear(self) -> None:
        """Forget everything, as a server that was restarted."""
        self._entries.clear()

    def _answer(self, query: CacheQuery) -> CacheAnswer:
        entry = self._find(query.key)
        if entry is None:
            return CacheMiss(reason=self._absence(query.key))
        if reason := mismatch(entry.fingerprint, query.fingerprint):
            return CacheMiss(reason=reason, outdated_at=entry.created_at)
        if query.filed_after is not None and entry.created_at <= query.filed_after:
            return CacheMiss(reason=MissReason.SKILL_CHANGED, outdated_at=entry.created_at)
        return CacheHit(entry=entry, tier=self._tier)

    def _find(self, key: CacheKey) -> CacheEntry | None:
        entry, ends_at = self._entries.get(key, (None, 0.0))
        is_over = self._tier is CacheTier.HOT and self._clock.monotonic() >= ends_at
        return None if is_over else entry

    def _absence(self, key: CacheKey) -> MissReason | None:
        if self._tier is CacheTier.HOT:
            return None
        if key in self._removed:
            return MissReason.INVALIDATED
        return MissReason.INPUT_CHANGED if _step(key) in self._steps else MissReason.NEVER_SEEN


def mismatch(found: Fingerprint, wanted: Fingerprint) -> MissReason | None:
    """Why an entry of the right key is not the one wanted; None when it is."""
    if (found.skill_id, found.cache_version) != (wanted.skill_id, wanted.cache_version):
        return MissReason.SKILL_CHANGED
    return MissReason.EPOCH_CHANGED if found != wanted else None


def _step(key: CacheKey) -> tuple[str, str, str]:
    return key.tenant, key.workflow_name, key.step_id
