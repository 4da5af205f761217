"""What a turn of the queue must do, in memory and on PostgreSQL."""

from uuid import uuid4

import pytest

from runengine_server.domain.ids import StepNo
from runengine_server.domain.states import FailurePolicy, OutputSource, RunStatus
from runengine_server.ports.step_queue import Lease

from .queue_subject import Subject, lease_one
from .queue_values import (
    CHAIN,
    COMPLETED,
    DIAMOND,
    FAILED,
    LONG_MS,
    MISS,
    QUEUED,
    RUNNING,
    S_CANCELLED,
    S_COMPLETED,
    S_FAILED,
    S_PENDING,
    S_READY,
    S_RUNNING,
    S_SKIPPED,
    artifact,
    attempt_failed,
    filing,
    input_hash,
    step_failed,
)

pytestmark = pytest.mark.anyio


async def test_a_chain_runs_to_its_end(subject: Subject) -> None:
    """Each completion leases the next step in the same turn; the last one completes the run."""
    run = await subject.create(CHAIN)
    first = await subject.tick()
    assert list(first.begun) == [run]
    assert [(lease.run, lease.step, lease.epoch, lease.attempt) for lease in first.leases] == [(run, 0, 1, 1)]
    second = await subject.tick(subject.executed(first.leases[0]))
    assert list(second.accepted) == [True]
    assert [lease.step for lease in second.leases] == [1]
    assert not second.begun
    third = await subject.tick(subject.executed(second.leases[0]))
    last = await subject.tick(subject.executed(third.leases[0]))
    assert [(ended.run, ended.status) for ended in last.ended] == [(run, RunStatus.COMPLETED)]
    assert not last.leases
    assert last.next_available_s is None


async def test_events_tell_every_move_once(subject: Subject) -> None:
    """Events are numbered without gaps, in the order queued, ready, running, artifacts, completed, end."""
    run = await subject.create({0: (), 1: (0,)})
    (lease,) = (await subject.tick()).leases
    (lease,) = (await subject.tick(subject.executed(lease, artifact("a"), artifact("b")))).leases
    await subject.tick(subject.executed(lease))
    assert await subject.history(run) == [
        (1, 1, None, None, None, None, QUEUED, (0, 0, 0, 0, 0)),
        (2, 2, 0, 0, None, S_PENDING, S_READY, (0, 0, 0, 0, 0)),
        (3, 1, None, None, None, QUEUED, RUNNING, (0, 0, 0, 0, 0)),
        (4, 2, 0, 1, None, S_READY, S_RUNNING, (1, 0, 0, 0, 0)),
        (5, 4, 0, None, 0, None, None, (1, 0, 0, 0, 0)),
        (6, 4, 0, None, 1, None, None, (1, 0, 0, 0, 0)),
        (7, 2, 0, 1, None, S_RUNNING, S_COMPLETED, (0, 1, 0, 0, 0)),
        (8, 2, 1, 1, None, S_PENDING, S_RUNNING, (1, 1, 0, 0, 0)),
        (9, 2, 1, 1, None, S_RUNNING, S_COMPLETED, (0, 2, 0, 0, 0)),
        (10, 1, None, None, None, RUNNING, COMPLETED, (0, 2, 0, 0, 0)),
    ]


async def test_a_join_waits_for_all(subject: Subject) -> None:
    """A step is ready when the last of its dependencies is, also when they finish in one turn."""
    for together in (True, False):
        run = await subject.create(DIAMOND)
        root = await lease_one(subject)
        left, right = (await subject.tick(subject.executed(root))).leases
        if together:
            turn = await subject.tick(subject.executed(left), subject.executed(right))
        else:
            assert not (await subject.tick(subject.executed(left))).leases
            turn = await subject.tick(subject.executed(right))
        assert [(lease.run, lease.step) for lease in turn.leases] == [(run, 3)]
        assert (await subject.tick(subject.executed(turn.leases[0]))).ended[0].status is RunStatus.COMPLETED


