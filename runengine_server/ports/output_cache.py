"""The step cache as the core sees it: one interface for hot, cold and tiered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheKey, Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheQuery:
    """A key to look up, with the fingerprint an entry must have."""

    key: CacheKey
    fingerprint: Fingerprint
    hot_ttl_s: int


class OutputCache(Protocol):
    """Successes by content; losing any of it costs time, never correctness."""

    async def lookup(self, queries: Sequence[CacheQuery]) -> Mapping[CacheKey, CacheAnswer]:
        """Answer every query, in one batch; never raises for a cache that is down."""

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries that are already committed, each with its hot TTL in seconds; best effort."""
