"""What a cache hit costs a step, batched: one run of 1 -> N, whose N inputs are known only once the first step has run.

So the look-ups are the scheduler's, not the planner's. From the commit of the first step to the end of the run, by N:
all of a step, the write of its result included. The same N executed without a cache, and executed after a miss and
filed, are shown beside it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import asyncpg
import redis.asyncio

from benchmarks.bench import Bench, BenchmarkError
from benchmarks.databases import Databases
from benchmarks.figures import Figures, Say
from benchmarks.result import Result
from benchmarks.stage import measure_figures, opened_bench, run_async
from benchmarks.workload import DIGEST_SKILL, LOCAL_SKILL
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.ids import RunId
from runengine_server.domain.states import OutputSource
from runengine_server.service.messages import TriggerRequest

_CACHED, _UNCACHED = "bench.fan_cached", "bench.fan_uncached"
_HOT_TRIES = 5


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Every way in which a step can end has been measured `reps` times, in turn, after a warm-up."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    first_done: dict[RunId, float] = {}

    def on_step(run_id: RunId, step_id: str, at: float) -> None:
        if step_id == "first":
            first_done[run_id] = at

    async with opened_bench(databases, _workflows(options.steps), on_step=on_step) as bench:
        fan = _Fan(databases, bench, options.steps, first_done)
        for number in range(options.reps + 1):
            fan.seed = uuid4().hex
            found = {
                "executed, no cache": await fan.step_s(_UNCACHED, OutputSource.EXECUTED),
                "missed, executed and filed": await fan.step_s(_CACHED, OutputSource.EXECUTED),
                "hot hit": await fan.hot_step_s(),
            }
            await _empty_hot_tier(databases)
            found["cold hit"] = await fan.step_s(_CACHED, OutputSource.CACHE_COLD)
            if number > 0:
                for what, seconds in found.items():
                    figures.add(f"{options.steps:,} at once", what, "µs a step", seconds * 1e6)


@dataclass(slots=True)
class _Fan:
    """Runs the fan and makes sure that its steps ended as they should."""

    databases: Databases
    bench: Bench
    steps: int
    first_done: dict[RunId, float] = field(default_factory=dict)
    seed: str = ""

    async def hot_step_s(self) -> float:
        """As `step_s`; repeated where the hot tier, which is written behind the runs, had not got everything yet."""
        for _ in range(_HOT_TRIES):
            run_id, seconds = await self._run(_CACHED)
            if await self._count(run_id, OutputSource.CACHE_HOT) == self.steps:
                return seconds
        raise BenchmarkError("the hot tier never has every output")

    async def step_s(self, workflow: str, source: OutputSource) -> float:
        """Seconds a step.

        Raises:
            BenchmarkError: the steps did not end as they should.
        """
        run_id, seconds = await self._run(workflow)
        if (found := await self._count(run_id, source)) != self.steps:
            raise BenchmarkError(f"{found} of {self.steps} steps are {source.name}")
        return seconds

    async def _run(self, workflow: str) -> tuple[RunId, float]:
        request = TriggerRequest(workflow_name=workflow, trigger_payload={"seed": self.seed})
        answer = await self.bench.engine.services.trigger_run(self.bench.caller, request)
        assert answer.run_id is not None, "it was started"
        ends = await self.bench.ends.of([answer.run_id])
        return answer.run_id, (ends[answer.run_id] - self.first_done.pop(answer.run_id)) / self.steps

    async def _count(self, run_id: RunId, source: OutputSource) -> int:
        connection = await asyncpg.connect(self.databases.database_url)
        try:
            found = await connection.fetchval(
                "SELECT count(*) FROM step_results JOIN runs USING (run) WHERE id = $1 AND step > 0 AND source = $2",
                run_id,
                int(source),
            )
        finally:
            await connection.close()
        return int(found)


async def _empty_hot_tier(databases: Databases) -> None:
    async with redis.asyncio.from_url(databases.redis_url) as client:
        await client.flushall()


def _workflows(steps: int) -> Iterator[workflow_pb2.Workflow]:
    for name, has_cache in ((_CACHED, True), (_UNCACHED, False)):
        builder = WorkflowBuilder(name, version="1.0.0")
        builder.step("first", skill=DIGEST_SKILL, input={"seed": expression("trigger.seed")}, cache=False)
        for number in range(steps):
            read = {"made": expression("steps.first.output.made")}
            builder.step(f"s{number}", skill=LOCAL_SKILL, needs=["first"], input=read, cache=has_cache)
        yield builder.build()
