"""Two tiers in memory: who is asked, what is promoted, what is dropped."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from runengine_server.adapters.cache import TieredOutputCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheHit, CacheMiss, CacheQuery
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import Tenant
from runengine_server.domain.states import CacheTier, MissReason

from ...support.manual_clock import ManualClock

pytestmark = pytest.mark.anyio

MakeEntry = Callable[..., CacheEntry]
TTL_S = 100


class CountedCache(MemoryOutputCache):
    """Remembers how many keys each lookup asked for."""

    asked: list[int]

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """Count, then answer."""
        self.asked.append(len(queries))
        return await super().lookup(queries)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hot(clock: ManualClock) -> MemoryOutputCache:
    return MemoryOutputCache(clock, CacheTier.HOT)


@pytest.fixture
def cold(clock: ManualClock) -> CountedCache:
    cache = CountedCache(clock)
    cache.asked = []
    return cache


@pytest.fixture
async def tiered(hot: MemoryOutputCache, cold: CountedCache) -> AsyncIterator[TieredOutputCache]:
    cache = TieredOutputCache(hot, cold)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.run)
        yield cache
        tasks.cancel_scope.cancel()


async def test_the_cold_tier_is_asked_for_the_rest_only(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """What the hot tier has is not asked again, and a lookup it answers whole asks nobody else."""
    warm, cool = replace(make_entry("warm"), generation=0), make_entry("cool")
    await hot.store([(warm, TTL_S)])
    await cold.store([(cool, TTL_S)])
    answers = await tiered.lookup([_query(cool), _query(warm), _query(make_entry("none"))])
    assert [_tier(answer) for answer in answers] == [CacheTier.COLD, CacheTier.HOT, None]
    assert [_tier(answer) for answer in await tiered.lookup([_query(warm)])] == [CacheTier.HOT]
    assert cold.asked == [2]


async def test_a_cold_hit_is_promoted_for_its_ttl(
    tiered: TieredOutputCache, cold: CountedCache, clock: ManualClock, make_entry: MakeEntry
) -> None:
    """A cold hit is a hot one next time, until the step's TTL has passed."""
    entry = make_entry()
    await cold.store([(entry, TTL_S)])
    tiers = []
    for _ in range(2):
        tiers.append(_tier((await tiered.lookup([_query(entry)]))[0]))
        await tiered.writes.settled()
    clock.at += TTL_S
    tiers.append(_tier((await tiered.lookup([_query(entry)]))[0]))
    assert tiers == [CacheTier.COLD, CacheTier.HOT, CacheTier.COLD]


