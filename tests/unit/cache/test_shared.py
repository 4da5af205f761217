"""Look-ups of many callers travel together and come back to whoever asked."""

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import pytest

from runengine_server.adapters.cache.shared import SharedOutputCache
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheEntry,
    CacheHit,
    CacheKey,
    CacheMiss,
    CacheQuery,
    Fingerprint,
    Producer,
)
from runengine_server.domain.errors import UnavailableError
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant
from runengine_server.domain.states import CacheTier, MissReason

pytestmark = pytest.mark.anyio


class Gated:
    """An OutputCache that answers each batch when it is let, with a reason that tells the queries apart."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.started = anyio.Event()
        self.batches: list[int] = []
        self.is_down = False

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        self.batches.append(len(queries))
        self.started.set()
        await self.gate.wait()
        if self.is_down:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")
        return [CacheMiss(reason=MissReason(int(query.key.input_hash))) for query in queries]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        raise AssertionError("not used")


class Hitting:
    """An OutputCache that has everything, or nothing."""

    is_empty = False

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        if self.is_empty:
            return [CacheMiss(reason=MissReason.NEVER_SEEN) for _ in queries]
        return [CacheHit(entry=_entry(query), tier=CacheTier.COLD) for query in queries]

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        raise AssertionError("not used")


def _entry(query: CacheQuery) -> CacheEntry:
    producer = Producer(run=RunKey(1), step=StepNo(0), run_id=RunId("r"), step_id=query.key.step_id)
    return CacheEntry(
        key=query.key,
        fingerprint=query.fingerprint,
        producer=producer,
        output=b"{}",
        output_hash="00" * 32,
        artifacts=(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _query(number: int) -> CacheQuery:
    key = CacheKey(tenant=Tenant("t"), workflow_name="w", step_id=StepId("s"), input_hash=str(number))
    return CacheQuery(key=key, fingerprint=Fingerprint(skill_id="k", cache_version="1", cache_epoch=""), hot_ttl_s=1)


async def test_what_arrives_meanwhile_is_one_batch() -> None:
    """The first caller waits for nobody; those that come while it is served share the next round trip, in order."""
    inner = Gated()
    shared = SharedOutputCache(inner)
    answers: dict[int, list[int]] = {}

    async def ask(caller: int, numbers: list[int]) -> None:
        found = await shared.lookup([_query(number) for number in numbers])
        answers[caller] = [int(miss.reason) for miss in found if isinstance(miss, CacheMiss) and miss.reason]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.lookups.run)
        async with anyio.create_task_group() as callers:
            callers.start_soon(ask, 0, [1])
            await inner.started.wait()
            for caller, numbers in enumerate(([2, 3], [4], [5, 1]), 1):
                callers.start_soon(ask, caller, numbers)
            await anyio.wait_all_tasks_blocked()
            inner.gate.set()
        tasks.cancel_scope.cancel()
    assert inner.batches == [1, 5]
    assert answers == {0: [1], 1: [2, 3], 2: [4], 3: [5, 1]}


async def test_a_database_that_is_away_is_everyones_error() -> None:
    """Who shared a look-up shares its failure."""
    inner = Gated()
    inner.is_down = True
    inner.gate.set()
    shared = SharedOutputCache(inner)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.lookups.run)
        with pytest.raises(UnavailableError):
            await shared.lookup([_query(1)])
        tasks.cancel_scope.cancel()


async def test_the_hot_tier_is_asked_where_something_was_found() -> None:
    """Hints are asked for after a look-up that hit, and until one says that there is nothing."""
    asked: list[int] = []
    known = [True]

    async def hot(queries: Sequence[CacheQuery]) -> Sequence[bool]:
        asked.append(len(queries))
        return known * len(queries)

    shared = SharedOutputCache(Hitting(), hot)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.lookups.run)
        tasks.start_soon(shared.hints.run)
        assert not await shared.may_have([_query(1)])
        assert asked == []
        await shared.lookup([_query(1)])
        assert await shared.may_have([_query(2), _query(3)])
        assert await shared.may_have([_query(2)])
        known[0] = False
        assert not await shared.may_have([_query(2)])
        assert asked == [2, 1, 1]
        assert not await shared.may_have([_query(2)])
        assert asked == [2, 1, 1], "nothing has been found since"
        tasks.cancel_scope.cancel()


async def test_without_a_hot_tier_the_last_look_up_counts() -> None:
    """Where it found something the next one may, until one finds nothing."""
    shared = SharedOutputCache(inner := Hitting())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.lookups.run)
        assert not await shared.may_have([_query(1)])
        await shared.lookup([_query(1)])
        assert await shared.may_have([_query(2)])
        inner.is_empty = True
        await shared.lookup([_query(2)])
        assert not await shared.may_have([_query(1)])
        tasks.cancel_scope.cancel()
