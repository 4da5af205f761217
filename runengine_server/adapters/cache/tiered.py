"""Hot tier first, cold tier for the rest; what the cold tier had is promoted, beside the path of the lookup."""

from collections.abc import Sequence
from typing import Protocol

from runengine_server.adapters.cache.write_queue import HotWrite, WriteQueue
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheQuery
from runengine_server.ports.output_cache import OutputCache

# At most this much waits for a hot tier that is slower than the engine; the rest stays cold.
WAITING_ENTRIES_MAX = 10_000
WAITING_BYTES_MAX = 64 * 1024 * 1024

_BATCH_MAX = 500


class HotOutputCache(OutputCache, Protocol):
    """A hot tier: answers None as the reason of a miss unless it holds an entry of another fingerprint."""

    async def promote(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries unless something is there already; best effort, never raises."""


class TieredOutputCache:
    """OutputCache of two tiers; `run()` must be running for anything to be written to the hot one."""

    def __init__(
        self,
        hot: HotOutputCache,
        cold: OutputCache,
        *,
        waiting_entries_max: int = WAITING_ENTRIES_MAX,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Ask `hot`, then `cold`; never write to `cold`."""
        self._hot = hot
        self._cold = cold
        self.writes = WriteQueue(entries_max=waiting_entries_max, bytes_max=waiting_bytes_max)

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port; costs a round trip to the cold tier only for what the hot one has not."""
        answers = list(await self._hot.lookup(queries))
        rest = [at for at, answer in enumerate(answers) if not isinstance(answer, CacheHit)]
        if not rest:
            return answers
        for at, answer in zip(rest, await self._cold.lookup([queries[at] for at in rest]), strict=True):
            hot_answer, answers[at] = answers[at], answer
            if isinstance(answer, CacheHit):
                # Another fingerprint in the hot tier is out of date, for the cold one has the latest success.
                is_outdated = not isinstance(hot_answer, CacheHit) and hot_answer.reason is not None
                self.writes.put(HotWrite(answer.entry, queries[at].hot_ttl_s, is_promotion=not is_outdated))
        return answers

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port; the hot tier only, later. The cold entry was written with the step's completion."""
        for entry, ttl_s in entries:
            self.writes.put(HotWrite(entry, ttl_s, is_promotion=False))

    async def run(self) -> None:
        """Write to the hot tier until cancelled."""
        while True:
            batch = await self.writes.take(_BATCH_MAX)
            if stores := [(write.entry, write.ttl_s) for write in batch if not write.is_promotion]:
                await self._hot.store(stores)
            if promotions := [(write.entry, write.ttl_s) for write in batch if write.is_promotion]:
                await self._hot.promote(promotions)
