"""Rates and latencies: engine up, workflows registered, rounds of all chosen work; the first rounds do not count.

Rounds, rather than all repeats of one work after another, so that each work meets the same noise of the machine.
"""

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench import Bench
from benchmarks.conditions import conditions, load_average
from benchmarks.databases import Databases
from benchmarks.engine_rows import engine_table
from benchmarks.figures import Say
from benchmarks.result import Result
from benchmarks.stage import LOCAL, opened_bench, run_async, started_skill_server
from benchmarks.workload import REMOTE_SKILL, workflows
from benchmarks.works import WORKS


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """Every chosen work has been measured `reps` times, after the warm-ups.

    Raises:
        BenchmarkError: a run failed.
    """
    return run_async(_measure(databases, options, say))


async def _measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    facts = dict(await conditions(databases))
    for name, fact in facts.items():
        say(f"{name}: {fact}")
    measurements = []
    async with engine_bench(databases, options.work, options.n) as bench:
        for number in range(1 - options.warm_ups, options.reps + 1):
            for work in options.work:
                for each in await WORKS[work](bench):
                    say(f"{f'repeat {number}' if number > 0 else 'warm-up'}: {each.row()}")
                    if number > 0:
                        measurements.append(each)
    facts["load average after"] = load_average()
    rows = [each.row() for each in measurements]
    return Result(conditions=facts, rows=rows, text=engine_table(rows))


@asynccontextmanager
async def engine_bench(databases: Databases, works: Sequence[str], n: Sequence[int]) -> AsyncIterator[Bench]:
    """An engine that can do the works; with a skill server if one of them is remote."""
    has_remote = "remote" in works
    with ExitStack() as resources:
        pids, settings = [], LOCAL
        if has_remote:
            folder = Path(resources.enter_context(TemporaryDirectory(prefix="runengine-bench-")))
            pid, address = started_skill_server(resources, folder)
            pids, settings = [pid], {"RUNENGINE_SKILLS": f"{REMOTE_SKILL}=grpc://{address},*=local:"}
        async with opened_bench(
            databases, workflows(has_remote=has_remote), n=n, settings=settings, skill_pids=pids
        ) as bench:
            yield bench
