"""What every implementation of the OutputCache port must do: in memory, hot, cold and tiered."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import anyio
import pytest

from runengine_server.adapters.cache import TieredOutputCache
from runengine_server.adapters.memory.cold_cache import MemoryColdCache
from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.memory.tables import MemoryTables
from runengine_server.adapters.postgres.cache_admin import PostgresCacheAdmin
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.database import Database, open_database
from runengine_server.adapters.valkey import open_valkey_cache
from runengine_server.adapters.valkey.output_cache import ValkeySettings
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.cache import CacheEntry, CacheHit, CacheKey, CacheMiss, CacheQuery, Fingerprint, Producer
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant
from runengine_server.domain.states import CacheTier, MissReason
from runengine_server.ports.cache_admin import CacheSelector
from runengine_server.ports.output_cache import OutputCache

from .completed_steps import commit_completed, file_completed

pytestmark = pytest.mark.anyio

IMPLEMENTATIONS = ("memory", "memory_cold", "hot", "cold", "tiered")
CLASSIFYING = ("memory", "memory_cold", "cold", "tiered")
TTL_S = 86_400

# What is tested here is what they answer, not how fast: a busy machine must not turn a hit into a miss.
PATIENT = ValkeySettings(timeout_s=5.0)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A cache, how a completed step gets into it, and how an operator removes all entries of a key's step."""

    cache: OutputCache
    complete: Callable[[Sequence[CacheEntry]], Awaitable[None]]
    tiers: frozenset[CacheTier]
    remove: Callable[[CacheKey], Awaitable[None]] | None = None

    async def answers(self, *queries: CacheQuery) -> Sequence[CacheHit | CacheMiss]:
        return await self.cache.lookup(queries)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def urls(implementation: str, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The servers this implementation needs."""
    needed: dict[str, str] = {}
    if implementation in ("hot", "tiered"):
        needed["redis"] = request.getfixturevalue("stack").redis_url
    if implementation in ("cold", "tiered"):
        needed["database"] = request.getfixturevalue("database_url")
    yield needed


@pytest.fixture
async def subject(implementation: str, urls: dict[str, str]) -> AsyncIterator[Subject]:
    """The implementation, without entries."""
    async with AsyncExitStack() as stack:
        match implementation:
            case "memory":
                memory = MemoryOutputCache(SystemClock())
                yield Subject(
                    cache=memory,
                    complete=_store_in(memory),
                    tiers=frozenset({CacheTier.COLD}),
                    remove=_remove_in(memory.invalidate),
                )
            case "memory_cold":
                tables = MemoryTables(SystemClock())
                filed = MemoryColdCache(tables)
                yield Subject(
                    cache=filed,
                    complete=_file_in(tables),
                    tiers=frozenset({CacheTier.COLD}),
                    remove=_remove_in(lambda key: filed.invalidate(key.tenant, key.workflow_name, key.step_id)),
                )
            case "hot":
                hot = await stack.enter_async_context(_hot(urls["redis"]))
                yield Subject(cache=hot, complete=_store_in(hot), tiers=frozenset({CacheTier.HOT}))
            case "cold":
                database = await stack.enter_async_context(open_database(urls["database"], connections_max=2))
                cold = PostgresOutputCache(database)
                yield Subject(
                    cache=cold,
                    complete=_commit_to(database, cold),
                    tiers=frozenset({CacheTier.COLD}),
                    remove=_remove_from(database),
                )
            case "tiered":
                database = await stack.enter_async_context(open_database(urls["database"], connections_max=2))
                hot = await stack.enter_async_context(_hot(urls["redis"]))
                tiered = TieredOutputCache(hot, PostgresOutputCache(database))
                tasks = await stack.enter_async_context(anyio.create_task_group())
                tasks.start_soon(tiered.run)
                yield Subject(
                    cache=tiered,
                    complete=_commit_to(database, tiered),
                    tiers=frozenset(CacheTier),
                    remove=_remove_from(database),
                )
                tasks.cancel_scope.cancel()


async def test_an_unknown_key_is_a_miss(subject: Subject, implementation: str) -> None:
    """A key nobody filed is a miss, NEVER_SEEN where the cache can know."""
    (answer,) = await subject.answers(_query(_entry()))
    assert answer == CacheMiss(reason=MissReason.NEVER_SEEN if implementation in CLASSIFYING else None)


async def test_a_hit_is_the_entry_that_was_completed(subject: Subject) -> None:
    """A hit gives back every byte and fact of the completed step, and says which tier had it."""
    entry = _entry(artifacts=(_artifact("a"), _artifact("b")))
    await subject.complete([entry])
    (answer,) = await subject.answers(_query(entry))
    assert isinstance(answer, CacheHit)
    assert answer.entry == entry
    assert answer.tier in subject.tiers


@pytest.mark.parametrize(
    "output",
    [b"null", b"{}", '{"é":"☃𝄞\\u0000"}'.encode(), b'"' + b"x" * 1_048_574 + b'"', b"[" + b"1," * 3000 + b"1]"],
    ids=["null", "empty", "unicode", "1 MiB", "compressible"],
)
async def test_outputs_come_back_byte_for_byte(subject: Subject, output: bytes) -> None:
    """Whatever the output's size and content, its bytes come back unchanged."""
    entry = _entry(output=output)
    await subject.complete([entry])
    (answer,) = await subject.answers(_query(entry))
    assert isinstance(answer, CacheHit)
    assert answer.entry.output == output


async def test_answers_come_in_the_order_asked(subject: Subject) -> None:
    """In a batch larger than any the implementation splits it into, each answer is at its query's place."""
    entries = _entries(1203)
    await subject.complete([entry for at, entry in enumerate(entries) if at % 3])
    answers = await subject.answers(*map(_query, entries))
    assert [isinstance(answer, CacheHit) for answer in answers] == [at % 3 > 0 for at in range(1203)]
    assert all(
        answer.entry == entry for answer, entry in zip(answers, entries, strict=True) if isinstance(answer, CacheHit)
    )


@pytest.mark.parametrize(
    "other",
    [{"tenant": "someone-else"}, {"workflow_name": "other"}, {"step_id": "other"}, {"input_hash": "ff" * 32}],
    ids=lambda other: next(iter(other)),
)
async def test_every_part_of_the_key_counts(subject: Subject, other: dict[str, Any]) -> None:
    """An entry is found under its own tenant, workflow, step and input hash only."""
    entry = _entry()
    await subject.complete([entry])
    (answer,) = await subject.answers(_query(replace(entry, key=replace(entry.key, **other))))
    assert isinstance(answer, CacheMiss)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"skill_id": "audio.other"}, MissReason.SKILL_CHANGED),
        ({"cache_version": "2"}, MissReason.SKILL_CHANGED),
        ({"cache_epoch": "e2"}, MissReason.EPOCH_CHANGED),
        ({"cache_version": "2", "cache_epoch": "e2"}, MissReason.SKILL_CHANGED),
    ],
    ids=["skill", "cache version", "epoch", "both"],
)
async def test_another_fingerprint_is_a_miss_that_says_so(
    subject: Subject, other: dict[str, str], reason: MissReason
) -> None:
    """A key whose entry was made by another skill, cache version or epoch is no hit."""
    entry = _entry()
    await subject.complete([entry])
    query = replace(_query(entry), fingerprint=replace(entry.fingerprint, **other))
    assert await subject.answers(query) == [CacheMiss(reason=reason)]


