"""Merges the look-ups of many callers: a burst of triggers costs a few round trips, not two each."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheQuery
from runengine_server.ports.output_cache import OutputCache

A = TypeVar("A")

BATCH_MAX = 200
WAITING_MAX = 10_000

HotKnowledge = Callable[[Sequence[CacheQuery]], Awaitable[Sequence[bool]]]
"""Which of these a hot tier has something for; see `TieredOutputCache.known`."""


class SharedOutputCache:
    """PlanningCache whose concurrent look-ups travel together; `lookups.run()` and `hints.run()` must be running."""

    def __init__(self, inner: OutputCache, hot: HotKnowledge | None = None) -> None:
        """Look up in `inner`; without a hot tier only a look-up can say whether there is anything."""
        self._inner = inner
        self._hot = hot
        self.lookups = _shared(inner.lookup)
        self.hints = _shared(hot or _nothing)

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        return await self.lookups.submit(queries)

    async def may_have(self, queries: Sequence[CacheQuery]) -> bool:
        """See the port."""
        return self._hot is not None and any(await self.hints.submit(queries))

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port."""
        await self._inner.store(entries)


def _shared(
    ask: Callable[[Sequence[CacheQuery]], Awaitable[Sequence[A]]],
) -> GroupCommit[Sequence[CacheQuery], Sequence[A]]:
    """Asks once for what many callers ask; each gets its own answers."""

    async def ask_all(batch: Sequence[Sequence[CacheQuery]]) -> Sequence[Sequence[A]]:
        answers = iter(await ask([query for queries in batch for query in queries]))
        return [[next(answers) for _ in queries] for queries in batch]

    return GroupCommit(ask_all, batch_max=BATCH_MAX, waiting_max=WAITING_MAX)


async def _nothing(queries: Sequence[CacheQuery]) -> Sequence[bool]:
    return [False] * len(queries)
