"""Engines are killed and frozen while runs are under way; every run ends as if nothing had happened."""

from time import monotonic

import anyio
import anyio.to_thread
import pytest

from runengine_client import RunEngineClient, RunEngineError, RunHandle
from runengine_client.skills import LedgerEvent
from runengine_server.domain.states import RunStatus

from ..support.engine_process import TOKENS
from ..support.invariants import Acknowledged
from .fleet import CAMPAIGN, DIAMOND, LEASE_S, Engine, Fleet, until, workflow

pytestmark = pytest.mark.anyio

KILLS = 6
LIVES_S = 1.0
"""How long an engine works between two kills; starting it takes another second or two."""


async def _in_thread(function, *arguments):
    return await anyio.to_thread.run_sync(function, *arguments)


async def test_a_killed_engine_is_resumed(fleet: Fleet, recorded) -> None:
    """kill -9 in the middle of a run, a restart: the run completes, its watcher misses nothing, no call runs twice."""
    engine = fleet.start()
    async with engine.process.client() as client, anyio.create_task_group() as tasks:
        await client.register_workflow(workflow("killed", DIAMOND, ms=700))
        handle = await client.start("killed", {"salt": 1})
        fleet.acknowledged.append(Acknowledged(run_id=handle.id))
        ended: list[RunStatus] = []

        async def watch() -> None:
            ended.append(await fleet.watch(handle))

        tasks.start_soon(watch)
        await until(lambda: _calls(fleet, handle, 3), "the second and third step run")
        engine.process.kill()
        orphans = {key for key in fleet.skills.open_calls() if handle.id in key}
        assert len(orphans) == 2, "the engine died while its steps ran"
        killed_at = monotonic()
        await _in_thread(engine.restart)
        await until(lambda: _calls(fleet, handle, 4), "the last step runs")
        recorded("recovery_s", round(monotonic() - killed_at, 2))
    assert ended == [RunStatus.COMPLETED]
    assert fleet.interruptions, "the watcher lost its server"
    joined = [r.key for r in fleet.skills.ledger() if r.event in (LedgerEvent.ATTACHED, LedgerEvent.REPLAYED)]
    assert orphans <= set(joined), "the calls in flight were attached to, not repeated"
    losses = await fleet.fetch("SELECT step, lease_losses FROM step_results ORDER BY step")
    assert [row["lease_losses"] for row in losses] == [0, 1, 1, 0]
    await fleet.check()


async def test_two_engines_share_the_work(fleet: Fleet) -> None:
    """Runs triggered through one engine are executed by both, each step once."""
    one, two = fleet.start(), fleet.start()
    async with one.process.client() as client, two.process.client() as other:
        await client.register_workflow(workflow("shared", DIAMOND, ms=30))
        handles = [await (client, other)[n % 2].start("shared", {"salt": n}) for n in range(50)]
        fleet.acknowledged += [Acknowledged(run_id=handle.id) for handle in handles]
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(fleet.watch, handle)
    shares = {row["engine"]: row["steps"] for row in await fleet.fetch(
        "SELECT engine, count(*) AS steps FROM step_results WHERE status = 4 GROUP BY engine")}  # fmt: skip
    assert sum(shares.values()) == 200
    assert len(shares) == 2 and min(shares.values()) >= 10, shares
    await fleet.check()


async def test_a_frozen_engine_is_replaced_and_comes_back(fleet: Fleet, recorded) -> None:
    """An engine frozen beyond its lease loses its steps; thawed, its late results are refused and it works again."""
    frozen = fleet.start()
    async with frozen.process.client() as client:
        await client.register_workflow(workflow("frozen", DIAMOND, ms=400))
        handle = await client.start("frozen", {"salt": 2})
        await until(lambda: _calls(fleet, handle, 1), "the first step runs")
        frozen.process.stop()
        frozen_at = monotonic()
        numbers = [row["engine"] for row in await fleet.fetch("SELECT engine FROM engines")]
        healthy = await _in_thread(fleet.start)
        async with healthy.process.client() as other:
            status = await fleet.watch(other.run(handle.id))
            recorded("recovery_s", round(monotonic() - frozen_at, 2))
            assert status is RunStatus.COMPLETED
            assert monotonic() - frozen_at > LEASE_S
            frozen.process.cont()
            await until(lambda: _is_replaced(fleet, numbers[0]), "the thawed engine has a new number")
            await _in_thread(healthy.process.kill)
            again = await client.start("frozen", {"salt": 3})
            assert await fleet.watch(again) is RunStatus.COMPLETED
    row = (await fleet.fetch("SELECT engine, lease_losses FROM step_results WHERE step = 0 ORDER BY run LIMIT 1"))[0]
    assert row["lease_losses"] == 1 and row["engine"] not in numbers
    frozen.process.wait_for_text("Engine lease lost")
    await fleet.check()