async def test_a_store_goes_to_the_hot_tier_alone(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """Storing never writes to the cold tier, whose entry is part of the completion."""
    entry = replace(make_entry(), generation=0)
    await tiered.store([(entry, TTL_S)])
    await tiered.writes.settled()
    assert isinstance((await hot.lookup([_query(entry)]))[0], CacheHit)
    assert isinstance((await cold.lookup([_query(entry)]))[0], CacheMiss)


async def test_a_promotion_gives_way_to_a_newer_success(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """A success stored between a cold hit and its promotion is not replaced by the older entry."""
    older = make_entry(output=b"1")
    newer = replace(older, output=b"2")
    await cold.store([(older, TTL_S)])
    await tiered.lookup([_query(older)])
    await hot.store([(newer, TTL_S)])
    await tiered.writes.settled()
    (answer,) = await hot.lookup([_query(older)])
    assert isinstance(answer, CacheHit)
    assert answer.entry == newer


async def test_another_fingerprint_in_the_hot_tier_asks_the_cold_one(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """A hot entry of an older skill hides nothing: the cold tier decides, and its entry replaces the outdated one."""
    outdated, current = make_entry(cache_version="1"), make_entry(cache_version="2")
    await hot.store([(outdated, TTL_S)])
    await cold.store([(current, TTL_S)])
    (answer,) = await tiered.lookup([_query(current)])
    assert _tier(answer) is CacheTier.COLD
    await tiered.writes.settled()
    assert _tier((await tiered.lookup([_query(current)]))[0]) is CacheTier.HOT


async def test_the_cold_tier_says_why_it_is_a_miss(
    tiered: TieredOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """The reason of a miss is the cold tier's, never unknown."""
    await cold.store([(make_entry("a"), TTL_S)])
    assert await tiered.lookup([_query(make_entry("b"))]) == [CacheMiss(reason=MissReason.INPUT_CHANGED)]


async def test_an_unreachable_database_is_reported(hot: MemoryOutputCache, make_entry: MakeEntry) -> None:
    """Without the cold tier there is no answer but an error: nobody else knows what was removed."""

    class Unreachable(MemoryOutputCache):
        async def generations(self, workflows: Sequence[tuple[Tenant, str]]) -> Sequence[int]:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")

    tiered = TieredOutputCache(hot, Unreachable(ManualClock()))
    await hot.store([(replace(make_entry("a"), generation=0), TTL_S)])
    with pytest.raises(UnavailableError):
        await tiered.lookup([_query(make_entry("a"))])


async def test_a_removed_entry_is_a_miss_whatever_the_hot_tier_holds(
    tiered: TieredOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """What was removed from the cold tier is a miss at once; a new success is a hit again."""
    entry = make_entry()
    await cold.store([(entry, TTL_S)])
    for expected in (CacheTier.COLD, CacheTier.HOT):
        assert _tier((await tiered.lookup([_query(entry)]))[0]) is expected
        await tiered.writes.settled()
    cold.invalidate(entry.key)
    assert await tiered.lookup([_query(entry)]) == [CacheMiss(reason=MissReason.INVALIDATED)]
    await cold.store([(entry, TTL_S)])
    for expected in (CacheTier.COLD, CacheTier.HOT):
        assert _tier((await tiered.lookup([_query(entry)]))[0]) is expected
        await tiered.writes.settled()


async def test_a_removal_spares_other_entries(
    tiered: TieredOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """What was not removed is confirmed by the cold tier once and then hot again."""
    kept, removed = make_entry("kept"), make_entry("removed")
    await cold.store([(kept, TTL_S), (removed, TTL_S)])
    await tiered.lookup([_query(kept)])
    await tiered.writes.settled()
    cold.invalidate(removed.key)
    for expected in (CacheTier.COLD, CacheTier.HOT):
        assert _tier((await tiered.lookup([_query(kept)]))[0]) is expected
        await tiered.writes.settled()


@pytest.mark.parametrize("is_promotion", [True, False], ids=["promoted", "stored"])
async def test_a_late_hot_write_does_not_undo_a_removal(
    hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry, is_promotion: bool
) -> None:
    """What was known to be good before a removal may reach the hot tier after it and is not used."""
    entry = make_entry()
    tiered = TieredOutputCache(hot, cold)  # writes nothing before it runs
    if not is_promotion:
        (miss,) = await tiered.lookup([_query(entry)])
        assert isinstance(miss, CacheMiss)
        await tiered.store([(replace(entry, generation=miss.generation), TTL_S)])
    await cold.store([(entry, TTL_S)])
    if is_promotion:
        await tiered.lookup([_query(entry)])
    cold.invalidate(entry.key)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tiered.run)
        await tiered.writes.settled()
        assert isinstance((await hot.lookup([_query(entry)]))[0], CacheHit)
        assert await tiered.lookup([_query(entry)]) == [CacheMiss(reason=MissReason.INVALIDATED)]
        tasks.cancel_scope.cancel()


async def test_a_success_that_was_not_looked_up_is_confirmed(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """A refreshed step's entry is hot next time when the cold tier has it; one removed meanwhile is not written."""
    kept, removed = make_entry("kept"), make_entry("removed")
    await cold.store([(kept, TTL_S), (removed, TTL_S)])
    cold.invalidate(removed.key)
    await tiered.store([(kept, TTL_S), (removed, TTL_S)])
    await tiered.writes.settled()
    assert _tier((await tiered.lookup([_query(kept)]))[0]) is CacheTier.HOT
    assert isinstance((await hot.lookup([_query(removed)]))[0], CacheMiss)


async def test_a_stored_entry_is_hot_at_once(tiered: TieredOutputCache, make_entry: MakeEntry) -> None:
    """A success that followed a miss is a hot hit next time, without asking the cold tier for it."""
    entry = make_entry()
    (miss,) = await tiered.lookup([_query(entry)])
    assert isinstance(miss, CacheMiss)
    await tiered.store([(replace(entry, generation=miss.generation), TTL_S)])
    await tiered.writes.settled()
    assert _tier((await tiered.lookup([_query(entry)]))[0]) is CacheTier.HOT


async def test_when_an_entry_was_filed_only_the_cold_tier_says(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """A query for later entries does not take the hot tier's word, whose value may be older than it says."""
    entry = replace(make_entry(), generation=0)
    await cold.store([(entry, TTL_S)])
    await hot.store([(replace(entry, created_at=entry.created_at + timedelta(days=1)), TTL_S)])
    assert _tier((await tiered.lookup([_query(entry)]))[0]) is CacheTier.HOT
    (miss,) = await tiered.lookup([replace(_query(entry), filed_after=entry.created_at)])
    assert miss == CacheMiss(reason=MissReason.SKILL_CHANGED)
    assert isinstance(miss, CacheMiss)
    assert (miss.generation, miss.outdated_at) == (0, entry.created_at)


async def test_who_only_reads_promotes_nothing(
    tiered: TieredOutputCache, hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """What a run that must not write finds in the cold tier stays out of the hot one."""
    entry = make_entry()
    await cold.store([(entry, TTL_S)])
    assert _tier((await tiered.lookup([replace(_query(entry), is_promoted=False)]))[0]) is CacheTier.COLD
    await tiered.writes.settled()
    assert isinstance((await hot.lookup([_query(entry)]))[0], CacheMiss)
    await tiered.lookup([_query(entry)])
    await tiered.writes.settled()
    assert isinstance((await hot.lookup([_query(entry)]))[0], CacheHit)


async def test_the_oldest_writes_are_dropped_and_counted(
    hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """While nothing is written the queue stays within its bounds, by number and by bytes, and keeps the newest."""
    tiered = TieredOutputCache(hot, cold, waiting_entries_max=3, waiting_bytes_max=25)
    entries = [replace(make_entry(str(at), output=b"x" * 10), generation=0) for at in range(5)]
    await tiered.store([(entry, TTL_S) for entry in entries])
    assert (len(tiered.writes), tiered.writes.dropped) == (2, 3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tiered.run)
        await tiered.writes.settled()
        tasks.cancel_scope.cancel()
    answers = await hot.lookup([_query(entry) for entry in entries])
    assert [isinstance(answer, CacheHit) for answer in answers] == [False, False, False, True, True]


async def test_an_entry_larger_than_the_queue_blocks_nobody(
    hot: MemoryOutputCache, cold: CountedCache, make_entry: MakeEntry
) -> None:
    """An entry that alone exceeds the bytes allowed is dropped, and the queue counts as settled."""
    tiered = TieredOutputCache(hot, cold, waiting_bytes_max=5)
    await tiered.store([(make_entry(output=b"x" * 10), TTL_S)])
    await tiered.writes.settled()
    assert (len(tiered.writes), tiered.writes.dropped) == (0, 1)


def _query(entry: CacheEntry) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=TTL_S)


def _tier(answer: CacheAnswer) -> CacheTier | None:
    return answer.tier if isinstance(answer, CacheHit) else None
