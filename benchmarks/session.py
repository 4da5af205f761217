"""One session: engine up, workflows registered, rounds of all chosen work; the first rounds do not count.

Rounds, rather than all repeats of one work after another, so that each work meets the same noise of the machine.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio
import uvloop

from benchmarks.bench import Bench, RunEnds, child
from benchmarks.conditions import conditions, load_average
from benchmarks.cpu import Processes
from benchmarks.engine import engine_of
from benchmarks.measurement import Measurement, table
from benchmarks.workload import REMOTE_SKILL, workflows
from benchmarks.works import WORKS
from runengine_server.adapters.embedded import EmbeddedStack
from runengine_server.adapters.postgres.migrate import migrate
from runengine_server.adapters.tokens.anonymous import AnonymousAuthenticator
from runengine_server.config import read_settings
from runengine_server.rpc.conversion.workflow import read_workflow

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        works: names of work, in order.
        n: sizes of w1; other work takes the largest or the smallest of them.
        warm_ups: rounds that come first and do not count.
        repeats: rounds that count.
        artifact_dir: what a skill server must have; nothing is stored in it.
    """

    works: Sequence[str]
    n: Sequence[int]
    warm_ups: int
    repeats: int
    artifact_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came out, without the warm-ups."""

    conditions: Mapping[str, str]
    measurements: Sequence[Measurement]

    def text(self) -> str:
        """A table for people."""
        return table(self.measurements)

    def document(self) -> dict[str, object]:
        """Everything, for programs."""
        return {"conditions": dict(self.conditions), "measurements": [each.row() for each in self.measurements]}


def run(stack: EmbeddedStack, plan: Plan, say: Say) -> Result:
    """Every chosen work has been measured `repeats` times, after the warm-ups.

    Raises:
        BenchmarkError: a run failed.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(stack, plan, say))


async def _run(stack: EmbeddedStack, plan: Plan, say: Say) -> Result:
    await migrate(stack.database_url)
    facts = dict(await conditions(stack.database_url, await _valkey_version(stack.redis_url)))
    for name, fact in facts.items():
        say(f"{name}: {fact}")
    measurements = []
    async with _bench(stack, plan) as bench:
        for number in range(1 - plan.warm_ups, plan.repeats + 1):
            for work in plan.works:
                for each in await WORKS[work](bench):
                    say(f"{f'repeat {number}' if number > 0 else 'warm-up'}: {each.row()}")
                    if number > 0:
                        measurements.append(each)
    facts["load average after"] = load_average()
    return Result(conditions=facts, measurements=measurements)


@asynccontextmanager
async def _bench(stack: EmbeddedStack, plan: Plan) -> AsyncIterator[Bench]:
    with ExitStack() as resources:
        skills_pid, targets = [], "*=local:"
        has_remote = "remote" in plan.works
        if has_remote:
            server = child(resources, "benchmarks.skill_server", os.fspath(plan.artifact_dir))
            _, pid, address = server.wait_for(lambda line: line.startswith("ready "))[-1].split()
            skills_pid, targets = [int(pid)], f"{REMOTE_SKILL}=grpc://{address},*=local:"
        # For the engine in this process and, as they inherit it, those in others.
        os.environ.update(
            DATABASE_URL=stack.database_url,
            REDIS_URL=stack.redis_url,
            RUNENGINE_SKILLS=targets,
            RUNENGINE_ANONYMOUS="true",
            RUNENGINE_GRPC_ADDRESS="127.0.0.1:0",
        )
        ends = RunEnds()
        caller = await AnonymousAuthenticator().authenticate(None)
        async with engine_of(read_settings(), ends.ended) as engine:
            for workflow in workflows(has_remote=has_remote):
                await engine.services.register_workflow(caller, read_workflow(workflow), validate_only=False)
            yield Bench(
                engine=engine,
                caller=caller,
                ends=ends,
                processes=Processes(postgres=stack.postgres.pid, valkey=stack.valkey.pid, skills=skills_pid),
                n=plan.n,
            )


async def _valkey_version(redis_url: str) -> str:
    async with redis.asyncio.from_url(redis_url) as client:
        facts = await client.info("server")
    return str(facts.get("valkey_version") or facts["redis_version"])
