"""Whether work slows down with history: after many finished steps, and while a snapshot keeps old rows alive."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from statistics import median
from time import perf_counter
from typing import Final

import asyncpg

from benchmarks.bench import Bench
from benchmarks.databases import Databases
from benchmarks.figures import Figures, Say
from benchmarks.history import fill
from benchmarks.result import Result
from benchmarks.stage import measure_figures, opened_bench, run_async
from benchmarks.workload import workflows
from benchmarks.works import CALLERS, one20

_END: Final = 0.1
"""The part of the churn, at its beginning and at its end, that is compared."""


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """w1 and one20 have been measured after each number of finished steps; w1 then went on under an open snapshot."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    async with opened_bench(databases, workflows(has_remote=False), n=[options.n]) as bench:
        await _burst(bench)
        for steps in options.steps:
            await fill(databases.database_url, steps, figures.say)
            work = f"after {steps:,} finished steps"
            for number in range(options.reps + 1):
                found = (await _burst(bench), (await one20(bench))[0].latency_ms(50))
                if number > 0:
                    figures.add(work, f"w1, N = {options.n}", "steps/s", found[0])
                    figures.add(work, "one20, p50", "ms", found[1])
        _compare(figures, options)
        if options.churn_s:
            await _churn(databases, bench, options.churn_s, figures)


def _compare(figures: Figures, options: argparse.Namespace) -> None:
    """What the most steps cost, as a ratio to the fewest."""
    fewest, most = options.steps[0], options.steps[-1]
    medians = {(each.work, each.what): each.median for each in figures.all()}
    for what in (f"w1, N = {options.n}", "one20, p50"):
        ratio = medians[f"after {most:,} finished steps", what] / medians[f"after {fewest:,} finished steps", what]
        figures.add(f"{most:,} finished steps to {fewest:,}", what, "×", ratio)


async def _churn(databases: Databases, bench: Bench, seconds: float, figures: Figures) -> None:
    rates = []
    async with _snapshot(databases):
        end = perf_counter() + seconds
        while perf_counter() < end:
            rates.append(await _burst(bench))
    part = ceil(len(rates) * _END)
    work, first, last = f"{seconds:g} s under an open snapshot", rates[:part], rates[-part:]
    for what, some in (("the first tenth", first), ("the last tenth", last)):
        for rate in some:
            figures.add(work, f"w1, N = {bench.n[0]}, {what}", "steps/s", rate)
    figures.add(work, "the last tenth to the first", "×", median(last) / median(first))


@asynccontextmanager
async def _snapshot(databases: Databases) -> AsyncIterator[None]:
    """A transaction that sees everything as it is now, and so lets nothing be vacuumed away."""
    connection = await asyncpg.connect(databases.database_url)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval("SELECT count(*) FROM engines")
        yield
    finally:
        await connection.close()


async def _burst(bench: Bench) -> float:
    return (await bench.burst("w1", "bench.campaign", bench.n[0], callers=CALLERS)).rate
