"""Identical steps in flight: one leads, the others wait for its end, in memory and on PostgreSQL."""

from collections.abc import Awaitable, Callable

import pytest

from runengine_server.domain.cache import CacheFlight, CacheHit, CacheMiss
from runengine_server.domain.ids import RunKey, StepNo
from runengine_server.domain.states import MissReason, RunStatus
from runengine_server.ports.step_queue import Following, Lease

from .queue_subject import Subject
from .queue_values import CHAIN, S_CANCELLED, S_PENDING, S_READY, S_RUNNING, attempt_failed, filing, query, step_failed

pytestmark = pytest.mark.anyio

ONE = {0: ()}
FLIGHT = query((RunKey(0), StepNo(0))).flight


async def lead(subject: Subject, *, deadline_s: float | None = None) -> Lease:
    """A run's step that leads the flight."""
    run = await subject.create(ONE, deadline_s=deadline_s)
    turn = await subject.tick(asking=[(run, StepNo(0))])
    (lease,), (miss,) = turn.leases, turn.misses
    assert miss is not None
    return lease


async def follower(subject: Subject, *, deadline_s: float | None = None) -> RunKey:
    """A run whose step waits for the flight."""
    run = await subject.create(ONE, deadline_s=deadline_s)
    (lease,) = (await subject.tick()).leases
    assert lease.run == run
    assert await subject.look_up(lease) == CacheFlight(flight=FLIGHT)
    assert list(await subject.follow(lease)) == [Following.WAITING]
    return run


async def test_the_first_leads_and_the_second_waits(subject: Subject) -> None:
    """Of two equal steps one gets the miss; the other waits, ready and leased by nobody, and one event says so."""
    runs = [await subject.create(ONE) for _ in range(2)]
    turn = await subject.tick(asking=[(run, StepNo(0)) for run in runs])
    assert [miss and miss.reason for miss in turn.misses] == [MissReason.NEVER_SEEN, None]
    leader, second = turn.leases
    assert await subject.look_up(second) == CacheFlight(flight=FLIGHT)
    assert list(await subject.follow(second)) == [Following.WAITING]
    assert not (await subject.tick()).leases
    assert await subject.flights() == {FLIGHT: ((leader.run, leader.step), [(second.run, second.step)])}
    assert (await subject.moves(second.run))[1:] == [
        (0, S_PENDING, S_READY),
        (None, 1, 2),
        (0, S_READY, S_RUNNING),
        (0, S_RUNNING, S_READY),
    ]


async def test_success_is_found_by_all_who_waited(subject: Subject) -> None:
    """The turn that commits the leader leases its followers, the oldest first; each finds the entry."""
    leader = await lead(subject)
    runs = [await follower(subject) for _ in range(3)]
    turn = await subject.tick(subject.executed(leader, filing=filing(), is_flying=True))
    assert [(lease.run, lease.is_follower, lease.attempt) for lease in turn.leases] == [(run, True, 1) for run in runs]
    for lease in turn.leases:
        answer = await subject.look_up(lease)
        assert isinstance(answer, CacheHit)
        assert (answer.entry.producer.run, answer.entry.producer.step) == (leader.run, leader.step)
    done = await subject.tick(*(subject.reused(lease, (leader.run, leader.step)) for lease in turn.leases))
    assert [ended.status for ended in done.ended] == [RunStatus.COMPLETED] * 3


async def test_a_success_that_must_not_be_cached_wakes_one(subject: Subject) -> None:
    """Where the leader leaves no entry fifty followers execute one after the other, the oldest first."""
    leader = await lead(subject)
    runs = [await follower(subject) for _ in range(50)]
    for number, run in enumerate(runs):
        turn = await subject.tick(subject.executed(leader, is_flying=True))
        (leader,) = turn.leases
        assert leader.run == run
        assert isinstance(await subject.look_up(leader), CacheMiss)
        ((found, waiting),) = (await subject.flights()).values()
        assert (found, len(waiting)) == ((run, 0), 49 - number)
    await subject.tick(subject.executed(leader, is_flying=True))
    assert not await subject.flights()


async def fail(subject: Subject, leader: Lease) -> None:
    """The leader's step fails for good."""
    await subject.tick(step_failed(leader), capacity=0)


async def cancel(subject: Subject, leader: Lease) -> None:
    """The leader's run is cancelled."""
    assert await subject.cancel(leader.run)


async def be_late(subject: Subject, leader: Lease) -> None:
    """The leader's run reaches its deadline."""
    assert [ended.run for ended in await subject.registry.enforce_deadlines()] == [leader.run]


async def die_often(subject: Subject, leader: Lease) -> None:
    """Whoever executes the leader's step is lost, again and again."""
    for losses in range(5):
        assert leader.lease_losses == losses
        await subject.age(leader, 4000)
        await take_back_lost(subject)
        (leader,) = (await subject.tick()).leases
    await subject.age(leader, 4000)
    await take_back_lost(subject)


async def take_back_lost(subject: Subject) -> None:
    """Leases beyond their timeout are taken back, however short ago that was done."""
    if subject.database is None:
        await subject.registry.reap()
    else:
        await subject.database.fetch("SELECT leases_reap(5, 10000, 1000)")


@pytest.mark.parametrize("end", [fail, cancel, be_late, die_often])
async def test_the_oldest_follower_leads_next(
    subject: Subject, end: Callable[[Subject, Lease], Awaitable[None]]
) -> None:
    """A leader that fails, is cancelled, late or lost too often hands over: the oldest executes, with own attempts."""
    leader = await lead(subject, deadline_s=0.0 if end is be_late else None)
    oldest, other = await follower(subject), await follower(subject)
    await end(subject, leader)
    (next_leader,) = (await subject.tick()).leases
    assert (next_leader.run, next_leader.attempt, next_leader.lease_losses) == (oldest, 1, 0)
    assert isinstance(await subject.look_up(next_leader), CacheMiss)
    assert await subject.flights() == {FLIGHT: ((oldest, 0), [(other, 0)])}


