"""What engines that stop, die or are late must leave behind, in memory and on PostgreSQL."""

from uuid import uuid4

import anyio
import pytest

from runengine_server.domain.ids import EngineNo, RunKey

from .queue_subject import Subject, lease_one
from .queue_values import FAILED, RUNNING, S_CANCELLED, S_FAILED, S_PENDING, S_RUNNING, TIMEOUT_MS

pytestmark = pytest.mark.anyio

OVERDUE_S = TIMEOUT_MS / 1000 + 12.0
"""Beyond an attempt's timeout and the grace of 10 s."""


async def test_retiring_hands_leases_back(subject: Subject) -> None:
    """An engine that retires loses no attempt: the step is ready at once, with a higher epoch and no lease loss."""
    run = await subject.create({0: ()})
    lease = await lease_one(subject)
    assert list((await subject.registry.retire(subject.engine)).runs) == [run]
    subject.engine = await subject.registry.register(str(uuid4()), "next", 3600.0)
    (again,) = (await subject.tick()).leases
    assert (again.epoch, again.attempt, again.lease_losses) == (lease.epoch + 1, 1, 0)


async def test_a_dead_engine_is_reaped(subject: Subject) -> None:
    """Leases of an engine that stopped renewing are taken back and counted; its late result is refused."""
    run = await subject.create({0: ()})
    dead, (lease,) = await subject.dead_engine()
    assert await _reap(subject) == {run}
    assert list((await subject.tick(subject.executed(lease), engine=dead)).accepted) == [False]
    (again,) = (await subject.tick()).leases
    assert (again.epoch, again.attempt, again.lease_losses) == (lease.epoch + 1, 1, 1)


async def test_an_engine_without_a_lease_commits_but_leases_nothing(subject: Subject) -> None:
    """Until its steps are taken back a late engine's results count; it starts nothing more."""
    run = await subject.create({0: (), 1: (0,)})
    dead, (lease,) = await subject.dead_engine()
    turn = await subject.tick(subject.executed(lease), engine=dead)
    assert list(turn.accepted) == [True]
    assert not turn.leases
    assert not (await subject.tick(engine=dead)).leases
    assert [(lease.run, lease.step) for lease in (await subject.tick()).leases] == [(run, 1)]


async def test_a_reaped_engine_must_start_anew(subject: Subject) -> None:
    """Renewal says no once the engine was taken back."""
    dead, _ = await subject.dead_engine()
    with anyio.fail_after(10):
        while await _is_known(subject, dead):
            await subject.registry.reap()
    assert not await subject.registry.renew(dead, 3600.0)
    assert await subject.registry.renew(subject.engine, 3600.0)


async def test_leases_of_an_engine_nobody_knows_are_reaped(subject: Subject) -> None:
    """A turn that commits while its engine is taken back leaves no step behind that nobody will ever take."""
    run = await subject.create({0: ()})
    dead, (lease,) = await subject.dead_engine()
    await subject.forget_engine(dead)
    assert await _reap(subject) == {run}
    (again,) = (await subject.tick()).leases
    assert again.epoch == lease.epoch + 1


async def test_leases_far_beyond_their_timeout_are_reaped(subject: Subject) -> None:
    """A living engine that lost sight of an attempt loses its lease; one that waits for its skill's slot does not."""
    runs = [await subject.create({0: ()}) for _ in range(3)]
    leases = {lease.run: lease for lease in (await subject.tick()).leases}
    await subject.queue.hold(subject.engine, leases[runs[1]])
    for run in runs[:2]:
        await subject.age(leases[run], OVERDUE_S)
    await subject.age(leases[runs[2]], OVERDUE_S - 5.0)
    assert await _reap(subject) == {runs[0]}
    (again,) = (await subject.tick()).leases
    assert (again.run, again.epoch, again.lease_losses) == (runs[0], 2, 1)


async def test_several_dead_engines_are_reaped(subject: Subject) -> None:
    """However many engines died, one call takes back what they held."""
    runs = {await subject.create({0: ()}) for _ in range(3)}
    for _ in runs:
        assert len((await subject.dead_engine(capacity=1))[1]) == 1
    assert set((await subject.registry.reap()).runs) == runs
    assert len((await subject.tick()).leases) == 3


async def test_a_step_that_kills_its_engine_ends(subject: Subject) -> None:
    """The sixth lost lease fails the step, and with it its run."""
    run = await subject.create({0: (), 1: (0,)})
    for losses in range(6):
        _, (lease,) = await subject.dead_engine()
        assert (lease.lease_losses, lease.attempt) == (losses, 1)
        await _reap(subject)
    assert not (await subject.tick()).leases
    assert (await subject.moves(run))[-3:] == [
        (0, S_RUNNING, S_FAILED),
        (1, S_PENDING, S_CANCELLED),
        (None, RUNNING, FAILED),
    ]


async def test_a_deadline_fails_the_run(subject: Subject) -> None:
    """A run past its deadline fails and its leases are gone; others are left alone."""
    late, patient = await subject.create({0: ()}, deadline_s=0.001), await subject.create({0: ()}, deadline_s=3600)
    leases = (await subject.tick()).leases
    with anyio.fail_after(10):
        while not (ended := list(await subject.registry.enforce_deadlines())):
            pass
    assert [each.run for each in ended] == [late]
    done = await subject.tick(*[subject.executed(lease) for lease in leases])
    assert list(done.accepted) == [lease.run == patient for lease in leases]
    assert (await subject.moves(late))[-1] == (None, RUNNING, FAILED)


async def test_the_next_deadline_is_foretold(subject: Subject) -> None:
    """It is that of the first run that has one and has not ended; what is late already is not meant."""
    assert await subject.registry.next_deadline_s() is None
    await subject.create({0: ()})
    for deadline_s in (3600.0, 60.0, 0.001):
        await subject.create({0: ()}, deadline_s=deadline_s)
    with anyio.fail_after(10):
        while not await subject.registry.enforce_deadlines():
            pass
    first = await subject.registry.next_deadline_s()
    assert first is not None
    assert 50 < first <= 60
    for lease in (await subject.tick()).leases:
        await subject.tick(subject.executed(lease))
    assert await subject.registry.next_deadline_s() is None


async def _reap(subject: Subject) -> set[RunKey]:
    """Reap until something was taken back."""
    with anyio.fail_after(10):
        while not (reaped := (await subject.registry.reap()).runs):
            pass
    return set(reaped)


async def _is_known(subject: Subject, engine: EngineNo) -> bool:
    if subject.tables is not None:
        return engine in subject.tables.engines
    assert subject.database is not None
    return bool(await subject.database.fetchval("SELECT count(*) FROM engines WHERE engine = $1", engine))
