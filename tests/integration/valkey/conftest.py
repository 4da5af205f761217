"""A Valkey of the test's own, to freeze, fill and kill; entries; a clock that the test moves."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from runengine_server.adapters.valkey import ValkeyOutputCache, open_valkey_cache
from runengine_server.adapters.valkey.output_cache import ValkeySettings
from runengine_server.domain.cache import CacheEntry, CacheKey, Fingerprint, Producer
from runengine_server.domain.ids import RunId, RunKey, StepId, StepNo, Tenant

from ...support.manual_clock import ManualClock

REPOSITORY = Path(__file__).resolve().parents[3]

# A process of its own owns the server: this one may have imported grpc, which does not go well with its start.
_OWNER = """
import json, sys
from runengine_server.adapters.embedded import start_valkey
with start_valkey() as valkey:
    print(json.dumps({"url": valkey.url, "socket_url": valkey.socket_url, "pid": valkey.pid}), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running Valkey, by TCP and by Unix socket."""

    url: str
    socket_url: str
    pid: int


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server that tests leave as it is, entries apart."""
    yield from _run_server()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server to ill-treat."""
    yield from _run_server()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def open_cache(clock: ManualClock) -> AsyncIterator[Callable[..., object]]:
    """Opens caches; without an installation id each belongs to a database of its own, and with patience by default."""
    async with AsyncExitStack() as stack:

        async def open_one(
            url: str, installation_id: str | None = None, settings: ValkeySettings | None = None
        ) -> ValkeyOutputCache:
            return await stack.enter_async_context(
                open_valkey_cache(
                    url, installation_id or str(uuid.uuid4()), clock, settings or ValkeySettings(timeout_s=5.0)
                )
            )

        yield open_one


@pytest.fixture
async def client(shared_server: Server) -> AsyncIterator[Redis]:
    """A client of the shared server."""
    async with Redis.from_url(shared_server.url) as connected:
        yield connected


@pytest.fixture
def make_entry() -> Callable[..., CacheEntry]:
    """Makes an entry; `name` is what differs between keys."""

    def make(name: str = "a", output: bytes = b'{"a":1}', cache_version: str = "1") -> CacheEntry:
        return CacheEntry(
            key=CacheKey(
                tenant=Tenant("acme"),
                workflow_name="campaign.build.v1",
                step_id=StepId("generate_bgm_track"),
                input_hash=hashlib.sha256(name.encode()).hexdigest(),
            ),
            fingerprint=Fingerprint(skill_id="audio.bgm", cache_version=cache_version, cache_epoch="e1"),
            producer=Producer(
                run=RunKey(7), step=StepNo(3), run_id=RunId(str(uuid.uuid4())), step_id=StepId("generate_bgm_track")
            ),
            output=output,
            output_hash=hashlib.sha256(output).hexdigest(),
            artifacts=(),
            created_at=datetime.now(UTC),
        )

    return make


def _run_server() -> Iterator[Server]:
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
        assert line, f"the server did not start; exit status {owner.wait(10)}"
        yield Server(**json.loads(line))
    finally:
        owner.stdin.close()
        owner.wait(30)
        owner.stdout.close()
