"""What is made of facts about servers that a test cannot have: old ones, standbys, clocks that are off, slow ones."""

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from runengine_server.adapters.postgres.diagnosis import DatabaseFacts
from runengine_server.adapters.valkey.diagnosis import CacheServerFacts
from runengine_server.commands import cache_examination, database_examination
from runengine_server.commands.findings import Finding, Level
from runengine_server.config import Settings

SETTINGS = Settings(DATABASE_URL="postgresql://h/d")  # type: ignore[call-arg]
DATABASE = DatabaseFacts(
    version="17.2",
    major=17,
    is_replica=False,
    has_fsync=True,
    has_full_page_writes=True,
    synchronous_commit="on",
    connections_max=100,
    connections=10,
    clock_ahead=timedelta(milliseconds=3),
    uncertain=timedelta(milliseconds=1),
    migrations_missing=[],
    migrations_changed=[],
    migrations_newer=[],
    privileges_lacking={},
)
CACHE = CacheServerFacts(
    product="Valkey",
    version=(9, 0, 1),
    latency=timedelta(milliseconds=0.3),
    memory_bytes_max=2**28,
    eviction="allkeys-lru",
    role="master",
)


def about_database(monkeypatch: pytest.MonkeyPatch, **changes: object) -> dict[str, Finding]:
    """What is not as it should be."""

    async def read(url: str, variable: str) -> DatabaseFacts:
        return replace(DATABASE, **changes)

    monkeypatch.setattr(database_examination, "read_database_facts", read)
    return _notable(anyio.run(database_examination.examine_database, SETTINGS))


def about_cache(monkeypatch: pytest.MonkeyPatch, **changes: object) -> dict[str, Finding]:
    """What is not as it should be."""

    async def read(url: str) -> CacheServerFacts:
        return replace(CACHE, **changes)

    monkeypatch.setattr(cache_examination, "read_cache_server_facts", read)
    return _notable(anyio.run(cache_examination.examine_cache, "redis://h"))


def _notable(findings: list[Finding]) -> dict[str, Finding]:
    notable = {finding.check: finding for finding in findings if finding.level is not Level.OK}
    assert all(finding.advice for finding in notable.values())
    return notable


def test_good_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to say about servers as they should be."""
    assert about_database(monkeypatch) == {}
    assert about_cache(monkeypatch) == {}


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"major": 14, "version": "14.9"}, "version", Level.FAILED),
        ({"major": 19, "version": "19.0"}, "version", Level.WARNING),
        ({"is_replica": True}, "role", Level.FAILED),
        ({"clock_ahead": timedelta(seconds=4)}, "clock", Level.WARNING),
        ({"clock_ahead": timedelta(seconds=-4)}, "clock", Level.WARNING),
        ({"has_fsync": False}, "durability", Level.WARNING),
        ({"synchronous_commit": "off"}, "durability", Level.WARNING),
        ({"migrations_missing": ["0001 tables"]}, "schema", Level.FAILED),
        ({"migrations_changed": ["0001 tables"]}, "schema", Level.FAILED),
        ({"migrations_newer": [99]}, "schema", Level.WARNING),
        ({"privileges_lacking": {"runs": ["INSERT"]}}, "privileges", Level.FAILED),
        ({"connections": 95}, "connections", Level.WARNING),
    ],
)
def test_database(monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], check: str, level: Level) -> None:
    """Each flaw of a database is one finding, as bad as it is."""
    found = about_database(monkeypatch, **changes)
    assert {name: finding.level for name, finding in found.items()} == {f"PostgreSQL: {check}": level}


def test_clock_within_the_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference that the round trip explains is none."""
    assert about_database(monkeypatch, clock_ahead=timedelta(seconds=2), uncertain=timedelta(seconds=1.5)) == {}


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"product": "Redis", "version": (6, 0, 16)}, "version", Level.FAILED),
        ({"version": (7, 1)}, "version", Level.FAILED),
        ({"role": "slave"}, "role", Level.FAILED),
        ({"latency": timedelta(milliseconds=20)}, "latency", Level.WARNING),
        ({"memory_bytes_max": 0}, "eviction", Level.WARNING),
        ({"eviction": "noeviction"}, "eviction", Level.WARNING),
    ],
)
def test_cache(monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], check: str, level: Level) -> None:
    """Each flaw of a cache server is one finding, as bad as it is."""
    found = about_cache(monkeypatch, **changes)
    assert {name: finding.level for name, finding in found.items()} == {f"Redis: {check}": level}


def test_old_redis_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6.2 is new enough, though as a Valkey it would not be."""
    assert about_cache(monkeypatch, product="Redis", version=(6, 2)) == {}
