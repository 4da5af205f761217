"""DBOS Transact: a library in the process that starts the runs, with its checkpoints in PostgreSQL.

Four runs are in flight at most, which is where it is fastest; a run's latency counts from its admission.
"""

import asyncio
import os
from importlib.metadata import version
from itertools import count
from typing import Final

from dbos import DBOS  # type: ignore[import-not-found]

from benchmarks.graphs import levels, output
from benchmarks.peers.program import GRAPHS, Burst, Ends, burst, measure

_IN_FLIGHT_MAX: Final = 4
_LEVELS: Final = {kind: levels(graph) for kind, graph in GRAPHS.items()}

ends = Ends()
numbers = count()

DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["PEER_DATABASE_URL"],
        "sys_db_pool_size": 20,
        "log_level": "WARNING",
        "enable_otlp": False,
    }
)


@DBOS.step()  # type: ignore[untyped-decorator]
async def run_step(step: str) -> dict[str, object]:
    """Returns about 1 KB."""
    return output(step)


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def run_graph(kind: str, tag: str) -> str:
    """Runs a graph, level by level."""
    for level in _LEVELS[kind]:
        await asyncio.gather(*(run_step(step) for step in level))
    ends.ended(tag)
    return "done"


async def _start(kind: str) -> str:
    tag = f"{kind}-{next(numbers)}"
    await DBOS.start_workflow_async(run_graph, kind, tag)
    return tag


async def _run(kind: str, n: int, callers: int) -> Burst:
    if kind == "one":  # the start call alone
        return await burst(n, callers, lambda: _start(kind), ends)
    return await burst(n, min(callers, _IN_FLIGHT_MAX), lambda: _start(kind), ends, waits=True)


async def _main() -> None:
    DBOS.launch()
    try:
        await measure(f"DBOS {version('dbos')}", _run)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(_main())
