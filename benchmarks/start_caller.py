"""Calls Trigger over gRPC as fast as it can: `python -m benchmarks.start_caller TARGET CALLS CALLERS`.

After a warm-up on the same connection it says one line of JSON: `seconds`, `latencies_s` of the calls, and the ids of
all `runs` it started.
"""

import asyncio
import json
import sys
from time import perf_counter

import uvloop

from benchmarks.workload import payloads
from runengine_client import RunEngineClient


async def _run(target: str, calls: int, callers: int) -> None:
    async with RunEngineClient(target) as client:
        runs, _, _ = await _call(client, callers * 2, callers)
        started, seconds, latencies_s = await _call(client, calls, callers)
    print(json.dumps({"seconds": seconds, "latencies_s": latencies_s, "runs": runs + started}), flush=True)


async def _call(client: RunEngineClient, calls: int, callers: int) -> tuple[list[str], float, list[float]]:
    fresh, left = payloads(), iter(range(calls))
    runs: list[str] = []
    latencies_s: list[float] = []

    async def call() -> None:
        for _ in left:
            payload = next(fresh)
            at = perf_counter()
            runs.append(await client.trigger("bench.one", payload))
            latencies_s.append(perf_counter() - at)

    start = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(call())
    return runs, perf_counter() - start, latencies_s


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
