"""No peer: what asyncpg and PostgreSQL give for this work with no product around them: `… floor_peer [--grpc]`.

One loop: each round trip finishes a batch, counts dependents down and leases the next batch, in one commit. With
`--grpc` every step is also a unary call of about 1 KB to another process, as a skill server would be.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc
import uvloop

from benchmarks.graphs import output
from benchmarks.peers.program import GRAPHS, Burst, Ends, burst, measure

_BATCH: Final = 200
_IDLE_S: Final = 0.05
_METHOD: Final = "/bench.Echo/Call"

Echo = Callable[[bytes], Awaitable[bytes]]


class _Floor:
    def __init__(self, pool: "asyncpg.Pool[Any]", echo: Echo | None) -> None:
        self._pool = pool
        self._echo = echo
        self._ends = Ends()
        self._woken = asyncio.Event()

    async def run(self, kind: str, n: int, callers: int) -> Burst:
        async def start() -> str:
            run = await self._pool.fetchval("SELECT floor.start($1)", kind)
            self._woken.set()
            return str(run)

        return await burst(n, min(callers, 16), start, self._ends)

    async def work(self) -> None:
        connection = await self._pool.acquire()
        finished: list[tuple[int, str, str]] = []
        while True:
            async with connection.transaction():
                ended = []
                if finished:
                    columns = [list(column) for column in zip(*finished, strict=True)]
                    ended = await connection.fetch("SELECT * FROM floor.finish($1, $2, $3)", *columns)
                leased = await connection.fetch("SELECT * FROM floor.lease($1)", _BATCH)
            for (run,) in ended:
                self._ends.ended(str(run))
            outputs = await self._outputs([step for _, step in leased])
            finished = [(run, step, out) for (run, step), out in zip(leased, outputs, strict=True)]
            if not leased:
                await self._idle()

    async def _outputs(self, steps: list[str]) -> list[str]:
        outputs = [json.dumps(output(step)) for step in steps]
        if self._echo is None:
            return outputs
        return [each.decode() for each in await asyncio.gather(*(self._echo(text.encode()) for text in outputs))]

    async def _idle(self) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(_IDLE_S):
                await self._woken.wait()
        except TimeoutError:
            pass


async def _main(has_grpc: bool) -> None:
    pool = await asyncpg.create_pool(os.environ["PEER_DATABASE_URL"], min_size=4, max_size=18)
    await pool.execute(Path(__file__).with_name("floor.sql").read_text())
    for kind, graph in GRAPHS.items():
        dependents: dict[str, list[str]] = {step: [] for step in graph}
        for step, needs in graph.items():
            for need in needs:
                dependents[need].append(step)
        rows = [(kind, step, len(needs), dependents[step]) for step, needs in graph.items()]
        await pool.executemany("INSERT INTO floor.graph VALUES ($1, $2, $3, $4)", rows)
    if not has_grpc:
        await _measure(_Floor(pool, None), f"asyncpg {version('asyncpg')}")
        return
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.peers.floor_peer", "--serve", stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        port = int(await server.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.unary_unary(_METHOD, bytes, bytes)
            names = f"asyncpg {version('asyncpg')}, grpcio {version('grpcio')}"
            await _measure(_Floor(pool, echo), names)
    finally:
        server.terminate()
        await server.wait()


async def _measure(floor: _Floor, names: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(floor.work())
        await measure(names, floor.run)
        working.cancel()


async def _serve() -> None:
    server = grpc.aio.server()

    async def echo(request: bytes, context: object) -> bytes:
        return request

    service, _, method = _METHOD[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(echo, bytes, bytes)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if "--serve" in sys.argv:
            runner.run(_serve())
        else:
            has_grpc = "--grpc" in sys.argv
            sys.argv[:] = [each for each in sys.argv if each != "--grpc"]
            runner.run(_main(has_grpc))
