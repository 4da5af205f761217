"""The cache of a plan that takes misses for granted; the transaction that creates the run checks them."""

from collections.abc import Sequence

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheKey, CacheMiss, CacheQuery
from runengine_server.ports.output_cache import PlanningCache

_ASSUMED = CacheMiss(reason=None)


class AssumedCache:
    """OutputCache that looks up only what the cache may have.

    Attributes:
        absent: the keys under which, without a look-up, nothing was thought to be.
    """

    def __init__(self, cache: PlanningCache) -> None:
        """Look up in `cache`."""
        self._cache = cache
        self.absent: list[CacheKey] = []

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        if await self._cache.may_have(queries):
            return await self._cache.lookup(queries)
        self.absent += [query.key for query in queries]
        return [_ASSUMED] * len(queries)

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._cache.store(entries)
