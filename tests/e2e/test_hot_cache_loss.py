"""Losing Redis costs time, never a run: steps are found in PostgreSQL, and found in Redis again when it is back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runengine_client import RunEngineClient
from runengine_client.states import CacheOutcome, CacheTier, OutputSource, RunStatus

from ..support.engine_process import EngineProcess, EngineSettings
from ..support.processes import END_S_MAX, clean_environment
from .workflows import demo

pytestmark = pytest.mark.anyio

_OWNER = """
import sys
from runengine_server.adapters.embedded.valkey import start_valkey
with start_valkey() as valkey:
    print(valkey.url, valkey.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def valkey() -> Iterator[tuple[str, int]]:
    """A Valkey of the test's own: its URL and process id."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert owner.stdin is not None and owner.stdout is not None
    try:
        url, pid = owner.stdout.readline().split()
        yield url, int(pid)
    finally:
        try:
            owner.communicate(timeout=END_S_MAX)
        except subprocess.TimeoutExpired:
            owner.kill()
            owner.communicate()
            raise


@pytest.fixture
def engine(engine_settings: EngineSettings, valkey: tuple[str, int]) -> Iterator[EngineProcess]:
    with EngineProcess(replace(engine_settings, redis_url=valkey[0]), "with-own-valkey") as process:
        yield process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_runs_complete_without_redis(
    client: RunEngineClient, valkey: tuple[str, int], how: signal.Signals
) -> None:
    """With Redis gone in the middle, new steps execute and known ones are cold hits; nothing fails."""
    payload = {"brief": {"style": how.name}}
    await client.register_workflow(demo())
    await (await client.start("demo", payload)).result()
    hot = await client.start("demo", payload)
    assert (await hot.result()).steps_summary.skipped == 4
    assert {step.output_source for step in await hot.steps()} == {OutputSource.CACHE_HOT}

    os.kill(valkey[1], how)
    try:
        cold = await client.start("demo", payload)
        assert (await cold.result()).steps_summary.skipped == 4
        for step in await cold.steps():
            assert step.output_source is OutputSource.CACHE_COLD
            assert step.cache is not None
            assert (step.cache.outcome, step.cache.tier) == (CacheOutcome.HIT, CacheTier.COLD)
        new = await (await client.start("demo", {"brief": {"style": f"new {how.name}"}})).result()
        assert (new.status, new.steps_summary.completed) == (RunStatus.COMPLETED, 4)
    finally:
        if how is signal.SIGSTOP:
            os.kill(valkey[1], signal.SIGCONT)


async def test_lines_say_which_tier(client: RunEngineClient, engine: EngineProcess) -> None:
    """The log says miss, then Redis, in the seed's words, with six digits of the hash."""
    await client.register_workflow(demo())
    payload = {"brief": {"style": "logged"}}
    handle = await client.start("demo", payload)
    await handle.result()
    (plan, *_) = await handle.steps()
    key = f"demo:plan:{plan.input_hash[:6]}..."
    engine.wait_for_text(f"[RunEngine] Cache miss: {key}")
    await (await client.start("demo", payload)).result()
    engine.wait_for_text(f"[RunEngine] Cache hit (Redis): {key}")


async def test_server_starts_without_redis(engine_settings: EngineSettings) -> None:
    """A server whose Redis is not there at all starts and runs."""
    settings = replace(engine_settings, redis_url="redis://127.0.0.1:1/0")
    with EngineProcess(settings, "without-redis") as engine:
        async with engine.client() as client:
            await client.register_workflow(demo())
            run = await (await client.start("demo", {"brief": {"style": "alone"}})).result()
            assert run.steps_summary.completed == 4
