"""The step cache as the core sees it: one interface for hot, cold and tiered."""

from collections.abc import Sequence
from typing import Protocol

from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheQuery


class OutputCache(Protocol):
    """Successes by content; losing any of it costs time, never correctness."""

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """Answer every query, in one batch and in the order asked.

        By position and not by key: two runs of different workflow versions may ask for one key with two fingerprints.
        A hit always has the query's key and fingerprint, and was filed after what the query says (which a hot tier
        alone cannot know).

        Raises:
            UnavailableError: the database cannot be reached. A hot tier that is down, slow or wrong never raises.
        """

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries that are already committed, each with its hot TTL in seconds; best effort, never raises."""


class PlanningCache(OutputCache, Protocol):
    """The cache as those see it who start runs."""

    async def may_have(self, queries: Sequence[CacheQuery]) -> bool:
        """Whether a look-up of these is likely to find anything; costs less than it, and proves nothing."""