async def test_a_leader_that_is_tried_again_goes_on_leading(subject: Subject) -> None:
    """Neither a retry nor the loss of its engine ends a flight: what is paid for is attached to, not paid twice."""
    leader = await lead(subject)
    run = await follower(subject)
    (leader,) = (await subject.tick(attempt_failed(leader))).leases
    await subject.age(leader, 4000)
    await take_back_lost(subject)
    (leader,) = (await subject.tick()).leases
    assert (leader.attempt, leader.lease_losses) == (2, 1)
    assert isinstance(await subject.look_up(leader), CacheMiss)
    assert await subject.flights() == {FLIGHT: ((leader.run, 0), [(run, 0)])}


async def test_a_follower_that_ends_leaves_the_flight(subject: Subject) -> None:
    """Cancel and deadline end a run that waits; the flight goes on, and the others are woken as before."""
    leader = await lead(subject)
    cancelled = await follower(subject)
    late = await follower(subject, deadline_s=0.0)
    third = await follower(subject)
    assert await subject.cancel(cancelled)
    assert [ended.run for ended in await subject.registry.enforce_deadlines()] == [late]
    for run in (cancelled, late):
        assert (0, S_READY, S_CANCELLED) in await subject.moves(run)
    turn = await subject.tick(subject.executed(leader, filing=filing(), is_flying=True))
    assert [lease.run for lease in turn.leases] == [third]


async def test_a_flight_that_ended_meanwhile_is_not_waited_for(subject: Subject) -> None:
    """Who was told of a flight that has ended keeps its lease, and asks again."""
    leader = await lead(subject)
    await subject.create(ONE)
    (second,) = (await subject.tick()).leases
    assert isinstance(await subject.look_up(second), CacheFlight)
    await subject.tick(subject.executed(leader, filing=filing(), is_flying=True), capacity=0)
    assert list(await subject.follow(second)) == [Following.FLIGHT_ENDED]
    assert isinstance(await subject.look_up(second), CacheHit)
    assert list((await subject.queue.owned(subject.engine)).leases) == [second]


async def test_a_lost_lease_cannot_wait(subject: Subject) -> None:
    """Only who holds the lease can give it up for a flight; asked twice it changes nothing."""
    await lead(subject)
    run = await subject.create(ONE)
    (second,) = (await subject.tick()).leases
    assert list(await subject.follow(second)) == [Following.WAITING]
    before = await subject.history(run)
    assert list(await subject.follow(second)) == [Following.LEASE_LOST]
    assert await subject.cancel(run)
    assert list(await subject.follow(second)) == [Following.LEASE_LOST]
    assert (await subject.history(run))[: len(before)] == before


async def test_nothing_waits_in_a_failing_run(subject: Subject) -> None:
    """In a run that is failing a step does not wait for another run's: it is cancelled, and the run ends."""
    await lead(subject)
    run = await subject.create({0: (), 1: (), 2: (0, 1)})
    first, second = (await subject.tick()).leases
    await subject.tick(step_failed(second), capacity=0)
    assert list(await subject.follow(first)) == [Following.WAITING]
    moves = await subject.moves(run)
    assert moves[-3:] == [(0, S_READY, S_CANCELLED), (2, S_PENDING, S_CANCELLED), (None, 2, 4)]


async def test_a_failing_run_does_not_keep_others_from_waiting(subject: Subject) -> None:
    """Followers that come together with one of a failing run are told to ask again, and then wait."""
    leader = await lead(subject)
    await subject.create({0: (), 1: (), 2: (0, 1)})
    first, second = (await subject.tick()).leases
    await subject.create(ONE)
    (sound,) = (await subject.tick()).leases
    await subject.tick(step_failed(second), capacity=0)
    assert list(await subject.follow(sound, first)) == [Following.FLIGHT_ENDED, Following.WAITING]
    assert list(await subject.follow(sound)) == [Following.WAITING]
    assert await subject.flights() == {FLIGHT: ((leader.run, 0), [(sound.run, 0)])}


async def test_questions_are_answered_for_what_is_leased(subject: Subject) -> None:
    """Nothing is said of a step that is not leased or has an entry; other inputs of a step are known by its entries."""
    run = await subject.create(CHAIN)
    turn = await subject.tick(asking=[(run, StepNo(0)), (run, StepNo(1))])
    assert [miss and miss.reason for miss in turn.misses] == [MissReason.NEVER_SEEN]
    assert set(await subject.flights()) == {FLIGHT}
    turn = await subject.tick(subject.executed(turn.leases[0], filing=filing(), is_flying=True), capacity=0)
    again = await subject.create(ONE)
    turn = await subject.tick(asking=[(again, StepNo(0))])
    leased = {lease.run: miss for lease, miss in zip(turn.leases, turn.misses, strict=True)}
    assert leased[again] is None


async def test_what_is_left_behind_is_mended(subject: Subject) -> None:
    """A flight claimed by a step that had ended is handed over, and a step that waits for no flight is woken."""
    run = await subject.create(ONE)
    (lease,) = (await subject.tick()).leases
    assert await subject.cancel(run)
    assert isinstance(await subject.look_up(lease), CacheMiss), "it claims while its run is being cancelled"
    waiting = await follower(subject)
    await subject.age_flights()
    await subject.registry.reap()
    (lease,) = (await subject.tick()).leases
    assert lease.run == waiting
    second = await follower(subject)
    await subject.forget_flights()
    await subject.registry.reap()
    assert [lease.run for lease in (await subject.tick()).leases] == [second]
