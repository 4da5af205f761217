"""Merges the look-ups of many callers: a burst of triggers costs a few round trips, not two each."""

from collections.abc import Sequence

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheQuery
from runengine_server.ports.output_cache import OutputCache

BATCH_MAX = 200
WAITING_MAX = 10_000


class SharedOutputCache:
    """OutputCache whose concurrent look-ups travel together; `lookups.run()` must be running."""

    def __init__(self, inner: OutputCache) -> None:
        """Look up in `inner`."""
        self._inner = inner
        self.lookups: GroupCommit[Sequence[CacheQuery], Sequence[CacheAnswer]] = GroupCommit(
            self._lookup_all, batch_max=BATCH_MAX, waiting_max=WAITING_MAX
        )

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        return await self.lookups.submit(queries)

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)

    async def _lookup_all(self, batch: Sequence[Sequence[CacheQuery]]) -> Sequence[Sequence[CacheAnswer]]:
        answers = iter(await self._inner.lookup([query for queries in batch for query in queries]))
        return [[next(answers) for _ in queries] for queries in batch]
