"""Plans the same update over gRPC again and again: `python -m benchmarks.plan_caller TARGET BASE_RUN CALLS`.

After one call that connects and does not count it says the seconds of each as one line of JSON.
"""

import asyncio
import json
import sys
from time import perf_counter

import uvloop

from benchmarks.rebuild_graph import CHANGE, changed_leaf
from runengine_client import RunEngineClient


async def _run(target: str, base: str, calls: int) -> None:
    seconds = []
    async with RunEngineClient(target) as client:
        for number in range(calls + 1):
            change = changed_leaf(f"planned-{number}")
            begun = perf_counter()
            await client.plan_update(base, CHANGE, change)
            seconds.append(perf_counter() - begun)
    print(json.dumps(seconds[1:]), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
