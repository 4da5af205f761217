"""What the queue, the store and the registry must do together: in memory and on PostgreSQL."""

from collections.abc import AsyncIterator
from uuid import uuid4

import anyio
import pytest

from runengine_server.domain.ids import EngineNo, RunId, RunKey, StepNo, Tenant
from runengine_server.domain.states import FailurePolicy, OutputSource, RunStatus
from runengine_server.ports.run_store import CreatedRun, EarlierAnswer
from runengine_server.ports.step_queue import Lease

from .queue_subject import (
    CHAIN,
    DIAMOND,
    LONG_MS,
    TENANT,
    Subject,
    artifact,
    attempt_failed,
    binding,
    filing,
    memory_subject,
    new_run,
    postgres_subject,
    step_failed,
)

pytestmark = pytest.mark.anyio

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = 1, 2, 3, 4, 5
S_PENDING, S_READY, S_RUNNING, S_COMPLETED, S_SKIPPED, S_FAILED, S_CANCELLED = range(1, 8)


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Of an empty database, for the implementation that needs one."""
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def subject(url: str | None) -> AsyncIterator[Subject]:
    """Each implementation, without runs, with one engine."""
    async with memory_subject() if url is None else postgres_subject(url) as subject:
        yield subject


async def _lease_one(subject: Subject) -> Lease:
    (lease,) = (await subject.tick(capacity=1)).leases
    return lease


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
        root = await _lease_one(subject)
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
    root = await _lease_one(subject)
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


async def test_a_repeated_turn_is_fenced(subject: Subject) -> None:
    """The same completion a second time is not accepted and changes nothing: a lost reply is safe to send again."""
    run = await subject.create(CHAIN)
    lease = await _lease_one(subject)
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
    lease = await _lease_one(subject)
    thief = await subject.registry.register(str(uuid4()), "thief", 3600.0)
    assert list((await subject.tick(subject.executed(lease), engine=thief)).accepted) == [False]
    assert list(await subject.queue.owned(thief)) == []
    assert list(await subject.queue.owned(subject.engine)) == [lease]


async def test_a_retry_waits_for_its_delay(subject: Subject) -> None:
    """A failed attempt is ready again after its delay, with the next attempt and a higher epoch."""
    run = await subject.create({0: ()})
    lease = await _lease_one(subject)
    turn = await subject.tick(attempt_failed(lease, delay_ms=LONG_MS))
    assert list(turn.accepted) == [True]
    assert not turn.leases
    assert turn.next_available_s is not None
    assert LONG_MS / 1000 - 60 < turn.next_available_s <= LONG_MS / 1000
    assert (await subject.moves(run))[-1] == (0, S_RUNNING, S_READY)


async def test_a_retry_without_delay_is_leased_at_once(subject: Subject) -> None:
    """With no delay the next attempt may start in the same turn."""
    await subject.create({0: ()})
    lease = await _lease_one(subject)
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
    await subject.tick(subject.executed(await _lease_one(subject)))
    run = await subject.create({0: (), 1: (0,)})
    lease = await _lease_one(subject)
    turn = await subject.tick(subject.reused(lease, (producer, StepNo(0))))
    assert [step.step for step in turn.leases] == [1]
    found = await subject.store.outputs([(run, StepNo(0)), (run, StepNo(1))])
    assert set(found) == {(run, 0)}
    assert found[run, StepNo(0)].source is OutputSource.CACHE_COLD
    assert (await subject.history(run))[4][2:7] == (0, 0, None, S_RUNNING, S_SKIPPED)


async def test_reuse_at_creation_readies_the_rest(subject: Subject) -> None:
    """Reused steps are skipped in the run's transaction; their dependents are ready, and read them by reference."""
    base = await subject.create(CHAIN)
    lease = await _lease_one(subject)
    for _ in range(3):
        turn = await subject.tick(subject.executed(lease))
        lease = turn.leases[0] if turn.leases else lease
    update = await subject.create(CHAIN, reused={n: binding(base, subject.ids[base], n) for n in (0, 1)})
    (lease,) = (await subject.tick()).leases
    assert (lease.run, lease.step) == (update, 2)
    outputs = await subject.store.outputs([(update, StepNo(0)), (base, StepNo(0))])
    assert outputs[update, StepNo(0)].body == outputs[base, StepNo(0)].body
    assert (await subject.tick(subject.executed(lease))).ended[0].status is RunStatus.COMPLETED
    results = (await subject.store.base_results([update]))[update]
    assert [results[StepNo(n)].producer_run for n in range(3)] == [base, base, update]


async def test_a_reused_step_never_becomes_ready(subject: Subject) -> None:
    """A step reused at creation is done, also when something it depends on is executed later."""
    base = await subject.create(CHAIN)
    lease = await _lease_one(subject)
    for _ in range(3):
        turn = await subject.tick(subject.executed(lease))
        lease = turn.leases[0] if turn.leases else lease
    update = await subject.create(CHAIN, reused={1: binding(base, subject.ids[base], 1)})
    leases = (await subject.tick()).leases
    assert [(lease.run, lease.step) for lease in leases] == [(update, 0), (update, 2)]
    turn = await subject.tick(subject.executed(leases[0]))
    assert not turn.leases
    assert (await subject.tick(subject.executed(leases[1]))).ended[0].status is RunStatus.COMPLETED


