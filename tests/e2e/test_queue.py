"""A tenant's queue as the console and programs read it."""

from datetime import timedelta
from uuid import uuid4

import anyio
import asyncpg
import httpx
import pytest

from runengine_client import RunEngineClient

from ..support.engine_process import TOKENS, EngineProcess
from ..support.processes import wait_until
from ..support.skill_server_process import SkillServerProcess
from .workflows import gated, single

pytestmark = pytest.mark.anyio

NOTHING = {"steps": 0, "oldestAgeMs": 0}


def queue_over_http(engine: EngineProcess, token: str) -> httpx.Response:
    """What HTTP answers to the bearer of a token."""
    return httpx.get(f"{engine.http_url}/api/v1/queue", headers={"authorization": f"Bearer {token}"})


async def test_each_tenant_sees_its_own(
    engine: EngineProcess, client: RunEngineClient, skills: SkillServerProcess
) -> None:
    """Running and delayed steps show to their tenant, over HTTP and gRPC alike, and to no other."""
    await client.register_workflow(gated("queue.gated"))
    await client.register_workflow(
        single("queue.flaky", skill="t.flaky", input={"failures": 1}, max_attempts=2, backoff_ms=60_000)
    )
    gate = uuid4().hex
    running = await client.start("queue.gated", {"gate": gate})
    delayed = await client.start("queue.flaky", {"given": None})

    def states() -> tuple[int, int]:
        total = queue_over_http(engine, TOKENS.reader).json()["total"]
        return total["running"]["steps"], total["delayed"]["steps"]

    wait_until(lambda: states() == (1, 1), "a running and a delayed step")
    mine = queue_over_http(engine, TOKENS.reader).json()
    assert mine["enginesAlive"] == 1
    assert {skill["skillId"] for skill in mine["skills"]} == {"t.gated", "t.flaky"}
    (shown,) = mine["delayed"]
    assert (shown["runId"], shown["stepId"], shown["workflowName"]) == (delayed.id, "only", "queue.flaky")
    assert (shown["skillId"], shown["state"], shown["attempt"]) == ("t.flaky", "delayed", 2)
    assert shown["nextAttemptAt"] > mine["readAt"]
    assert mine["stuck"] == [] and mine["total"]["stuck"] == NOTHING

    found = await client.get_queue()
    assert found.total.running.steps == found.total.delayed.steps == 1
    assert found.delayed[0].run_id == delayed.id
    assert found.total.delayed.oldest_age > timedelta(0)
    async with engine.client(TOKENS.stranger) as stranger:
        theirs = await stranger.get_queue()
    assert (theirs.total.running.steps, theirs.total.delayed.steps) == (0, 0)
    assert not theirs.skills and not theirs.delayed and not theirs.stuck
    assert delayed.id not in queue_over_http(engine, TOKENS.stranger).text
    skills.open_gate(gate)
    await running.wait()
    await delayed.cancel()


def test_a_token_is_needed(engine: EngineProcess) -> None:
    """Without a token, or with one that nobody knows, the queue is refused as everything else is."""
    assert httpx.get(f"{engine.http_url}/api/v1/queue").json()["error"]["code"] == "TOKEN_MISSING"
    assert queue_over_http(engine, "wrong").json()["error"]["code"] == "TOKEN_INVALID"


async def test_what_is_stuck_is_listed(engine: EngineProcess, client: RunEngineClient, fresh_database_url: str) -> None:
    """A step whose attempt should long be over is counted as stuck and listed, although it runs."""
    await client.register_workflow(gated("queue.stuck", timeout="600s"))
    handle = await client.start("queue.stuck", {"gate": uuid4().hex})
    connection = await asyncpg.connect(fresh_database_url)
    try:
        with anyio.fail_after(30):
            found = await client.get_queue()
            while handle.id not in {
                step.run_id for step in found.stuck
            }:  # an answer is kept for a second, and within five the engine takes the lease back
                await connection.execute(
                    "UPDATE step_queue SET leased_at = now() - interval '1 hour' WHERE engine IS NOT NULL"
                )
                found = await client.get_queue()
    finally:
        await connection.close()
    assert "wait" in {step.step_id for step in found.stuck}
    assert found.total.stuck.steps >= 1 and found.total.stuck.oldest_age >= timedelta(minutes=59)
    await handle.cancel()