async def test_an_entry_that_was_turned_down_stays_so(subject: Subject, implementation: str) -> None:
    """A query for later entries finds none until one is filed; a miss tells when what cannot be used was filed."""
    if implementation == "hot":
        pytest.skip("a hot tier does not know when entries were filed")
    entry = _entry()
    await subject.complete([entry])
    (known,) = await subject.answers(_query(entry))
    assert isinstance(known, CacheHit)
    (other,) = await subject.answers(replace(_query(entry), fingerprint=replace(entry.fingerprint, cache_version="2")))
    assert isinstance(other, CacheMiss)
    assert other.outdated_at == known.entry.created_at
    later = replace(_query(entry), filed_after=other.outdated_at)
    (refused,) = await subject.answers(later)
    assert refused == CacheMiss(reason=MissReason.SKILL_CHANGED)
    earlier = replace(later, filed_after=other.outdated_at - timedelta(microseconds=1))
    assert isinstance((await subject.answers(earlier))[0], CacheHit)
    await subject.complete([replace(_entry(), key=entry.key)])
    assert isinstance((await subject.answers(later))[0], CacheHit)


async def test_what_was_removed_is_a_miss_that_says_so(subject: Subject) -> None:
    """A removed entry is INVALIDATED until its step is completed again; other steps keep theirs."""
    if subject.remove is None:
        pytest.skip("nothing is removed from this cache alone")
    entry, other = _entry(), _entry()
    other = replace(other, key=replace(other.key, step_id=StepId("other")))
    await subject.complete([entry, other])
    await subject.remove(entry.key)
    answers = await subject.answers(_query(entry), _query(other))
    assert answers[0] == CacheMiss(reason=MissReason.INVALIDATED)
    assert isinstance(answers[1], CacheHit)
    await subject.complete([replace(_entry(), key=entry.key)])
    assert isinstance((await subject.answers(_query(entry)))[0], CacheHit)


async def test_one_key_may_be_asked_with_two_fingerprints(subject: Subject) -> None:
    """Two workflow versions asking for one key in one batch each get the answer to their own fingerprint."""
    entry = _entry()
    await subject.complete([entry])
    newer = replace(_query(entry), fingerprint=replace(entry.fingerprint, cache_version="2"))
    first, second, third = await subject.answers(newer, _query(entry), newer)
    assert isinstance(second, CacheHit)
    assert first == third == CacheMiss(reason=MissReason.SKILL_CHANGED)


