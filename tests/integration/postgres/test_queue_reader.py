"""Depth and age of the queue, read from a database whose runs are moved by hand."""

from collections.abc import AsyncIterator

import pytest

from runengine_server.adapters.postgres.queue_reader import PostgresQueueReader
from runengine_server.domain.ids import Tenant
from runengine_server.ports.queue_reader import QueueGroup, QueueState

from ...support.hand_driven import TENANT, CreateOptions, HandDriven, chain, hand_driven, wide

pytestmark = pytest.mark.anyio

OTHERS = Tenant("others")


@pytest.fixture
async def driven(database_url: str) -> AsyncIterator[HandDriven]:
    async with hand_driven(database_url) as hands:
        yield hands


def counted(groups: list[QueueGroup]) -> dict[tuple[QueueState, bool], int]:
    found: dict[tuple[QueueState, bool], int] = {}
    for group in groups:
        found[group.state, group.is_stuck] = found.get((group.state, group.is_stuck), 0) + group.steps
    return found


async def test_each_state_is_counted(driven: HandDriven) -> None:
    """Ready, delayed, held and running steps are told apart; what depends on them is not in the queue."""
    reader, engine = PostgresQueueReader(driven.database), await driven.engine()
    assert list(await reader.groups(None)) == []
    await driven.started(chain(3))
    await driven.started(wide(4))
    leases = await driven.lease(engine, 3)
    await driven.queue.tick(engine, [driven.attempt_failed(leases[0], delay_ms=60_000)], 0)
    await driven.queue.hold(engine, leases[1])
    groups = list(await reader.groups(None))
    assert counted(groups) == {
        (QueueState.READY, False): 2,
        (QueueState.DELAYED, False): 1,
        (QueueState.HELD, False): 1,
        (QueueState.RUNNING, False): 1,
    }
    assert all(0 <= group.oldest_ms < 60_000 for group in groups)
    assert all(group.workflow_digest and group.step is not None for group in groups)


async def test_followers_wait(driven: HandDriven) -> None:
    """A step that waits for another run's identical step is counted as waiting."""
    reader, engine = PostgresQueueReader(driven.database), await driven.engine()
    await driven.started(chain(1), variant="a")
    await driven.started(chain(1), variant="b")
    leader, follower = await driven.lease(engine, 2)
    flight = b"f" * 16
    await driven.database.fetchval("SELECT flights_claim($1, $2, $3)", [flight], [leader.run], [leader.step])
    await driven.queue.follow(engine, [(follower, flight)])
    assert counted(list(await reader.groups(None))) == {
        (QueueState.RUNNING, False): 1,
        (QueueState.WAITING, False): 1,
    }


async def test_what_is_stuck(driven: HandDriven) -> None:
    """Stuck are a step that nobody took for long, one far beyond its timeout, and all of an engine that is dead."""
    reader, engine = PostgresQueueReader(driven.database), await driven.engine()
    dead = await driven.engine()
    await driven.started(wide(4))
    (_,) = await driven.lease(engine, 1)
    (_,) = await driven.lease(dead, 1)
    assert set(counted(list(await reader.groups(None)))) == {(QueueState.READY, False), (QueueState.RUNNING, False)}
    change = driven.database.fetch
    await change("UPDATE step_queue SET available_at = now() - interval '31 seconds' WHERE engine IS NULL AND step = 3")
    await change("UPDATE step_queue SET leased_at = now() - interval '71 seconds' WHERE engine = $1", engine)
    await change("UPDATE engines SET lease_until = now() - interval '3 seconds' WHERE engine = $1", dead)
    groups = list(await reader.groups(None))
    assert counted(groups) == {
        (QueueState.READY, False): 1,
        (QueueState.READY, True): 1,
        (QueueState.RUNNING, True): 2,
    }
    assert max(group.oldest_ms for group in groups) >= 71_000
    stuck = await reader.conspicuous(TENANT, 100)
    assert [step.state for step in stuck] == [QueueState.RUNNING, QueueState.READY, QueueState.RUNNING]
    assert len(await reader.conspicuous(TENANT, 1)) == 1
    assert await reader.engines_alive() == 1


async def test_tenants_see_their_own(driven: HandDriven) -> None:
    """A tenant's counts and lists are of its own steps; all of them together are what nobody asks for by name."""
    reader, engine = PostgresQueueReader(driven.database), await driven.engine()
    mine = await driven.started(wide(2))
    await driven.started(wide(3), CreateOptions(tenant=OTHERS))
    for lease in await driven.lease(engine, 5):
        await driven.queue.tick(engine, [driven.attempt_failed(lease, delay_ms=60_000 + lease.step)], 0)
    assert sum(group.steps for group in await reader.groups(TENANT)) == 2
    assert sum(group.steps for group in await reader.groups(OTHERS)) == 3
    assert sum(group.steps for group in await reader.groups(None)) == 5
    delayed = await reader.conspicuous(TENANT, 100)
    assert [(step.run_id, step.step) for step in delayed] == [(mine.run_id, 0), (mine.run_id, 1)]
    assert all(step.next_attempt_at and step.state is QueueState.DELAYED and step.attempt == 2 for step in delayed)
