"""What a frozen, killed or cut-off hot tier costs: time that is bounded, and nothing else."""

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from runengine_server.adapters.cache import TieredOutputCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.valkey import ValkeyOutputCache
from runengine_server.adapters.valkey.output_cache import ValkeySettings
from runengine_server.domain.cache import CacheEntry, CacheHit, CacheQuery
from runengine_server.domain.states import CacheTier

pytestmark = pytest.mark.anyio

MakeEntry = Callable[..., CacheEntry]
OpenCache = Callable[..., Awaitable[ValkeyOutputCache]]
TTL_S = 86_400
RECOVERED_S_MAX = 20.0


@asynccontextmanager
async def both_tiers(hot: ValkeyOutputCache, clock: Any, entry: CacheEntry) -> AsyncIterator[TieredOutputCache]:
    """Two tiers that both have the entry."""
    cold = MemoryOutputCache(clock)
    await cold.store([(entry, TTL_S)])
    tiered = TieredOutputCache(hot, cold)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tiered.run)
        await _until_hot(tiered, entry, clock)
        yield tiered
        tasks.cancel_scope.cancel()


async def test_a_frozen_server_costs_three_timeouts_and_one_a_second(
    server: Any, open_cache: OpenCache, clock: Any, make_entry: MakeEntry
) -> None:
    """While the server is stopped every lookup is answered cold, at a bounded cost that ends with the fault."""
    entry = make_entry()
    hot = await open_cache(server.url, settings=ValkeySettings())
    async with both_tiers(hot, clock, entry) as tiered:
        before = hot.failures
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            tiers = [await _tier(tiered, entry) for _ in range(200)]
            elapsed = time.monotonic() - started
            assert set(tiers) == {CacheTier.COLD}
            # The fault happened, and cost what the breaker allows; one background write may have been under way.
            assert 3 <= (opened := hot.failures - before) <= 4
            assert 0.1 < elapsed < 1.5  # 3 x 50 ms, ten times that on a busy machine
            await tiered.writes.settled()  # so that the probe is a lookup's
            clock.at += 1.0
            assert {await _tier(tiered, entry) for _ in range(50)} == {CacheTier.COLD}
            assert hot.failures - before == opened + 1, "one probe a second"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await _until_hot(tiered, entry, clock)
        assert not hot.breaker.is_open


async def test_lookups_at_once_are_all_answered_cold_in_time(
    server: Any, open_cache: OpenCache, clock: Any, make_entry: MakeEntry
) -> None:
    """More lookups at once than connections, on a frozen server, all wait the same few milliseconds."""
    entry = make_entry()
    hot = await open_cache(server.url, settings=ValkeySettings(connections_max=2))
    async with both_tiers(hot, clock, entry) as tiered:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            tiers: list[CacheTier | None] = []

            async def ask() -> None:
                tiers.append(await _tier(tiered, entry))

            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(ask)
            assert tiers == [CacheTier.COLD] * 30
            assert time.monotonic() - started < 1.5
            assert hot.breaker.is_open
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_killed_server_is_answered_for_by_the_cold_tier(
    server: Any, open_cache: OpenCache, clock: Any, make_entry: MakeEntry
) -> None:
    """After SIGKILL every lookup is answered cold, and storing goes on without an error."""
    entry = make_entry()
    hot = await open_cache(server.url, settings=ValkeySettings())
    async with both_tiers(hot, clock, entry) as tiered:
        os.kill(server.pid, signal.SIGKILL)
        for _ in range(20):
            assert await _tier(tiered, entry) in (CacheTier.COLD, CacheTier.HOT)
            await tiered.store([(entry, TTL_S)])
            await tiered.writes.settled()
        assert await _tier(tiered, entry) is CacheTier.COLD
        assert hot.failures in (3, 4)
        assert hot.breaker.is_open


async def test_a_server_that_was_never_there_keeps_nobody_from_starting(
    open_cache: OpenCache, clock: Any, make_entry: MakeEntry
) -> None:
    """With nothing at the address the cache opens and answers misses."""
    hot = await open_cache("redis://127.0.0.1:1/0", settings=ValkeySettings())
    assert not await hot.reach()
    (answer,) = await hot.lookup([_query(make_entry())])
    assert not isinstance(answer, CacheHit)


async def test_cut_connections_are_replaced_without_a_miss(
    server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """Connections that the server closed while idle are noticed and made anew: the next lookup is a hit."""
    cache = await open_cache(server.url)
    entry = make_entry()
    await cache.store([(entry, TTL_S)])
    async with Redis.from_url(server.url) as client:
        assert await client.client_kill_filter(_type="normal", skipme=True) >= 1
    with anyio.fail_after(RECOVERED_S_MAX):
        assert isinstance((await cache.lookup([_query(entry)]))[0], CacheHit)
    assert cache.failures == 0


async def test_a_cancelled_lookup_leaves_no_answer_for_the_next(
    server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """A reply to a cancelled lookup that comes late is never taken for the reply to another one."""
    cache = await open_cache(server.url, settings=ValkeySettings(timeout_s=10.0, connections_max=1))
    first, second = make_entry("first", b"1"), make_entry("second", b"2")
    await cache.store([(first, TTL_S), (second, TTL_S)])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with anyio.move_on_after(0.05) as scope:
            await cache.lookup([_query(first)])
        assert scope.cancelled_caught
    finally:
        os.kill(server.pid, signal.SIGCONT)
    for entry in (second, first, second):
        (answer,) = await cache.lookup([_query(entry)])
        assert isinstance(answer, CacheHit)
        assert answer.entry == entry
    assert cache.poisoned == 0


async def _until_hot(tiered: TieredOutputCache, entry: CacheEntry, clock: Any) -> None:
    """Ask until the hot tier answers, moving the clock on for the breaker."""
    with anyio.fail_after(RECOVERED_S_MAX):
        while await _tier(tiered, entry) is not CacheTier.HOT:
            await tiered.writes.settled()
            clock.at += 1.0


async def _tier(tiered: TieredOutputCache, entry: CacheEntry) -> CacheTier | None:
    (answer,) = await tiered.lookup([_query(entry)])
    assert not isinstance(answer, CacheHit) or answer.entry == entry
    return answer.tier if isinstance(answer, CacheHit) else None


def _query(entry: CacheEntry) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=TTL_S)
