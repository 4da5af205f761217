"""Ticks that race: with cancels, with each other, at joins of many steps, in runs of many chunks."""

from collections import Counter
from collections.abc import AsyncIterator

import anyio
import asyncpg
import pytest

from runengine_server.domain.ids import EngineNo, StepNo
from runengine_server.ports.step_queue import Lease

from ...support.hand_driven import (
    TENANT,
    CreateOptions,
    DrivenRun,
    HandDriven,
    dag,
    fan_in,
    hand_driven,
    wide,
)
from ...support.invariants import check_invariants, report

pytestmark = pytest.mark.anyio

RUN_COMPLETED, RUN_CANCELLED = 3, 5


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """An empty database; afterwards every invariant holds."""
    async with hand_driven(database_url) as driven:
        yield driven
    connection = await asyncpg.connect(database_url)
    try:
        violations = await check_invariants(connection)
        assert not violations, report(violations)
    finally:
        await connection.close()


async def test_cancel_races_with_completion(driven: HandDriven) -> None:
    """Whoever wins, after a cancel returned the run is cancelled, or it was complete before; results agree."""
    engine = await driven.engine()
    outcomes: Counter[tuple[bool | None, bool]] = Counter()
    for _ in range(40):
        run = await driven.started(wide(1))
        (held,) = await driven.lease(engine, 1)
        said: dict[str, bool | None] = {}

        async def cancel(run: DrivenRun = run, said: dict[str, bool | None] = said) -> None:
            said["cancelled"] = await driven.store.cancel(TENANT, run.run_id, "ann", "")

        async def complete(held: Lease = held, said: dict[str, bool | None] = said) -> None:
            said["accepted"] = (await driven.queue.tick(engine, [driven.executed(held)], 0)).accepted[0]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            tasks.start_soon(complete)
        assert said["cancelled"] is not said["accepted"]
        assert await driven.status(run) == (RUN_CANCELLED if said["cancelled"] else RUN_COMPLETED)
        outcomes[said["cancelled"], bool(said["accepted"])] += 1
    assert sum(outcomes.values()) == 40


async def test_failing_runs_of_two_engines_do_not_deadlock(driven: HandDriven) -> None:
    """Engines that settle failing runs while the other leases ready steps of them never wait for each other."""
    engines = [await driven.engine(), await driven.engine()]
    for _ in range(60):
        held = []
        for engine, priority in zip(engines, (0, 9), strict=True):
            await driven.started(wide(30), CreateOptions(priority=priority))
            held.append((await driven.lease(engine, 1))[0])
        assert held[0].run != held[1].run

        async def fail(engine: EngineNo, failing: Lease) -> None:
            await driven.queue.tick(engine, [driven.step_failed(failing)], 25)

        async with anyio.create_task_group() as tasks:
            for engine, failing in zip(engines, held, strict=True):
                tasks.start_soon(fail, engine, failing)
    assert await driven.database.fetchval("SELECT count(*) FROM run_progress WHERE status < 3") == 0


async def test_a_thousand_predecessors_on_two_engines(driven: HandDriven) -> None:
    """1,000 steps that end at once on two engines make their common dependent ready exactly once."""
    engines = [await driven.engine(), await driven.engine()]
    run = await driven.started(fan_in(1000))
    held = [await driven.lease(engine, 500) for engine in engines]
    assert [len(leases) for leases in held] == [500, 500]
    last: list[Lease] = []

    async def complete(engine: EngineNo, leases: list[Lease]) -> None:
        for at in range(0, len(leases), 50):
            batch = [driven.executed(one) for one in leases[at : at + 50]]
            last.extend((await driven.queue.tick(engine, batch, 5)).leases)

    async with anyio.create_task_group() as tasks:
        for engine, leases in zip(engines, held, strict=True):
            tasks.start_soon(complete, engine, leases)
    assert [taken.step for taken in last] == [1000]
    for engine in engines:
        await driven.queue.tick(engine, [driven.executed(last[0])], 0)
    assert await driven.status(run) == RUN_COMPLETED


async def test_runs_beyond_one_chunk(driven: HandDriven) -> None:
    """Dependencies that cross the chunks of 1,000 steps are counted in the right one."""
    count = 2_300
    layers = [[] if n < 100 else [n - 100, *([n - 99] if n % 100 != 99 else [])] for n in range(count)]
    engine = await driven.engine()
    run = await driven.started(dag("layers", layers))
    leases = await driven.lease(engine, 500)
    seen = 0
    while leases:
        seen += len(leases)
        leases = list((await driven.queue.tick(engine, [driven.executed(one) for one in leases], 500)).leases)
    assert seen == count
    assert await driven.status(run) == RUN_COMPLETED


async def test_a_reused_step_is_never_queued(driven: HandDriven) -> None:
    """A step that is reused although it only waits, by order, for one that executes, does not run once that ends."""
    engine = await driven.engine()
    workflow = dag("ordered", [[], [0], [1]])
    base = await driven.started(workflow)
    leases = await driven.lease(engine)
    while leases:
        leases = list((await driven.queue.tick(engine, [driven.executed(one) for one in leases], 10)).leases)
    update = await driven.started(workflow, CreateOptions(base=base.key, reused={1: driven.binding(base, 1)}))
    leases = await driven.lease(engine)
    assert sorted(taken.step for taken in leases) == [0, 2]
    turn = await driven.queue.tick(engine, [driven.executed(one) for one in leases], 10)
    assert all(turn.accepted) and not turn.leases
    assert await driven.status(update) == RUN_COMPLETED


async def test_priority_goes_first(driven: HandDriven) -> None:
    """Ready steps are leased by priority, then by age."""
    engine = await driven.engine()
    runs = [await driven.started(wide(1), CreateOptions(priority=priority)) for priority in (0, 9, 0, 5)]
    order = [taken.run for taken in await driven.lease(engine)]
    assert order == [runs[n].key for n in (1, 3, 0, 2)]


async def test_capacity_bounds_what_a_turn_readies(driven: HandDriven) -> None:
    """Steps made ready beyond an engine's capacity wait in the queue for whoever is free."""
    engine, other = await driven.engine(), await driven.engine()
    await driven.started(dag("burst", [[], *([0] for _ in range(10))]))
    (first,) = await driven.lease(engine)
    turn = await driven.queue.tick(engine, [driven.executed(first)], 3)
    assert len(turn.leases) == 3
    taken = await driven.lease(other)
    assert len(taken) == 7
    assert {StepNo(n) for n in range(1, 11)} == {one.step for one in [*turn.leases, *taken]}
