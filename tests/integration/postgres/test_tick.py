"""What one tick does: the fence, retries, failure policies, lost leases, deadlines, cancels, joins of many steps."""

from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import anyio
import asyncpg
import pytest

from runengine_server.adapters.postgres.database import Database, open_database
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry
from runengine_server.domain.ids import EngineNo, RunKey
from runengine_server.domain.states import FailurePolicy
from runengine_server.ports.step_queue import Lease

from ...support.hand_driven import (
    CreateOptions,
    DrivenRun,
    HandDriven,
    chain,
    dag,
    file_named,
    hand_driven,
    wide,
)
from ...support.invariants import check_invariants, report

pytestmark = pytest.mark.anyio

LOSSES_MAX = 5
COMPLETED, FAILED, CANCELLED = 4, 6, 7
RUN_COMPLETED, RUN_FAILED = 3, 4


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


async def results(driven: HandDriven, run: DrivenRun) -> dict[int, tuple[int, str]]:
    """Status and error code of every ended step."""
    rows = await driven.database.fetch(
        "SELECT step, status, convert_from(error, 'UTF8')::json ->> 'code' AS code FROM step_results WHERE run = $1",
        run.key,
    )
    return {row["step"]: (row["status"], row["code"]) for row in rows}


async def expire(driven: HandDriven, engine: EngineNo) -> None:
    await driven.database.fetch(
        "UPDATE engines SET lease_until = clock_timestamp() - interval '1 second' WHERE engine = $1", engine
    )


async def until_somebody_waits(database: Database) -> None:
    with anyio.fail_after(10):
        while True:
            if await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                return
            await anyio.sleep(0.01)


# -- the fence


async def test_a_completion_counts_once(driven: HandDriven) -> None:
    """The same completion, twice in one tick and again later, is accepted once and changes nothing more."""
    engine = await driven.engine()
    run = await driven.started(chain(2))
    (first,) = await driven.lease(engine)
    done = driven.executed(first, file_named("a"), is_filed=True)
    turn = await driven.queue.tick(engine, [done, done], 10)
    assert sum(turn.accepted) == 1
    assert [taken.step for taken in turn.leases] == [1]
    again = await driven.queue.tick(engine, [done], 10)
    assert not any(again.accepted) and not again.leases
    assert await driven.status(run) == 2


@pytest.mark.parametrize("wrong", ["engine", "epoch", "unknown run"])
async def test_a_stale_completion_changes_nothing(driven: HandDriven, wrong: str) -> None:
    """A completion of another engine, another epoch or a run that is not there is not accepted; the rest is."""
    engine, other = await driven.engine(), await driven.engine()
    run = await driven.started(wide(2))
    mine, valid = await driven.lease(engine)
    stale = Lease(run=mine.run, step=mine.step, epoch=mine.epoch + 1, attempt=1, lease_losses=0)
    if wrong == "unknown run":
        stale = Lease(run=RunKey(run.key + 1000), step=mine.step, epoch=1, attempt=1, lease_losses=0)
        driven.runs[stale.run] = run
    if wrong == "engine":
        turn = await driven.queue.tick(other, [driven.executed(mine)], 0)
        assert list(turn.accepted) == [False]
    else:
        turn = await driven.queue.tick(engine, [driven.executed(stale), driven.executed(valid)], 0)
        assert list(turn.accepted) == [False, True]
    assert mine.step not in await results(driven, run)


async def test_a_late_result_after_lease_loss_is_refused(driven: HandDriven) -> None:
    """After a step was taken back and leased anew, its first holder's result is not accepted, the second's is."""
    slept, quick = await driven.engine(), await driven.engine()
    run = await driven.started(wide(1))
    (old,) = await driven.lease(slept)
    await expire(driven, slept)
    assert (await driven.registry.reap()).runs == [run.key]
    (new,) = await driven.lease(quick)
    assert (new.epoch, new.attempt, new.lease_losses) == (old.epoch + 1, old.attempt, 1)
    assert list((await driven.queue.tick(slept, [driven.executed(old)], 0)).accepted) == [False]
    assert list((await driven.queue.tick(quick, [driven.executed(new)], 0)).accepted) == [True]
    assert await driven.status(run) == RUN_COMPLETED


# -- retries


