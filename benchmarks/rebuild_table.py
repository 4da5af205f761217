"""Updates of a large graph (`rebuild_graph.py`): nothing changed, one leaf changed, and the plan alone."""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

import anyio.to_thread

from benchmarks.bench import Bench, child
from benchmarks.databases import Databases
from benchmarks.figures import Figures, Say
from benchmarks.rebuild_graph import CHANGE, changed_leaf, graph, graph_name, leaf_values
from benchmarks.result import Result
from benchmarks.stage import measure_figures, opened_bench, run_async
from runengine_server.domain.ids import RunId
from runengine_server.service.messages import TriggerRequest, TriggerUpdateRequest


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Each size of the graph has been built once and updated `reps` times in each way, after a warm-up."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    for nodes in options.nodes:
        async with _built(databases, nodes) as (bench, base):
            work = f"{nodes:,} nodes"
            for number in range(options.reps + 1):
                change = changed_leaf(f"{number}")
                found = {
                    "plan of one changed leaf, in the engine": await _plan_s(bench, base, change),
                    "nothing changed, call to finished": await _update_s(bench, base, {}, executed=0),
                    "one leaf changed, call to finished": await _update_s(bench, base, change, executed=3),
                }
                if number > 0:
                    for what, seconds in found.items():
                        figures.add(work, what, "ms", seconds * 1e3)
            for seconds in await _plans_of_client_s(bench, base, options.reps):
                figures.add(work, "plan of one changed leaf, through the client", "ms", seconds * 1e3)


@asynccontextmanager
async def _built(databases: Databases, nodes: int) -> AsyncIterator[tuple[Bench, str]]:
    """An engine, and a completed run of the graph to build on."""
    async with opened_bench(databases, [graph(nodes)]) as bench:
        payload = {"leaves": leaf_values(nodes)}
        request = TriggerRequest(workflow_name=graph_name(nodes), trigger_payload=payload)  # type: ignore[arg-type]
        answer = await bench.engine.services.trigger_run(bench.caller, request)
        assert answer.run_id is not None, "it was started"
        await bench.ends.of([answer.run_id])
        yield bench, answer.run_id


async def _plan_s(bench: Bench, base: str, change: dict[str, Any]) -> float:
    request = TriggerUpdateRequest(base_run_id=base, change_type=CHANGE, change_payload=change, validate_only=True)
    begun = perf_counter()
    answer = await bench.engine.services.trigger_update(bench.caller, request)
    seconds = perf_counter() - begun
    assert answer.plan is not None and answer.plan.to_execute_count == 3, answer.message
    return seconds


async def _update_s(bench: Bench, base: str, change: dict[str, Any], *, executed: int) -> float:
    request = TriggerUpdateRequest(base_run_id=base, change_type=CHANGE, change_payload=change)
    begun = perf_counter()
    answer = await bench.engine.services.trigger_update(bench.caller, request)
    assert answer.run_id is not None, "it was started"
    assert answer.plan is not None and answer.plan.to_execute_count == executed, answer.message
    ends = await bench.ends.of([answer.run_id])
    return ends[RunId(answer.run_id)] - begun


async def _plans_of_client_s(bench: Bench, base: str, repeats: int) -> list[float]:
    """Planned by a client in a process of its own, over gRPC; the first call, which connects, is left out."""
    with ExitStack() as resources:
        caller = child(resources, "benchmarks.plan_caller", bench.target, base, str(repeats))
        lines = await anyio.to_thread.run_sync(caller.wait_for, lambda line: line.startswith("["))
    return [float(each) for each in json.loads(lines[-1])]