async def test_capacity_bounds_leases(subject: Subject) -> None:
    """A turn leases no more than its capacity, of new and of waiting steps; none of them is lost."""
    await subject.create(dict.fromkeys(range(5), ()))
    assert len((await subject.tick(capacity=2)).leases) == 2
    assert not (await subject.tick(capacity=0)).leases
    assert len((await subject.tick(capacity=2)).leases) == 2
    run = await subject.create({0: (), 1: (0,), 2: (0,), 3: (0,)}, priority=9)
    root = await lease_one(subject)
    assert root.run == run
    turn = await subject.tick(subject.executed(root), capacity=2)
    assert [(lease.run, lease.step) for lease in turn.leases] == [(run, 1), (run, 2)]
    rest = (await subject.tick()).leases
    assert [(lease.run == run, lease.step) for lease in rest] == [(True, 3), (False, 4)]


async def test_higher_priority_first_then_older(subject: Subject) -> None:
    """Ready steps are leased by priority, ties by readiness."""
    runs = [await subject.create({0: ()}, priority=priority) for priority in (0, 5, 9, 5)]
    leases = (await subject.tick()).leases
    assert [runs.index(lease.run) for lease in leases] == [2, 1, 3, 0]


async def test_a_more_urgent_step_goes_before_dependents(subject: Subject) -> None:
    """What a turn makes ready is not leased ahead of a waiting step of higher priority."""
    await subject.create(CHAIN)
    (first,) = (await subject.tick(capacity=1)).leases
    urgent = await subject.create({0: ()}, priority=9)
    (lease,) = (await subject.tick(subject.executed(first), capacity=1)).leases
    assert lease.run == urgent
    (after,) = (await subject.tick(subject.executed(lease), capacity=1)).leases
    assert (after.run, after.step) == (first.run, 1)


async def test_a_repeated_turn_is_fenced(subject: Subject) -> None:
    """The same completion a second time is not accepted and changes nothing: a lost reply is safe to send again."""
    run = await subject.create(CHAIN)
    lease = await lease_one(subject)
    done = subject.executed(lease)
    await subject.tick(done, capacity=0)
    before = await subject.history(run)
    again = await subject.tick(done, capacity=0)
    assert list(again.accepted) == [False]
    assert await subject.history(run) == before


async def test_a_stale_completion_spoils_nothing(subject: Subject) -> None:
    """In a batch only the completion whose lease is gone is dropped; artifacts and dependents of it go with it."""
    run, other = await subject.create(CHAIN), await subject.create(CHAIN)
    mine, stale = (await subject.tick()).leases
    assert (mine.run, stale.run) == (run, other)
    forged = Lease(stale.run, stale.step, stale.epoch + 1, stale.attempt, stale.lease_losses)
    turn = await subject.tick(subject.executed(forged, artifact("x")), subject.executed(mine))
    assert list(turn.accepted) == [False, True]
    assert [(lease.run, lease.step) for lease in turn.leases] == [(run, 1)]
    assert (await subject.moves(other))[-1] == (0, S_READY, S_RUNNING)


async def test_another_engine_cannot_complete(subject: Subject) -> None:
    """A completion counts only for the engine that holds the lease."""
    await subject.create(CHAIN)
    lease = await lease_one(subject)
    thief = await subject.registry.register(str(uuid4()), "thief", 3600.0)
    assert list((await subject.tick(subject.executed(lease), engine=thief)).accepted) == [False]
    assert list((await subject.queue.owned(thief)).leases) == []
    assert list((await subject.queue.owned(subject.engine)).leases) == [lease]


async def test_a_retry_waits_for_its_delay(subject: Subject) -> None:
    """A failed attempt is ready again after its delay, with the next attempt and a higher epoch."""
    run = await subject.create({0: ()})
    lease = await lease_one(subject)
    turn = await subject.tick(attempt_failed(lease, delay_ms=LONG_MS))
    assert list(turn.accepted) == [True]
    assert not turn.leases
    assert turn.next_available_s is not None
    assert LONG_MS / 1000 - 60 < turn.next_available_s <= LONG_MS / 1000
    assert (await subject.moves(run))[-1] == (0, S_RUNNING, S_READY)


async def test_a_retry_without_delay_is_leased_at_once(subject: Subject) -> None:
    """With no delay the next attempt may start in the same turn."""
    await subject.create({0: ()})
    lease = await lease_one(subject)
    (again,) = (await subject.tick(attempt_failed(lease))).leases
    assert (again.attempt, again.epoch, again.lease_losses) == (2, lease.epoch + 1, 0)