async def test_another_input_of_a_known_step_is_told_apart(subject: Subject, implementation: str) -> None:
    """Where the tenant filed another input of the step the miss is INPUT_CHANGED; what others filed does not count."""
    if implementation not in CLASSIFYING:
        pytest.skip("a hot cache cannot know why it has nothing")
    entry = _entry()
    await subject.complete([entry])
    changed = replace(entry, key=replace(entry.key, input_hash="00" * 32))
    foreign = replace(changed, key=replace(changed.key, tenant=Tenant("someone-else")))
    assert await subject.answers(_query(changed), _query(foreign)) == [
        CacheMiss(reason=MissReason.INPUT_CHANGED),
        CacheMiss(reason=MissReason.NEVER_SEEN),
    ]


async def test_the_latest_success_wins(subject: Subject) -> None:
    """After a second success under the same key, also one of another fingerprint, the second is found."""
    first = _entry(output=b"1")
    second = replace(_entry(output=b"2"), key=first.key, fingerprint=replace(first.fingerprint, cache_version="2"))
    await subject.complete([first])
    await subject.complete([second])
    old, new = await subject.answers(_query(first), _query(second))
    assert old == CacheMiss(reason=MissReason.SKILL_CHANGED)
    assert isinstance(new, CacheHit)
    assert new.entry == second


async def test_nothing_asked_is_nothing_answered(subject: Subject) -> None:
    """Empty batches are fine."""
    await subject.cache.store([])
    assert list(await subject.cache.lookup([])) == []


def _store_in(cache: OutputCache) -> Callable[[Sequence[CacheEntry]], Awaitable[None]]:
    async def complete(entries: Sequence[CacheEntry]) -> None:
        await cache.store([(entry, TTL_S) for entry in entries])

    return complete


def _commit_to(database: Database, cache: OutputCache) -> Callable[[Sequence[CacheEntry]], Awaitable[None]]:
    async def complete(entries: Sequence[CacheEntry]) -> None:
        await commit_completed(database, entries)
        await cache.store([(entry, TTL_S) for entry in entries])
        if isinstance(cache, TieredOutputCache):
            await cache.writes.settled()

    return complete


def _remove_from(database: Database) -> Callable[[CacheKey], Awaitable[None]]:
    async def remove(key: CacheKey) -> None:
        selector = CacheSelector(workflow_name=key.workflow_name, step_id=key.step_id)
        await PostgresCacheAdmin(database).invalidate(key.tenant, "ann", selector, "wrong")

    return remove


def _remove_in(invalidate: Callable[[CacheKey], None]) -> Callable[[CacheKey], Awaitable[None]]:
    async def remove(key: CacheKey) -> None:
        invalidate(key)

    return remove


def _file_in(tables: MemoryTables) -> Callable[[Sequence[CacheEntry]], Awaitable[None]]:
    async def complete(entries: Sequence[CacheEntry]) -> None:
        file_completed(tables, entries)

    return complete


def _hot(url: str) -> Any:
    return open_valkey_cache(url, str(uuid.uuid4()), SystemClock(), PATIENT)


_run_keys = iter(range(1, 1_000_000))


def _entries(count: int) -> list[CacheEntry]:
    return [_entry(output=b'{"n":%d}' % at) for at in range(count)]


def _entry(output: bytes = b'{"a":1}', artifacts: tuple[ProducedArtifact, ...] = ()) -> CacheEntry:
    run = next(_run_keys)
    return CacheEntry(
        key=CacheKey(
            tenant=Tenant("acme"),
            workflow_name="campaign.build.v1",
            step_id=StepId("generate_bgm_track"),
            input_hash=hashlib.sha256(b"%d" % run).hexdigest(),
        ),
        fingerprint=Fingerprint(skill_id="audio.bgm", cache_version="1", cache_epoch="e1"),
        producer=Producer(
            run=RunKey(run), step=StepNo(3), run_id=RunId(str(uuid.uuid4())), step_id=StepId("generate_bgm_track")
        ),
        output=output,
        output_hash=hashlib.sha256(output).hexdigest(),
        artifacts=artifacts,
        created_at=datetime.now(UTC),
    )


def _artifact(name: str) -> ProducedArtifact:
    return ProducedArtifact(
        media_type="audio/wav",
        uri=f"file:///tmp/{name}.wav",
        content_hash=hashlib.sha256(name.encode()).hexdigest(),
        size_bytes=5_000_000_000,
        filename=f"{name}.wav",
        metadata={"bpm": 120, "tags": ["ü", None]},
        made_from=(str(uuid.uuid4()),),
    )


def _query(entry: CacheEntry) -> CacheQuery:
    return CacheQuery(key=entry.key, fingerprint=entry.fingerprint, hot_ttl_s=TTL_S)
