"""Hits whose artifacts are gone are misses, where the step asks for it."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runengine_server.adapters.cache import VerifiedOutputCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.domain.cache import CacheEntry, CacheHit, CacheMiss, CacheQuery
from runengine_server.domain.states import MissReason

pytestmark = pytest.mark.anyio

MakeEntry = Callable[..., CacheEntry]


class Clock:
    """Stands still."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


class Probe:
    """Says that what is in `lost` is gone, and remembers what it was asked."""

    def __init__(self, *lost: str) -> None:
        self.lost = frozenset(lost)
        self.asked: list[set[str]] = []

    async def gone(self, uris: Collection[str]) -> frozenset[str]:
        self.asked.append(set(uris))
        return self.lost & set(uris)


async def test_one_lost_artifact_makes_a_miss(make_entry: MakeEntry) -> None:
    """A verified hit with an artifact that is gone is ARTIFACT_GONE; others, and unverified ones, stay hits."""
    lost, kept = make_entry("lost"), make_entry("kept")
    kept = replace(kept, artifacts=tuple(replace(artifact, uri="file:///kept") for artifact in kept.artifacts))
    cache, probe = MemoryOutputCache(Clock()), Probe("file:///a.wav")
    await cache.store([(lost, 60), (kept, 60)])
    answers = await VerifiedOutputCache(cache, probe).lookup(
        [_query(lost, is_verified=True), _query(kept, is_verified=True), _query(lost, is_verified=False)]
    )
    assert answers[0] == CacheMiss(reason=MissReason.ARTIFACT_GONE)
    assert [isinstance(answer, CacheHit) for answer in answers] == [False, True, True]
    assert probe.asked == [{"file:///a.wav", "file:///kept"}]


async def test_nothing_to_verify_asks_nobody(make_entry: MakeEntry) -> None:
    """Misses, unverified hits and hits without artifacts are not probed."""
    entry, bare = make_entry("a"), replace(make_entry("bare"), artifacts=())
    cache, probe = MemoryOutputCache(Clock()), Probe()
    await cache.store([(entry, 60), (bare, 60)])
    queries = [
        _query(entry, is_verified=False),
        _query(bare, is_verified=True),
        _query(make_entry("none"), is_verified=True),
    ]
    answers = await VerifiedOutputCache(cache, probe).lookup(queries)
    assert [isinstance(answer, CacheHit) for answer in answers] == [True, True, False]
    assert probe.asked == []


def _query(entry: CacheEntry, *, is_verified: bool) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=60, verify_artifacts=is_verified)
