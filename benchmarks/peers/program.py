"""What every Python peer shares: rounds of work, and the lines that say what came out; it needs no package.

A peer gives a function that starts n runs of a graph, so many calls at a time, and waits until all have ended.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from benchmarks.graphs import CAMPAIGN, CHAIN, FAN, ONE, Graph

GRAPHS: Final[dict[str, Graph]] = {"campaign": CAMPAIGN, "fan": FAN, "chain": CHAIN, "one": ONE}
WARM_UP_RUNS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What starting runs gave: seconds until the last end, until the last start, of each run, of each start call."""

    seconds: float
    started_s: float
    latencies_s: Sequence[float]
    calls_s: Sequence[float]


RunBurst = Callable[[str, int, int], Awaitable[Burst]]
"""Kind of graph, number of runs, callers."""


@dataclass(slots=True)
class Ends:
    """When runs ended; a run may end before its start call has returned."""

    at: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, asyncio.Event] = field(default_factory=dict)

    def ended(self, tag: str) -> None:
        """A run ends now."""
        self.at[tag] = perf_counter()
        if waiting := self._waiting.pop(tag, None):
            waiting.set()

    async def of(self, tag: str) -> float:
        """When the run ended, once it has."""
        if tag not in self.at:
            await self._waiting.setdefault(tag, asyncio.Event()).wait()
        return self.at.pop(tag)


async def burst(n: int, callers: int, start: Callable[[], Awaitable[str]], ends: Ends, *, waits: bool = False) -> Burst:
    """Start n runs and wait for their ends.

    Args:
        n: how many.
        callers: that start runs side by side.
        start: starts a run and returns its tag.
        ends: hears of them.
        waits: whether a caller waits for its run's end before it starts another: so many runs are in flight at most.
    """
    begun = perf_counter()
    left = iter(range(n))
    runs: list[tuple[str, float]] = []
    last: list[float] = []
    latencies_s: list[float] = []
    calls_s: list[float] = []

    async def end(tag: str, at: float) -> None:
        last.append(await ends.of(tag))
        latencies_s.append(last[-1] - at)

    async def call() -> None:
        for _ in left:
            at = perf_counter()
            tag = await start()
            calls_s.append(perf_counter() - at)
            if waits:
                await end(tag, at)
            else:
                runs.append((tag, at))

    await asyncio.gather(*(call() for _ in range(callers)))
    started_s = perf_counter() - begun
    for tag, at in runs:
        await end(tag, at)
    return Burst(seconds=max(last) - begun, started_s=started_s, latencies_s=latencies_s, calls_s=calls_s)


async def measure(version: str, run: RunBurst) -> None:
    """A warm-up, then everything that the command line asks for, once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--n", required=True)
    options = parser.parse_args()
    works, sizes = options.work.split(","), [int(each) for each in options.n.split(",")]
    await run("campaign", WARM_UP_RUNS, 4)
    if "one20" in works:
        singles = [await run("campaign", 1, 1) for _ in range(20)]
        latencies_s = [latency for each in singles for latency in each.latencies_s]
        say(version, "one20", 20, 260, sum(each.seconds for each in singles), latencies_s)
    if "w1" in works:
        for n in sizes:
            found = await run("campaign", n, 16)
            say(version, "w1", n, n * len(CAMPAIGN), found.seconds, found.latencies_s)
    for work, kind in (("w2", "fan"), ("w3", "chain")):
        if work in works:
            found = await run(kind, 1, 1)
            say(version, work, 1, len(GRAPHS[kind]), found.seconds, found.latencies_s)
    if "w4" in works:
        calls = max(sizes)
        found = await run("one", calls, 32)
        say(version, "w4", calls, calls, found.started_s, found.calls_s)


def say(version: str, work: str, n: int, steps: int, seconds: float, latencies_s: Sequence[float]) -> None:
    """One line of JSON."""
    ordered = sorted(latencies_s)
    p50, p99 = (ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3 for percent in (50, 99))
    row = {"work": work, "n": n, "steps": steps, "seconds": seconds, "p50_ms": p50, "p99_ms": p99, "version": version}
    print(json.dumps(row), flush=True)
