"""The hot tier on a real server: names, TTLs, and values that are not what they should be."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from runengine_server.adapters.valkey import ValkeyOutputCache, open_valkey_cache
from runengine_server.adapters.valkey.output_cache import ValkeySettings
from runengine_server.adapters.valkey.value import encode_value
from runengine_server.domain.cache import CacheEntry, CacheHit, CacheMiss, CacheQuery

pytestmark = pytest.mark.anyio

MakeEntry = Callable[..., CacheEntry]
OpenCache = Callable[..., Awaitable[ValkeyOutputCache]]
UNKNOWN = CacheMiss(reason=None)
TTL_S = 86_400


@pytest.fixture
async def cache(shared_server: Any, open_cache: OpenCache) -> ValkeyOutputCache:
    return await open_cache(shared_server.url)


async def test_an_entry_is_named_as_documented_and_ends(
    shared_server: Any, open_cache: OpenCache, client: Redis, make_entry: MakeEntry
) -> None:
    """The key on the server is installation, tenant, workflow, step and input hash; the value ends with its TTL."""
    cache = await open_cache(shared_server.url, "0197-installation")
    entry = make_entry("named")
    await cache.store([(entry, 3600)])
    name = f"runengine:{{0197-installation}}:acme:campaign.build.v1:generate_bgm_track:{entry.key.input_hash}"
    assert 3590 < await client.ttl(name) <= 3600


async def test_another_installation_sees_nothing(
    shared_server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """On a server shared with another, or a reset, database its entries are never ours."""
    ours, theirs = await open_cache(shared_server.url), await open_cache(shared_server.url)
    entry = make_entry()
    await theirs.store([(entry, TTL_S)])
    assert await ours.lookup([_query(entry)]) == [UNKNOWN]
    assert isinstance((await theirs.lookup([_query(entry)]))[0], CacheHit)


async def test_a_promotion_does_not_replace_a_store_does(cache: ValkeyOutputCache, make_entry: MakeEntry) -> None:
    """What was found cold never displaces a newer success; a newer success displaces everything."""
    first = make_entry(output=b"1")
    second, third = replace(first, output=b"2"), replace(first, output=b"3")
    for write, written, expected in (
        (cache.promote, first, first),
        (cache.promote, second, first),
        (cache.store, third, third),
    ):
        await write([(written, TTL_S)])
        (answer,) = await cache.lookup([_query(first)])
        assert isinstance(answer, CacheHit)
        assert answer.entry == expected


@pytest.mark.parametrize(
    "poison",
    [
        lambda value, other: value[:-40] + b"\xff" + value[-39:],
        lambda value, other: value[: len(value) // 2],
        lambda value, other: b"",
        lambda value, other: b"\x00" * len(value),
        lambda value, other: b'{"output": 1}',
        lambda value, other: other,
    ],
    ids=["one byte", "half", "empty", "zeros", "json", "of another key"],
)
async def test_a_poisoned_value_is_dropped_and_can_be_replaced(
    cache: ValkeyOutputCache,
    client: Redis,
    make_entry: MakeEntry,
    poison: Callable[[bytes, bytes], bytes],
) -> None:
    """A value that does not verify is a miss, removed and counted; neighbours are not, and a promotion replaces it."""
    entry, neighbour = make_entry("poisoned"), make_entry("neighbour")
    await cache.store([(neighbour, TTL_S)])
    name = cache.name_of(entry.key)
    await client.set(name, poison(encode_value(entry), encode_value(neighbour)))
    poisoned, healthy = await cache.lookup([_query(entry), _query(neighbour)])
    assert poisoned == UNKNOWN
    assert isinstance(healthy, CacheHit)
    assert cache.poisoned == 1
    assert not await client.exists(name)
    await cache.promote([(entry, TTL_S)])
    assert isinstance((await cache.lookup([_query(entry)]))[0], CacheHit)


async def test_a_key_of_another_type_is_a_miss(cache: ValkeyOutputCache, client: Redis, make_entry: MakeEntry) -> None:
    """A list under our name is a miss, and no failure of the server."""
    entry = make_entry("list")
    await client.rpush(cache.name_of(entry.key), b"x")
    assert await cache.lookup([_query(entry)]) == [UNKNOWN]
    assert cache.failures == 0


async def test_a_large_value_is_left_to_the_cold_tier(
    shared_server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """Values above the cap are not kept, those beside them are."""
    cache = await open_cache(shared_server.url, settings=ValkeySettings(timeout_s=5.0, value_bytes_max=2000))
    small, large, nearly = make_entry("small"), make_entry("large", b"x" * 2001), make_entry("nearly", b"x" * 1900)
    await cache.store([(large, TTL_S), (nearly, TTL_S), (small, TTL_S)])
    answers = await cache.lookup([_query(small), _query(large), _query(nearly)])
    assert [isinstance(answer, CacheHit) for answer in answers] == [True, False, False]


async def test_an_evicting_server_costs_hits_and_nothing_else(
    server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """With too little memory some entries are gone; each answer is a miss or the right entry, and nothing fails."""
    cache = await open_cache(server.url)
    async with Redis.from_url(server.url) as client:
        used = int((await client.info("memory"))["used_memory"])
        await client.config_set("maxmemory", used + 1_000_000)
        entries = [make_entry(str(at), b"%04d" % at + b"x" * 10_000) for at in range(300)]
        await cache.store([(entry, TTL_S) for entry in entries])
        answers = await cache.lookup([_query(entry) for entry in entries])
        assert int((await client.info("stats"))["evicted_keys"]) > 0
    hits = [(entry, answer) for entry, answer in zip(entries, answers, strict=True) if isinstance(answer, CacheHit)]
    assert 0 < len(hits) < 300
    assert all(answer.entry == entry for entry, answer in hits)
    assert cache.failures == cache.poisoned == 0


async def test_a_full_server_still_answers(server: Any, open_cache: OpenCache, make_entry: MakeEntry) -> None:
    """Where the server refuses writes they are counted as refused, and reading goes on."""
    cache = await open_cache(server.url)
    kept, refused = make_entry("kept"), make_entry("refused")
    await cache.store([(kept, TTL_S)])
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", 1)
    await cache.store([(refused, TTL_S)])
    answers = await cache.lookup([_query(kept), _query(refused)])
    assert [isinstance(answer, CacheHit) for answer in answers] == [True, False]
    assert (cache.refused, cache.failures, cache.breaker.is_open) == (1, 0, False)


async def test_a_unix_socket_works(shared_server: Any, open_cache: OpenCache, make_entry: MakeEntry) -> None:
    """A unix:// URL reaches the same server."""
    cache = await open_cache(shared_server.socket_url)
    entry = make_entry()
    await cache.store([(entry, TTL_S)])
    assert isinstance((await cache.lookup([_query(entry)]))[0], CacheHit)


async def test_a_wrong_password_is_a_cache_that_is_not_there(
    shared_server: Any, open_cache: OpenCache, make_entry: MakeEntry
) -> None:
    """With a wrong password every lookup is a miss and the server is soon left alone."""
    address = shared_server.url.rpartition("@")[2]
    cache = await open_cache(f"redis://:wrong@{address}")
    for _ in range(10):
        assert await cache.lookup([_query(make_entry())]) == [UNKNOWN]
    assert cache.breaker.is_open
    assert cache.failures == 3


@pytest.mark.parametrize("url", ["http://:s3cret@localhost", "localhost:6379?password=s3cret", ""])
async def test_another_kind_of_url_is_refused_without_repeating_it(url: str, clock: Any) -> None:
    """A URL that is none of a cache server's is refused; the message says what is allowed and not the password."""
    with pytest.raises(ValueError, match="redis://, rediss://, unix://") as refusal:
        async with open_valkey_cache(url, "id", clock):
            pass
    assert "s3cret" not in str(refusal.value)


def _query(entry: CacheEntry) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=TTL_S)
