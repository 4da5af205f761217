"""A cache as those see it who start runs, without the merging of look-ups that a server does."""

from collections.abc import Sequence

from runengine_server.adapters.cache.shared import HotKnowledge
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheQuery
from runengine_server.ports.output_cache import OutputCache


class UnsharedPlanningCache:
    """PlanningCache over any cache."""

    def __init__(self, inner: OutputCache, hot: HotKnowledge | None = None) -> None:
        """Look up in `inner`; `hot` as for SharedOutputCache."""
        self._inner = inner
        self._hot = hot

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        return await self._inner.lookup(queries)

    async def may_have(self, queries: Sequence[CacheQuery]) -> bool:
        """See the port."""
        return self._hot is not None and any(await self._hot(queries))

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)
