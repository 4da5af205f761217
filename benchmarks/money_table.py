"""Skill calls that cost money, while every engine is restarted, or killed, one after another: is one paid twice?

The skill server's own ledger says. Engines are restarted only once every call is in flight, and all of them have been
before the first call ends.
"""

import argparse
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import anyio
import anyio.to_thread

from benchmarks.bench import BenchmarkError
from benchmarks.databases import Databases
from benchmarks.engine_server import EngineServer
from benchmarks.figures import Figures, Say
from benchmarks.graphs import ONE
from benchmarks.result import Result
from benchmarks.stage import measure_figures, run_async, set_environment, started_skill_server
from benchmarks.workload import SLOW_SKILL, payloads, workflow_of
from runengine_client import RunEngineClient
from runengine_client.skills import LedgerEvent, read_ledger
from runengine_server.adapters.postgres.migrate import migrate

_WORKFLOW: Final = "bench.costly"
_POLL_S: Final = 0.1
_STARTED_S_MAX: Final = 60.0


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Engines have been restarted under the calls, and then been killed under as many others."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    await migrate(databases.database_url)
    for how, signal_ in (("restarted", signal.SIGTERM), ("killed", signal.SIGKILL)):
        with TemporaryDirectory(prefix="runengine-bench-") as folder, ExitStack() as resources:
            ledger = Path(folder, "ledger.jsonl")
            _, address = started_skill_server(resources, Path(folder), str(ledger))
            set_environment(databases, {"RUNENGINE_SKILLS": f"*=grpc://{address}"})
            work = f"every engine {how}, {options.calls} calls of {options.call_s:g} s in flight"
            await _paid(_Scene(resources, ledger, signal_), options, figures, work)


class _Scene:
    """Engines and the ledger of the skills they call."""

    def __init__(self, resources: ExitStack, ledger: Path, signal_: signal.Signals) -> None:
        self.resources = resources
        self.ledger = ledger
        self.signal = signal_
        self.engines: list[EngineServer] = []

    async def start(self, count: int) -> None:
        for _ in range(count):
            self.engines.append(await anyio.to_thread.run_sync(EngineServer.started, self.resources))

    async def replace_all(self, pause_s: float) -> None:
        """Every engine has been ended and replaced, with time in between for the others to take over its steps."""
        for number, engine in enumerate(self.engines):
            await anyio.to_thread.run_sync(engine.end, self.signal)
            self.engines[number] = await anyio.to_thread.run_sync(EngineServer.started, self.resources)
            await anyio.sleep(pause_s)

    def calls(self, event: LedgerEvent) -> Counter[str]:
        """How often this happened, by call."""
        records = read_ledger(self.ledger) if self.ledger.exists() else ()
        return Counter(record.key for record in records if record.event is event)

    async def all_started(self, count: int) -> None:
        with anyio.fail_after(_STARTED_S_MAX):
            while len(self.calls(LedgerEvent.STARTED)) < count:  # noqa: ASYNC110 - another process writes the ledger
                await anyio.sleep(_POLL_S)


async def _paid(scene: _Scene, options: argparse.Namespace, figures: Figures, work: str) -> None:
    await scene.start(options.engines)
    workflow = workflow_of(_WORKFLOW, ONE, SLOW_SKILL, seconds=options.call_s)
    async with RunEngineClient(scene.engines[0].target) as client:
        await client.register_workflow(workflow)
        fresh = payloads()
        begun = perf_counter()
        runs = [await client.trigger(_WORKFLOW, next(fresh)) for _ in range(options.calls)]
    await scene.all_started(options.calls)
    # 20 s with two engines and calls of 60 s: a lease is 10 s, so steps of a killed engine are taken over meanwhile.
    await scene.replace_all(options.call_s / (options.engines + 1))
    replaced_s = perf_counter() - begun
    if ended := scene.calls(LedgerEvent.SUCCEEDED).total():
        raise BenchmarkError(f"{ended} calls had ended before every engine was replaced; let them take longer")
    async with RunEngineClient(scene.engines[0].target) as client:
        for run in runs:
            await client.run(run).result()
    started = scene.calls(LedgerEvent.STARTED)
    figures.add(work, "calls paid twice", "calls", started.total() - len(started))
    figures.add(work, "runs completed", "runs", len(runs))
    figures.add(work, "calls the new engines attached to", "calls", scene.calls(LedgerEvent.ATTACHED).total())
    figures.add(work, "replays of calls that had ended", "calls", scene.calls(LedgerEvent.REPLAYED).total())
    figures.add(work, "until every engine was replaced", "s", replaced_s)
    figures.add(work, "until every run had completed", "s", perf_counter() - begun)