async def test_a_retry_counts_tries_not_losses(driven: HandDriven) -> None:
    """Each retry is the next attempt with the next epoch; a lost lease is neither; both are recorded."""
    engine = await driven.engine()
    run = await driven.started(wide(1))
    (first,) = await driven.lease(engine)
    (second,) = (await driven.queue.tick(engine, [driven.attempt_failed(first)], 1)).leases
    assert (second.epoch, second.attempt, second.lease_losses) == (2, 2, 0)
    dead = engine
    await expire(driven, dead)
    await driven.registry.reap()
    engine = await driven.engine()
    (third,) = await driven.lease(engine)
    assert (third.epoch, third.attempt, third.lease_losses) == (3, 2, 1)
    await driven.queue.tick(engine, [driven.executed(third)], 0)
    row = await driven.database.fetchrow(
        "SELECT attempt, lease_losses, lease_epoch FROM step_results WHERE run = $1", run.key
    )
    assert row is not None and tuple(row) == (2, 1, 3)
    tries = await driven.database.fetch("SELECT attempt, lease_epoch FROM step_attempts WHERE run = $1", run.key)
    assert [tuple(row) for row in tries] == [(1, 1)]


async def test_a_backoff_is_waited_for(driven: HandDriven) -> None:
    """A delayed retry is not leased before its time, and an idle tick says how long that is."""
    engine = await driven.engine()
    await driven.started(wide(1))
    (first,) = await driven.lease(engine)
    turn = await driven.queue.tick(engine, [driven.attempt_failed(first, delay_ms=60_000)], 10)
    assert not turn.leases
    assert turn.next_available_s is not None and 50 < turn.next_available_s <= 60


# -- failing runs


async def test_finish_running_lets_attempts_end(driven: HandDriven) -> None:
    """After a failure nothing more of the run starts or is retried; what runs may end, and the run fails with it."""
    engine = await driven.engine()
    run = await driven.started(dag("mixed", [[], [], [], [], [2]]))
    failing, good, unlucky = await driven.lease(engine, 3)
    turn = await driven.queue.tick(engine, [driven.step_failed(failing)], 10)
    assert not turn.leases and await driven.status(run) == 2
    assert await results(driven, run) == {0: (FAILED, "SKILL_FAILED"), 3: (CANCELLED, "UPSTREAM_FAILED")}
    turn = await driven.queue.tick(engine, [driven.executed(good), driven.attempt_failed(unlucky)], 10)
    assert list(turn.accepted) == [True, True] and not turn.leases
    assert [(ended.status, ended.failed_step) for ended in turn.ended] == [(RUN_FAILED, 0)]
    assert (await results(driven, run))[1][0] == COMPLETED
    assert (await results(driven, run))[2] == (FAILED, "SKILL_TIMEOUT")
    assert (await results(driven, run))[4] == (CANCELLED, "UPSTREAM_FAILED")


async def test_fail_fast_cancels_attempts(driven: HandDriven) -> None:
    """With FAIL_FAST the run ends with the failure, and what ran is cancelled and its results refused."""
    engine = await driven.engine()
    run = await driven.started(wide(3), CreateOptions(policy=FailurePolicy.FAIL_FAST))
    failing, running = await driven.lease(engine, 2)
    turn = await driven.queue.tick(engine, [driven.step_failed(failing)], 10)
    assert [ended.status for ended in turn.ended] == [RUN_FAILED]
    assert not (await driven.queue.tick(engine, [driven.executed(running)], 10)).accepted[0]
    assert {step: status for step, (status, _) in (await results(driven, run)).items()} == {
        0: FAILED, 1: CANCELLED, 2: CANCELLED,
    }  # fmt: skip


async def test_a_poison_step_ends_its_run(driven: HandDriven) -> None:
    """A step whose engine is lost again and again fails at the cap; its attempts are not counted."""
    run = await driven.started(wide(1))
    for losses in range(LOSSES_MAX + 1):
        engine = await driven.engine()
        (held,) = await driven.lease(engine)
        assert (held.attempt, held.lease_losses) == (1, losses)
        await expire(driven, engine)
        await driven.registry.reap()
    assert await driven.status(run) == RUN_FAILED
    assert await results(driven, run) == {0: (FAILED, "LEASE_LOST_REPEATEDLY")}


async def test_released_leases_are_no_losses(driven: HandDriven) -> None:
    """An engine that shuts down hands its steps back without counting a loss."""
    engine, other = await driven.engine(), await driven.engine()
    run = await driven.started(wide(2))
    await driven.lease(engine, 2)
    assert set((await driven.registry.retire(engine)).runs) == {run.key}
    assert [(taken.attempt, taken.lease_losses) for taken in await driven.lease(other)] == [(1, 0), (1, 0)]


# -- engines and time


async def test_an_engine_without_a_lease_leases_nothing(driven: HandDriven) -> None:
    """An engine that was declared dead may commit nothing it lost, and gets no step under its old number."""
    slept = await driven.engine()
    await driven.started(wide(2))
    (held,) = await driven.lease(slept, 1)
    await expire(driven, slept)
    assert not await driven.lease(slept)
    while (await driven.registry.reap()).runs:
        pass
    turn = await driven.queue.tick(slept, [driven.executed(held)], 10)
    assert not turn.accepted[0] and not turn.leases
    assert not await driven.registry.renew(slept, 10)


