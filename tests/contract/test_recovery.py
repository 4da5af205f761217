"""What is told of leases that go back, of runs that end by it and of turns whose reply was lost."""

import anyio
import pytest

from runengine_server.domain.states import FailurePolicy, RunStatus
from runengine_server.ports.step_queue import EndedRun

from .queue_subject import Subject, lease_one
from .queue_values import LONG_MS, S_CANCELLED, S_READY, S_RUNNING, artifact, attempt_failed, step_failed

pytestmark = pytest.mark.anyio

LOSSES_MAX = 5


def codes(ended: list[EndedRun]) -> list[tuple[int, RunStatus, int | None, str | None]]:
    """What is told of each run."""
    return [(each.run, each.status, each.failed_step, each.failure and each.failure.code) for each in ended]


async def test_own_success_is_recognised(subject: Subject) -> None:
    """What a turn has committed is known by its leases afterwards, with the run that it ended; nothing else is."""
    run = await subject.create({0: (), 1: (), 2: (), 3: ()})
    done, tried, failed, open_ = (await subject.tick()).leases
    await subject.tick(subject.executed(done), attempt_failed(tried, delay_ms=LONG_MS))
    recorded = await subject.queue.recorded(subject.engine, [done, tried, failed])
    assert (list(recorded.is_recorded), list(recorded.ended)) == ([True, True, False], [])
    turn = await subject.tick(step_failed(failed), subject.executed(open_))
    recorded = await subject.queue.recorded(subject.engine, [failed, open_])
    assert list(recorded.is_recorded) == [True, True]
    assert codes(list(recorded.ended)) == codes(list(turn.ended)) == [(run, RunStatus.FAILED, 2, "SKILL_FAILED")]
    recorded = await subject.queue.recorded(subject.engine, [done])
    assert not recorded.ended, "an earlier turn did not end the run"


async def test_what_others_did_is_not_own_success(subject: Subject) -> None:
    """A step that another engine ended, that was cancelled or that lost too many leases was not settled by this one."""
    taken, cancelled = await subject.create({0: ()}), await subject.create({0: ()})
    dead, leases = await subject.dead_engine()
    await subject.registry.reap()
    (anew,) = [lease for lease in (await subject.tick()).leases if lease.run == taken]
    assert (await subject.tick(subject.executed(anew))).accepted[0]
    assert await subject.cancel(cancelled)
    assert not any((await subject.queue.recorded(dead, leases)).is_recorded)
    assert not any((await subject.queue.recorded(subject.engine, leases)).is_recorded)
    await subject.create({0: ()})
    for _ in range(LOSSES_MAX + 1):
        dead, leases = await subject.dead_engine()
        await subject.registry.reap()
    assert not any((await subject.queue.recorded(dead, leases)).is_recorded)


async def test_a_lease_is_handed_back(subject: Subject) -> None:
    """A step whose attempt did not begin is ready again, with its tries and losses as before; once."""
    run = await subject.create({0: ()})
    lease = await lease_one(subject)
    taken = await subject.queue.hand_back([lease])
    assert (list(taken.runs), list(taken.ended)) == ([run], [])
    assert not (await subject.queue.hand_back([lease])).runs
    again = await lease_one(subject)
    assert (again.epoch, again.attempt, again.lease_losses) == (lease.epoch + 1, 1, 0)
    assert not (await subject.queue.hand_back([lease])).runs, "it is another lease by now"
    assert not (await subject.tick(subject.executed(lease))).accepted[0]


async def test_what_did_not_begin_is_cancelled_in_a_failing_run(subject: Subject) -> None:
    """A failing run ends when its last lease is handed back, and that is told; a held attempt must not begin."""
    run = await subject.create({0: (), 1: ()})
    failing, waiting = (await subject.tick()).leases
    await subject.queue.hold(subject.engine, waiting)
    assert not (await subject.queue.owned(subject.engine)).failing
    assert not (await subject.tick(step_failed(failing))).ended
    assert set((await subject.queue.owned(subject.engine)).failing) == {run}
    assert not await subject.queue.begin(subject.engine, waiting, 1000)
    taken = await subject.queue.hand_back([waiting])
    assert list(taken.runs) == [run]
    assert codes(list(taken.ended)) == [(run, RunStatus.FAILED, 0, "SKILL_FAILED")]
    assert (await subject.moves(run))[-3:-1] == [(1, S_RUNNING, S_READY), (1, S_READY, S_CANCELLED)]


