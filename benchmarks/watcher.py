"""Watches runs as fast as it can read: `python -m benchmarks.watcher TARGET WATCHERS FILE`.

FILE has the ids of the runs, one a line; the watchers take them in turn. It says `attached` once every watcher has got
its first message, and at the end one line of JSON: `messages` and `events` in all, how often a watcher that the server
took for stalled came back (`resumed`), when the last watcher was told of its run's end (`ended_at`), and when the first
watcher heard of the completion of each step (`heard_at`), by `perf_counter`.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

import grpc
import uvloop

from runengine_client.pb.runengine.v1 import run_engine_pb2, run_engine_pb2_grpc, run_pb2

# As many watchers share a connection as streams do in a browser or a gateway.
STREAMS_PER_CONNECTION: Final = 100

# Watchers come one after another; thousands in the same moment would be another measurement.
ARRIVING_MAX: Final = 50

# A server that gives a stream up resets it where the status itself cannot be written.
_STALLED: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)

_Watch = grpc.aio.UnaryStreamCall[run_engine_pb2.WatchRunRequest, run_engine_pb2.WatchRunResponse]


@dataclass(slots=True)
class Seen:
    """What all watchers together have seen."""

    messages: int = 0
    events: int = 0
    resumed: int = 0
    ended_at: float = 0.0
    heard_at: dict[str, float] = field(default_factory=dict)


class _Crowd:
    def __init__(self, target: str, watchers: int, runs: list[str]) -> None:
        self._target = target
        self._watchers = watchers
        self._runs = runs
        self._attached = 0
        self._arriving = asyncio.Semaphore(ARRIVING_MAX)
        self.seen = Seen()

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, self._watchers, STREAMS_PER_CONNECTION):
                tasks.create_task(self._connection(range(first, min(first + STREAMS_PER_CONNECTION, self._watchers))))

    async def _connection(self, numbers: range) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options=options) as channel, asyncio.TaskGroup() as tasks:
            stub = run_engine_pb2_grpc.RunEngineStub(channel)
            for number in numbers:
                tasks.create_task(self._follow(stub, number))

    async def _follow(self, stub: "run_engine_pb2_grpc.RunEngineAsyncStub", number: int) -> None:
        request = run_engine_pb2.WatchRunRequest(run_id=self._runs[number % len(self._runs)])
        async with self._arriving:
            watch = stub.WatchRun(request, wait_for_ready=True)
            first = await watch.read()
        assert isinstance(first, run_engine_pb2.WatchRunResponse)
        self.seen.messages += 1
        self._attached += 1
        if self._attached == self._watchers:
            print("attached", flush=True)
        request.after_sequence = first.sequence
        while not await self._read(watch, request, number):
            self.seen.resumed += 1
            watch = stub.WatchRun(request, wait_for_ready=True)

    async def _read(self, watch: _Watch, request: run_engine_pb2.WatchRunRequest, number: int) -> bool:
        """Whether the run's end came; where the server ended the watch instead, the request says how to resume."""
        try:
            while isinstance(message := await watch.read(), run_engine_pb2.WatchRunResponse):
                self.seen.messages += 1
                self.seen.events += len(message.events.events)
                if message.sequence:
                    request.after_sequence = message.sequence
                if number == 0:
                    self._note(message)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _STALLED:
                sys.exit(f"watcher {number}: {error.code().name}: {error.details()}")
            return False
        self.seen.ended_at = perf_counter()
        return True

    def _note(self, message: run_engine_pb2.WatchRunResponse) -> None:
        at = perf_counter()
        for event in message.events.events:
            if event.step.to_status == run_pb2.STEP_STATUS_COMPLETED:
                self.seen.heard_at[event.step_id] = at


async def _run(target: str, watchers: int, runs: list[str]) -> None:
    crowd = _Crowd(target, watchers, runs)
    await crowd.watch()
    print(json.dumps(asdict(crowd.seen)), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text().split()))
