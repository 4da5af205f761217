"""What is said of a step that waits for another run's identical step: in events, lists and explanations."""

from dataclasses import replace

import pytest

from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.domain.cache import CacheDecision, CacheFlight, CacheKey, CacheQuery, Fingerprint
from runengine_server.domain.events import StepStatusChanged
from runengine_server.domain.ids import StepId
from runengine_server.domain.states import CacheOutcome, StepStatus
from runengine_server.ports.step_queue import Following, Lease
from runengine_server.service.explain_step import explain_step
from runengine_server.service.list_steps import list_steps
from runengine_server.service.messages import ListStepsRequest

from .conftest import CALLER, TENANT, Made, World, wide

pytestmark = pytest.mark.anyio


def query(lease: Lease) -> CacheQuery:
    return CacheQuery(
        key=CacheKey(tenant=TENANT, workflow_name="wide1", step_id=StepId("s0"), input_hash="ab" * 32),
        fingerprint=Fingerprint(skill_id="no.op", cache_version="1", cache_epoch=""),
        hot_ttl_s=60,
        claimant=(lease.run, lease.step),
    )


async def follow(world: World) -> tuple[Made, Lease, Made]:
    """A run that leads with its lease, and one that follows."""
    cache = PostgresOutputCache(world.database)
    leader = await world.create(wide(1))
    (led,) = await world.lease()
    await cache.lookup([query(led)])
    follower = await world.create(wide(1))
    (lease,) = await world.lease()
    assert await cache.lookup([query(lease)]) == [CacheFlight(flight=query(lease).flight)]
    followed = await world.queue.follow(world.engine, [(lease, query(lease).flight)])
    assert list(followed.outcomes) == [Following.WAITING]
    return leader, led, follower


def joining(leader: Made) -> CacheDecision:
    return CacheDecision(outcome=CacheOutcome.JOINED, source_run_id=leader.run_id, source_step_id=StepId("s0"))


async def test_one_event_names_the_leader(world: World) -> None:
    """The event of a step that begins to wait carries the leader's run and step; no other event of it does."""
    leader, _, follower = await follow(world)
    page = await world.log.read(follower.identity, follower.compiled.workflow, after=0, limit=100)
    assert page is not None
    changes = [event.detail for event in page.events if isinstance(event.detail, StepStatusChanged)]
    last = changes.pop()
    assert (last.from_status, last.to_status, last.cache) == (StepStatus.RUNNING, StepStatus.READY, joining(leader))
    assert not any(change.cache for change in changes)


async def test_a_waiting_step_is_ready_and_says_for_whom(world: World) -> None:
    """Lists and explanations show it READY, with the run that leads at that moment, and no attempt begun."""
    leader, led, follower = await follow(world)
    (step,) = (await list_steps(world.read, CALLER, ListStepsRequest(run_id=follower.run_id))).steps
    assert (step.status, step.attempt, step.started_at, step.cache) == (StepStatus.READY, 0, None, joining(leader))
    explained = await explain_step(world.read, CALLER, follower.run_id, "s0")
    assert explained.text[0] == (
        f"s0 waits for the identical step of run {leader.run_id}, which is under way, and will use its output."
    )
    await world.complete(world.failed(led), capacity=0)
    (step,) = (await list_steps(world.read, CALLER, ListStepsRequest(run_id=follower.run_id))).steps
    assert (step.status, step.cache) == (StepStatus.READY, None), "it leads now"


async def test_the_wait_is_no_part_of_the_attempt(world: World) -> None:
    """A follower that has to execute after all began when it was leased for that, also after its lease was lost."""
    _, led, follower = await follow(world)
    await world.database.fetch(
        "UPDATE run_events SET occurred_at = occurred_at - interval '1 hour' WHERE run = $1", follower.key
    )
    await world.complete(world.failed(led), capacity=0)
    (lease,) = await world.lease()
    assert (lease.run, lease.attempt, lease.epoch) == (follower.key, 1, 2)
    began_at = await world.database.fetchval("SELECT leased_at FROM step_queue WHERE run = $1", follower.key)
    (step,) = (await list_steps(world.read, CALLER, ListStepsRequest(run_id=follower.run_id))).steps
    assert (step.attempt, step.started_at) == (1, began_at)
    await world.queue.hand_back([lease])
    (lease,) = await world.lease()
    await world.complete(replace(world.executed(lease), flight=query(lease).flight))
    (step,) = (await list_steps(world.read, CALLER, ListStepsRequest(run_id=follower.run_id))).steps
    assert step.started_at == began_at
    assert step.duration_ms is not None
    assert step.duration_ms < 60_000