async def test_an_attempt_begins_only_with_its_lease(subject: Subject) -> None:
    """A held attempt whose lease was taken back does not begin; one that has it does, twice asked."""
    await subject.create({0: ()})
    dead, (lease,) = await subject.dead_engine()
    await subject.queue.hold(dead, lease)
    assert await subject.queue.begin(dead, lease, 1000) and await subject.queue.begin(dead, lease, 1000)
    await subject.registry.reap()
    assert not await subject.queue.begin(dead, lease, 1000)


async def test_waiting_for_a_slot_loses_no_leases(subject: Subject) -> None:
    """However many engines die while an attempt waits for a slot of its skill, the step has killed none of them."""
    run = await subject.create({0: ()})
    for _ in range(LOSSES_MAX + 2):
        dead, (lease,) = await subject.dead_engine()
        assert lease.lease_losses == 0
        await subject.queue.hold(dead, lease)
        taken = await subject.registry.reap()
        assert (list(taken.runs), list(taken.ended)) == ([run], [])
    assert (await lease_one(subject)).lease_losses == 0


async def test_a_run_that_loses_too_many_leases_is_told(subject: Subject) -> None:
    """Who takes the last lease back hears that the run has failed, and only they."""
    run = await subject.create({0: ()})
    for _ in range(LOSSES_MAX):
        await subject.dead_engine()
        assert not (await subject.registry.reap()).ended
    await subject.dead_engine()
    assert codes(list((await subject.registry.reap()).ended)) == [(run, RunStatus.FAILED, 0, "LEASE_LOST_REPEATEDLY")]
    assert not (await subject.registry.reap()).ended


async def test_a_failing_run_that_ends_with_its_engine_is_told(subject: Subject) -> None:
    """An engine that retires with the last lease of a failing run ends the run, and hears of it."""
    run = await subject.create({0: (), 1: ()})
    failing, _ = (await subject.tick()).leases
    await subject.tick(step_failed(failing))
    taken = await subject.registry.retire(subject.engine)
    assert codes(list(taken.ended)) == [(run, RunStatus.FAILED, 0, "SKILL_FAILED")]


@pytest.mark.parametrize("policy", list(FailurePolicy))
async def test_a_deadline_counts_while_everything_waits(subject: Subject, policy: FailurePolicy) -> None:
    """Backoffs and steps that nobody leased do not keep a late run from failing; all its steps are cancelled."""
    run = await subject.create({0: (), 1: (), 2: (0,)}, policy=policy, deadline_s=0.001)
    lease = await lease_one(subject)
    await subject.tick(attempt_failed(lease, delay_ms=LONG_MS), capacity=0)
    ended: list[EndedRun] = []
    with anyio.fail_after(10):
        while not ended:
            ended = list(await subject.registry.enforce_deadlines())
    assert codes(ended) == [(run, RunStatus.FAILED, None, "RUN_DEADLINE_EXCEEDED")]
    assert {to for _, _, to in (await subject.moves(run))[-4:-1]} == {S_CANCELLED}
    assert not (await subject.tick()).leases
    assert not await subject.registry.enforce_deadlines()


async def test_artifacts_of_what_failed_are_dropped(subject: Subject) -> None:
    """Only an accepted success leaves artifacts: neither a late one does, nor an attempt that failed before it."""
    run = await subject.create({0: ()})
    dead, (late,) = await subject.dead_engine()
    await subject.registry.reap()
    first = await lease_one(subject)
    await subject.tick(subject.executed(late, artifact("late")), engine=dead, capacity=0)
    await subject.tick(attempt_failed(first), capacity=0)
    second = await lease_one(subject)
    await subject.tick(subject.executed(second, artifact("good")))
    assert [event[4] for event in await subject.history(run) if event[1] == 4] == [0]
