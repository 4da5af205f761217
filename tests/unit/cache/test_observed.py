"""What is told of the cache's answers."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runengine_server.adapters.cache import ObservedOutputCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.telemetry import ObserverGroup
from runengine_server.domain.cache import CacheEntry, CacheKey, CacheQuery
from runengine_server.domain.states import CacheTier

pytestmark = pytest.mark.anyio


class StoppedClock:
    """Always the same."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


class Told(ObserverGroup):
    """Remembers what it was told about the cache."""

    def __init__(self) -> None:
        super().__init__([])
        self.facts: list[tuple[CacheKey, CacheTier | None]] = []

    def cache_hit(self, key: CacheKey, tier: CacheTier) -> None:
        self.facts.append((key, tier))

    def cache_miss(self, key: CacheKey) -> None:
        self.facts.append((key, None))


async def test_every_answer_is_told(make_entry: Callable[..., CacheEntry]) -> None:
    """The observer hears of each hit with its tier and of each miss, in order."""
    told = Told()
    cache = ObservedOutputCache(MemoryOutputCache(StoppedClock(), CacheTier.HOT), told)
    known, unknown = make_entry("known"), make_entry("unknown")
    await cache.store([(known, 60)])
    await cache.lookup([_query(known), _query(unknown), _query(known), _query(known)])
    assert told.facts == [
        (known.key, CacheTier.HOT),
        (unknown.key, None),
        (known.key, CacheTier.HOT),
        (known.key, CacheTier.HOT),
    ]


def _query(entry: CacheEntry) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=60)
