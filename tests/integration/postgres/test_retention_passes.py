"""Passes of retention: cut short, beside each other, beside engines at work, and what they say."""

import logging
from random import Random
from typing import Any

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres import retention
from runengine_server.adapters.postgres.queries import sql
from runengine_server.adapters.postgres.retention import Deleted, Retention, RetentionSettings
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.domain.errors import NotFoundError
from runengine_server.domain.ids import StepNo

from ...support.hand_driven import CreateOptions, DrivenRun
from .past_runs import DAY_S, DIAMOND, HISTORY, KEPT, Past

pytestmark = pytest.mark.anyio


async def test_a_pass_that_dies_is_finished_by_the_next(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever an engine ends, what it left is consistent, and the next pass comes to the same end."""
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 1)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 3)
    for n in range(3):
        await past.run(31 + n)
    passes = 0
    while True:
        passes += 1
        await past.driven.database.fetch("UPDATE deleted_runs SET next_at = now()")
        statements = 0

        async def dies(self: Any, query: str, *arguments: object, after: int = passes) -> asyncpg.Record:
            nonlocal statements
            statements += 1
            if statements > after:
                raise ConnectionResetError("the engine died")
            row = await self.database.fetchrow(sql(query), *arguments)
            assert row is not None
            return row

        with monkeypatch.context() as patched:
            patched.setattr(retention._Pass, "_row", dies)
            await past.driven.database.fetch("DELETE FROM housekeeping")
            try:
                await Retention(past.driven.database, KEPT, ObserverGroup([])).run_if_due()
            except ConnectionResetError:
                await past.check()
            else:
                break
    assert passes > 5
    await past.retire_later()
    await past.retire_later()
    for table in (*HISTORY, "runs", "deleted_runs"):
        assert await past.driven.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_one_engine_does_it_for_all(past: Past, caplog: pytest.LogCaptureFixture) -> None:
    """Of two engines one makes the pass, and says in a line what it deleted; one without anything to do is silent."""
    await past.run(31)
    made = [await Retention(past.driven.database, KEPT, ObserverGroup([])).run_if_due() for _ in range(2)]
    assert made[0] is not None
    assert (made[0].runs, made[1]) == (1, None)
    with caplog.at_level(logging.INFO, "runengine.retention"):
        await past.retire()
        assert caplog.messages == []
        await past.retire_later()
        await past.retire_later()
    assert caplog.messages == ["[RunEngine] Retention: deleted runs=0, events=0, outputs=4, artifacts=2, audit=0"]


async def test_passes_at_once_with_runs_that_begin_and_end(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes that overlap, beside engines at work on runs that reuse what is being deleted, lock nobody out; every
    run that was begun has whole reuses.
    """
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 3)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 20)
    bases = [await past.run(31, is_filed=n % 2 == 0, variant=str(n)) for n in range(12)]
    begun: list[DrivenRun] = []

    async def passes() -> None:
        for _ in range(4):
            await past.driven.database.fetch("UPDATE deleted_runs SET next_at = now() WHERE run % 2 = 0")
            await retention._Pass(past.driven.database, KEPT).make()

    async def builds() -> None:
        for base in bases:
            reused = {n: past.driven.binding(base, n) for n in range(3)}
            options = CreateOptions(base=base.key, reused=reused)
            try:
                run = await past.driven.create(DIAMOND, options, variant=base.variant)
            except NotFoundError:
                continue
            assert isinstance(run, DrivenRun)
            begun.append(run)
            await past.finish(run)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(passes)
        tasks.start_soon(passes)
        tasks.start_soon(builds)
    assert begun
    outputs = await past.driven.store.outputs([(run.key, StepNo(n)) for run in begun for n in range(4)])
    assert len(outputs) == 4 * len(begun)
    await past.check()


async def test_a_pass_ends_before_the_next(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to delete, a pass ends in time for another engine to make the next; that one goes on."""
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 1)
    for _ in range(3):
        await past.run(31)
    past.settings = RetentionSettings(runs_s=30 * DAY_S, events_s=None, audit_s=None, interval_s=0.0)
    assert await past.retire() == Deleted(runs=1, is_cut=True)
    past.settings = KEPT
    assert (await past.retire()).runs == 2


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories(past: Past, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs take over from each other and from the cache, and whenever they and entries go: what is retained is
    whole at any time, and in the end nothing is left.
    """
    random = Random(seed)
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", random.choice([1, 4, 500]))
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", random.choice([1, 10, 5_000]))
    database = past.driven.database
    made: dict[int, dict[StepNo, tuple[DrivenRun, int]]] = {}  # by run: who executed each of its steps
    runs: list[DrivenRun] = []

    async def begin() -> None:
        retained = {row["run"] for row in await database.fetch("SELECT run FROM runs")}
        bases = [run for run in runs if run.key in retained]
        base = random.choice(bases) if bases and random.random() < 0.6 else None
        taken = random.sample(sorted(made[base.key]), random.randint(1, 4)) if base else []
        reused = {int(step): past.driven.binding(*made[base.key][step]) for step in taken} if base else {}
        variant = base.variant if base else str(random.randint(0, 2))
        options = CreateOptions(base=base.key if base else None, reused=reused)
        run = await past.run(
            random.choice([0, 0, 20]), options=options, variant=variant, is_filed=random.random() < 0.5
        )
        made[run.key] = {StepNo(step): made[base.key][StepNo(step)] if base else (run, step) for step in reused}
        made[run.key] |= {StepNo(step): (run, step) for step in range(4) if step not in reused}
        runs.append(run)

    async def grow_old() -> None:
        for run in random.sample(runs, min(3, len(runs))):
            await past.age(run, random.choice([5, 40]))

    async def evict() -> None:
        await database.fetch("UPDATE step_cache SET step = -6, created_at = now() WHERE random() < 0.3 AND step >= 0")

    for _ in range(40):
        await random.choice([begin, begin, begin, grow_old, evict, past.retire, past.retire_later])()
    for run in runs:
        await past.age(run, 40)
    await database.fetch("DELETE FROM step_cache")
    for _ in range(5):
        await past.retire_later()
    for table in (*HISTORY, "runs", "deleted_runs", "artifact_contents"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
