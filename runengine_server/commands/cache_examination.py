"""Whether Redis or Valkey is there, and such that it makes a good hot cache."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from runengine_server.adapters.valkey.diagnosis import CacheServerFacts, CacheUnusableError, read_cache_server_facts
from runengine_server.commands.effective import without_secrets
from runengine_server.commands.findings import Finding, failed, ok, warning

VERSIONS_MIN: Final = {"Redis": (6, 2), "Valkey": (7, 2)}
LATENCY_MAX: Final = timedelta(milliseconds=5)
"""A hit from PostgreSQL costs no more than that."""
_EVICTING: Final = ("allkeys-", "volatile-")


async def examine_cache(url: str) -> list[Finding]:
    """What there is to say about the hot cache; without it an engine works, and hits come from PostgreSQL."""
    try:
        facts = await read_cache_server_facts(url)
    except ValueError as error:
        return [failed("Redis", without_secrets(str(error)), "write redis://:password@host:6379/0")]
    except CacheUnusableError as error:
        advice = "start it, or set REDIS_URL to where it is; runs go on without it, hits come from PostgreSQL"
        return [failed("Redis", f"the server of REDIS_URL cannot be used: {without_secrets(str(error))}", advice)]
    return [*_server(facts), *_memory(facts)]


def _server(facts: CacheServerFacts) -> Iterator[Finding]:
    name, needed = facts.product, VERSIONS_MIN[facts.product]
    version = ".".join(map(str, facts.version))
    if facts.version < needed:
        advice = "upgrade it; Redis 6.2 and Valkey 7.2 are the oldest that are supported"
        yield failed("Redis: version", f"{name} {version} is too old", advice)
    else:
        yield ok("Redis: version", f"{name} {version}")
    if facts.role != "master":
        yield failed("Redis: role", "a replica, which takes no writes", "set REDIS_URL to the primary")
    took = f"{facts.latency / timedelta(milliseconds=1):.1f} ms a round trip"
    if facts.latency > LATENCY_MAX:
        yield warning("Redis: latency", took, "put it beside the engines; PostgreSQL may answer sooner")
    else:
        yield ok("Redis: latency", took)


def _memory(facts: CacheServerFacts) -> Iterator[Finding]:
    check = "Redis: eviction"
    bound = f"{facts.memory_bytes_max / 2**20:.0f} MiB, {facts.eviction}"
    if not facts.memory_bytes_max:
        advice = "set maxmemory, and maxmemory-policy allkeys-lru"
        yield warning(check, "no bound on memory: it grows until the machine has none", advice)
    elif not facts.eviction.startswith(_EVICTING):
        found = f"{bound}: when it is full, new outputs are not kept"
        yield warning(check, found, "set maxmemory-policy allkeys-lru")
    else:
        yield ok(check, bound)
