"""Tells an observer of every answer."""

from collections.abc import Sequence

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheMiss, CacheQuery
from runengine_server.ports.observer import Observer
from runengine_server.ports.output_cache import OutputCache


class ObservedOutputCache:
    """OutputCache that passes everything on."""

    def __init__(self, inner: OutputCache, observer: Observer) -> None:
        """Observe `inner`."""
        self._inner = inner
        self._observer = observer

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        answers = await self._inner.lookup(queries)
        for query, answer in zip(queries, answers, strict=True):
            if isinstance(answer, CacheHit):
                self._observer.cache_hit(query.key, answer.tier)
            elif isinstance(answer, CacheMiss):
                self._observer.cache_miss(query.key)
        return answers

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)
