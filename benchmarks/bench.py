"""What every piece of work runs on: an engine in this process, its databases, and the ends of runs as they are seen."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import perf_counter, thread_time
from typing import Self

from benchmarks.cpu import CpuTimes, Processes
from benchmarks.measurement import Measurement
from benchmarks.workload import GRAPHS, payloads
from examples.campaign.child import Child
from runengine_server.app import Engine
from runengine_server.domain.caller import Caller
from runengine_server.domain.ids import RunId
from runengine_server.domain.json_value import JsonObject
from runengine_server.service.messages import TriggerRequest


class BenchmarkError(RuntimeError):
    """Something that was to be measured did not work."""


class RunEnds:
    """When runs ended, whichever engine saw it; times by `perf_counter`, which all processes share on Linux."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self._at: dict[RunId, float] = {}
        self._problems: list[str] = []
        self._missing: set[RunId] = set()
        self._all_ended = asyncio.Event()

    def ended(self, run_id: RunId, at: float, problem: str) -> None:
        """Note an end; `problem` is empty when the run completed."""
        self._at[run_id] = at
        if problem:
            self._problems.append(f"run {run_id} failed: {problem}")
        self._missing.discard(run_id)
        if not self._missing:
            self._all_ended.set()

    async def of(self, runs: Iterable[RunId]) -> Mapping[RunId, float]:
        """The ends of these runs, once all of them have ended.

        Raises:
            BenchmarkError: one failed.
        """
        self._missing = set(runs) - self._at.keys()
        self._all_ended.clear()
        if self._missing:
            await self._all_ended.wait()
        if self._problems:
            raise BenchmarkError("; ".join(self._problems[:3]))
        ends, self._at = self._at, {}
        return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running engine and what it takes to load it.

    Attributes:
        engine: in this process.
        caller: may do everything.
        ends: of all runs.
        processes: whose CPU time counts.
        n: the sizes of w1.
    """

    engine: Engine
    caller: Caller
    ends: RunEnds
    processes: Processes
    n: Sequence[int]

    @property
    def target(self) -> str:
        """Where the engine serves gRPC."""
        return f"127.0.0.1:{self.engine.rpc.port}"

    def with_engine(self, pid: int) -> Self:
        """The same with the CPU time of a further engine counted."""
        return replace(self, processes=replace(self.processes, engines=[*self.processes.engines, pid]))

    async def burst(self, work: str, workflow: str, n: int, *, callers: int) -> Measurement:
        """Start n runs from this process, `callers` at a time, and measure until the last has ended."""
        fresh, left = payloads(), iter(range(n))
        begun: dict[RunId, float] = {}

        async def call() -> None:
            for _ in left:
                run, at = await self._start(workflow, next(fresh))
                begun[run] = at

        cpu, start = self.processes.cpu_times(), perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(call())
        ends = await self.ends.of(begun)
        return measured(
            work,
            n=n,
            steps=n * len(GRAPHS[workflow]),
            seconds=max(ends[run] for run in begun) - start,
            latencies_s=[ends[run] - at for run, at in begun.items()],
            cpu=self.processes.cpu_times() - cpu,
        )

    async def series(self, work: str, workflow: str, n: int) -> Measurement:
        """Start n runs from this process, each when the one before has ended."""
        fresh = payloads()
        latencies_s: list[float] = []
        cpu, start = self.processes.cpu_times(), perf_counter()
        for _ in range(n):
            run, at = await self._start(workflow, next(fresh))
            latencies_s.append((await self.ends.of([run]))[run] - at)
        return measured(
            work,
            n=n,
            steps=n * len(GRAPHS[workflow]),
            seconds=perf_counter() - start,
            latencies_s=latencies_s,
            cpu=self.processes.cpu_times() - cpu,
        )

    async def _start(self, workflow: str, payload: JsonObject) -> tuple[RunId, float]:
        at = perf_counter()
        request = TriggerRequest(workflow_name=workflow, trigger_payload=payload)
        answer = await self.engine.services.trigger_run(self.caller, request)
        assert answer.run_id is not None, "it was started"
        return answer.run_id, at


def child(resources: ExitStack, *command: str, on_line: Callable[[str], None] = lambda line: None) -> Child:
    """A module of this package, with arguments, runs until the resources are released."""
    return resources.enter_context(Child(command[0], command, environment=os.environ, on_line=on_line))


def measured(
    work: str, *, n: int, steps: int, seconds: float, latencies_s: Sequence[float], cpu: CpuTimes
) -> Measurement:
    """The measurement, with the state of the machine at this moment."""
    return Measurement(
        work=work,
        n=n,
        steps=steps,
        seconds=seconds,
        latencies_s=latencies_s,
        cpu=cpu,
        load=os.getloadavg()[0],
        yardstick_s=_yardstick_s(),
    )


def _yardstick_s() -> float:
    # About 1 ms: short, because it holds up what the engine still does behind the last run.
    begun = thread_time()
    for _ in range(50_000):
        pass
    return thread_time() - begun
