"""A hundred thousand ready steps delay another tenant, and a small run of their own, by no more than a turn."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from runengine_server.domain.ids import Tenant

from ...support.hand_driven import CreateOptions, HandDriven, dag, hand_driven, wide

pytestmark = pytest.mark.anyio

RUNS, STEPS = 10, 10_000
LOUD, QUIET = CreateOptions(tenant=Tenant("loud"), priority=9), CreateOptions(tenant=Tenant("quiet"))


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    """A database, with a hundred thousand ready steps of one tenant in it."""
    async with hand_driven(database_url) as driven:
        for _ in range(RUNS):
            await driven.started(wide(STEPS), LOUD)
        yield driven


async def test_a_flood_delays_others_by_a_turn_at_most(driven: HandDriven) -> None:
    """The next turn of either engine leases the other tenant's step, also while the flood leases what it unlocks."""
    engines = [await driven.engine(), await driven.engine()]
    held = {engine: await driven.lease(engine, 50) for engine in engines}
    for engine in engines:
        quiet = await driven.started(wide(1), QUIET)
        turn = await driven.queue.tick(engine, [driven.executed(lease) for lease in held[engine]], 50)
        assert quiet.key in {lease.run for lease in turn.leases}
    fan_out = dag("fan_out", [[], *([0] for _ in range(200))])
    unlocking = await driven.started(fan_out, CreateOptions(tenant=Tenant("loud"), priority=9))
    (root,) = (lease for lease in await driven.lease(engines[0], 50) if lease.run == unlocking.key)
    quiet = await driven.started(wide(1), QUIET)
    turn = await driven.queue.tick(engines[0], [driven.executed(root)], 50)
    leased = [lease.run for lease in turn.leases]
    assert quiet.key in leased
    assert 25 <= leased.count(unlocking.key) <= 27, "half of the turn, and its part of what is left"


async def test_a_flood_delays_a_small_run_by_a_turn_at_most(driven: HandDriven) -> None:
    """A run of the same tenant and priority gets its part of the next turn, whatever the older ones have waiting."""
    engine = await driven.engine()
    small = await driven.started(wide(2), LOUD)
    leased = Counter(lease.run for lease in await driven.lease(engine, 55))
    assert leased[small.key] == 2
    assert leased.total() == 55
    assert all(leased[run] >= 5 for run in driven.runs if run != small.key)