@pytest.mark.parametrize("policy", FailurePolicy)
async def test_a_failed_step_fails_its_run(subject: Subject, policy: FailurePolicy) -> None:
    """FINISH_RUNNING waits for what runs, FAIL_FAST does not; what cannot run any more is cancelled."""
    run = await subject.create({0: (), 1: (), 2: (0,)}, policy=policy)
    bad, good = (await subject.tick()).leases
    turn = await subject.tick(step_failed(bad))
    if policy is FailurePolicy.FINISH_RUNNING:
        assert not turn.ended
        turn = await subject.tick(subject.executed(good))
        assert list(turn.accepted) == [True]
    else:
        assert list((await subject.tick(subject.executed(good))).accepted) == [False]
    (ended,) = turn.ended
    assert (ended.run, ended.status, ended.failed_step) == (run, RunStatus.FAILED, 0)
    assert ended.failure is not None
    assert ended.failure.code == "SKILL_FAILED"
    history = await subject.moves(run)
    assert history[-2:] == [(2, S_PENDING, S_CANCELLED), (None, RUNNING, FAILED)]


async def test_a_failing_run_retries_nothing(subject: Subject) -> None:
    """In a run that is failing a failed attempt is the step's end, and a backoff is cancelled."""
    run = await subject.create({0: (), 1: (), 2: ()})
    delayed, bad, last = (await subject.tick()).leases
    await subject.tick(attempt_failed(delayed, delay_ms=LONG_MS))
    assert not (await subject.tick(step_failed(bad))).ended
    (ended,) = (await subject.tick(attempt_failed(last))).ended
    assert (ended.run, ended.failed_step) == (run, 1)
    moves = await subject.moves(run)
    assert (0, S_READY, S_CANCELLED) in moves
    assert (2, S_RUNNING, S_FAILED) in moves


async def test_failure_and_retry_in_one_turn(subject: Subject) -> None:
    """A retry that arrives together with the run's failure is queued and cancelled in that turn."""
    run = await subject.create({0: (), 1: ()})
    bad, other = (await subject.tick()).leases
    (ended,) = (await subject.tick(attempt_failed(other), step_failed(bad))).ended
    assert (ended.run, ended.status) == (run, RunStatus.FAILED)
    assert (1, S_READY, S_CANCELLED) in await subject.moves(run)


async def test_reuse_at_execution_skips(subject: Subject) -> None:
    """A leased step that uses an existing output is skipped and unlocks its dependents; it made no attempt."""
    producer = await subject.create({0: ()})
    await subject.tick(subject.executed(await lease_one(subject)))
    run = await subject.create({0: (), 1: (0,)})
    lease = await lease_one(subject)
    turn = await subject.tick(subject.reused(lease, (producer, StepNo(0))))
    assert [step.step for step in turn.leases] == [1]
    found = await subject.store.outputs([(run, StepNo(0)), (run, StepNo(1))])
    assert set(found) == {(run, 0)}
    assert found[run, StepNo(0)].source is OutputSource.CACHE_COLD
    assert (await subject.history(run))[4][2:7] == (0, 0, None, S_RUNNING, S_SKIPPED)


async def test_one_key_from_two_runs_in_one_turn(subject: Subject) -> None:
    """Two runs may finish the same cache key in one turn."""
    await subject.create({0: ()})
    await subject.create({0: ()})
    one, two = (await subject.tick()).leases
    turn = await subject.tick(subject.executed(one, filing=filing()), subject.executed(two, filing=filing()))
    assert list(turn.accepted) == [True, True]


async def test_a_failed_step_keeps_its_cache_decision(subject: Subject) -> None:
    """What the cache said is recorded for a step that failed, also for one that a failing run does not try again."""
    run = await subject.create({0: (), 1: ()})
    first, second = sorted((await subject.tick()).leases, key=lambda lease: lease.step)
    await subject.tick(step_failed(first))
    await subject.tick(attempt_failed(second))
    assert await subject.decisions(run) == {0: (MISS, input_hash(first)), 1: (MISS, input_hash(second))}
