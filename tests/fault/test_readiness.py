"""A database that goes away and comes back: both kinds of health say so, and the process lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .fleet import Fleet, until
from .socket_proxy import SocketProxy

pytestmark = pytest.mark.anyio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """An engine's health as load balancers see it."""

    def __init__(self, ops: httpx.AsyncClient, channel: grpc.aio.Channel) -> None:
        self._ops = ops
        self._stub = health_pb2_grpc.HealthStub(channel)

    async def get(self, path: str) -> httpx.Response:
        return await self._ops.get(path)

    async def reasons(self) -> list[str]:
        answer = await self.get("/health/ready")
        found: list[str] = answer.json().get("reasons", [])
        assert answer.status_code == (503 if found else 200)
        return found

    async def served(self) -> set[int]:
        names = ("", "runengine.v1.RunEngine", "runengine.v1.CacheAdminService")
        return {(await self._stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names}

    async def becomes(self, reasons: list[str]) -> float:
        """How long until both kinds of health say this, in seconds."""
        status = NOT_SERVING if reasons else SERVING

        async def is_said() -> bool:
            return await self.reasons() == reasons and await self.served() == {status}

        return await until(is_said, f"health says {reasons}")


@asynccontextmanager
async def ready_engine(fleet: Fleet, folder: Path) -> AsyncIterator[tuple[Health, SocketProxy]]:
    """Health of an engine that is ready, and what it reaches PostgreSQL through."""
    async with SocketProxy(folder, fleet.settings.database_url).running() as proxy:
        direct = fleet.settings
        fleet.settings = replace(direct, database_url=proxy.url)
        engine = await anyio.to_thread.run_sync(fleet.start)
        fleet.settings = direct
        async with (
            httpx.AsyncClient(base_url=engine.process.ops_url) as ops,
            grpc.aio.insecure_channel(engine.process.target) as channel,
        ):
            health = Health(ops, channel)
            await health.becomes([])
            yield health, proxy
        await anyio.to_thread.run_sync(fleet.close)


async def test_a_database_that_refuses(fleet: Fleet, short_folder: Path, recorded) -> None:
    """Refused connections make the engine unready within seconds, and ready again; live and metrics go on."""
    async with ready_engine(fleet, short_folder) as (health, proxy):
        proxy.lead_to(None)
        proxy.cut()
        recorded("unready_s", round(await health.becomes(["DATABASE_UNAVAILABLE"]), 2))
        assert proxy.refused > 0
        assert (await health.get("/health/live")).status_code == 200
        queues = await health.get("/health/queues")
        assert (queues.status_code, queues.json()["reasons"]) == (503, ["DATABASE_UNAVAILABLE"])
        metrics = (await health.get("/metrics")).text
        assert "\nrun_engine_ready 0.0" in metrics and "run_engine_queue_steps{" not in metrics
        proxy.lead_to(fleet.settings.database_url)
        recorded("ready_s", round(await health.becomes([]), 2))
        assert "run_engine_queue_steps{" in (await health.get("/metrics")).text


async def test_a_database_that_is_silent(fleet: Fleet, short_folder: Path, recorded) -> None:
    """Replies that never come make the engine unready within seconds, although its question still waits."""
    async with ready_engine(fleet, short_folder) as (health, proxy):
        proxy.is_swallowing = True
        recorded("unready_s", round(await health.becomes(["DATABASE_UNAVAILABLE"]), 2))
        assert proxy.swallowed_bytes > 0
        proxy.is_swallowing = False
        proxy.cut()
        recorded("ready_s", round(await health.becomes([]), 2))


async def test_a_schema_that_is_too_old(fleet: Fleet, short_folder: Path) -> None:
    """A database that lacks a migration, as after a restore, makes the engine unready until it has it."""
    async with ready_engine(fleet, short_folder) as (health, _):
        ((name, checksum),) = await fleet.fetch(
            "DELETE FROM schema_migrations WHERE version = 1 RETURNING name, checksum"
        )
        await health.becomes(["SCHEMA_OUTDATED"])
        await fleet.fetch("INSERT INTO schema_migrations (version, name, checksum) VALUES (1, $1, $2)", name, checksum)
        await health.becomes([])
