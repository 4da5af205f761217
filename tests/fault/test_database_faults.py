"""PostgreSQL crashes, restarts, freezes and loses replies, Valkey freezes: engines recover by themselves."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic

import anyio
import anyio.to_thread
import asyncpg
import pytest

from runengine_client import RunEngineClient, RunHandle
from runengine_server.domain.states import RunStatus

from ..support.invariants import Acknowledged
from .fleet import CAMPAIGN, LEASE_S, Engine, Fleet, until, workflow
from .postgres_owner import RestartablePostgres
from .socket_proxy import SocketProxy

pytestmark = pytest.mark.anyio

RUNS = 8
OUTAGE_S = 3.0
CHAOS_S = 4.0

_VICTIM = "SELECT pid, now() FROM pg_stat_activity WHERE application_name = 'runengine' LIMIT 1"
_RECOVERED = "SELECT backend_start > $1 FROM pg_stat_activity WHERE backend_type = 'checkpointer'"


@asynccontextmanager
async def _runs_under_way(fleet: Fleet, client: RunEngineClient, name: str, ms: int) -> AsyncIterator[list[RunHandle]]:
    """Watched runs of thirteen steps inside the block; at its end all of them have completed."""
    await client.register_workflow(workflow(name, CAMPAIGN, ms=ms))
    handles = [await client.start(name, {"salt": f"{name}-{n}"}) for n in range(RUNS)]
    fleet.acknowledged += [Acknowledged(run_id=handle.id) for handle in handles]
    ended: list[RunStatus] = []

    async def follow(handle: RunHandle) -> None:
        ended.append(await fleet.watch(handle))

    async with anyio.create_task_group() as tasks:
        for handle in handles:
            tasks.start_soon(follow, handle)
        await until(lambda: _finished(fleet, 10), "steps finish")
        yield handles
    assert ended == [RunStatus.COMPLETED] * RUNS


async def _finished(fleet: Fleet, count: int) -> bool:
    return bool((await fleet.fetch("SELECT count(*) >= $1 FROM step_results", count))[0][0])


async def _progresses(fleet: Fleet) -> float:
    """How long until another step has finished, in seconds."""
    before = (await fleet.fetch("SELECT count(*) FROM step_results"))[0][0]
    return await until(lambda: _finished(fleet, before + 1), "another step finishes")


async def test_postgres_crashes(fleet: Fleet, stack, recorded) -> None:
    """A backend dies of SIGKILL, so PostgreSQL drops everybody and recovers: no run is lost, no step repeated."""
    engine = fleet.start()
    async with engine.process.client() as client, _runs_under_way(fleet, client, "crash", 60):
        victim, crashes_after = (await fleet.fetch(_VICTIM))[0]
        os.kill(victim, signal.SIGKILL)
        crashed_at = monotonic()
        await until(lambda: _has_recovered(fleet, crashes_after), "PostgreSQL recovers")
        await _progresses(fleet)
        recorded("recovery_s", round(monotonic() - crashed_at, 2))
    assert engine.process.is_running  # whether it noticed depends on what it was doing in that moment
    await fleet.check()


async def test_postgres_is_restarted(fleet: Fleet, short_folder: Path, recorded) -> None:
    """PostgreSQL is stopped for seconds and started again: engine, watchers and runs go on by themselves."""
    postgres = await anyio.to_thread.run_sync(RestartablePostgres, short_folder / "data")
    try:
        await postgres.migrate()
        async with SocketProxy(short_folder, postgres.url).running() as proxy:
            fleet.settings = replace(fleet.settings, database_url=proxy.url)
            engine = await anyio.to_thread.run_sync(fleet.start)
            async with engine.process.client() as client, _runs_under_way(fleet, client, "restart", 60):
                proxy.lead_to(None)
                proxy.cut()
                await anyio.to_thread.run_sync(postgres.stop)
                await anyio.sleep(OUTAGE_S)
                proxy.lead_to(await anyio.to_thread.run_sync(postgres.start))
                back_at = monotonic()
                await _progresses(fleet)
                recorded("recovery_s", round(monotonic() - back_at, 2))
            assert proxy.refused > 0
            engine.process.wait_for_text("Database unavailable")
            assert engine.process.is_running
            await fleet.check()
            await anyio.to_thread.run_sync(fleet.close)
    finally:
        await anyio.to_thread.run_sync(postgres.stop)


async def test_replies_are_lost(fleet: Fleet, stack, short_folder: Path) -> None:
    """Replies that vanish after the statement was sent, again and again, lose nothing and repeat nothing."""
    async with SocketProxy(short_folder, fleet.settings.database_url).running() as proxy:
        direct = fleet.settings
        fleet.settings = replace(direct, database_url=proxy.url)
        engines = [await anyio.to_thread.run_sync(fleet.start) for _ in range(2)]
        fleet.settings = direct
        async with engines[0].process.client() as client, _runs_under_way(fleet, client, "replies", 100):
            begun = monotonic()
            while monotonic() - begun < CHAOS_S:
                await anyio.sleep(0.3)
                proxy.is_swallowing = True
                await anyio.sleep(0.05)
                proxy.cut()
                proxy.is_swallowing = False
        assert proxy.swallowed_bytes > 0 and proxy.cuts > 0
        assert all(engine.process.is_running for engine in engines)
        await fleet.check()
        for line, count in (("Step completed: ", RUNS * len(CAMPAIGN)), ("Run completed: ", RUNS)):
            said = [text for engine in engines for text in engine.process.log.splitlines() if line in text]
            assert len(said) == count, "whatever happened to the reply, who has done it says so, once"
        await anyio.to_thread.run_sync(fleet.close)


async def test_postgres_freezes(fleet: Fleet, stack, recorded) -> None:
    """PostgreSQL stands still beyond the engines' leases: they go on where they were, nothing is done twice."""
    engines = [await anyio.to_thread.run_sync(fleet.start) for _ in range(2)]
    async with engines[0].process.client() as client, _runs_under_way(fleet, client, "freeze", 60):
        with _frozen(stack.postgres_pid):
            await anyio.sleep(max(OUTAGE_S, 2 * LEASE_S))
            # (a connection of ours that had just ended remains a zombie)
            assert {_state(pid) for pid in _family(stack.postgres_pid)} <= {"T", "Z"}, "it stood still all the time"
        thawed_at = monotonic()
        await _progresses(fleet)
        recorded("recovery_s", round(monotonic() - thawed_at, 2))
    assert all(engine.process.is_running for engine in engines)
    await fleet.check()


