"""The hot tier: batched, verified on read, bounded in time, and silent when the server is not there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runengine_server.adapters.breaker import CircuitBreaker
from runengine_server.adapters.valkey.connection import connect_lazily
from runengine_server.adapters.valkey.value import PoisonedValue, decode_value, encode_value
from runengine_server.domain.cache import (
    CacheAnswer,
    CacheEntry,
    CacheHit,
    CacheKey,
    CacheMiss,
    CacheQuery,
    Fingerprint,
)
from runengine_server.domain.states import CacheTier, MissReason
from runengine_server.ports.clock import Clock

_log = logging.getLogger("runengine.cache.hot")

T = TypeVar("T")

_UNKNOWN = CacheMiss(reason=None)
_SKILL_CHANGED = CacheMiss(reason=MissReason.SKILL_CHANGED)
_EPOCH_CHANGED = CacheMiss(reason=MissReason.EPOCH_CHANGED)

# Verifying costs 0.5-1 ms a MiB: more than this is done beside the event loop.
_INLINE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeySettings:
    """The hot tier's bounds.

    Attributes:
        timeout_s: of one round trip, connecting included.
        connections_max: open at once; a call that gets none in time counts as timed out.
        failures_max: in a row, before the server is left alone.
        open_s: how long it is left alone before one call tries again.
        keys_max: in one MGET, or in one command that sets values.
        write_bytes_max: in one command that sets values; the server counts it as its own memory meanwhile.
        value_bytes_max: a larger value is not kept: an output of 1 MiB and its header are.
    """

    timeout_s: float = 0.05
    connections_max: int = 8
    failures_max: int = 3
    open_s: float = 1.0
    keys_max: int = 100
    write_bytes_max: int = 256 * 1024
    value_bytes_max: int = 1024 * 1024 + 64 * 1024


# One command for many values: redis-py spends 15 µs on each command and its reply, 3 µs on each further argument.
_SET_ALL = """
local refused = 0
for i, name in ipairs(KEYS) do
    local options = {'SET', name, ARGV[2 * i], 'EX', ARGV[2 * i + 1]}
    if ARGV[1] == 'NX' then options[6] = 'NX' end
    local reply = redis.pcall(unpack(options))
    if type(reply) == 'table' and reply.err then refused = refused + 1 end
end
return refused
"""


class ValkeyOutputCache:
    """OutputCache on Redis or Valkey; also says how often the server failed or held something that is not ours.

    A miss has a reason only when a value of another fingerprint was found; why nothing was found, no cache can know.
    """

    def __init__(
        self, client: Redis, installation_id: str, clock: Clock, settings: ValkeySettings | None = None
    ) -> None:
        """Use `client`; `installation_id` names the database whose entries these are."""
        self._client = client
        # Braces make the part that a cluster hashes: all keys of an installation share a slot, so MGET is allowed.
        self._prefix = f"runengine:{{{installation_id}}}:"
        self._settings = settings or ValkeySettings()
        self.breaker = CircuitBreaker(clock, failures_max=self._settings.failures_max, open_s=self._settings.open_s)
        self.failures = 0
        self.poisoned = 0
        self.refused = 0

    def name_of(self, key: CacheKey) -> str:
        """What the entry is called on the server."""
        return f"{self._prefix}{key.tenant}:{key}"

    async def reach(self) -> bool:
        """Tell whether the server answers; the first call also makes a connection, which a lookup then need not."""
        return await self._guarded(self._client.ping) is not None

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        """See the port; what cannot be had in time is a miss, and so is what cannot be verified."""
        answers: list[CacheAnswer] = []
        for batch in _batches(queries, self._settings.keys_max):
            names = [self.name_of(query.key) for query in batch]
            values = await self._guarded(lambda names=names: self._client.mget(names))  # type: ignore[misc]
            if values is None:
                break
            size = sum(len(value) for value in values if value)
            if size > _INLINE_BYTES_MAX:
                read = await asyncio.to_thread(_read_values, batch, values)
            else:
                read = _read_values(batch, values)
            answers += (_UNKNOWN if answer is None else answer for answer in read)
            await self._drop([name for name, answer in zip(names, read, strict=True) if answer is None])
        return answers + [_UNKNOWN] * (len(queries) - len(answers))

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """See the port; replaces what is there."""
        await self._write(entries, only_absent=False)

    async def promote(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        """Keep entries found in the cold tier, unless something is there already: a newer success may have come."""
        await self._write(entries, only_absent=True)

    async def _write(self, entries: Sequence[tuple[CacheEntry, int]], *, only_absent: bool) -> None:
        for batch in _write_batches(entries, self._settings):
            size = sum(len(entry.output) for entry, _ in batch)
            values = await asyncio.to_thread(_encode, batch) if size > _INLINE_BYTES_MAX else _encode(batch)
            names: list[str] = []
            arguments: list[bytes | int] = [b"NX" if only_absent else b""]
            for (entry, ttl_s), value in zip(batch, values, strict=True):
                if value is not None and len(value) <= self._settings.value_bytes_max and ttl_s > 0:
                    names.append(self.name_of(entry.key))
                    arguments += (value, ttl_s)
            if not names:
                continue
            refused = await self._guarded(lambda n=names, a=arguments: self._set_all(n, a))  # type: ignore[misc]
            if refused is None:
                return
            self.refused += refused

    async def _set_all(self, names: Sequence[str], arguments: Sequence[bytes | int]) -> int:
        """Set many values in one command and one reply; returns how many were refused."""
        try:
            return int(await self._client.eval(_SET_ALL, len(names), *names, *arguments))
        except ResponseError:  # out of memory, read only …: the server is there, and reading may work
            return len(names)

    async def _drop(self, names: Sequence[str]) -> None:
        """Remove values that are not ours, so that they can be replaced."""
        if names:
            self.poisoned += len(names)
            _log.warning("[RunEngine] Hot cache values dropped: count=%d, they could not be verified", len(names))
            await self._guarded(lambda: self._client.unlink(*names))

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's answer, or None when the server is left alone, too slow or wrong."""
        if not self.breaker.admits():
            return None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await call()
        except asyncio.CancelledError:
            self.breaker.abandoned()
            raise
        except Exception as error:  # whatever a client library raises must not fail a step
            self.failures += 1
            if self.breaker.failed():
                _log.warning("[RunEngine] Hot cache unavailable: error=%s", type(error).__name__)
            return None
        if self.breaker.succeeded():
            _log.info("[RunEngine] Hot cache available again")
        return answer


