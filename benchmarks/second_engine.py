"""A further engine on the databases that the environment names: `python -m benchmarks.second_engine`.

It says `ready PID`, then `ended RUN_ID PERF_COUNTER PROBLEM` for each run whose end it committed.
"""

import asyncio
import os
import signal

import uvloop

from benchmarks.engine import engine_of
from runengine_server.config import read_settings
from runengine_server.domain.ids import RunId


async def _run() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with engine_of(read_settings(), _say_ended):
        print(f"ready {os.getpid()}", flush=True)
        await stop.wait()


def _say_ended(run_id: RunId, at: float, problem: str) -> None:
    print(f"ended {run_id} {at} {problem}", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run())
