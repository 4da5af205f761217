"""When steps were ready, leased and ended, read after runs were moved by hand."""

from dataclasses import replace

import pytest

from runengine_server.adapters.postgres.step_times import PostgresStepTimes
from runengine_server.ports.step_times import StepTimes

from .conftest import TENANT, World, diamond

pytestmark = pytest.mark.anyio


async def test_each_settled_lease_has_its_times(world: World) -> None:
    """A result and a failed attempt say when they were leased and ended; only a result when its step was ready."""
    times = PostgresStepTimes(world.database)
    await world.create(diamond())
    (first,) = await world.lease()
    assert list(await times.settled([first])) == [None], "nothing is committed yet"
    await world.complete(world.attempt_failed(first), capacity=0)
    (second,) = await world.lease()
    (music, image) = await world.complete(world.executed(second))
    await world.complete(world.failed(music), capacity=0)
    stale = replace(second, epoch=second.epoch + 1)
    tried, done, failed, running, unknown = await times.settled([first, second, music, image, stale])
    assert tried is not None and tried.ready_at is None
    for result in (done, failed):
        assert result is not None and result.ready_at is not None
        assert result.ready_at <= result.leased_at <= result.ended_at
    assert done is not None and tried.ended_at <= done.leased_at
    assert (running, unknown) == (None, None)


async def test_the_steps_that_a_cancelled_run_leaves(world: World) -> None:
    """Those that were leased are stopped, with their times; those that waited are not among them."""
    made = await world.create(diamond())
    (first,) = await world.lease()
    (left, right) = await world.complete(world.executed(first))
    await world.store.cancel(TENANT, made.run_id, "ann", "")
    stopped = await PostgresStepTimes(world.database).stopped(made.key, 10)
    assert [(each.step, each.attempt) for each in stopped] == [(left.step, 1), (right.step, 1)]
    assert all(isinstance(each.times, StepTimes) and each.times.ready_at is not None for each in stopped)
    assert len(await PostgresStepTimes(world.database).stopped(made.key, 1)) == 1