@asynccontextmanager
async def open_valkey_cache(
    url: str, installation_id: str, clock: Clock, settings: ValkeySettings | None = None
) -> AsyncIterator[ValkeyOutputCache]:
    """The hot tier of the database `installation_id`, at a redis://, rediss:// or unix:// URL.

    The server need not be there, now or ever.

    Raises:
        ValueError: another kind of URL.
    """
    settings = settings or ValkeySettings()
    client = connect_lazily(url, timeout_s=settings.timeout_s, connections_max=settings.connections_max)
    cache = ValkeyOutputCache(client, installation_id, clock, settings)
    await cache.reach()
    try:
        yield cache
    finally:
        await client.aclose()


def _read_values(queries: Sequence[CacheQuery], values: Sequence[bytes | str | None]) -> list[CacheAnswer | None]:
    """The answer to each query; None where the value is poisoned."""
    answers: list[CacheAnswer | None] = []
    for query, value in zip(queries, values, strict=True):
        if not isinstance(value, bytes):
            answers.append(_UNKNOWN)
            continue
        try:
            entry = decode_value(value, query.key)
        except PoisonedValue:
            answers.append(None)
            continue
        mismatch = _mismatch(entry.fingerprint, query.fingerprint)
        answers.append(mismatch or CacheHit(entry=entry, tier=CacheTier.HOT))
    return answers


def _mismatch(found: Fingerprint, wanted: Fingerprint) -> CacheMiss | None:
    if found == wanted:
        return None
    is_same_skill = (found.skill_id, found.cache_version) == (wanted.skill_id, wanted.cache_version)
    return _EPOCH_CHANGED if is_same_skill else _SKILL_CHANGED


def _encode(entries: Sequence[tuple[CacheEntry, int]]) -> list[bytes | None]:
    """The values to write; None for an entry that has no JSON form."""
    values: list[bytes | None] = []
    for entry, _ in entries:
        try:
            values.append(encode_value(entry))
        except TypeError:
            values.append(None)
    return values


def _batches(queries: Sequence[CacheQuery], size: int) -> Iterator[Sequence[CacheQuery]]:
    remaining = iter(queries)
    while batch := list(islice(remaining, size)):
        yield batch


def _write_batches(
    entries: Sequence[tuple[CacheEntry, int]], settings: ValkeySettings
) -> Iterator[list[tuple[CacheEntry, int]]]:
    batch: list[tuple[CacheEntry, int]] = []
    size = 0
    for pair in entries:
        length = len(pair[0].output)
        if length > settings.value_bytes_max:
            continue
        if batch and (len(batch) == settings.keys_max or size + length > settings.write_bytes_max):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += length
    if batch:
        yield batch
