"""How much memory an engine takes: idle, and with many runs in flight and many watchers."""

import argparse
import asyncio
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio.to_thread

from benchmarks.crowd import attached
from benchmarks.databases import Databases
from benchmarks.engine_server import EngineServer
from benchmarks.figures import Figures, Say
from benchmarks.graphs import CAMPAIGN
from benchmarks.process_memory import peak_of, resident_bytes
from benchmarks.result import Result
from benchmarks.stage import measure_figures, run_async, set_environment, started_skill_server
from benchmarks.workload import SLOW_SKILL, payloads, workflow_of
from runengine_client import RunEngineClient
from runengine_server.adapters.postgres.migrate import migrate

_WORKFLOW: Final = "bench.slow_campaign"
_SETTLE_S: Final = 3.0
_CALLERS: Final = 16


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """An engine server has been idle, busy and idle again."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    await migrate(databases.database_url)
    with TemporaryDirectory(prefix="runengine-bench-") as name, ExitStack() as resources:
        folder = Path(name)
        _, address = started_skill_server(resources, folder)
        limits = {"RUNENGINE_WATCHES_MAX": "20000", "RUNENGINE_WATCHES_PER_TENANT_MAX": "20000"}
        set_environment(databases, {"RUNENGINE_SKILLS": f"*=grpc://{address}", **limits})
        engine = await anyio.to_thread.run_sync(EngineServer.started, resources)
        async with RunEngineClient(engine.target) as client:
            await client.register_workflow(workflow_of(_WORKFLOW, CAMPAIGN, SLOW_SKILL, seconds=options.skill_s))
            await asyncio.sleep(_SETTLE_S)
            figures.add("engine", "idle", "MB", resident_bytes(engine.pid) / 1e6)
            async with peak_of(engine.pid) as peak:
                runs = await _started(client, options.runs)
                watched = runs[-options.watchers :]
                crowd = await attached(resources, folder, engine.target, options.watchers, watched)
                seen = await crowd.seen()
                await _all_ended(client, runs)
            busy = f"{options.runs:,} runs in flight and {options.watchers:,} watchers, at most"
            figures.add("engine", busy, "MB", peak.value / 1e6)
            figures.add("engine", "events delivered meanwhile", "events", seen.events)
            await asyncio.sleep(_SETTLE_S)
            figures.add("engine", "idle again", "MB", resident_bytes(engine.pid) / 1e6)


async def _started(client: RunEngineClient, count: int) -> list[str]:
    fresh, left = payloads(), iter(range(count))
    runs: list[str] = []

    async def call() -> None:
        for _ in left:
            runs.append(await client.trigger(_WORKFLOW, next(fresh)))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CALLERS):
            tasks.create_task(call())
    return runs


async def _all_ended(client: RunEngineClient, runs: list[str]) -> None:
    for run in runs:
        await client.run(run).result()