async def test_valkey_freezes(fleet: Fleet, stack, recorded) -> None:
    """A frozen Valkey costs milliseconds: runs complete, and once it thaws it is used again."""
    engine = fleet.start()

    async def run(client: RunEngineClient, salt: str) -> bool:
        handle = await client.start("valkey", {"salt": salt})
        fleet.acknowledged.append(Acknowledged(run_id=handle.id))
        assert await fleet.watch(handle) is RunStatus.COMPLETED
        return await _says(engine, "Cache hit (Redis)")

    async with engine.process.client() as client:
        await client.register_workflow(workflow("valkey", CAMPAIGN, ms=5, is_cached=True))
        with _frozen(stack.valkey_pid):
            begun = monotonic()
            for salt in ("one", "two", "one"):
                await run(client, salt)
            recorded("three_runs_s", round(monotonic() - begun, 2))
            assert _state(stack.valkey_pid) == "T", "it was frozen all the time"
        await until(lambda: _says(engine, "Cache hit (DB)"), "the log says where it was found")
        assert "Cache hit (Redis)" not in engine.process.log
        recorded("recovery_s", round(await until(lambda: run(client, "two"), "Valkey is used again"), 2))
    assert engine.process.is_running
    await fleet.check()


async def _says(engine: Engine, line: str) -> bool:
    return line in engine.process.log


async def _has_recovered(fleet: Fleet, crashes_after: datetime) -> bool:
    """Whether PostgreSQL has started its helpers anew since that moment, which it does after a crash only."""
    try:
        return bool((await fleet.fetch(_RECOVERED, crashes_after))[0][0])
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
        return False


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """A process and its children stand still inside the block."""
    family = _family(pid)
    for member in family:
        os.kill(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in reversed(family):
            os.kill(member, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
