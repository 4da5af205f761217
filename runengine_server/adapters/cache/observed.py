"""Tells an observer of every answer, and counts them."""

from collections.abc import Sequence

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheMiss, CacheQuery
from runengine_server.domain.states import CacheTier
from runengine_server.ports.observer import Observer
from runengine_server.ports.output_cache import OutputCache


class ObservedOutputCache:
    """OutputCache that passes everything on; counts since its making are in `hits` by tier and `misses`."""

    def __init__(self, inner: OutputCache, observer: Observer) -> None:
        """Observe `inner`."""
        self._inner = inner
        self._observer = observer
        self.hits: dict[CacheTier, int] = dict.fromkeys(CacheTier, 0)
        self.misses = 0

    @property
    def hit_rate(self) -> float:
        """Hits of either tier per lookup, 0 … 1; 0 before the first."""
        hits = sum(self.hits.values())
        return hits / (hits + self.misses) if hits else 0.0

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        answers = await self._inner.lookup(queries)
        for query, answer in zip(queries, answers, strict=True):
            if isinstance(answer, CacheHit):
                self.hits[answer.tier] += 1
                self._observer.cache_hit(query.key, answer.tier)
            elif isinstance(answer, CacheMiss):
                self.misses += 1
                self._observer.cache_miss(query.key)
        return answers

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)
