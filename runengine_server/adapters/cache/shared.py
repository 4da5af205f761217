"""Merges the look-ups of many callers: a burst of triggers costs a few round trips, not two each."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from runengine_server.adapters.group_commit import GroupCommit
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheQuery
from runengine_server.domain.ids import Tenant
from runengine_server.ports.output_cache import OutputCache

A = TypeVar("A")

BATCH_MAX = 200
WAITING_MAX = 10_000
FRUITFUL_MAX = 1_000

HotKnowledge = Callable[[Sequence[CacheQuery]], Awaitable[Sequence[bool]]]
"""Which of these a hot tier has something for; see `TieredOutputCache.known`."""


class SharedOutputCache:
    """PlanningCache whose concurrent look-ups travel together; `lookups.run()` and `hints.run()` must be running.

    Only workflows of which the last look-up has found something may have something again; the hot tier, where there is
    one, is asked before.
    """

    def __init__(self, inner: OutputCache, hot: HotKnowledge | None = None) -> None:
        """Look up in `inner`; `hot` knows of what it holds."""
        self._inner = inner
        self._hot = hot
        self._fruitful: OrderedDict[tuple[Tenant, str], None] = OrderedDict()
        self.lookups = _shared(inner.lookup)
        self.hints = _shared(hot or _nothing)

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port."""
        answers = await self.lookups.submit(queries)
        for query in queries:
            self._fruitful.pop(_workflow(query), None)
        for query, answer in zip(queries, answers, strict=True):
            if isinstance(answer, CacheHit):
                self._fruitful[_workflow(query)] = None
        while len(self._fruitful) > FRUITFUL_MAX:
            self._fruitful.popitem(last=False)
        return answers

    async def may_have(self, queries: Sequence[CacheQuery]) -> bool:
        """See the port."""
        if not any(_workflow(query) in self._fruitful for query in queries):
            return False
        if self._hot is None or any(await self.hints.submit(queries)):
            return True
        for query in queries:
            self._fruitful.pop(_workflow(query), None)
        return False

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


def _workflow(query: CacheQuery) -> tuple[Tenant, str]:
    return query.key.tenant, query.key.workflow_name


async def _nothing(queries: Sequence[CacheQuery]) -> Sequence[bool]:
    return [False] * len(queries)
