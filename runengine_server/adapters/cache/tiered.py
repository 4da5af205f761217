"""Hot tier first, cold tier for the rest; what the cold tier had is promoted, beside the path of the lookup."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from runengine_server.adapters.cache.write_queue import HotWrite, WriteQueue
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheFlight, CacheHit, CacheMiss, CacheQuery
from runengine_server.domain.ids import Tenant
from runengine_server.ports.output_cache import OutputCache

_log = logging.getLogger("runengine.cache.hot")

# At most this much waits for a hot tier that is slower than the engine; the rest stays cold.
WAITING_ENTRIES_MAX = 10_000
WAITING_BYTES_MAX = 64 * 1024 * 1024

_BATCH_MAX = 500


class HotOutputCache(OutputCache, Protocol):
    """A hot tier: answers None as the reason of a miss unless it holds an entry of another fingerprint."""

    async def promote(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries unless something is there already; best effort, never raises."""


class ColdOutputCache(OutputCache, Protocol):
    """A cold tier, from which entries can be removed; what was removed must not be used any more."""

    async def generations(self, workflows: Sequence[tuple[Tenant, str]]) -> Sequence[int]:
        """How many removals there were from each tenant's workflow, in the order asked."""


class TieredOutputCache:
    """OutputCache of two tiers; `run()` must be running for anything to be written to the hot one.

    The cold tier is the authority. A hot value carries the generation at which its entry was known not to be removed
    (`CacheEntry.generation`) and is used only while that is still the cold tier's; it may therefore be written late,
    or not be there to be deleted, and still never undo a removal.
    """

    def __init__(
        self,
        hot: HotOutputCache,
        cold: ColdOutputCache,
        *,
        waiting_entries_max: int = WAITING_ENTRIES_MAX,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Ask `hot`, then `cold`; never write to `cold`."""
        self._hot = hot
        self._cold = cold
        self.writes = WriteQueue(entries_max=waiting_entries_max, bytes_max=waiting_bytes_max)

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port; reads outputs from the cold tier only for what the hot one has not."""
        if not queries:
            return ()
        # Read before the cold tier is: an entry found there is of this generation, or of one that began meanwhile.
        hot_answers, generations = await asyncio.gather(self._hot.lookup(queries), self._generations(queries))
        answers = list(hot_answers)
        rest = [
            at
            for at, (query, answer) in enumerate(zip(queries, answers, strict=True))
            # When it was filed only the cold tier knows: a hot value has the time of an engine, or of an older entry.
            if query.filed_after is not None or not _is_current(answer, generations[at])
        ]
        if not rest:
            return answers
        for at, answer in zip(rest, await self._cold.lookup([queries[at] for at in rest]), strict=True):
            hot_answer = answers[at]
            if isinstance(answer, CacheFlight):
                answers[at] = answer
            elif isinstance(answer, CacheHit):
                entry = replace(answer.entry, generation=generations[at])
                answers[at] = CacheHit(entry=entry, tier=answer.tier)
                if queries[at].is_promoted:
                    is_promotion = not _is_outdated(hot_answer)
                    self.writes.put(HotWrite(entry, queries[at].hot_ttl_s, is_promotion=is_promotion))
            else:
                answers[at] = replace(answer, generation=generations[at])
        return answers

    async def known(self, queries: Sequence[CacheQuery]) -> Sequence[bool]:
        """Which of these the hot tier has something for, be it outdated."""
        answers = await self._hot.lookup(queries)
        return [not isinstance(answer, CacheMiss) or answer.reason is not None for answer in answers]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port; the hot tier only, later. The cold entry was written with the step's completion."""
        for entry, ttl_s in entries:
            self.writes.put(HotWrite(entry, ttl_s, is_promotion=False))

    async def run(self) -> None:
        """Write to the hot tier until cancelled."""
        while True:
            batch = await self._confirmed(await self.writes.take(_BATCH_MAX))
            if stores := [(write.entry, write.ttl_s) for write in batch if not write.is_promotion]:
                await self._hot.store(stores)
            if promotions := [(write.entry, write.ttl_s) for write in batch if write.is_promotion]:
                await self._hot.promote(promotions)

    async def _confirmed(self, writes: Sequence[HotWrite]) -> Sequence[HotWrite]:
        """The writes with their generation; one without (no look-up came before it) gets it from the cold tier.

        What that has not, or not any more, is left out, and so is everything while it cannot be reached.
        """
        unknown = [write for write in writes if write.entry.generation is None]
        if not unknown:
            return writes
        queries = [
            CacheQuery(key=write.entry.key, fingerprint=write.entry.fingerprint, hot_ttl_s=write.ttl_s)
            for write in unknown
        ]
        known = [write for write in writes if write.entry.generation is not None]
        try:
            generations = await self._generations(queries)
            answers = await self._cold.lookup(queries)
        except Exception as error:  # what is best effort must not end the engine
            _log.warning("[RunEngine] Hot cache writes dropped: count=%d, error=%s", len(unknown), type(error).__name__)
            return known
        return known + [
            replace(write, entry=replace(write.entry, generation=generation))
            for write, generation, answer in zip(unknown, generations, answers, strict=True)
            if isinstance(answer, CacheHit) and answer.entry.producer == write.entry.producer
        ]

    async def _generations(self, queries: Sequence[CacheQuery]) -> Sequence[int]:
        """The generation of each query's workflow; most batches ask about one."""
        workflows = [(query.key.tenant, query.key.workflow_name) for query in queries]
        distinct = list(dict.fromkeys(workflows))
        found = dict(zip(distinct, await self._cold.generations(distinct), strict=True))
        return [found[workflow] for workflow in workflows]


def _is_current(answer: CacheAnswer, generation: int) -> bool:
    """True for a hit that nothing can have been removed from since it was known to be good."""
    return isinstance(answer, CacheHit) and answer.entry.generation == generation


def _is_outdated(answer: CacheAnswer) -> bool:
    """True for a hot value that gives way to the cold tier's: of another generation or another fingerprint."""
    return isinstance(answer, CacheHit) or (isinstance(answer, CacheMiss) and answer.reason is not None)
