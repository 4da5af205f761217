"""What all tests share: the async backend, embedded servers, one migrated database emptied for each test.

Also the profiles of Hypothesis: fast unless HYPOTHESIS_PROFILE=nightly asks for the long search.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from runengine_server.adapters.postgres.migrate import migrate

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("fast", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=2_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Servers belong to a process of their own: this one has usually imported grpc, which does not go well with their start.
_OWNER = """
import json, sys
from runengine_server.adapters.embedded import start_embedded
with start_embedded(None) as stack:
    print(json.dumps({"database_url": stack.database_url, "redis_url": stack.redis_url,
                      "data_dir": str(stack.data_dir), "postgres_pid": stack.postgres.pid,
                      "valkey_pid": stack.valkey.pid}), flush=True)
    sys.stdin.read()
"""

_KEPT_TABLES = ("schema_migrations", "installation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running PostgreSQL and Valkey; `database_url` is that of the maintenance database."""

    database_url: str
    redis_url: str
    data_dir: Path
    postgres_pid: int
    valkey_pid: int


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio: asyncpg and grpc.aio know no other loop."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """All async tests share a loop: gRPC delivers what a test left behind to whichever loop comes next."""
    yield


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Both servers, for the session."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        line = owner.stdout.readline()
        assert line, f"the servers did not start; exit status {owner.wait(10)}"
        told = json.loads(line)
        yield Stack(**{**told, "data_dir": Path(told["data_dir"])})
    finally:
        owner.stdin.close()
        owner.wait(30)
        owner.stdout.close()


@pytest.fixture(scope="session")
def migrated_database_url(stack: Stack) -> str:
    """A migrated database of this worker's own."""
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    url = _with_database(stack.database_url, name)

    async def prepare() -> None:
        connection = await asyncpg.connect(stack.database_url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        await migrate(url)

    anyio.run(prepare)
    return url


@pytest.fixture
def database_url(migrated_database_url: str) -> str:
    """The worker's database, with the schema and nothing else in it."""
    anyio.run(_empty, migrated_database_url)
    return migrated_database_url


async def _empty(url: str) -> None:
    """Delete every row: 1 ms, where a fresh clone of a template costs 34."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND relname <> ALL ($1)",
            _KEPT_TABLES,
        )
        # workflows refers to workflow_definitions, so it goes first.
        names = sorted((row["relname"] for row in tables), key=lambda name: (name != "workflows", name))
        async with connection.transaction():
            for name in names:
                await connection.execute(f'DELETE FROM "{name}"')
    finally:
        await connection.close()


def _with_database(url: str, name: str) -> str:
    """The URL with another database: its path, before any query."""
    base, question, query = url.partition("?")
    scheme, slashes, rest = base.partition("://")
    host, _, _ = rest.partition("/")
    return f"{scheme}{slashes}{host}/{name}{question}{query}"