async def test_orphaned_leases_are_taken_back(driven: HandDriven) -> None:
    """A lease of an engine that has no row any more goes back to the queue."""
    gone, alive = await driven.engine(), await driven.engine()
    run = await driven.started(wide(1))
    await driven.lease(gone)
    await driven.database.fetch("DELETE FROM engines WHERE engine = $1", gone)
    assert (await driven.registry.reap()).runs == [run.key]
    assert [taken.lease_losses for taken in await driven.lease(alive)] == [1]


async def test_overdue_leases_are_taken_back_from_the_living(driven: HandDriven) -> None:
    """A lease held 10 s beyond its timeout goes back though its engine lives; one within its time does not."""
    engine = await driven.engine()
    stuck = await driven.started(wide(1), CreateOptions(timeout_ms=1_000))
    slow = await driven.started(wide(1), CreateOptions(timeout_ms=60_000))
    await driven.lease(engine, 2)
    await driven.database.fetch("UPDATE step_queue SET leased_at = leased_at - interval '11.5 seconds'")
    assert (await driven.registry.reap()).runs == [stuck.key]
    assert [held.run for held in (await driven.queue.owned(engine)).leases] == [slow.key]


async def test_a_held_attempt_is_not_overdue_until_it_began(driven: HandDriven) -> None:
    """An attempt that waits for a slot keeps its lease; once begun its timeout counts from there."""
    engine = await driven.engine()
    run = await driven.started(wide(1), CreateOptions(timeout_ms=1_000))
    (held,) = await driven.lease(engine)
    await driven.queue.hold(engine, held)
    await driven.database.fetch("UPDATE step_queue SET leased_at = leased_at - interval '1 hour'")
    assert not (await driven.registry.reap()).runs
    assert await driven.queue.begin(engine, held, 1_000)
    assert await reaped_later(driven, 10.5) == []
    assert await reaped_later(driven, 11.5) == [run.key]


async def test_a_held_lease_that_is_lost_can_be_overdue_again(driven: HandDriven) -> None:
    """Whoever takes the step over gets its own timeout, not the waiting of the engine that died."""
    gone, alive = await driven.engine(), await driven.engine()
    run = await driven.started(wide(1), CreateOptions(timeout_ms=1_000))
    (held,) = await driven.lease(gone)
    await driven.queue.hold(gone, held)
    await expire(driven, gone)
    assert (await driven.registry.reap()).runs == [run.key]
    await driven.lease(alive)
    assert await reaped_later(driven, 11.5) == [run.key]


async def reaped_later(driven: HandDriven, seconds: float) -> list[int]:
    """What is taken back when the steps had been leased so much earlier."""
    earlier = "UPDATE step_queue SET leased_at = clock_timestamp() - $1 * interval '1 second'"
    await driven.database.fetch(earlier, seconds)
    return list((await PostgresEngineRegistry(driven.database).reap()).runs)


async def test_heartbeats_wait_for_nothing(driven: HandDriven) -> None:
    """An engine's lease is renewed at once while its own reaper waits for a run that another transaction holds."""
    dead = await driven.engine()
    run = await driven.started(wide(1))
    await driven.lease(dead)
    await expire(driven, dead)
    async with open_database(driven.url, connections_max=1) as heartbeats:
        registry = PostgresEngineRegistry(heartbeats, driven.database)
        alive = await registry.register(str(uuid4()), "alive", 60.0)
        reaped = anyio.Event()

        async def reap() -> None:
            assert (await registry.reap()).runs == [run.key]
            reaped.set()

        async with (
            anyio.create_task_group() as tasks,
            driven.database.connection() as connection,
            connection.transaction(),
        ):
            await connection.fetch("SELECT FROM run_progress WHERE run = $1 FOR UPDATE", run.key)
            tasks.start_soon(reap)
            await until_somebody_waits(heartbeats)
            assert await registry.renew(alive, 60.0)
            assert not reaped.is_set()


async def test_a_deadline_ends_a_run(driven: HandDriven) -> None:
    """A run beyond its deadline fails with RUN_DEADLINE_EXCEEDED and nothing of it is leased any more."""
    engine = await driven.engine()
    late = await driven.started(chain(2), CreateOptions(deadline_s=0.001))
    early = await driven.started(chain(2), CreateOptions(deadline_s=600))
    held = await driven.lease(engine)
    assert [ended.run for ended in await driven.registry.enforce_deadlines()] == [late.key]
    assert set((await results(driven, late)).values()) == {(CANCELLED, "RUN_CANCELLED")}
    assert await driven.status(late) == RUN_FAILED and await driven.status(early) == 2
    turn = await driven.queue.tick(engine, [driven.executed(one) for one in held], 10)
    assert Counter(turn.accepted) == {True: 1, False: 1}