async def test_a_rebuild_survives_its_engine(fleet: Fleet) -> None:
    """kill -9 in the middle of an update: it reuses and executes what its plan says, its base is not touched."""
    engine = fleet.start()
    async with engine.process.client() as client:
        await client.register_workflow(workflow("rebuilt", DIAMOND, ms=300))
        base = await client.start("rebuilt", {"salt": 4})
        assert await fleet.watch(base) is RunStatus.COMPLETED
        before = await fleet.fingerprints(base.id)
        update = await client.start_update(base.id, "salt.update", {"salt": 5})
        assert update.plan is not None
        planned = {step.step_id: step.action.name for step in update.plan.steps}
        fleet.acknowledged.append(Acknowledged(run_id=update.id))
        await until(lambda: _calls(fleet, update, 1), "a step of the update runs")
        engine.process.kill()
        assert any(update.id in key for key in fleet.skills.open_calls()), "it died in the middle"
        await _in_thread(engine.restart)
        assert await fleet.watch(update) is RunStatus.COMPLETED
        sources = {step.step_id: step.output_source.name for step in await update.steps()}
    reused = {step_id for step_id, source in sources.items() if source == "BASE_RUN"}
    assert reused == {step_id for step_id, action in planned.items() if action == "REUSE"}
    await fleet.check(unchanged=before)


async def test_a_retry_survives_its_engine(fleet: Fleet) -> None:
    """kill -9 in the middle of a retry: it completes and repeats nothing that was finished before, in either run."""
    engine = fleet.start()
    async with engine.process.client() as client:
        await client.register_workflow(workflow("retried", DIAMOND, ms=400))
        first = await client.start("retried", {"salt": 6})
        await until(lambda: _calls(fleet, first, 2), "the first step is done and another runs")
        await first.cancel()
        assert await fleet.watch(first) is RunStatus.CANCELLED
        before = await fleet.fingerprints(first.id)
        again = await client.retry(first.id, request_id="again")
        fleet.acknowledged.append(Acknowledged(run_id=again.id))
        await until(lambda: _calls(fleet, again, 1), "a step of the retry runs")
        engine.process.kill()
        assert any(again.id in key for key in fleet.skills.open_calls()), "it died in the middle"
        await _in_thread(engine.restart)
        repeated = await client.retry(first.id, request_id="again")
        assert repeated.id == again.id
        assert await fleet.watch(again) is RunStatus.COMPLETED
        sources = {step.step_id: step.output_source.name for step in await again.steps()}
    assert sources == {"s0": "BASE_RUN", "s1": "EXECUTED", "s2": "EXECUTED", "s3": "EXECUTED"}
    assert not [record for record in fleet.skills.ledger() if record.key.startswith(f"{again.id}/s0/")]
    await fleet.check(unchanged=before)


async def test_engines_are_killed_all_the_time(fleet: Fleet, recorded) -> None:
    """kill -9 of one of two engines every few seconds under load: every run that was acknowledged completes."""
    places = [fleet.start(), fleet.start()]
    kills = 0
    recoveries: list[float] = []
    is_over = anyio.Event()
    ended: list[RunStatus] = []

    async def kill() -> None:
        nonlocal kills
        while kills < KILLS:
            await anyio.sleep(LIVES_S)
            place = places[kills % 2]
            place.process.kill()
            killed_at = monotonic()
            await _in_thread(place.restart)
            recoveries.append(monotonic() - killed_at)
            kills += 1
        is_over.set()

    async def follow(handle: RunHandle) -> None:
        ended.append(await fleet.watch(handle))

    async with _client_of(places) as client, anyio.create_task_group() as tasks:
        await client.register_workflow(workflow("loaded", CAMPAIGN, ms=60))
        tasks.start_soon(kill)
        salt = 0
        while not is_over.is_set():
            salt += 1
            try:
                handle = await client.start("loaded", {"salt": 1000 + salt}, request_id=f"load-{salt}")
            except RunEngineError:
                continue  # not acknowledged: may or may not exist
            fleet.acknowledged.append(Acknowledged(run_id=handle.id, request_id=f"load-{salt}"))
            tasks.start_soon(follow, handle)
            await anyio.sleep(0.1)
    recorded("restart_s", [round(seconds, 2) for seconds in recoveries])
    recorded("runs", len(ended))
    assert len(ended) == len(fleet.acknowledged) > 20
    assert set(ended) == {RunStatus.COMPLETED}
    losses = (await fleet.fetch("SELECT sum(lease_losses) AS losses FROM step_results"))[0]["losses"]
    assert losses > 0, "engines died while they held steps"
    await until(lambda: _all_ended(fleet), "runs that were not acknowledged end too")
    await fleet.check()


def _client_of(places: list[Engine]) -> RunEngineClient:
    return RunEngineClient("ipv4:" + ",".join(place.address for place in places), token=TOKENS.admin)


async def _calls(fleet: Fleet, handle: RunHandle, count: int) -> bool:
    return sum(r.event is LedgerEvent.STARTED and r.run_id == handle.id for r in fleet.skills.ledger()) >= count


async def _is_replaced(fleet: Fleet, number: int) -> bool:
    numbers = {row["engine"] for row in await fleet.fetch("SELECT engine FROM engines")}
    return number not in numbers and len(numbers) == 2


async def _all_ended(fleet: Fleet) -> bool:
    return not await fleet.fetch("SELECT FROM run_progress WHERE status < 3")
