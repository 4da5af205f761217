"""What there is to know about a Redis or Valkey server before an engine relies on it; changes nothing."""

from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from time import monotonic
from typing import Any, Final

from redis.exceptions import RedisError

from runengine_server.adapters.valkey.connection import connect_lazily

TIMEOUT_S: Final = 5.0
_PINGS: Final = 5


class CacheUnusableError(Exception):
    """The server cannot be reached or refuses what an engine asks; the message never shows a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheServerFacts:
    """A server that answered.

    Attributes:
        product: `Redis` or `Valkey`.
        version: the product's own, as numbers; `(7, 2, 4)`.
        latency: the median of some round trips.
        memory_bytes_max: 0 without a bound.
        eviction: what it does when that is reached, such as `allkeys-lru`.
        role: `master` or `slave`.
    """

    product: str
    version: tuple[int, ...]
    latency: timedelta
    memory_bytes_max: int
    eviction: str
    role: str


async def read_cache_server_facts(url: str) -> CacheServerFacts:
    """What the server says of itself.

    Raises:
        ValueError: the URL cannot be used; the message does not repeat it.
        CacheUnusableError: no answer, or a refusal.
    """
    client = connect_lazily(url, timeout_s=TIMEOUT_S, connections_max=1)
    try:
        times = []
        for _ in range(_PINGS):
            began = monotonic()
            await client.ping()
            times.append(monotonic() - began)
        told: dict[str, Any] = {}
        for section in ("server", "memory", "replication"):
            told |= await client.info(section)
    except (RedisError, OSError, TimeoutError) as error:
        raise CacheUnusableError(next(iter(str(error).splitlines()), "") or type(error).__name__) from None
    finally:
        await client.aclose()
    is_valkey = "valkey_version" in told
    return CacheServerFacts(
        product="Valkey" if is_valkey else "Redis",
        version=_numbers(str(told["valkey_version" if is_valkey else "redis_version"])),
        latency=timedelta(seconds=median(times)),
        memory_bytes_max=int(told.get("maxmemory", 0)),
        eviction=str(told.get("maxmemory_policy", "")),
        role=str(told.get("role", "master")),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