async def test_a_run_that_only_reuses_is_complete(subject: Subject) -> None:
    """A run without anything to execute is queued, running and completed at once."""
    base = await subject.create({0: ()})
    await subject.tick(subject.executed(await _lease_one(subject)))
    run = await subject.create({0: ()}, reused={0: binding(base, subject.ids[base], 0)})
    assert await subject.moves(run) == [
        (None, None, QUEUED),
        (0, S_PENDING, S_SKIPPED),
        (None, QUEUED, RUNNING),
        (None, RUNNING, COMPLETED),
    ]
    assert not (await subject.tick()).leases


async def test_cancel_is_final(subject: Subject) -> None:
    """After a cancel nothing is leased and no late result counts; the terminal event is last; twice is once."""
    run = await subject.create(DIAMOND)
    lease = await _lease_one(subject)
    assert await subject.cancel(run) is True
    assert list((await subject.tick(subject.executed(lease))).accepted) == [False]
    assert not (await subject.tick()).leases
    assert (await subject.moves(run))[-5:] == [
        (0, S_RUNNING, S_CANCELLED),
        (1, S_PENDING, S_CANCELLED),
        (2, S_PENDING, S_CANCELLED),
        (3, S_PENDING, S_CANCELLED),
        (None, RUNNING, CANCELLED),
    ]
    assert await subject.cancel(run) is False
    assert await subject.store.cancel(Tenant("other"), subject.ids[run], "eve", "") is None
    assert await subject.store.cancel(TENANT, RunId(str(uuid4())), "ann", "") is None


async def test_a_queued_run_can_be_cancelled(subject: Subject) -> None:
    """A run that never began goes from queued to cancelled."""
    run = await subject.create({0: ()})
    assert await subject.cancel(run) is True
    assert (await subject.moves(run))[-2:] == [(0, S_READY, S_CANCELLED), (None, QUEUED, CANCELLED)]


async def test_retiring_hands_leases_back(subject: Subject) -> None:
    """An engine that retires loses no attempt: the step is ready at once, with a higher epoch and no lease loss."""
    run = await subject.create({0: ()})
    lease = await _lease_one(subject)
    assert list(await subject.registry.retire(subject.engine)) == [run]
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


async def test_several_dead_engines_are_reaped(subject: Subject) -> None:
    """However many engines died, one call takes back what they held."""
    runs = {await subject.create({0: ()}) for _ in range(3)}
    for _ in runs:
        assert len((await subject.dead_engine(capacity=1))[1]) == 1
    assert set(await subject.registry.reap()) == runs
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
    assert ended == [late]
    done = await subject.tick(*[subject.executed(lease) for lease in leases])
    assert list(done.accepted) == [lease.run == patient for lease in leases]
    assert (await subject.moves(late))[-1] == (None, RUNNING, FAILED)


async def test_a_request_id_starts_one_run(subject: Subject) -> None:
    """The same request id gives the first answer, whether it comes later or at the same time."""
    first = await subject.submit(new_run({0: ()}, request_id="r1"))
    assert isinstance(first, CreatedRun)
    again = await subject.submit(new_run({0: ()}, request_id="r1", digest="11" * 32))
    assert again == EarlierAnswer(digest="00" * 32, answer=b"first")
    answers: list[CreatedRun | EarlierAnswer] = []

    async def submit() -> None:
        answers.append(await subject.submit(new_run({0: ()}, request_id="r2")))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(submit)
    assert sorted(isinstance(answer, CreatedRun) for answer in answers) == [False] * 4 + [True]
    assert len((await subject.tick()).leases) == 2


async def test_facts_and_base_say_what_was_created(subject: Subject) -> None:
    """What the scheduler and a rebuild load is what the run was created with."""
    run = await subject.create({0: ()})
    facts = (await subject.store.facts([run, RunKey(999_999)]))[run]
    assert (facts.run_id, facts.tenant, facts.payload, len(facts.plan)) == (subject.ids[run], TENANT, {"x": 1}, 1)
    base = await subject.store.base(TENANT, subject.ids[run])
    assert base is not None
    assert (base.run, base.root_run, base.status, dict(base.results)) == (run, run, RunStatus.QUEUED, {})
    assert await subject.store.base(Tenant("other"), subject.ids[run]) is None


async def test_one_key_from_two_runs_in_one_turn(subject: Subject) -> None:
    """Two runs may finish the same cache key in one turn."""
    await subject.create({0: ()})
    await subject.create({0: ()})
    one, two = (await subject.tick()).leases
    turn = await subject.tick(subject.executed(one, filing=filing()), subject.executed(two, filing=filing()))
    assert list(turn.accepted) == [True, True]


async def _reap(subject: Subject) -> set[RunKey]:
    """Reap until something was taken back."""
    with anyio.fail_after(10):
        while not (reaped := await subject.registry.reap()):
            pass
    return set(reaped)


async def _is_known(subject: Subject, engine: EngineNo) -> bool:
    if subject.tables is not None:
        return engine in subject.tables.engines
    assert subject.database is not None
    return bool(await subject.database.fetchval("SELECT count(*) FROM engines WHERE engine = $1", engine))
