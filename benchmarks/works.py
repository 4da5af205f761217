"""The pieces of work by name; each measures one repeat of itself."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

import anyio.to_thread

from benchmarks.bench import Bench, child, measured
from benchmarks.measurement import Measurement
from runengine_server.domain.ids import RunId

# As the scripts that measured the peers: this many start calls are under way at once.
CALLERS: Final = 16
RPC_CALLERS: Final = 32

_STEP_LINES: Final = logging.getLogger("runengine.step")
_CACHE_LINES: Final = logging.getLogger("runengine.cache")


async def one20(bench: Bench) -> list[Measurement]:
    """20 campaign runs one after another: the latency of a run."""
    return [await bench.series("one20", "bench.campaign", 20)]


async def w1(bench: Bench) -> list[Measurement]:
    """N campaign runs submitted at once."""
    return [await bench.burst("w1", "bench.campaign", n, callers=CALLERS) for n in bench.n]


async def w2(bench: Bench) -> list[Measurement]:
    """One run of 1 -> 1000 -> 1."""
    return [await bench.burst("w2", "bench.fan", 1, callers=1)]


async def w3(bench: Bench) -> list[Measurement]:
    """One run of a chain of 200."""
    return [await bench.burst("w3", "bench.chain", 1, callers=1)]


async def w4(bench: Bench) -> list[Measurement]:
    """The start call of a 1-step run through gRPC, from a process of its own; CPU covers the runs and a warm-up too."""
    calls = max(bench.n)
    with ExitStack() as resources:
        cpu = bench.processes.cpu_times()
        client = child(resources, "benchmarks.start_caller", bench.target, str(calls), str(RPC_CALLERS))
        lines = await anyio.to_thread.run_sync(client.wait_for, lambda line: line.startswith("{"))
    told = json.loads(lines[-1])
    await bench.ends.of(RunId(each) for each in told["runs"])
    return [
        measured(
            f"w4, {RPC_CALLERS} callers",
            n=calls,
            steps=calls,
            seconds=told["seconds"],
            latencies_s=told["latencies_s"],
            cpu=bench.processes.cpu_times() - cpu,
        )
    ]


async def remote(bench: Bench) -> list[Measurement]:
    """w1 with the skill behind gRPC in a process of its own."""
    return [await bench.burst("remote", "bench.campaign_remote", min(bench.n), callers=CALLERS)]


async def two(bench: Bench) -> list[Measurement]:
    """w1 with a second engine process on the same database; its first burst is a warm-up."""
    n, loop = max(bench.n), asyncio.get_running_loop()

    def on_line(line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "ended":
            run_id, at, problem = rest.split(" ", 2)
            loop.call_soon_threadsafe(bench.ends.ended, RunId(run_id), float(at), problem)

    with ExitStack() as resources:
        second = child(resources, "benchmarks.second_engine", on_line=on_line)
        lines = await anyio.to_thread.run_sync(second.wait_for, lambda line: line.startswith("ready "))
        both = bench.with_engine(int(lines[-1].split()[1]))
        await both.burst("two engines", "bench.campaign", n, callers=CALLERS)
        found = await both.burst("two engines", "bench.campaign", n, callers=CALLERS)
    return [found]


async def logs(bench: Bench) -> list[Measurement]:
    """w1 with all lines of the default level, without those of each step, and without those of the cache either."""
    variants: Mapping[str, Sequence[logging.Logger]] = {
        "logs: all lines": (),
        "logs: no step lines": (_STEP_LINES,),
        "logs: no step and cache lines": (_STEP_LINES, _CACHE_LINES),
    }
    found = []
    for name, silent in variants.items():
        with _silenced(silent):
            found.append(await bench.burst(name, "bench.campaign", max(bench.n), callers=CALLERS))
    return found


WORKS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Measurement]]]]] = {
    work.__name__: work for work in (one20, w1, w2, w3, w4, remote, two, logs)
}


@contextmanager
def _silenced(loggers: Sequence[logging.Logger]) -> Iterator[None]:
    with ExitStack() as levels:
        for logger in loggers:
            levels.callback(partial(logger.setLevel, logger.level))
            logger.setLevel(logging.WARNING)
        yield
